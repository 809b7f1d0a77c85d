"""Settings that were typed on Snakemake's command line: `--config offline=true tracing='{draws: 2}'`.

Snakemake leaves `true`, `null` and every value inside of braces as texts. Where a setting is no text, they are read as
a configuration file would have them.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

NOTHING = ("null", "~", "none")


def as_meant(kind: type[BaseModel], config: Mapping[str, Any], typed: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with the texts of `typed`, which is part of it, as what their settings are.

    >>> class Some(BaseModel, strict=True):
    ...     name: str
    ...     number: float
    ...     maybe: bool | None
    >>> given = {"name": "1", "number": "5e-4", "maybe": "true"}
    >>> as_meant(Some, given, given)
    {'name': '1', 'number': 0.0005, 'maybe': True}
    """
    meant = copy.deepcopy(dict(config))
    for place in _texts(typed):
        text = _value(typed, place)
        if _value(meant, place) == text and text.lower() in NOTHING:
            _set(meant, place, None)
    try:
        kind.model_validate(meant)
    except ValidationError as error:
        for fault in error.errors():
            place = tuple(fault["loc"])
            text = fault["input"]
            if isinstance(text, str) and _value(typed, place) == text:
                _set(meant, place, _read(text))
    return meant


def _read(text: str) -> object:
    """A word as YAML has it; also numbers such as 5e-4, which need a point there."""
    try:
        found = yaml.safe_load(text)
        return float(found) if isinstance(found, str) else found
    except (ValueError, yaml.YAMLError):
        return text


def _texts(values: object, place: tuple[int | str, ...] = ()) -> list[tuple[int | str, ...]]:
    """The places of all texts in dictionaries and lists."""
    if isinstance(values, str):
        return [place]
    if isinstance(values, Mapping):
        return [found for key, value in values.items() for found in _texts(value, (*place, str(key)))]
    if isinstance(values, Sequence):
        return [found for number, value in enumerate(values) for found in _texts(value, (*place, number))]
    return []


def _value(values: Any, place: Sequence[int | str]) -> Any:
    """What stands at a place; None where there is none."""
    for key in place:
        try:
            values = values[key]
        except (KeyError, IndexError, TypeError):
            return None
    return values


def _set(values: Any, place: Sequence[int | str], value: object) -> None:
    for key in place[:-1]:
        values = values[key]
    values[place[-1]] = value
