"""The prompts that a command is to run on, as given: by options, or as rows of a CSV file. Nothing is tokenised yet."""

import argparse
import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from knowcirc.commands.arguments import check_input_file, flag, token_id, token_ids, token_span

TEXTS = ("prompt", "answer", "corrupted", "wrong_answer", "subject")
IDS = ("ids", "answer_id", "corrupted_ids", "wrong_answer_id", "subject_span")
READERS: dict[str, Callable[[str], object]] = {
    "ids": token_ids,
    "answer_id": token_id,
    "corrupted_ids": token_ids,
    "wrong_answer_id": token_id,
    "subject_span": token_span,
}
Value = str | int | tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Case:
    """A prompt and its answer, all as texts or all as token ids. `where` says which option or line gave it."""

    where: str
    prompt: str | tuple[int, ...]
    answer: str | int
    corrupted: str | tuple[int, ...] | None = None
    wrong_answer: str | int | None = None
    subject: str | tuple[int, ...] | None = None

    @property
    def paired(self) -> bool:
        """Whether it has both a corrupted prompt and a wrong answer."""
        return self.corrupted is not None and self.wrong_answer is not None

    @property
    def at(self) -> str:
        """What a complaint about it begins with."""
        return f"{self.where}: " if self.where else ""

    def label(self, name: str) -> str:
        """One of `TEXTS` as the user wrote it: `--corrupted-ids`, `column corrupted`."""
        written = (TEXTS if isinstance(self.prompt, str) else IDS)[TEXTS.index(name)]
        return f"column {written}" if self.where else flag(written)


@dataclass(frozen=True, slots=True)
class Needs:
    """What a command wants of its prompts: a subject; whether half a pair (corrupted, wrong answer) will do."""

    subject: bool = False
    halves: bool = False


ANY = Needs()


def read_cases(args: argparse.Namespace, needs: Needs = ANY, *, needed: bool = True) -> list[Case]:
    """The prompts of the options; without `needed` there may be none.

    Raises:
        ValueError: if options are missing or exclude each other, or the file of prompts will not do.
    """
    given = {name for name in (*TEXTS, *IDS) if getattr(args, name, None) is not None}
    if args.prompts is not None:
        if given:
            raise ValueError(f"--prompts and {_flags(given)} exclude each other; give the file's columns or options")
        return read_csv(args.prompts, needs)
    if (texts := given & set(TEXTS)) and (ids := given & set(IDS)):
        raise ValueError(f"{_flags(texts)} and {_flags(ids)} exclude each other; give texts or token ids")
    names = IDS if given & set(IDS) else TEXTS
    if names[0] not in given:
        if not given and not needed:
            return []
        what = f"{_flags(given)} without {flag(names[0])}" if given else "no prompt given"
        raise ValueError(f"{what}; give --prompt and --answer, --ids and --answer-id, or --prompts FILE")
    return [_case("", {name: getattr(args, name, None) for name in names}, names, needs, flag)]


def _flags(names: Iterable[str]) -> str:
    order = (*TEXTS, *IDS)
    return ", ".join(flag(name) for name in sorted(names, key=order.index))


def _case(
    where: str, values: dict[str, object], names: tuple[str, ...], needs: Needs, label: Callable[[str], str]
) -> Case:
    """A case from its five values; `label` names a value as the user wrote it."""
    prompt, answer, corrupted, wrong, about = (values.get(name) for name in names)
    shown = [label(name) for name in names]
    at = f"{where}: " if where else ""
    if answer is None or answer == "":
        raise ValueError(f"{at}{shown[0]} without {shown[1]}; give the answer, without a space in front")
    if not needs.halves and (corrupted is None) != (wrong is None):
        given, missing = (shown[3], shown[2]) if corrupted is None else (shown[2], shown[3])
        raise ValueError(
            f"{at}{given} without {missing}; the metric is the logit difference between the answer and that of the "
            "corrupted prompt, so give both or neither (then the baseline is zero and the metric -NLL)"
        )
    if needs.subject and about is None:
        raise ValueError(f"{at}{shown[4]} is missing; the command needs to know what the fact is about")
    return Case(where, prompt, answer, corrupted, wrong, about)  # type: ignore[arg-type]


def read_csv(path: Path, needs: Needs = ANY) -> list[Case]:
    """The prompts of a CSV file: columns prompt, answer (corrupted, wrong_answer, subject), or those of ids.

    Raises:
        ValueError: naming the file and its columns or line that will not do.
    """
    check_input_file(path, "file of prompts", "give a CSV file with the columns prompt, answer or ids, answer_id")
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle, strict=True)
            names = _check_columns(path, list(reader.fieldnames or ()), needs)
            cases = [_row(f"{path}, line {reader.line_num}", row, names, needs) for row in reader]
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8; save it as UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"{path} is no CSV file ({error}); quote cells that hold commas or quotes") from None
    if not cases:
        raise ValueError(f"{path} holds no prompts; add a row below the header")
    return cases


def _check_columns(path: Path, columns: list[str], needs: Needs) -> tuple[str, ...]:
    """The set of names that the header uses."""
    names = IDS if "ids" in columns else TEXTS
    required = names[:2] + (names[4:] if needs.subject else ())
    unknown = [column for column in columns if column not in names]
    missing = [name for name in required if name not in columns]
    twice = sorted({column for column in columns if columns.count(column) > 1})
    faults = [
        f"{what} columns {', '.join(map(repr, found))}"
        for what, found in (("unknown", unknown), ("missing", missing), ("repeated", twice))
        if found
    ]
    if faults:
        raise ValueError(f"{path}: {'; '.join(faults)}; columns are {', '.join(TEXTS)}, or {', '.join(IDS)}")
    return names


def _row(where: str, row: dict[str, str], names: tuple[str, ...], needs: Needs) -> Case:
    if None in row or None in row.values():
        raise ValueError(f"{where}: the number of cells differs from the header's; quote cells that hold commas")
    values: dict[str, object] = {}
    for name, cell in row.items():
        try:
            values[name] = (READERS[name](cell) if name in READERS else cell) if cell else None
        except argparse.ArgumentTypeError as error:
            raise ValueError(f"{where}, column {name}: {error}") from None
    if values[names[0]] is None:
        raise ValueError(f"{where}: column {names[0]} is empty; give a prompt in every row")
    return _case(where, values, names, needs, lambda name: f"column {name}")
