"""What files from upstream have in common: one that is of another kind is refused by its name."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Within it a file of the kind is read.

    Raises:
        ValueError: naming the file and what its reader stumbled over (text, field or type).
    """
    try:
        yield
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path} is no {kind} file ({type(error).__name__}: {error}); fetch it again") from None


def read_entries(path: Path) -> list[dict[str, Any]]:
    """The objects that a JSON file lists.

    Raises:
        ValueError: if it is no JSON file.
        TypeError: if it lists something else.
    """
    found = json.loads(path.read_text("utf-8"))
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise TypeError("a list of objects is expected")
    return found
