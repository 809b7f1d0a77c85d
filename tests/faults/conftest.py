"""Writes down what the suite of faults found: `tests/README.md` lists it (tests/inputs/table.py)."""

import json
from pathlib import Path

import pytest

FOUND = Path(__file__).with_name("found.json")
MADE = pytest.StashKey[dict[str, int]]()
"""The kills that were made, by kind."""


@pytest.fixture(scope="session")
def made(pytestconfig: pytest.Config) -> dict[str, int]:
    """How many kills of each kind were made; a test of kills counts them here."""
    return pytestconfig.stash.setdefault(MADE, {})


@pytest.hookimpl(hookwrapper=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> object:
    """Write the outcomes of a run with `--all-faults`, beside those of tests that it left out."""
    yield
    config = terminalreporter.config
    if not config.getoption("all_faults"):
        return
    outcomes = {
        report.nodeid.partition("tests/faults/")[2]: outcome
        for outcome in ("passed", "failed", "error", "skipped")
        for report in terminalreporter.stats.get(outcome, [])
        if "tests/faults/" in report.nodeid
    }
    before = json.loads(FOUND.read_text("utf-8")) if FOUND.is_file() else {"kills": {}, "outcomes": {}}
    outcomes = before["outcomes"] | outcomes
    kills = config.stash.get(MADE, {}) or before["kills"]
    text = json.dumps({"kills": kills, "outcomes": dict(sorted(outcomes.items()))}, indent=1)
    FOUND.write_text(text + "\n", "utf-8")
