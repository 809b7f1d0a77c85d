"""Where an item's files lie, in paths with the placeholders that the workflow fills."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from knowcirc.fields import value_at
from knowcirc.items.contract import Figure, Item

OWN_FILES = "config/"
PART = re.compile(r"\{(editor|method|questions|sequence)\}")
Kind = TypeVar("Kind", bound=Item)


def items_of(items: Sequence[Kind], config: Mapping[str, Any]) -> list[Kind]:
    """The items of a study: all but those whose setting (`where`) is not set."""
    return [item for item in items if not item.where or value_at(config, item.where)]


def names_of(item: Item, parts: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Of the inputs that are many files, what each file is of: editors, methods, models or tables.

    `parts` says what each placeholder stands for.
    """
    found = {}
    for name, path in item.inputs.items():
        if part := _part(item, path):
            found[name] = list(parts[part])
    return found


def _part(item: Item, path: str) -> str | None:
    if isinstance(item, Figure) and item.together:
        return "model"
    match = PART.search(path)
    return None if match is None else match[1]


def inputs_of(
    item: Item, parts: Mapping[str, Sequence[str]], own: Callable[[str], str] = str
) -> dict[str, str | list[str]]:
    """The input files of an item by name; `own` says where a file of the project's own (below `config/`) lies."""
    found: dict[str, str | list[str]] = {}
    for name, path in item.inputs.items():
        part = _part(item, path)
        whole = own(path) if path.startswith(OWN_FILES) else f"<results>/{{model}}/{path}"
        found[name] = whole if part is None else [whole.replace(f"{{{part}}}", each) for each in parts[part]]
    return found


def figure_files(item: Figure) -> dict[str, str]:
    """The files of a figure, in the model's folder or that of all models: png, pdf, and data where it writes them."""
    ends = {"png": "png", "pdf": "pdf"} | ({"data": "csv"} if item.data else {})
    folder = "all" if item.together else "{model}"
    return {key: f"<results>/{folder}/figures/{item.name.removeprefix('all_')}.{end}" for key, end in ends.items()}


def stated_files(items: Sequence[Item]) -> dict[str, str]:
    """The files that the report's statements are read off, by the names that these have there."""
    written = {"table": "<results>/{{model}}/tables/{name}.csv", "data": "<results>/{{model}}/figures/{name}.csv"}
    return {
        key: written[file].format(name=item.name) if file in written else f"<results>/{{model}}/{item.inputs[file]}"
        for item in items
        for key, file in item.stated.items()
    }


def log_of(item: Item) -> str:
    """The log of an item's rule."""
    verb = "plot" if isinstance(item, Figure) else "tabulate"
    end = "" if isinstance(item, Figure) and item.together else "/{model}"
    return f"<logs>/{verb}_{item.name}{end}.log"


def functions_of(item: Item) -> dict[str, str | None]:
    """What makes an item, and what its figure writes beside itself."""
    return {key: getattr(item, key, None) for key in ("function", "data", "prepare")}
