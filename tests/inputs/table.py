"""The table of bad inputs and what is said of them: `python tests/inputs/table.py > tests/README.md`."""

import shlex
import sys
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))
from inputs.campaigns import campaigns, code

CASES = Path(__file__).with_name("cases.yaml")
SECTIONS = {
    "settings": "Settings, over `config/config.yaml`",
    "typed": "Settings typed with `--config`",
    "models.tsv": "`config/models.tsv`, with a text in the place of another",
    "editors.tsv": "`config/editors.tsv`, with a text in the place of another",
    "relation": "A relation file: a whole one, or values in a right one",
    "command": "`knowcirc` with arguments; `MODEL` is a folder",
    "prompts": "A file of `--prompts`",
    "edits": "A file of `--edits`",
    "folder": "A model's folder, changed",
    "circuit": "A circuit file",
    "snakemake": "`snakemake` with arguments",
}
ABOUT = """# What happens to bad input

Each input ends in one line: what, where, what to do. `knowcirc` ends with exit code 2, `snakemake` with 1, and nothing
is written. Where a line is marked with *, the model's weights are read before it is found.

`tests/inputs/cases.yaml` holds the cases, `tests/inputs/test_inputs.py` runs them, and `python tests/inputs/table.py >
tests/README.md` writes this page. At its end: what becomes of a study in which something fails, and which small faults
in the engine the tests see.
"""


def read_cases() -> dict[str, list[dict[str, Any]]]:
    """The cases by kind."""
    return dict(yaml.safe_load(CASES.read_text("utf-8")))


def page() -> str:
    """The whole page."""
    parts = [ABOUT]
    for kind, cases in read_cases().items():
        rows = [f"| {code(_shown(kind, case['input']))} | {_line(case)} |" for case in cases]
        parts.append("\n".join([f"## {SECTIONS[kind]}", "", "| input | the line |", "|---|---|", *rows, ""]))
    return "\n".join(parts + campaigns())


def _shown(kind: str, given: Any) -> str:
    if kind in ("command", "snakemake"):
        return shlex.join(given) or "(nothing)"
    if kind in ("models.tsv", "editors.tsv"):
        return " -> ".join(text.strip("\t").replace("\t", " ") for text in given)
    text = (
        given
        if isinstance(given, str)
        else yaml.safe_dump(given, default_flow_style=True, width=10_000, sort_keys=False)
    )
    return text.strip("\n").replace("\n", "\\n") or "(empty)"


def _line(case: dict[str, Any]) -> str:
    return code(case["says"]) + (" *" if case.get("loads") else "")


if __name__ == "__main__":
    sys.stdout.write(page())
