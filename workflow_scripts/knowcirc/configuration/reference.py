"""The reference of all settings, `config/README.md`, made from the settings themselves."""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, get_args, get_origin

from annotated_types import MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from knowcirc.configuration.study import Study
from knowcirc.editing.editors import EditorRow
from knowcirc.facts.sources import DatasetRow
from knowcirc.fields import choices_of
from knowcirc.models.table import ModelRow

HEAD = """# Settings of a study

Made from the settings themselves by `python -m knowcirc.configuration`; do not edit it.

`config.yaml` is the default study; it gives all settings that have no default. `full.yaml` (all relations), `lre.yaml`
(LRE's relations), `paper.yaml` (the papers' models, over `lre.yaml`), `paper-small.yaml` (a cut of it, over both),
`counts.yaml` (the papers' counts, over any) and `test.yaml` (the study at its smallest) hold their differences from it:
`snakemake --configfile config/full.yaml`. One value: `--config seed=1`. Maps merge, lists replace.

Tables beside them: `models.tsv`, `editors.tsv` and `datasets.tsv` (tab-separated; their comments say what the columns
are), and `facts/`, the built-in relations.
"""
NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "none"}
BOUNDS = {"gt": "above", "ge": "from", "le": "to", "lt": "below"}


def reference() -> str:
    """The document, in Markdown."""
    parts = [HEAD]
    for title, kind in _sections("", Study):
        parts += [f"## {f'`{title}`' if title else 'The study'}", "", (kind.__doc__ or "").strip(), ""]
        rows = [(_name(name, field), field) for name, field in kind.model_fields.items()]
        parts += ["| setting | type | default | meaning | source |", "|---|---|---|---|---|"]
        parts += [_row(name, field) for name, field in rows if _section(field.annotation) is None]
        parts.append("")
    for file, row in (("models.tsv", ModelRow), ("editors.tsv", EditorRow), ("datasets.tsv", DatasetRow)):
        fields = row.model_fields.items()
        columns = ", ".join(f"`{name}` ({_type(field.annotation, field.metadata)})" for name, field in fields)
        parts += [f"## `{file}`", "", f"Columns: {columns}.", ""]
    return "\n".join(parts).rstrip() + "\n"


def _sections(title: str, kind: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    yield title, kind
    for name, field in kind.model_fields.items():
        optional = [_section(part) for part in get_args(field.annotation)] if not _is_list(field.annotation) else []
        below = _section(field.annotation) or next(filter(None, optional), None)
        if below is not None:
            yield from _sections(".".join(filter(None, (title, _name(name, field)))), below)


def _section(annotation: Any) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _name(name: str, field: FieldInfo) -> str:
    return field.alias or name


def _row(name: str, field: FieldInfo) -> str:
    extra: Any = field.json_schema_extra or {}
    unit = f" ({extra['unit']})" if extra.get("unit") else ""
    shown = extra.get("otherwise") or ("must be given" if field.is_required() else _value(field.default))
    kind = _type(field.annotation, field.metadata)
    return f"| `{name}` | {kind} | {shown} | {field.description}{unit} | {extra.get('source', '')} |".replace(
        "|  |", "| |"
    )


def _value(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _type(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    origin, parts, metadata = get_origin(annotation), get_args(annotation), list(_flat(metadata))
    if names := choices_of(annotation, metadata):
        return ("list of " if _is_list(annotation) else "") + ", ".join(map(str, names))
    if origin is Annotated:
        return _type(parts[0], [*annotation.__metadata__, *metadata])
    if origin is list:
        return f"list of {_type(parts[0])}" + (
            ", one or more" if any(isinstance(one, MinLen) for one in metadata) else ""
        )
    if origin is dict:
        return f"map of {_type(parts[1])}"
    if parts:
        return " or ".join(_type(part, metadata) for part in parts if part is not type(None)) + " or none"
    if _section(annotation) is not None:
        return "map"
    limits = [
        f"{word} {getattr(one, name):g}" for one in metadata for name, word in BOUNDS.items() if hasattr(one, name)
    ]
    return " ".join([NAMES[annotation], *limits])


def _is_list(annotation: Any) -> bool:
    return get_origin(annotation) is list or any(_is_list(part) for part in get_args(annotation))


def _flat(metadata: Any) -> Iterator[Any]:
    for each in metadata:
        yield from getattr(each, "metadata", None) or [each]
