"""A page for each command of `knowcirc`, from the parser that the command line itself uses."""

import argparse
import re

from knowcirc.cli import COMMANDS, build_parser

FOLDER = "reference/commands"


def pages() -> dict[str, str]:
    """The pages by address, the list of commands first."""
    parsers = subparsers()
    lines = ["# Commands", "", "| command | what it does |", "|---|---|"]
    lines += [f"| [`knowcirc {name}`]({name}.md) | {cell(summary(parsers[name]))} |" for name in COMMANDS]
    lines += ["", *EXIT_CODES]
    return {f"{FOLDER}/index.md": "\n".join(lines) + "\n"} | {
        f"{FOLDER}/{name}.md": page(parser) for name, parser in parsers.items()
    }


EXIT_CODES = (
    "## Exit codes",
    "",
    "| code | meaning |",
    "|---|---|",
    "| 0 | done |",
    "| 1 | `knowcirc check` found failures |",
    "| 2 | the input cannot be used; one line on stderr says what, where, and what to do |",
    "| 130 | interrupted with Ctrl-C; no output is half-written |",
    "",
    "Bad input is refused before a model is loaded wherever that is possible.",
)


def navigation() -> list[str]:
    """The part of the navigation below the commands."""
    return [f"{FOLDER}/index.md", *(f"{FOLDER}/{name}.md" for name in COMMANDS)]


def subparsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command, by its name."""
    (found,) = [action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return {name: found.choices[name] for name in COMMANDS}


def summary(parser: argparse.ArgumentParser) -> str:
    """The first sentence of a command's description."""
    return " ".join((parser.description or "").split()).split(". ")[0].rstrip(".")


def page(parser: argparse.ArgumentParser) -> str:
    """The page of one command: description, usage, example, and a table of each group of options."""
    lines = [f"# `{parser.prog}`", "", " ".join((parser.description or "").split()), ""]
    if parser.epilog:
        lines += ["## Example", "", "```bash", *examples(parser.epilog), "```", ""]
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if not isinstance(action, argparse._HelpAction)]
        if actions:
            lines += [f"## {(group.title or '').capitalize()}", ""]
            lines += [" ".join(group.description.split()).capitalize() + ".", ""] if group.description else []
            lines += ["| option | meaning |", "|---|---|", *(row(parser, action) for action in actions), ""]
    return "\n".join(lines)


def examples(epilog: str) -> list[str]:
    """The commands of an epilog, without the indentation that the help gives them."""
    return [re.sub(r"^  ", "", line) for line in epilog.removeprefix("example:\n").splitlines()]


def row(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """An option as a row: how it is written, and what the help says of it."""
    value = value_of(action)
    names = [" ".join(filter(None, (name, value))) for name in action.option_strings] or [value]
    said = [parser._get_formatter()._expand_help(action)]
    if action.choices and not action.metavar:
        said.append(f"One of: {', '.join(map(str, action.choices))}.")
    if action.required and action.option_strings:
        said.append("**Required.**")
    meaning = said[0] + "".join(f"<br>{more}" for more in said[1:])
    return f"| {', '.join(f'`{name}`' for name in names)} | {cell(meaning)} |"


def value_of(action: argparse.Action) -> str:
    """What stands behind an option, as the help has it or in capitals; nothing where it takes no value."""
    if action.nargs == 0:
        return ""
    return action.metavar if isinstance(action.metavar, str) else action.dest.upper()


def cell(text: str) -> str:
    """A text that can stand in a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")
