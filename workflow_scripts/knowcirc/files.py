"""Files that are whole or absent: atomic writes of tables, JSON, arrays, and parts of a job that was cut short."""

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

log = logging.getLogger(__name__)


@contextlib.contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path | str, value: object) -> None:
    """Write `value` as indented UTF-8 JSON; NaN is refused."""
    with atomic(path) as part:
        part.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def read_json(path: Path | str) -> dict[str, Any]:
    """The object in a JSON file."""
    return dict(json.loads(Path(path).read_text("utf-8")))


def write_table(path: Path | str, frame: pd.DataFrame) -> None:
    """Write a table as CSV (full float precision) or Parquet, by the path's ending."""
    with atomic(path) as part:
        if Path(path).suffix == ".parquet":
            frame.to_parquet(part, index=False)
        else:
            frame.to_csv(part, index=False)


def read_table(path: Path | str) -> pd.DataFrame:
    """A table written by `write_table`; texts such as `None` and `nan` stay texts."""
    path = Path(path)
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def write_latex(path: Path | str, frame: pd.DataFrame) -> None:
    """Write a table as a LaTeX tabular with three decimals."""
    with atomic(path) as part:
        part.write_text(frame.to_latex(index=False, escape=True, float_format="%.3f", na_rep=""), "utf-8")


def file_sha256(path: Path) -> str:
    """The sha256 of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def fingerprint(*values: object) -> str:
    """A short digest of plain values: the identity of a job's settings and inputs."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Parts:
    """Finished parts of a long job, kept beside its output until it is whole, or for good in a `folder`.

    Each part is a JSON file named by its key. Parts made under another `identity` (settings, code, inputs)
    are thrown away, so a resumed job equals one that ran through. In a folder that outlives the job, other jobs of the
    same identity find them, too, also while they run.
    """

    def __init__(self, output: Path | str, identity: str, *, folder: Path | str | None = None) -> None:
        output = Path(output)
        self.folder = output.with_name(f"{output.name}.parts") if folder is None else Path(folder)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        stamp = self.folder / "identity"
        shared = folder is not None  # several jobs may begin at once, and one of another identity still write
        self.salt = identity if shared else ""
        with FileLock(self.folder.with_name(f".{self.folder.name}.lock")) if shared else contextlib.nullcontext():
            if not stamp.is_file() or stamp.read_text("utf-8") != identity:
                shutil.rmtree(self.folder, ignore_errors=True)
                self.folder.mkdir(parents=True)
                with atomic(stamp) as part:
                    part.write_text(identity, "utf-8")

    def path(self, key: str, suffix: str = ".json") -> Path:
        """Where the part called `key` lies; any text will do as a key."""
        return self.folder / (hashlib.sha256(f"{self.salt}{key}".encode()).hexdigest()[:24] + suffix)

    def get(self, key: str) -> object | None:
        """The finished part, or None; one that cannot be read is forgotten, and said to be."""
        path = self.path(key)
        if not path.is_file():
            return None
        try:
            return json.loads(path.read_text("utf-8"))
        except ValueError:
            log.warning("%s cannot be read; what it held is made again", path)
            path.unlink()
            return None

    def put(self, key: str, value: object) -> None:
        """Keep a finished part; NaN is allowed here (a score that does not apply)."""
        with atomic(self.path(key)) as part:
            part.write_text(json.dumps(value), "utf-8")

    def clear(self) -> None:
        """Forget all parts, once the output is written."""
        shutil.rmtree(self.folder, ignore_errors=True)
