"""Option values: how a text on the command line becomes a number, token ids or a path that can be written.

Light: imports nothing of torch, so that mistakes are told at once.
"""

import argparse
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

DTYPES = ("float32", "float64", "float16", "bfloat16")
FIGURE_ENDS = (".png", ".pdf")


def token_ids(text: str) -> tuple[int, ...]:
    """Token ids from `1,2,3` (commas or spaces)."""
    parts = re.split(r"[,\s]+", text.strip())
    if not all(re.fullmatch(r"[0-9]+", part) for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of token ids; write them as 1,2,3")
    return tuple(int(part) for part in parts)


def token_id(text: str) -> int:
    """One token id."""
    ids = token_ids(text)
    if len(ids) != 1:
        raise argparse.ArgumentTypeError(f"{text!r} holds {len(ids)} token ids; give one")
    return ids[0]


def token_span(text: str) -> tuple[int, int]:
    """A range of tokens from `A:B`, B not in it."""
    found = re.fullmatch(r"([0-9]+):([0-9]+)", text.strip())
    if found is None or int(found[1]) >= int(found[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is no token range; write A:B with 0 <= A < B (B not in it)")
    return int(found[1]), int(found[2])


def whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """A reader of whole numbers from `low` to `high`."""

    def read(text: str) -> int:
        limit = f"from {low} up" if high is None else f"from {low} to {high}"
        if not re.fullmatch(r"[+-]?[0-9]+", text) or int(text) < low or (high is not None and int(text) > high):
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number {limit}")
        return int(text)

    return read


def several(names: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """A reader of one or more of `names`, with commas between them, in the order of `names`; `all` means all."""

    def read(text: str) -> tuple[str, ...]:
        named = [part.strip() for part in text.split(",")]
        if named == ["all"]:
            return tuple(names)
        if wrong := [part for part in named if part not in names]:
            raise argparse.ArgumentTypeError(f"{wrong[0]!r} is none of {', '.join(names)}, all")
        return tuple(name for name in names if name in named)

    return read


def words(text: str) -> tuple[str, ...]:
    """Words from `a,b,c`."""
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} holds no word; write them as a,b,c")
    return found


def real(*, zero: bool, high: float = math.inf) -> Callable[[str], float]:
    """A reader of finite positive numbers, zero allowed or not, up to `high`."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or not 0 <= value <= high or (value == 0 and not zero):
            kind = ("number from 0 up" if zero else "positive number") + f" to {high:g}" * math.isfinite(high)
            raise argparse.ArgumentTypeError(f"{text!r} is no {kind}")
        return value

    return read


def flag(name: str) -> str:
    """An attribute's option: `wrong_answer` is `--wrong-answer`."""
    return "--" + name.replace("_", "-")


def check_output_file(path: Path) -> None:
    """Make sure that a file can be written here.

    Raises:
        ValueError: if it is a folder, or its folder cannot be made or written.
    """
    if path.is_dir():
        raise ValueError(f"output {path} is a folder; give a file")
    _check_parent(path)


def check_output_folder(path: Path) -> None:
    """Make sure that a folder can be made here.

    Raises:
        ValueError: if it holds something already, is a file, or cannot be made.
    """
    if path.is_dir() and any(path.iterdir()):
        raise ValueError(f"output folder {path} exists and is not empty; give a new one")
    if path.exists() and not path.is_dir():
        raise ValueError(f"output folder {path} is a file; give a new folder")
    _check_parent(path)


def _check_parent(path: Path) -> None:
    parent = path.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        raise ValueError(f"output {path} cannot be written: {parent} is no folder; give another place")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ValueError(f"output {path} cannot be written: no permission in {parent}; give another place")


def check_input_file(path: Path, what: str, remedy: str) -> None:
    """Make sure that an input file is there.

    Raises:
        ValueError: naming the file and the remedy.
    """
    if not path.is_file():
        raise ValueError(f"{what} {path} {'is no file' if path.exists() else 'does not exist'}; {remedy}")


def check_circuits_stay(out: Path, *circuits: Path, option: str = "--out") -> None:
    """Make sure that the output of an option replaces none of the circuits that the command reads.

    Raises:
        ValueError: if it does.
    """
    if out.absolute() in [path.absolute() for path in circuits]:
        raise ValueError(f"{option} would replace the circuit {out}; give another file")


def check_figure(args: argparse.Namespace) -> None:
    """Make sure that the figure can be written, as PNG or PDF, and replaces no other file of the command.

    Raises:
        ValueError: if not.
    """
    if args.figure is None:
        return
    check_output_file(args.figure)
    if args.figure.suffix not in FIGURE_ENDS:
        raise ValueError(f"--figure {args.figure}: its name must end in {' or '.join(FIGURE_ENDS)}")
    if args.out is not None and args.figure.absolute() == args.out.absolute():
        raise ValueError(f"--figure would replace the table {args.out}; give another file")


def show(rows: Sequence[tuple[str, str]]) -> None:
    """Write results to stdout: a name and one value per line, in two columns."""
    width = max(len(name) for name, _ in rows)
    sys.stdout.write("".join(f"{name:<{width}}  {value}\n" for name, value in rows))
