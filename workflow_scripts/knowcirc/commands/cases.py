"""The prompts that a command is to run on, as given: by options, or as rows of a CSV file. Nothing is tokenised yet."""

import argparse
import csv
from collections.abc import Callable, Iterable, Sequence
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
    if isinstance(prompt, str) and not prompt.strip():
        raise ValueError(f"{at}{shown[0]} is empty; give the text that the model completes")
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
    columns, rows = read_rows(path, "prompts")
    names = IDS if "ids" in columns else TEXTS
    required = names[:2] + (names[4:] if needs.subject else ())
    check_columns(path, columns, names, required, f"{', '.join(TEXTS)}, or {', '.join(IDS)}")
    return [_row(where, row, names, needs) for where, row in rows]


def read_rows(path: Path, what: str) -> tuple[list[str], list[tuple[str, dict[str, str]]]]:
    """The columns of a CSV file, and its rows, each with the file and line that it ends on; empty lines are none.

    The file is UTF-8, with or without a byte-order mark, and every row has as many cells as the header.

    Raises:
        ValueError: naming the file and line that will not do, or that there are no rows: none of `what`.
    """
    rows = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.reader(handle, strict=True)
            columns = next(reader, [])
            for cells in filter(None, reader):
                where = f"{path}, line {reader.line_num}"
                if len(cells) != len(columns):
                    raise ValueError(
                        f"{where}: the number of cells differs from the header's; quote cells that hold commas"
                    )
                rows.append((where, dict(zip(columns, cells, strict=True))))
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8; save it as UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"{path} is no CSV file ({error}); quote cells that hold commas or quotes") from None
    if columns and not rows:
        raise ValueError(f"{path} holds no {what}; add a row below the header")
    return columns, rows


def check_columns(path: Path, columns: list[str], names: Sequence[str], required: Sequence[str], listed: str) -> None:
    """Make sure that a header has the columns it must, and none but `names`; `listed` says which there are.

    Raises:
        ValueError: naming those that are unknown, missing or repeated.
    """
    unknown = [column for column in columns if column not in names]
    missing = [name for name in required if name not in columns]
    twice = sorted({column for column in columns if columns.count(column) > 1})
    faults = [
        f"{what} columns {', '.join(map(repr, found))}"
        for what, found in (("unknown", unknown), ("missing", missing), ("repeated", twice))
        if found
    ]
    if faults:
        raise ValueError(f"{path}: {'; '.join(faults)}; columns are {listed}")


def _row(where: str, row: dict[str, str], names: tuple[str, ...], needs: Needs) -> Case:
    values: dict[str, object] = {}
    for name, cell in row.items():
        try:
            values[name] = (READERS[name](cell) if name in READERS else cell) if cell else None
        except argparse.ArgumentTypeError as error:
            raise ValueError(f"{where}, column {name}: {error}") from None
    if values[names[0]] is None:
        raise ValueError(f"{where}: column {names[0]} is empty; give a prompt in every row")
    return _case(where, values, names, needs, lambda name: f"column {name}")
