"""Where each file of a study comes from, in a file beside it: `.provenance/NAME.json`.

1. A job that has ended writes, for every file of its output, the sha256, the job's rule, settings, code digest and
   seeds (its parameters), its inputs with their sha256, the versions of libraries, and the kind of machine.
2. A job that begins compares its inputs with what was written when they were made. A file that was cut short, emptied
   or changed since then is refused by name; nothing is computed from it.

Files above `LARGEST` (model weights, which have a digest of their own) are known by their size alone.
"""

import contextlib
import math
import os
import platform
import sys
import time
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from knowcirc.files import file_sha256, read_json, write_json

FOLDER = ".provenance"
LARGEST = 64 * 2**20  # bytes
LIBRARIES = ("knowcirc", "torch", "numpy", "pandas", "transformers", "tokenizers", "matplotlib", "snakemake")


def record_of(path: Path) -> Path:
    """The file that says where `path` comes from."""
    return path.parent / FOLDER / f"{path.name}.json"


def state_of(path: Path) -> dict[str, object]:
    """What a file is known by: its sha256 and size; a folder by its files and their sizes."""
    if path.is_dir():
        files = sorted(each for each in path.rglob("*") if each.is_file() and FOLDER not in each.parts)
        return {"files": {each.relative_to(path).as_posix(): each.stat().st_size for each in files}}
    size = path.stat().st_size
    return {"bytes": size, "sha256": file_sha256(path) if size <= LARGEST else None}


def check_inputs(paths: Iterable[str]) -> dict[str, object]:
    """The states of a job's inputs, once they have been found to be those that were made.

    Raises:
        ValueError: naming a file that is not what it was when it was made.
    """
    found: dict[str, object] = {}
    for name in dict.fromkeys(paths):
        path, record = Path(name), record_of(Path(name))
        state = found[name] = state_of(path)
        if not record.is_file():
            continue
        try:
            made = read_json(record)["state"]
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{record} is no record of {path}; delete both, and they are made again") from None
        if made != state:
            raise ValueError(f"{path} is not as it was made{_difference(made, state)}; delete it, and it is made again")
    return found


def _difference(made: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    if "files" in made and "files" in state:
        changed = sorted(
            name for name in {*made["files"], *state["files"]} if made["files"].get(name) != state["files"].get(name)
        )
        return f" ({', '.join(changed[:3])})"
    if made.get("bytes") != state.get("bytes"):
        return f" ({state.get('bytes')} bytes instead of {made.get('bytes')})"
    return " (its sha256 differs)"


def write_records(job: Any, inputs: Mapping[str, object], seconds: float) -> None:
    """Write beside each output of a job where it comes from. `inputs` are their states when the job began."""
    about = {
        "rule": job.rule,
        "wildcards": dict(job.wildcards.items()),
        "parameters": {name: _plain(value) for name, value in job.params.items()},
        "inputs": inputs,
        "threads": job.threads,
        "device": os.environ.get("KNOWCIRC_DEVICE", "auto"),
        "versions": versions(),
        "machine": {"system": platform.system(), "machine": platform.machine(), "processor": _processor()},
        "seconds": round(seconds, 3),
        "ended": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    for name in job.output:
        path = Path(name)
        write_json(record_of(path), {"file": path.name, "state": state_of(path), **about})


def work_behind(path: Path) -> tuple[int, float]:
    """How many jobs a file rests on, and the seconds that they took, as the records beside the files say.

    A job that was interrupted counts from where it went on. Inputs without a record (of another study, or of the
    project itself) count nothing.
    """
    seconds: dict[str, float] = {}
    waiting, seen = [path], {path}
    while waiting:
        record = record_of(waiting.pop())
        if not record.is_file():
            continue
        about = read_json(record)
        seconds[f"{about['rule']} {about['wildcards']}"] = float(about["seconds"])
        new = {Path(name) for name in about["inputs"]} - seen
        seen |= new
        waiting += new
    return len(seconds), math.fsum(seconds.values())


def versions() -> dict[str, str]:
    """Those of Python and of the libraries that this process has imported."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        if name in sys.modules:
            with contextlib.suppress(metadata.PackageNotFoundError):  # not installed, found by PYTHONPATH
                found[name] = metadata.version(name)
    return found


def _plain(value: object) -> object:
    """A parameter as JSON holds it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _processor() -> str:
    """The processor's name, where the system tells it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text("utf-8", "replace").splitlines() if path.is_file() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
