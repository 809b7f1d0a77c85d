"""A hash of a script's library code, so that a rule reruns when the code it uses has changed, and only then.

The modules that a script imports are followed statically and transitively, module by module. Hashed are their syntax
trees without docstrings: a comment or a docstring reruns nothing. A package's `__init__` counts when imported.
"""

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

PACKAGE = "knowcirc"
ROOT = Path(__file__).resolve().parent.parent


DECLARATIONS = frozenset(
    f"{PACKAGE}.{name}"
    for name in (
        *("fields", "circuits.choices", "circuits.methods", "circuits.settings", "editing.editors"),
        *("editing.settings", "facts.benchmarks", "facts.sources", "models.families"),
    )
)
"""Registries and settings: they say what there is. What a job is given of them stands in its parameters."""


def code_digest(
    script: Path,
    *modules: str,
    also: Mapping[str, Iterable[str]] | None = None,
    entries: object = None,
    whole: bool = False,
) -> str:
    """A short hash of all `knowcirc` modules that the script uses (not of the script: Snakemake watches that).

    `modules` are those that it imports by name while it runs; `also` says which more a module imports so. `entries` is
    what it is given of a registry. Registries and settings themselves count where `whole` alone (`DECLARATIONS`).
    """
    seen: dict[str, str] = {}
    todo = [*_imports(ast.parse(script.read_text("utf-8"))), *modules]
    while todo:
        module = todo.pop()
        path = _file(module)
        if module in seen or path is None or (module in DECLARATIONS and not whole):
            continue
        seen[module], found = _module(path)
        todo += [*found, *(also or {}).get(module, ())]
    return hashlib.sha256(repr((sorted(seen.items()), entries)).encode()).hexdigest()[:16]


@functools.cache
def _module(path: Path) -> tuple[str, tuple[str, ...]]:
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), tuple(_imports(tree))


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.split(".")[0] == PACKAGE)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            yield str(node.module)
            yield from (f"{node.module}.{name.name}" for name in node.names)


def _file(module: str) -> Path | None:
    base = ROOT.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None
