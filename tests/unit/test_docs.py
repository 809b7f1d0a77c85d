"""The documentation says what the program does: its commands parse, and its pages are made from all registries."""

import json
import re
import shlex
from pathlib import Path

import pytest

from builder import commands, items, library, notebooks
from knowcirc.cli import COMMANDS, build_parser
from knowcirc.facts.relations import read_relation
from knowcirc.items.contract import count, share
from knowcirc.items.figures import FIGURES
from knowcirc.items.tables import TABLES

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOTEBOOKS = sorted((ROOT / "docs").glob("*.ipynb"))
BLOCK = re.compile(r"^ *```[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def blocks() -> list[tuple[str, str]]:
    """Every block of code of the documentation and of the commands' help, with where it stands."""
    found = [(path.name, block) for path in PAGES for block in BLOCK.findall(path.read_text("utf-8"))]
    for path in NOTEBOOKS:
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            source = "".join(cell["source"])
            parts = BLOCK.findall(source) if cell["cell_type"] == "markdown" else [source]
            found += [(path.name, part) for part in parts]
    for name, parser in commands.subparsers().items():
        found.append((f"knowcirc {name} --help", "\n".join(commands.examples(parser.epilog or ""))))
    return found


def lines_of(block: str) -> list[str]:
    """The lines of a block, those that end with a backslash joined with the next."""
    return [line.strip().removeprefix("$ ") for line in re.sub(r"\\\n", " ", block).splitlines()]


def calls(program: str) -> list[tuple[str, str]]:
    """Every call of a program in the documentation; variables of the shell stand for a folder."""
    found = [(where, line) for where, block in blocks() for line in lines_of(block)]
    return [
        (where, re.sub(r"\$\w+", "folder", line))
        for where, line in found
        if re.match(rf"(\.venv/bin/)?{program} ", line)
    ]


@pytest.mark.parametrize(("where", "line"), [call for call in calls("knowcirc") if "COMMAND" not in call[1]])
def test_every_command_in_the_documentation_parses(where: str, line: str) -> None:
    args = build_parser().parse_args(shlex.split(line, comments=True)[1:])
    assert args.command in COMMANDS


def test_the_documentation_shows_every_command() -> None:
    shown = {shlex.split(line, comments=True)[1] for _, line in calls("knowcirc")}
    assert set(COMMANDS) <= shown


def test_a_command_that_does_not_parse_is_found() -> None:
    with pytest.raises(ValueError, match="unrecognized arguments: --prompts-file"):
        build_parser().parse_args(["check", "results", "--prompts-file", "x"])
    assert lines_of('$ knowcirc edit M --prompt "{} is" \\\n    --out edited\n') == [
        'knowcirc edit M --prompt "{} is"      --out edited'
    ]


LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")


def test_every_link_of_the_documentation_holds_in_the_repository() -> None:
    pages = [*PAGES, *(ROOT / name for name in ("CHANGELOG.md", "RESULTS.md", "config/README.md", "tests/README.md"))]
    links = [(path, link) for path in pages for link in LINK.findall(path.read_text("utf-8"))]
    assert [(path.name, link) for path, link in links if not (path.parent / link).exists()] == []
    assert len(links) > 50


def test_targets_of_make_and_configurations_in_the_documentation_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for where, line in calls("make"):
        named = [word for word in shlex.split(line, comments=True)[1:] if "=" not in word]
        assert set(named) <= targets, (where, line)
    text = "\n".join(block for _, block in blocks())
    assert [name for name in re.findall(r"config/[\w-]+\.yaml", text) if not (ROOT / name).is_file()] == []


def test_the_relation_in_the_documentation_can_be_read(tmp_path: Path) -> None:
    (text,) = [block for where, block in blocks() if where == "own-data.md" and block.startswith("name:")]
    path = tmp_path / "planet_color.yaml"
    path.write_text(text)
    relation = read_relation(path)
    assert relation.relation_words == ("color", "looks")
    assert [fact.object for fact in relation.facts] == ["red", "blue"]


def test_each_command_has_a_page_with_all_its_options() -> None:
    pages = commands.pages()
    assert set(pages) == {f"reference/commands/{name}.md" for name in ("index", *COMMANDS)}
    for name, parser in commands.subparsers().items():
        page = pages[f"reference/commands/{name}.md"]
        assert page.startswith(f"# `knowcirc {name}`\n")
        for action in parser._actions:
            assert all(f"`{option}" in page for option in action.option_strings if option not in ("-h", "--help")), (
                action
            )
    lens = pages["reference/commands/lens.md"]
    assert "| `--out FILE.csv` | one row per position and layer<br>**Required.** |" in lens
    assert "| `MODEL` | folder of a model that save_pretrained wrote |" in lens
    assert "| `--device DEVICE` | default: auto<br>One of: auto, cpu, cuda. |" in lens
    assert "| `--figure FILE.png|.pdf` |" in lens  # in code a bar ends no cell


def test_each_figure_and_table_is_on_its_page_with_every_column() -> None:
    pages = items.pages(ROOT / "rules/captions", {})
    figures, tables = (pages[f"reference/results/{name}.md"] for name in ("figures", "tables"))
    assert all(f"## `{each.name}`\n" in figures for each in FIGURES)
    for table in TABLES:
        part = tables.partition(f"## `{table.name}`\n")[2].partition("\n## ")[0]
        assert [column.name for column in items.columns_of(table) if f"| `{column.name}`" not in part] == []
    assert "{%" not in figures + tables
    assert "{{" not in figures + tables
    assert items.row(share("hit_at_1", "the answer is first")) == (
        "| `hit_at_1` (with interval) | the answer is first | share, 0 to 1 |"
    )
    assert items.row(count("n", "facts")) == "| `n` | facts | count, from 0 |"


def test_each_public_module_has_a_page() -> None:
    source = ROOT / "workflow_scripts/knowcirc"
    pages = library.pages(source)
    assert pages["reference/library/editing/rome.md"] == "# `knowcirc.editing.rome`\n\n::: knowcirc.editing.rome\n"
    assert {path.parent.name for path in map(Path, pages)} == {*library.ROOMS, "library"}
    rooms = [modules for part in library.navigation(source)[1:] for modules in part.values()]  # type: ignore[attr-defined]
    listed = [address for modules in rooms for module in modules for address in module.values()]
    assert {"reference/library/index.md", *listed} == set(pages)


def test_examples_of_docstrings_become_blocks() -> None:
    text = "What it does.\n\n>>> f(1)\n[(1, 2)]\n\nMore."
    assert library.fenced(text) == "What it does.\n\n```pycon\n>>> f(1)\n[(1, 2)]\n```\n\nMore."


def notebook(folder: Path, *cells: dict[str, object]) -> Path:
    """A notebook of some cells."""
    path = folder / "some.ipynb"
    path.write_text(json.dumps({"cells": list(cells)}))
    return path


def cell(
    source: str, *outputs: dict[str, object], executed: int | None = 1, tags: tuple[str, ...] = ()
) -> dict[str, object]:
    """A cell of code."""
    return {
        **{"cell_type": "code", "execution_count": executed, "metadata": {"tags": list(tags)}},
        **{"source": source.splitlines(keepends=True), "outputs": list(outputs)},
    }


def test_a_notebook_becomes_a_page_with_its_outputs(tmp_path: Path) -> None:
    printed = [{"output_type": "stream", "name": name, "text": [f"{name}\n"]} for name in ("stderr", "stdout")]
    picture = {"output_type": "display_data", "data": {"image/png": "aGk=", "text/plain": "<Image>"}}
    path = notebook(
        tmp_path,
        {"cell_type": "markdown", "metadata": {}, "source": ["# Title\n"]},
        cell("%%bash\nknowcirc lens M \\\n    --out x.csv\nls", *printed),
        cell("Image('x')", picture, tags=("hide-input",)),
        cell("1 + 1", {"output_type": "execute_result", "data": {"text/plain": ["2"]}}),
    )
    page, pictures = notebooks.page(path)
    assert page == (
        "# Title\n\n"
        "```bash\nknowcirc lens M \\\n    --out x.csv\nls\n```\n\n"
        "```{ .text .no-copy .output }\nstderr\nstdout\n```\n\n"
        "![some-3-1.png](some-3-1.png)\n\n"
        "```python\n1 + 1\n```\n\n```{ .text .no-copy .output }\n2\n```\n"
    )
    assert pictures == {"some-3-1.png": b"hi"}


def test_a_notebook_that_has_not_been_run_or_failed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cell 1 has not been executed; run make notebooks"):
        notebooks.page(notebook(tmp_path, cell("1", executed=None)))
    failed = {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}
    with pytest.raises(ValueError, match="cell 1 failed: no"):
        notebooks.page(notebook(tmp_path, cell("1", failed)))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebooks_of_the_documentation_have_been_run(path: Path) -> None:
    page, pictures = notebooks.page(path)
    assert page.startswith("# ")
    assert pictures
