"""Building blocks of typed settings: sections, bounds, and one line for every value that does not fit.

A section is a class whose fields say all about a setting: type, bounds, default, unit, source in the papers, meaning.
The configuration, its reference and the command line are made from that. Each room's `settings.py` holds its own.
"""

import csv
import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from knowcirc.wording import place_in

Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1)]
"""Above 0, at most 1."""


def _a_folder(path: str) -> str:
    if not path.strip() or set("{}") & set(path):
        raise ValueError(f"{path!r} is no folder's path; give one without braces, which Snakemake fills in")
    return path


Folder = Annotated[str, AfterValidator(_a_folder)]
"""A folder's path, without the braces of Snakemake's wildcards."""
MOST = 12  # names that a hint lists


def _all_different(values: list[Any]) -> list[Any]:
    if twice := [value for number, value in enumerate(values) if value in values[:number]]:
        raise ValueError(f"{twice[0]!r} stands twice; keep one")
    return values


def _one_of(value: str, names: tuple[str, ...]) -> str:
    if value not in names:
        raise ValueError(f"{value!r} is none of {', '.join(names)}{near(value, names)}")
    return value


def one_of(names: Iterable[str]) -> AfterValidator:
    """Makes a text one of the names of a registry."""
    return AfterValidator(partial(_one_of, names=tuple(names)))


def _a_wording(text: str) -> str:
    place_in(text)
    return text


Wording = Annotated[str, AfterValidator(_a_wording)]
"""A sentence with {} once, where the subject or object stands."""
Names = Annotated[list[str], Field(min_length=1), AfterValidator(_all_different)]
Different = AfterValidator(_all_different)


class Section(BaseModel):
    """Settings that belong together. Unknown keys are refused, and so are values of another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


class Row(BaseModel):
    """A row of a table: texts are read as what the columns are."""

    model_config = ConfigDict(frozen=True, extra="forbid")


S = TypeVar("S", bound=BaseModel)


def setting(default: Any, meaning: str, *, unit: str = "", source: str = "", otherwise: str = "") -> Any:
    """A field with all that its documentation needs; `...` for no default, `otherwise` for one that is worked out."""
    return Field(
        default, description=meaning, json_schema_extra={"unit": unit, "source": source, "otherwise": otherwise}
    )


def read(kind: type[S], values: Mapping[str, Any], what: str) -> S:
    """A section or row from plain values.

    Raises:
        ValueError: one line that names what is wrong with each value; it begins with `what`.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise ValueError(f"{what}: " + "; ".join(lines_of(error, kind))) from None


def lines_of(error: ValidationError, kind: type[BaseModel]) -> list[str]:
    """One line for each wrong value: where it stands, and what is wrong with it."""
    found = sorted(error.errors(), key=lambda one: [str(step) for step in one["loc"]])
    return [": ".join(filter(None, _line(one["loc"], one, kind))) for one in found]


def _line(loc: Sequence[int | str], one: Any, kind: type[BaseModel]) -> tuple[str, str]:
    *above, last = loc
    if one["type"] == "extra_forbidden":
        return ".".join(map(str, above)), f"unknown key {last!r}{hint(str(last), keys_at(kind, above))}"
    if one["type"] == "missing":
        return ".".join(map(str, above)), f"{last!r} is missing"
    where, value = ".".join(map(str, loc)), one["input"]
    if one["type"] == "literal_error":
        choices = [str(choice) for choice in choices_at(kind, loc)]
        return where, f"{value!r} is none of {', '.join(choices)}{near(str(value), choices)}"
    text = str(one["msg"]).removeprefix("Value error, ")
    _, should, what = text.partition(" should ")  # "Input should be ...", "String should match ..."
    return where, f"{value!r} should {what}" if should else text


def keys_at(kind: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """The keys of the section at a place below another."""
    for step in loc:
        if not isinstance(step, int):
            kind = _section_in(field_of(kind, step).annotation) or kind
    return [field.alias or name for name, field in kind.model_fields.items()]


def choices_at(kind: type[BaseModel], loc: Sequence[int | str]) -> list[object]:
    """What a setting may be, where that is one of a few names."""
    *above, last = [step for step in loc if not isinstance(step, int)]
    for step in above:
        kind = _section_in(field_of(kind, step).annotation) or kind
    found = field_of(kind, last)
    return choices_of(found.annotation, found.metadata)


def choices_of(annotation: Any, metadata: Iterable[object] = ()) -> list[object]:
    """The names that a type allows, in whatever they stand: a list, an option, an annotation."""
    found: list[object] = []
    for part in (*get_args(annotation), *metadata):
        if isinstance(part, AfterValidator):
            found += getattr(part.func, "keywords", {}).get("names", ())
        else:
            found += [part] if isinstance(part, str | int | bool) else choices_of(part)
    return found


def field_of(kind: type[BaseModel], key: str) -> Any:
    """The field of a section that a key of the configuration names."""
    return next(field for name, field in kind.model_fields.items() if key in (name, field.alias))


def _section_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _section_in(part))), None)


def hint(name: str, known: Sequence[str]) -> str:
    """What may have been meant, or what there is."""
    return near(name, known) or f" (known: {', '.join(known[:MOST])}{', ...' if len(known) > MOST else ''})"


def near(name: str, known: Sequence[str]) -> str:
    """What may have been meant, if anything is near."""
    found = difflib.get_close_matches(name, known, 1)
    return f", did you mean {found[0]!r}?" if found else ""


def read_rows(path: Path, kind: type[S]) -> Iterator[S]:
    """The rows of a tab-separated table whose columns are the fields of `kind`; lines that begin with # are none.

    An empty cell is None where its column may be that.

    Raises:
        ValueError: naming the file, the row and the column that is wrong.
    """
    with path.open(newline="", encoding="utf-8") as handle:
        reader = csv.DictReader((line for line in handle if not line.startswith("#")), delimiter="\t")
        if (columns := set(reader.fieldnames or ())) != (expected := set(kind.model_fields)):
            odd = ", ".join(sorted(columns ^ expected))
            raise ValueError(f"{path}: columns must be {', '.join(kind.model_fields)}; missing or unknown: {odd}")
        for line in reader:
            name = f"{path}: row of {next(iter(line.values()))!r}"
            if missing := [key for key, text in line.items() if text is None or key is None]:
                raise ValueError(f"{name}: column {missing[0]} is missing; rows are tab-separated")
            optional = [key for key, field in kind.model_fields.items() if type(None) in get_args(field.annotation)]
            values = {key: None if text == "" and key in optional else text for key, text in line.items()}
            yield read(kind, values, name)


def value_at(config: Mapping[str, Any], place: str) -> Any:
    """The value at a place of the configuration: keys, and numbers into lists, with slashes between."""
    value: Any = config
    for key in place.split("/"):
        value = value[int(key) if key.isdigit() else key]
    return value
