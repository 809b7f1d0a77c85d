"""What files from upstream have in common: one that is of another kind is refused by its name."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
