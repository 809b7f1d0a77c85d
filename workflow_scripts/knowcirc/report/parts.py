"""Parts of the report as plain values that its template sets: tables, data to download, claims, comparisons."""

import base64
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from knowcirc.files import read_table
from knowcirc.items.contract import Column, Table

LONG = 60  # characters: longer texts get a wide cell
EMBEDDED = 500_000  # bytes of data that the page holds itself; larger files are named by where they lie
TYPES = {".csv": "text/csv", ".json": "application/json", ".png": "image/png"}
INTERVALS = ("_low", "_high")
VERDICTS = {"yes": "holds", "no": "does not hold", "unclear": "unclear"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table: its text and interval, the value that it is sorted by, its class."""

    text: str
    interval: str
    value: str
    kind: str


def data_uri(path: Path) -> str:
    """A file as an address that holds it."""
    return f"data:{TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def download(path: Path, results: Path) -> dict[str, object]:
    """A file to download: its name, and the address that holds it, or where it lies beside the report."""
    size = path.stat().st_size
    address = data_uri(path) if size <= EMBEDDED else path.relative_to(results).as_posix()
    return {"name": path.name, "address": address, "kilobytes": max(1, round(size / 1000))}


def table_of(path: Path, item: Table) -> dict[str, object]:
    """A table's heads (name, meaning, class) and rows of cells; bounds stand in the cells of their values."""
    frame = read_table(path).drop(columns=["model"], errors="ignore")
    names = [str(name) for name in frame]
    bounds = {f"{name}{end}" for name in names for end in INTERVALS}
    shown = [name for name in names if name not in bounds]
    heads = [(name, _meaning(name, item.columns), _kind(frame[name])) for name in shown]
    rows = [[_cell(frame, row, name) for name in shown] for _, row in frame.iterrows()]
    return {"heads": heads, "rows": rows}


def _meaning(name: str, columns: Any) -> str:
    found: Column | None = next((column for column in columns if column.covers(name)), None)
    if found is None:
        return ""
    return f"{found.meaning} ({found.unit})" if found.unit else found.meaning


def _kind(column: pd.Series) -> str:
    return "number" if pd.api.types.is_numeric_dtype(column) else "text"


def _cell(frame: pd.DataFrame, row: pd.Series, name: str) -> Cell:
    value = row[name]
    if pd.isna(value):
        return Cell("", "", "", "")
    if _kind(frame[name]) == "text":
        text = str(value)
        return Cell(text, "", text, "long" if len(text) > LONG else "text")
    low, high = (row.get(f"{name}{end}", math.nan) for end in INTERVALS)
    interval = "" if pd.isna(low) else f"[{low:.3f}, {high:.3f}]"
    return Cell(_number(name, float(value)), interval, repr(float(value)), "number")


def _number(name: str, value: float) -> str:
    whole = value.is_integer() and name.startswith(("n", "layer", "sample"))
    return f"{value:.0f}" if whole else f"{value:.3f}"


def claims_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The claims with the places, in percent of a strip whose middle is the bound, of value and interval."""
    found = []
    for row in table.to_dict("records"):
        numbers = [row[name] for name in ("value", "low", "high") if pd.notna(row[name])]
        widest = max((abs(number - row["bound"]) for number in numbers), default=0.0) or 1.0
        place = {
            name: 50 + 45 * (row[name] - row["bound"]) / widest
            for name in ("value", "low", "high")
            if pd.notna(row[name])
        }
        found.append({**row, "place": place})
    return found


def comparisons_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The printed numbers that this run has one beside, with the places of both on a strip of their own."""
    both = table[table["published"].notna() & table["ours"].notna()]
    found = []
    for row in both.to_dict("records"):
        numbers = {name: row[name] for name in ("published", "ours", "ours_low", "ours_high") if pd.notna(row[name])}
        least, most = min(numbers.values()), max(numbers.values())
        width = (most - least) or 1.0
        found.append({**row, "place": {name: 5 + 90 * (value - least) / width for name, value in numbers.items()}})
    return found
