"""The command line `knowcirc`: its frame, and the registry of its subcommands, each a module in `commands/`.

1. Parse the options and make every check that needs no library: fast, nothing heavy is imported.
2. Run the subcommand, which imports what it needs, torch and transformers among it.
3. A user's mistake ends as exit code 2 and one line on stderr; a mistake of ours keeps its traceback.
"""

import argparse
import contextlib
import importlib
import logging
import sys
import warnings
from collections.abc import Iterator
from importlib import metadata
from types import ModuleType
from typing import NoReturn

from knowcirc.errors import message_of

log = logging.getLogger("knowcirc")
USER_ERROR = 2
INTERRUPTED = 130

COMMANDS = (
    "discover",
    "evaluate",
    "compare",
    "export",
    "explore",
    "heads",
    "lens",
    "trace",
    "edit",
    "check",
)
"""The subcommands in the order of the help. Each is a module of its name in `commands/`: `add(commands)` says what it
accepts, `prepare(args)` makes the checks that need no library, `run(args)` does it and gives the exit code. Heavy
imports stand in `run` and below it, so that help and complaints come at once."""


class Parser(argparse.ArgumentParser):
    """A parser that takes no abbreviations and raises its complaints instead of printing the usage."""

    def __init__(self, **settings: object) -> None:
        super().__init__(allow_abbrev=False, **settings)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Raise the complaint, with where to look."""
        raise ValueError(f"{message}; see {self.prog} --help")


class Lines(logging.Formatter):
    """Log records as lines of this program: warnings say that they are."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's line."""
        level = "warning: " if record.levelno >= logging.WARNING else ""
        return f"knowcirc: {level}{record.getMessage()}"


def version() -> str:
    """The installed version, or a note that the package is run from its sources."""
    try:
        return metadata.version("knowcirc")
    except metadata.PackageNotFoundError:
        return "(not installed: run from its sources)"


def command_of(name: str) -> ModuleType:
    """The module of a subcommand."""
    return importlib.import_module(f"knowcirc.commands.{name}")


def build_parser() -> Parser:
    """The parser with all subcommands."""
    parser = Parser(
        prog="knowcirc",
        description="Find, measure and edit the circuits by which a language model says a fact.",
        epilog="knowcirc COMMAND --help explains a command and shows an example.",
    )
    parser.add_argument("--version", action="version", version=f"knowcirc {version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    for name in COMMANDS:
        command_of(name).add(commands)
    return parser


@contextlib.contextmanager
def logging_to_stderr(*, quiet: bool) -> Iterator[None]:
    """Progress and warnings of the library on stderr while the block runs; warnings alone if `quiet`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.WARNING if quiet else logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice of torch and transformers to their developers
            yield
    finally:
        log.setLevel(level)
        log.removeHandler(handler)


def complain(error: Exception) -> int:
    """The exit code of a user's mistake, after its one line on stderr."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    sys.stderr.write(f"knowcirc: error: {' '.join(text.split())}\n")
    return USER_ERROR


def main(argv: list[str] | None = None) -> int:
    """The exit code: 0 when done, 1 when `check` found failures, 2 on a user's mistake."""
    try:
        args = build_parser().parse_args(argv)
        command = command_of(args.command)
        command.prepare(args)
        with logging_to_stderr(quiet=args.quiet):
            return int(command.run(args))
    except SystemExit as end:  # --help and --version
        return int(end.code or 0)
    except (ValueError, OSError) as error:
        return complain(error)
    except RuntimeError as error:
        if message := message_of(error):
            return complain(ValueError(message))
        raise
    except KeyboardInterrupt:
        sys.stderr.write("knowcirc: interrupted; nothing was left half-written\n")
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
