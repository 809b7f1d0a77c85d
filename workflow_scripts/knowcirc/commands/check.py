"""`knowcirc check`: a finished study against what it promises."""

import argparse
import sys
from pathlib import Path

from knowcirc.commands.options import Subparsers, new_parser


def add(commands: Subparsers) -> None:
    """Add the command and its options."""
    parser = new_parser(
        commands,
        "check",
        "check the files of a finished study against what it promises",
        text="Prints one line per failure and a summary; the exit code is 1 if anything failed.",
        example="knowcirc check results",
    )
    parser.add_argument("results", type=Path, metavar="RESULTS", help="the study's output folder")


def prepare(args: argparse.Namespace) -> None:
    """Make sure that the folder is there."""
    if not args.results.is_dir():
        raise ValueError(f"results folder {args.results} does not exist; run snakemake first, or name another folder")


def run(args: argparse.Namespace) -> int:
    """0 if every check passed, else 1; one line per failure and a summary go to stdout.

    Raises:
        ValueError: if there was nothing to check.
    """
    from knowcirc.checks import check_results

    found = check_results(args.results)
    if not found:
        raise ValueError(f"{args.results} holds nothing to check; is it the output folder of a study?")
    failures = [check for check in found if not check["ok"]]
    for check in failures:
        sys.stdout.write(f"FAILED {check['name']}: {check['reason']}\n")
    sys.stdout.write(f"{len(found)} checks, {len(failures)} failed\n")
    return 1 if failures else 0
