"""Check a finished study: every promised figure and table exists, opens, has its columns, is finite and in range.

What a study promises stands in its `manifest.json`; what a table's columns hold, in the registry of items.
"""

import fnmatch
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from knowcirc.files import read_json, read_table
from knowcirc.items.contract import Column, Table
from knowcirc.items.tables import TABLES

CONTRACTS = {table.name: table for table in TABLES}
MIN_PIXELS = 300
KEYS = ("models", "figures", "figures_of_all", "tables", "methods", "compared", "editors")
TOLERANCE = 1e-9
OUTSIDE = re.compile(
    r"<(?:link|script)\b[^>]*(?:href|src)=|src=[\"']?https?:|url\(\s*[\"']?https?:|@import"
    r"|<iframe\b(?![^>]* src=\"[\w.+-]+/explorer\.html\")"  # the explorers lie beside the report
)


class ArtifactError(ValueError):
    """An artifact is not what the study promises; the message says why."""


def check_results(results: Path) -> list[dict[str, object]]:
    """A row for each promised artifact: name, ok, reason (empty where it is sound).

    Raises:
        ValueError: if the folder or its manifest is missing.
    """
    path = results / "manifest.json"
    if not path.is_file():
        raise ValueError(f"{path} does not exist; give the folder of a finished study (its config's outdir)")
    try:
        manifest = read_json(path)
    except (ValueError, TypeError):
        raise ValueError(f"{path} is no JSON object; run the study again") from None
    for key in KEYS:
        if not (isinstance(manifest.get(key), list) and all(isinstance(name, str) for name in manifest[key])):
            raise ValueError(f"{path}: {key} is no list of names; run the study again")
    return [_row(name, problem) for name, problem in _problems(results, manifest)]


def _row(name: str, problem: str) -> dict[str, object]:
    return {"name": name, "ok": not problem, "reason": problem}


def _problems(results: Path, manifest: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    models, figures, tables = (manifest[key] for key in ("models", "figures", "tables"))
    for name in manifest["figures_of_all"]:
        yield from _figure_problems(results, "all", name)
    for model in models:
        for name in tables:
            path = results / model / "tables" / f"{name}.csv"
            yield str(path.relative_to(results)), _try(check_table, path)
            tex = path.with_suffix(".tex")
            yield str(tex.relative_to(results)), _try(check_start, tex, b"\\begin{tabular}")
        for name in figures:
            yield from _figure_problems(results, model, name)
        for table in (CONTRACTS[name] for name in tables if name in CONTRACTS):
            path = results / model / f"tables/{table.name}.csv"
            for column, key in table.rows_for.items():
                yield f"{model}: {key} of {table.name}", _try(check_rows, path, column, manifest[key])
    report = results / "report.html"
    anchors = [f"{model}-{name}" for model in models for name in (*figures, *tables)]
    anchors += [f"all-{name}" for name in manifest["figures_of_all"]]
    yield "report.html", _try(check_report, report, anchors)


def _figure_problems(results: Path, model: str, name: str) -> Iterator[tuple[str, str]]:
    path = results / model / "figures" / f"{name}.png"
    yield str(path.relative_to(results)), _try(check_image, path)
    pdf = path.with_suffix(".pdf")
    yield str(pdf.relative_to(results)), _try(check_start, pdf, b"%PDF")
    yield f"{model}/figures/{name} (data)", _try(check_data, path)


def _try(check: object, *arguments: object) -> str:
    try:
        check(*arguments)  # type: ignore[operator]
    except (ArtifactError, OSError, ValueError, SyntaxError) as error:
        return str(error).splitlines()[0]
    return ""


def _exists(path: Path) -> None:
    if not path.is_file():
        raise ArtifactError("missing")
    if path.stat().st_size == 0:
        raise ArtifactError("empty file")


def check_table(path: Path) -> None:
    """Check that a table holds what its contract says: its columns, finite numbers in range, inside their intervals.

    Raises:
        ArtifactError: saying what is wrong.
    """
    _exists(path)
    frame = read_table(path)
    if frame.empty:
        raise ArtifactError("no rows")
    contract = CONTRACTS.get(path.stem)
    if contract is None:
        raise ArtifactError(f"the registry of items has no table {path.stem}")
    _check_names(frame, contract)
    for name in frame.columns:
        _check_column(frame, name, next(column for column in contract.columns if column.covers(name)))
    _check_intervals(frame)
    keys = list(contract.one_row_for)
    if frame.duplicated(keys).any():
        raise ArtifactError(f"more than one row for a {' and '.join(filter(None, (', '.join(keys[:-1]), keys[-1])))}")


def _check_names(frame: pd.DataFrame, contract: Table) -> None:
    promised = [name for column in contract.columns for name in column.names]
    if missing := [name for name in promised if not fnmatch.filter(frame.columns, name)]:
        raise ArtifactError(f"columns missing: {', '.join(missing)}")
    if unknown := [name for name in frame.columns if not any(column.covers(name) for column in contract.columns)]:
        raise ArtifactError(f"columns that nothing says the meaning of: {', '.join(unknown)}")


def _check_column(frame: pd.DataFrame, name: str, column: Column) -> None:
    if not column.numeric:
        if frame[name].isna().any() and not column.empty:
            raise ArtifactError(f"column {name}: a value is missing")
        return
    if name not in frame.select_dtypes("number"):
        raise ArtifactError(f"column {name}: a value is no number")
    values = frame[name].to_numpy(dtype=float, na_value=np.nan)
    if not column.empty and not np.isfinite(values).all():
        raise ArtifactError(f"column {name}: {int((~np.isfinite(values)).sum())} values are missing or not finite")
    if (values < column.low - TOLERANCE).any() or (values > column.high + TOLERANCE).any():
        raise ArtifactError(f"column {name}: a value is outside {column.low:g} to {column.high:g}")


def _check_intervals(frame: pd.DataFrame) -> None:
    for name in frame.columns:
        if not {f"{name}_low", f"{name}_high"} <= set(frame.columns):
            continue
        inside = frame[f"{name}_low"].le(frame[name] + TOLERANCE) & frame[name].le(frame[f"{name}_high"] + TOLERANCE)
        if not inside[frame[name].notna()].all():
            raise ArtifactError(f"column {name}: a value lies outside its own interval")


def check_image(path: Path) -> None:
    """Check that a figure opens, is of a size to be read, and is not one flat colour.

    Raises:
        ArtifactError: saying what is wrong.
    """
    _exists(path)
    with Image.open(path) as image:
        image.load()
        if min(image.size) < MIN_PIXELS:
            raise ArtifactError(f"only {image.size[0]} x {image.size[1]} pixels")
        low, high = image.convert("L").getextrema()
    if low == high:
        raise ArtifactError("one flat colour")


def check_start(path: Path, start: bytes) -> None:
    """Check that a file exists and begins as its kind does.

    Raises:
        ArtifactError: saying what is wrong.
    """
    _exists(path)
    with path.open("rb") as handle:
        if not handle.read(len(start)) == start:
            raise ArtifactError(f"does not begin with {start.decode()}")


def check_data(figure: Path) -> None:
    """Check that the data behind a figure stands beside it and can be read.

    Raises:
        ArtifactError: saying what is wrong.
    """
    table, document = figure.with_suffix(".csv"), figure.with_suffix(".json")
    if table.is_file():
        if read_table(table).empty and not document.is_file():
            raise ArtifactError("the data have no rows")
    elif document.is_file():
        json.loads(document.read_text("utf-8"))
    else:
        raise ArtifactError("no data beside the figure")


def check_rows(path: Path, column: str, names: list[str]) -> None:
    """Check that a table has a row for each name in a column.

    Raises:
        ArtifactError: naming those without one.
    """
    _exists(path)
    frame = read_table(path)
    if column not in frame:
        raise ArtifactError(f"columns missing: {column}")
    if missing := [name for name in names if name not in set(frame[column])]:
        raise ArtifactError(f"no row for {', '.join(missing)}")


def check_report(path: Path, anchors: list[str]) -> None:
    """Check that the report holds every item and refers to nothing outside itself.

    Raises:
        ArtifactError: saying what is wrong.
    """
    _exists(path)
    text = path.read_text("utf-8")
    if missing := [anchor for anchor in anchors if f'id="{anchor}"' not in text]:
        raise ArtifactError(f"items missing: {', '.join(missing)}")
    if found := OUTSIDE.search(text):
        raise ArtifactError(f"refers to something outside itself ({found[0]})")
