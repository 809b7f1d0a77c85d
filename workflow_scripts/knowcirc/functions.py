"""Functions by name, for registries: a module is imported when one of its functions is called for."""

import importlib
from collections.abc import Callable
from typing import Any

PACKAGE = "knowcirc"


def function_of(name: str) -> Callable[..., Any]:
    """The function named "module:function", the module below `knowcirc`."""
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(f"{PACKAGE}.{module}"), function)
    return found


def module_of(name: str) -> str:
    """The module of such a name, whole."""
    return f"{PACKAGE}.{name.partition(':')[0]}"
