"""What the two long campaigns of faults found, for `tests/README.md`.

`make test-faults` and `make test-mutation` write the files that are read here.
"""

import json
from pathlib import Path
from typing import Any

import yaml

TESTS = Path(__file__).parents[1]
KILLED = {
    "job": "one job killed (`SIGKILL`)",
    "snakemake": "Snakemake killed, its jobs running on",
    "everything": "Snakemake and all jobs killed at once",
}
"""The kinds of kills of `tests/faults/test_kills.py`."""
Row = dict[str, Any]


def campaigns() -> list[str]:
    """Both sections."""
    return [running(read("faults/found.json")), in_the_engine(read("mutation/found.json"), reasons())]


def read(name: str) -> Any:
    """A file that a campaign wrote."""
    return json.loads((TESTS / name).read_text("utf-8"))


def reasons() -> dict[tuple[str, str, str], str]:
    """Why a fault that no test sees stays: by module, line and fault."""
    rows = yaml.safe_load((TESTS / "mutation/survivors.yaml").read_text("utf-8")) or []
    return {(row["module"], row["was"], row["fault"]): row["why"] for row in rows}


def running(found: Row) -> str:
    """Faults while a part of the small study runs."""
    ended = {outcome for test, outcome in found["outcomes"].items() if "killed" in test}
    went_on = "the next runs go on, and the tables are those of a run that nobody disturbed"
    then = went_on if ended == {"passed"} else "failed"
    rows = [f"| {KILLED[kind]} | {times} | {then} |" for kind, times in found["kills"].items()]
    rows += [f"| {said(test)} | 1 | {outcome} |" for test, outcome in found["outcomes"].items() if "killed" not in test]
    return "\n".join(
        [
            "## Faults while a study runs",
            "",
            "As `make test-faults` last found them; kills come at random moments.",
            "",
            "| fault | times | then |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def said(test: str) -> str:
    """The name of a test as words, with its case."""
    name, _, case = test.partition("::test_")[2].partition("[")
    words = name.replace("_", " ")
    return words + (f": `{case.removesuffix(']')}`" if case else "")


def in_the_engine(found: dict[str, list[Row]], why: dict[tuple[str, str, str], str]) -> str:
    """Small faults that were put into the engine, and those that no test sees."""
    counted, stay, seen = [], [], 0
    for module, rows in found.items():
        unseen = survivors(rows)
        seen += len(rows) - len(unseen)
        counted.append(f"| `{module}` | {len(rows)} | {len(rows) - len(unseen)} |")
        stay += [
            f"| `{module}` | {code(row['was'])} | {code(row['fault'])} | {why[module, row['was'], row['fault']]} |"
            for row in unseen
        ]
    if stay:
        stay = ["| module | line | fault that no test sees | why it stays |", "|---|---|---|---|", *stay, ""]
    every = sum(len(rows) for rows in found.values())
    return "\n".join(
        [
            "## Small faults in the engine",
            "",
            "`make test-mutation` draws places by chance and makes one fault at each (Cosmic Ray's). The module's own "
            f"tests see {seen} of {every}; a fault that never ends counts as seen.",
            "",
            "| module | faults | seen |",
            "|---|---|---|",
            *counted,
            "",
            *stay,
        ]
    )


def survivors(rows: list[Row]) -> list[Row]:
    """The faults that no test saw."""
    return [row for row in rows if row["outcome"] == "survived"]


def code(text: str) -> str:
    """Text as it is, in a cell of a table."""
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{fence}".replace("|", "\\|")
