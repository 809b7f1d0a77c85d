"""`knowcirc check`: a finished study against what it promises."""

import argparse
import importlib
import sys


def run(args: argparse.Namespace) -> int:
    """0 if every check passed, else 1; one line per failure and a summary go to stdout.

    Raises:
        ValueError: if there was nothing to check.
    """
    found = importlib.import_module("knowcirc.checks").check_results(args.results)
    if not found:
        raise ValueError(f"{args.results} holds nothing to check; is it the output folder of a study?")
    failures = [check for check in found if not check["ok"]]
    for check in failures:
        sys.stdout.write(f"FAILED {check['name']}: {check['reason']}\n")
    sys.stdout.write(f"{len(found)} checks, {len(failures)} failed\n")
    return 1 if failures else 0
