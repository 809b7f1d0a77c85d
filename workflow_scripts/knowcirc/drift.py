"""A study's tables against those of a reference run: which values lie further apart than their columns allow.

Tolerances stand with the columns in the registry of items. They are for a run of the same version on another
processor: other kernels round otherwise, which moves single ranks, and sends a search another way now and then.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from knowcirc.checks import CONTRACTS
from knowcirc.files import read_table
from knowcirc.items.contract import Column, Table

SAMPLES = ("n", "n_val", "n_test")
"""Columns that say how many cases a row's shares are of."""
NOT_THERE = "the reference does not have it"
BOUNDS = 2.0  # what the bounds of an interval may move by, in tolerances of the value between them


class Drift(NamedTuple):
    """One value, row, column or table that lies further off than it may: its column (else "rows"), and a line."""

    column: str
    line: str


@dataclass(frozen=True, slots=True)
class Compared:
    """How many values were compared, which drifted, and what one side does not have: (what, why), not compared."""

    values: int
    drifted: Sequence[Drift]
    unknown: Sequence[tuple[str, str]]


def compare_results(results: Path, reference: Path) -> Compared:
    """Every table of the reference against that of the study.

    Raises:
        ValueError: if the reference holds no table.
    """
    paths = sorted(reference.glob("*/tables/*.csv"))
    if not paths:
        raise ValueError(f"{reference} holds no tables (MODEL/tables/NAME.csv); name a folder of reference results")
    values, drifted, unknown = 0, [], []
    for path in paths:
        name = str(path.relative_to(reference))
        if path.stem not in CONTRACTS:
            unknown.append((name, "no table of this version"))
        elif not (results / name).is_file():
            drifted.append(Drift(name, f"{name}: missing"))
        else:
            found = compare_tables(read_table(results / name), read_table(path), CONTRACTS[path.stem])
            values += found.values
            drifted += [Drift(f"{name}, {each.column}", f"{name}: {each.line}") for each in found.drifted]
            unknown += [(f"{name}, {column}", why) for column, why in found.unknown]
    for folder in {path.parent for path in paths}:
        here = results / folder.relative_to(reference)
        names = sorted(path.name for path in here.glob("*.csv") if not (folder / path.name).is_file())
        unknown += [(str((here / name).relative_to(results)), NOT_THERE) for name in names]
    return Compared(values, drifted, unknown)


def compare_tables(found: pd.DataFrame, reference: pd.DataFrame, contract: Table) -> Compared:
    """One table against the reference's, row by row of the same keys."""
    keys = [key for key in contract.one_row_for if key in found and key in reference]
    rows, expected = _by_key(found, keys), _by_key(reference, keys)
    lost, new = [key for key in expected if key not in rows], [key for key in rows if key not in expected]
    allowed = contract.other_rows * len(expected)
    drifted: list[Drift] = []
    if max(len(lost), len(new)) > allowed:
        drifted += [Drift("rows", f"{_named(keys, key)}: this run lacks the row") for key in lost]
        drifted += [Drift("rows", f"{_named(keys, key)}: the reference lacks the row") for key in new]
    values, unknown = 0, []
    for name in reference.columns:
        column = next((one for one in contract.columns if one.covers(name)), None)
        if column is None:
            unknown.append((name, "no column of this version"))
        elif name not in found:
            drifted.append(Drift(name, f"{name}: this run lacks the column"))
        elif name not in keys and column.drift is not None:
            both = [key for key in expected if key in rows]
            values += len(both)
            lines = (_difference(name, column, rows[key], expected[key]) for key in both)
            pairs = zip(both, lines, strict=True)
            drifted += [Drift(name, f"{_named(keys, key)}: {line}") for key, line in pairs if line]
    unknown += [(name, NOT_THERE) for name in found.columns if name not in reference]
    return Compared(values, drifted, unknown)


def _by_key(frame: pd.DataFrame, keys: Sequence[str]) -> dict[tuple[str, ...], Mapping[str, object]]:
    """Rows by the texts of their key columns: a number may be whole in one file and a float in the other."""
    records: Iterator[dict[str, object]] = (
        dict(zip(frame.columns, row, strict=True)) for row in frame.to_numpy(object)
    )
    return {tuple(_text(record[key]) for key in keys): record for record in records}


def _text(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:g}"
    return str(value)


def _named(keys: Sequence[str], key: tuple[str, ...]) -> str:
    return ", ".join(f"{name}={value}" for name, value in zip(keys, key, strict=True))


def _difference(name: str, column: Column, row: Mapping[str, object], reference: Mapping[str, object]) -> str:
    """What to say of a value that drifted; "" where it did not."""
    value, expected = row[name], reference[name]
    if column.drift is None or _text(value) == _text(expected):
        return ""
    said = f"{name} is {_text(value) or 'empty'}, the reference has {_text(expected) or 'empty'}"
    if not column.numeric or not _text(value) or not _text(expected):
        return said
    limit = column.drift.limit(float(str(expected)), _cases(reference)) * (1.0 if name == column.name else BOUNDS)
    apart = abs(float(str(value)) - float(str(expected)))
    return "" if apart <= limit else f"{said} ({apart:.3g} apart, {limit:.3g} allowed)"


def _cases(row: Mapping[str, object]) -> float:
    """The smallest of a row's samples; infinite where it names none."""
    counts = [float(str(row[name])) for name in SAMPLES if name in row and _text(row[name])]
    return min((each for each in counts if each > 0), default=math.inf)
