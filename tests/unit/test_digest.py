"""The hash of a script's library code: it follows what the code does, through every import, and nothing else."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from knowcirc import digest

LIBRARY = Path(__file__).parents[2] / "workflow_scripts" / "knowcirc"
TREE = {
    "__init__.py": '"""The package."""\n',
    "direct.py": '"""Direct."""\n\nfrom knowcirc.part.middle import answer\n\n\ndef say():\n    return answer()\n',
    "part/__init__.py": '"""A part."""\n',
    "part/middle.py": "import knowcirc.deep as deep\n\n\ndef answer():\n    return deep.VALUE + 1\n",
    "deep.py": "VALUE = 1\n",
    "lazy.py": "LAZY = 1\n",
    "unused.py": "from knowcirc import deep\n\nOTHER = 1\n",
}
SCRIPT = """import json

from knowcirc.direct import say


def main():
    from knowcirc import lazy

    return say(), lazy.LAZY
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small package in the library's place."""
    for name, text in TREE.items():
        path = tmp_path / "knowcirc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    (tmp_path / "script.py").write_text(SCRIPT, "utf-8")
    monkeypatch.setattr(digest, "ROOT", tmp_path)
    yield tmp_path
    digest._module.cache_clear()


def hashed(tree: Path) -> str:
    """The digest as a new process finds it."""
    digest._module.cache_clear()
    return digest.code_digest(tree / "script.py")


def edit(tree: Path, name: str, change: Callable[[str], str]) -> None:
    path = tree / "knowcirc" / name
    before = path.read_text("utf-8")
    path.write_text(change(before), "utf-8")
    assert path.read_text("utf-8") != before


@pytest.mark.parametrize("name", ["direct.py", "part/middle.py"])
@pytest.mark.parametrize(
    "change",
    [
        lambda text: "# a comment\n" + text.replace("\n    return", "\n    # another\n    return"),
        lambda text: text.replace("    return", "    '''What it does.'''\n    return"),
        lambda text: text.replace('"""Direct."""\n', "").replace("\n\n\n", "\n") + "\n\n",
        lambda text: text.replace("    return ", "    return (\n        ").rstrip() + "\n    )\n",
    ],
    ids=["comment", "docstring", "blank lines", "brackets"],
)
def test_what_changes_no_code_changes_nothing(tree: Path, name: str, change: Callable[[str], str]) -> None:
    before = hashed(tree)
    edit(tree, name, change)
    assert hashed(tree) == before


def test_a_modules_own_docstring_changes_nothing(tree: Path) -> None:
    before = hashed(tree)
    edit(tree, "direct.py", lambda text: text.replace("Direct.", "Said anew."))
    edit(tree, "part/middle.py", lambda text: '"""First words."""\n' + text)
    assert hashed(tree) == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("direct.py", "return answer()", "return -answer()"),
        ("part/middle.py", "+ 1", "+ 2"),
        ("deep.py", "VALUE = 1", "VALUE = 1.0"),
        ("lazy.py", "LAZY = 1", "LAZY = 2"),
        ("direct.py", "def say():\n", "def say():\n    'What it says.'\n    'no docstring'\n"),
    ],
    ids=["direct", "transitive", "deepest", "inside a function", "second string"],
)
def test_code_that_the_script_reaches_changes_the_digest(tree: Path, name: str, old: str, new: str) -> None:
    before = hashed(tree)
    edit(tree, name, lambda text: text.replace(old, new))
    assert hashed(tree) != before


def test_a_module_that_is_not_imported_changes_nothing_until_it_is(tree: Path) -> None:
    before = hashed(tree)
    edit(tree, "unused.py", lambda text: text.replace("OTHER = 1", "OTHER = 2"))
    (tree / "knowcirc" / "new.py").write_text("NEW = 1\n", "utf-8")
    assert hashed(tree) == before
    edit(tree, "deep.py", lambda text: text + "from knowcirc.unused import OTHER\n")
    first = hashed(tree)
    edit(tree, "unused.py", lambda text: text.replace("OTHER = 2", "OTHER = 3"))
    assert len({before, first, hashed(tree)}) == 3


def test_the_script_itself_and_modules_of_others_do_not_count(tree: Path) -> None:
    before = hashed(tree)
    (tree / "script.py").write_text(SCRIPT.replace("import json", "import csv") + "\nX = 1\n", "utf-8")
    (tree / "json.py").write_text("shadow = 1\n", "utf-8")
    assert hashed(tree) == before


def test_modules_that_import_each_other_are_followed_once(tree: Path) -> None:
    edit(tree, "deep.py", lambda text: text + "import knowcirc.direct\n")
    first = hashed(tree)
    edit(tree, "part/middle.py", lambda text: text.replace("+ 1", "+ 2"))
    assert hashed(tree) != first


def test_two_modules_that_swap_their_code_are_told_apart(tree: Path) -> None:
    before = hashed(tree)
    edit(tree, "deep.py", lambda _: TREE["lazy.py"])
    edit(tree, "lazy.py", lambda _: TREE["deep.py"])
    assert hashed(tree) != before


def test_the_library_imports_itself_by_full_names_which_alone_are_followed() -> None:
    for path in LIBRARY.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"


def test_packages_run_no_code_on_import_for_their_modules_alone_are_followed() -> None:
    for path in LIBRARY.rglob("*/__init__.py"):
        tree = ast.parse(path.read_text("utf-8"))
        assert [type(node) for node in tree.body] == [ast.Expr], path


def test_a_registry_counts_by_what_a_job_is_given_of_it(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "DECLARATIONS", {"knowcirc.deep"})
    script, before = tree / "script.py", hashed(tree)
    drawn = digest.code_digest(script, whole=True)
    assert len({before, digest.code_digest(script, entries="one"), digest.code_digest(script, entries="two")}) == 3
    edit(tree, "deep.py", lambda text: text.replace("VALUE = 1", "VALUE = 2"))
    assert hashed(tree) == before
    assert digest.code_digest(script, whole=True) != drawn


def test_what_a_module_imports_by_name_counts_where_the_module_does(tree: Path) -> None:
    script, before = tree / "script.py", hashed(tree)
    assert digest.code_digest(script, also={"knowcirc.elsewhere": ["knowcirc.unused"]}) == before
    with_unused = digest.code_digest(script, also={"knowcirc.direct": ["knowcirc.unused"]})
    assert with_unused == digest.code_digest(script, "knowcirc.unused") != before


def test_registries_and_settings_are_modules_that_exist() -> None:
    assert all(digest._file(name) for name in digest.DECLARATIONS)
