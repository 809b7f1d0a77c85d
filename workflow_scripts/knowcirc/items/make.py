"""Calling an item's function with what its parameters name: inputs, settings and the model."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from knowcirc.files import read_json, read_table
from knowcirc.functions import function_of


def with_model(rows: pd.DataFrame, model: str) -> pd.DataFrame:
    """A table that is computed already, with the model in front."""
    table = rows.copy()
    table.insert(0, "model", model)
    return table


def values_of(job: Any) -> dict[str, Any]:
    """What an item's function may take: what its input files hold, its settings, and the model.

    An input of many files comes as a dictionary by what they are of (`params.of`).
    """
    of, read = job.params.of, {}
    for name, files in job.input.items():
        many = name in of
        read[name] = dict(zip(of[name], map(_read, files), strict=True)) if many else _read(files)
    return {**read, **job.params.settings, **dict(job.wildcards.items())}


def _read(path: str) -> Any:
    return read_json(path) if Path(path).suffix == ".json" else read_table(path)


def call(name: str, values: Mapping[str, Any]) -> Any:
    """The result of an item's function, given those of the values that its parameters name."""
    function = function_of(name)
    parameters = inspect.signature(function).parameters
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return function(**values)
    return function(**{key: value for key, value in values.items() if key in parameters})
