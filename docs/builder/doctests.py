"""Examples in docstrings as blocks of code: an extension of griffe, which reads the docstrings."""

from typing import Any

import griffe

from builder import library


class Doctests(griffe.Extension):
    """Fences the examples of every docstring before it is set."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Fence the examples of one object."""
        if obj.docstring is not None:
            obj.docstring.value = library.fenced(obj.docstring.value)
