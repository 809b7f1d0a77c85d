"""Executed notebooks as pages: their text, their code and the outputs that were kept, pictures as files beside them."""

import base64
import json
import re
from pathlib import Path

SHELL = "%%bash\n"
HIDDEN = "hide-input"
"""The tag of a cell of which only the output is shown."""
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
PLAIN = re.compile(r"<style scoped>.*?</style>\s*|<p>\d+ rows × \d+ columns</p>\s*", re.DOTALL)


def page(path: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and its pictures by file name.

    Raises:
        ValueError: for a cell of code that has not been executed, or one that failed.
    """
    cells = json.loads(path.read_text("utf-8"))["cells"]
    parts, pictures = [], {}
    for number, cell in enumerate(cells, 1):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source.strip())
            continue
        if cell["execution_count"] is None:
            raise ValueError(f"{path}: cell {number} has not been executed; run make notebooks")
        if HIDDEN not in cell["metadata"].get("tags", ()):
            parts.append(code(source))
        for count, output in enumerate(merged(cell["outputs"]), 1):
            if output["output_type"] == "error":
                raise ValueError(f"{path}: cell {number} failed: {output['evalue']}")
            text, picture = shown(output, f"{path.stem}-{number}-{count}.png")
            parts.append(text)
            pictures |= picture
    return "\n\n".join(parts) + "\n", pictures


def code(source: str) -> str:
    """A cell's code as a block: of the shell or, without the mark of one, of Python."""
    if source.startswith(SHELL):
        return f"```bash\n{source.removeprefix(SHELL).strip()}\n```"
    return f"```python\n{source}\n```"


def merged(outputs: list[dict]) -> list[dict]:
    """The outputs, those printed one after the other as one."""
    found: list[dict] = []
    for output in outputs:
        if output["output_type"] == "stream" and found and found[-1]["output_type"] == "stream":
            found[-1] = {**found[-1], "text": [*found[-1]["text"], *output["text"]]}
        else:
            found.append(output)
    return found


def shown(output: dict, name: str) -> tuple[str, dict[str, bytes]]:
    """An output as Markdown, and its picture, if it is one, under `name`."""
    if output["output_type"] == "stream":
        return block("".join(output["text"])), {}
    data = output["data"]
    if "image/png" in data:
        return f"![{name}]({name})", {name: base64.b64decode("".join(data["image/png"]))}
    if "text/html" in data:
        return PLAIN.sub("", "".join(data["text/html"])).replace('<table border="1" class="dataframe">', "<table>"), {}
    return block("".join(data["text/plain"])), {}


def block(text: str) -> str:
    """What a program printed."""
    return "```{ .text .no-copy .output }\n" + ESCAPES.sub("", text).rstrip() + "\n```"
