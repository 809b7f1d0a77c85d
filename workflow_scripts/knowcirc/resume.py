"""What an interrupted job has finished, kept on everything that the job reads, so that it never mixes two settings."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from knowcirc.files import Parts, file_sha256, fingerprint


def parts_of(
    job: Any,
    output: Path | str,
    *,
    folder: Path | str | None = None,
    apart: Collection[str] = (),
    instead: object = None,
) -> Parts:
    """The finished parts of a job beside one of its outputs, or in a `folder` that outlives it.

    They are thrown away when a parameter (the code is one), a wildcard or the content of an input has changed. Where a
    part depends on less, `apart` names the inputs, parameters and wildcards left out, and `instead` is what it depends
    on of them.
    """
    read = {
        "inputs": {name: _contents(files) for name, files in _items(job, "input") if name not in apart},
        "params": {name: value for name, value in _items(job, "params") if name not in apart},
        "wildcards": {name: value for name, value in _items(job, "wildcards") if name not in apart},
        "instead": instead,
    }
    return Parts(output, fingerprint(read), folder=folder)


def _items(job: Any, name: str) -> Iterable[tuple[str, Any]]:
    """Names and values of Snakemake's lists with names, and of plain objects."""
    values = getattr(job, name, None)
    if values is None:
        return ()
    return values.items() if hasattr(values, "items") else vars(values).items()


def _contents(files: Any) -> list[str]:
    paths = [files] if isinstance(files, str | Path) else list(files)
    return [file_sha256(Path(path)) for path in paths]
