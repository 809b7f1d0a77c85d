"""`knowcirc check`: a finished study against what it promises."""

import argparse
import sys
from pathlib import Path

from knowcirc.commands.options import Subparsers, new_parser

SHOWN = 3  # lines for each column of a table


def add(commands: Subparsers) -> None:
    """Add the command and its options."""
    parser = new_parser(
        commands,
        "check",
        "check the files of a finished study against what it promises",
        text="Prints one line per failure and a summary; the exit code is 1 if anything failed. --against compares the "
        "tables with those of a reference run besides, each column within its tolerance. These are made for the same "
        "version on another processor: shares may lie 5 pp and two cases apart, counts 2 and 10 %, other numbers "
        "0.05 and 15 %, what comes of a searched circuit 10 pp, 20 % and two cases; bounds of intervals twice that. "
        "Seconds, texts that a model writes and verdicts are not compared. Three values of each "
        "column that drifted are named, the others counted.",
        example="knowcirc check results-test --against results/reference-test",
    )
    parser.add_argument("results", type=Path, metavar="RESULTS", help="the study's output folder")
    parser.add_argument("--against", type=Path, metavar="REFERENCE", help="a folder of reference results")


def prepare(args: argparse.Namespace) -> None:
    """Make sure that the folder is there."""
    if not args.results.is_dir():
        raise ValueError(f"results folder {args.results} does not exist; run snakemake first, or name another folder")
    if args.against is not None and not args.against.is_dir():
        raise ValueError(f"reference folder {args.against} does not exist; name a folder with MODEL/tables/NAME.csv")


def run(args: argparse.Namespace) -> int:
    """0 if every check passed and no table drifted, else 1; one line per failure and a summary go to stdout.

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
    drifted = args.against is not None and _drifted(args.results, args.against)
    return 1 if failures or drifted else 0


def _drifted(results: Path, reference: Path) -> bool:
    """Whether tables lie further from the reference's than they may, after lines that name the values that do."""
    from knowcirc.drift import compare_results

    found = compare_results(results, reference)
    lines: dict[str, list[str]] = {}
    for each in found.drifted:
        lines.setdefault(each.column, []).append(each.line)
    for column, of_column in lines.items():
        for line in of_column[:SHOWN]:
            sys.stdout.write(f"DRIFTED {line}\n")
        if len(of_column) > SHOWN:
            sys.stdout.write(f"DRIFTED {column}: {len(of_column) - SHOWN} more\n")
    for why in dict.fromkeys(why for _, why in found.unknown):
        names = ", ".join(f"'{what}'" for what, reason in found.unknown if reason == why)
        sys.stdout.write(f"not compared, {why}: {names}\n")
    sys.stdout.write(f"{found.values} values against {reference}, {len(found.drifted)} drifted\n")
    return bool(found.drifted)
