"""Where is kept, beside all results, what was found out about models and downloads."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where it is: `~/.cache/knowcirc`, or under `XDG_CACHE_HOME`.

    Raises:
        ValueError: if there is no home.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "knowcirc"
    except RuntimeError:
        raise ValueError("there is no home folder to keep a cache in; set XDG_CACHE_HOME") from None
