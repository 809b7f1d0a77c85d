"""Small faults put into the engine one by one: do the tests see them?

    PYTHONPATH=.mutation python tests/mutation/mutate.py [--sites 30] [--seed 0] [--only graph ...]

1. Places where a fault can be made (an operator, a comparison, a number, a condition, a loop) are drawn per module, and
   one fault at each: Cosmic Ray's. Annotations and decorators are left out.
2. Each is made in a copy of the project, and the module's own tests run on it until one fails. The libraries are
   imported once; each fault has a process forked from there.
3. What no test sees is written down with its line. `survivors.yaml` says of each why it stays; `tests/README.md` lists
   them (`tests/inputs/table.py`).
"""

import argparse
import ast
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = "workflow_scripts/knowcirc"
SUBJECTS = {
    "circuits/graph.py": ["test_graph.py", "test_merged.py", "test_acdc.py"],
    "circuits/acdc.py": ["test_acdc.py", "test_searching.py"],
    "circuits/state.py": ["test_acdc.py"],
    "circuits/standing.py": ["test_standing.py"],
    "circuits/group_search.py": ["test_group_search.py", "test_standing.py"],
    "editing/rome.py": ["test_editing.py", "test_rome_as_coded.py"],
    "editing/values.py": ["test_editing.py", "test_rome_as_coded.py"],
    "tracing/causal.py": ["test_tracing.py", "test_tracing_controls.py", "test_head_traces.py"],
    "tracing/restored.py": ["test_tracing.py", "test_tracing_controls.py"],
}
"""The modules, and the tests that are to see faults in them."""
SAID = "said.log"  # what the tests print
PATIENCE = 3.0  # times the tests' own seconds of a core until a fault counts as one that never ends


class Fault(NamedTuple):
    """One fault: Cosmic Ray's operator, which of its places, and the line."""

    operator: str
    occurrence: int
    line: int


def main() -> None:
    """Make the faults module by module, and write what became of each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sites", type=int, default=30, help="places per module (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the places that are drawn (default: %(default)s)")
    parser.add_argument("--only", nargs="+", metavar="MODULE", help="modules whose path holds one of these")
    parser.add_argument("--out", type=Path, default=ROOT / "tests/mutation/found.json", help="(default: %(default)s)")
    args = parser.parse_args()
    warm_up()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[dict[str, object]]] = json.loads(args.out.read_text()) if args.out.is_file() else {}
    for module, tests in SUBJECTS.items():
        if args.only is None or any(part in module for part in args.only):
            found[module] = rows = []
            for row in made(module, tests, args.sites, args.seed):
                rows.append(row)
                args.out.write_text(json.dumps(found, indent=1) + "\n")


def warm_up() -> None:
    """Import what all tests import, but not the library itself, on one thread: a fork keeps no other."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import beartype  # noqa: F401
    import jaxtyping  # noqa: F401
    import pandas  # noqa: F401
    import pytest  # noqa: F401
    import torch
    import transformers  # noqa: F401

    torch.set_num_threads(1)


def made(module: str, tests: list[str], sites: int, seed: int) -> Iterator[dict[str, object]]:
    """Make faults in one module, and say of each what the tests made of it."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name in ("workflow_scripts", "tests", "config", "rules", "docs"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "Snakefile"):
            shutil.copy2(ROOT / name, folder)
        path = folder / LIBRARY / module
        source = path.read_text("utf-8")
        outcome, seconds = run(folder, tests)
        if outcome != "survived":
            said = (folder / SAID).read_text("utf-8")
            raise SystemExit(f"the tests of {module} fail without a fault:\n{said[-3000:]}")
        patience = round(10 + PATIENCE * seconds)
        lines = source.splitlines()
        for fault in drawn(source, sites, seed):
            path.write_text(mutated(source, fault), "utf-8")
            outcome, _ = run(folder, tests, patience)
            changed = path.read_text("utf-8").splitlines()[fault.line - 1].strip()
            was = lines[fault.line - 1].strip()
            row = {"was": was, "fault": changed, "outcome": outcome, **fault._asdict()}
            sys.stdout.write(f"{module}:{fault.line} {outcome}: {was}  =>  {changed}\n")
            sys.stdout.flush()
            yield row
        path.write_text(source, "utf-8")


def drawn(source: str, sites: int, seed: int) -> list[Fault]:
    """Places drawn by chance, and a fault at each, in the order of the lines."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    skipped = left_out(source)
    places: dict[tuple[int, int], list[Fault]] = {}
    for name in operator_names():
        if get_operator(name).arguments() or "RemoveDecorator" in name or "ExceptionReplacer" in name:
            continue
        positions = (at for node in ast_nodes(get_ast(source)) for at in get_operator(name)().mutation_positions(node))
        for occurrence, (begin, _) in enumerate(positions):
            if not any(first <= begin < last for first, last in skipped):
                places.setdefault(begin, []).append(Fault(name, occurrence, begin[0]))
    draws = random.Random(seed)
    chosen = draws.sample(sorted(places), min(sites, len(places)))
    return sorted((draws.choice(places[at]) for at in chosen), key=lambda fault: fault.line)


def left_out(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where annotations and decorators begin and end: they change no number."""
    found: list[ast.expr | None] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found += node.decorator_list
        if isinstance(node, ast.FunctionDef):
            found.append(node.returns)
        if isinstance(node, ast.arg | ast.AnnAssign):
            found.append(node.annotation)
    return [
        ((part.lineno, part.col_offset), (part.end_lineno or part.lineno, part.end_col_offset or 0))
        for part in found
        if part is not None
    ]


def mutated(source: str, fault: Fault) -> str:
    """The module with the fault."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    code = mutate_code(source, get_operator(fault.operator)(), fault.occurrence)
    assert code is not None
    return str(code)


def run(folder: Path, tests: list[str], patience: int = 3600) -> tuple[str, float]:
    """The tests in a process forked from here: `killed`, `survived` or `endless`, and their seconds of a core."""
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (patience, patience + 1))
        test_in(folder, tests)
    _, status, used = os.wait4(child, 0)
    code, seconds = os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime
    if code == 0:
        return "survived", seconds
    return ("endless" if code in (-signal.SIGXCPU, -signal.SIGKILL) else "killed"), seconds


def test_in(folder: Path, tests: list[str]) -> None:
    """Run the tests of a copy of the project, and end the process with their status."""
    status = 1
    try:
        import pytest

        os.chdir(folder)
        os.environ["PYTHONPATH"] = str(folder / "workflow_scripts")
        quiet = os.open(folder / SAID, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        sys.path[:] = [path for path in sys.path if not path.startswith(str(ROOT / "tests"))]
        files = [f"tests/unit/{name}" for name in tests]
        status = int(
            pytest.main(
                [
                    "-x",
                    "-q",
                    "-p",
                    "no:cacheprovider",
                    "-p",
                    "no:xdist",
                    "-W",
                    "ignore::pytest.PytestAssertRewriteWarning",
                    *files,
                ]
            )
        )
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
