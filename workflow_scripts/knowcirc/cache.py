"""Where is kept, beside all results, what was found out about models and downloads; without it, work is done again."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)


class NoCacheError(ValueError):
    """There is no place for a cache."""


def cache_folder() -> Path:
    """Where it is: `~/.cache/knowcirc`, or under `XDG_CACHE_HOME`.

    Raises:
        NoCacheError: if there is no home.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "knowcirc"
    except RuntimeError:
        raise NoCacheError("there is no home folder to keep a cache in; set XDG_CACHE_HOME") from None


@contextlib.contextmanager
def keeping(what: str, otherwise: str) -> Iterator[None]:
    """Inside, the cache is read or written; where that cannot be, a warning says so, and what happens `otherwise`."""
    try:
        yield
    except (NoCacheError, OSError) as error:
        log.warning("%s cannot be kept (%s); %s", what, error, otherwise)


def is_kept(*parts: str) -> Path | None:
    """A file of the cache; None where it is not there, or there is no cache to look into."""
    try:
        path = cache_folder().joinpath(*parts)
        return path if path.is_file() else None
    except (NoCacheError, OSError):
        return None
