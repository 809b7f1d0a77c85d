"""Runs that are killed at random moments go on, and end with the tables of a run that nobody disturbed.

`pytest tests/faults --kills 200` is the whole suite; without the option a few kills are made.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from faults.micro import finish, jobs_of, kill, left_of, project, start, tables

KINDS = ("job", "snakemake", "everything")
A_RUN = 20  # kills in one run at most, then it may end
LONGEST = 15.0  # seconds until a kill


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The tables of a run that nobody disturbed."""
    folder = project(tmp_path_factory.mktemp("faults") / "undisturbed")
    status, said = finish(folder)
    assert status == 0, said
    found = tables(folder)
    shutil.rmtree(folder)
    return found


def strike(run: subprocess.Popen[bytes], kind: str, draws: random.Random) -> bool:
    """Kill a part of a run; False if there was nothing to kill."""
    if run.poll() is not None:
        return False
    if kind == "everything":
        os.killpg(run.pid, signal.SIGKILL)
        return True
    if kind == "snakemake":
        return kill(run)
    jobs = jobs_of(run)
    return bool(jobs) and kill(draws.choice(jobs))


def test_a_study_that_is_killed_again_and_again_ends_as_if_it_had_not_been(
    tmp_path: Path, undisturbed: dict[str, bytes], made: dict[str, int], pytestconfig: pytest.Config
) -> None:
    asked, seed = pytestconfig.getoption("kills"), pytestconfig.getoption("seed")
    draws = random.Random(seed)
    runs = 0
    while sum(made.values()) < asked:
        folder = project(tmp_path / f"run{runs}")
        in_this = 0
        while in_this < A_RUN and sum(made.values()) < asked:
            run = start(folder)
            with_luck = time.monotonic() + draws.uniform(0.5, LONGEST)
            while time.monotonic() < with_luck and run.poll() is None:
                time.sleep(0.05)
            kind = KINDS[sum(made.values()) % len(KINDS)]
            if strike(run, kind, draws):
                made[kind] = made.get(kind, 0) + 1
                in_this += 1
            if run.wait(300) == 0:  # where a job was killed, the run sees it and ends by itself
                break  # it ended before it could be killed
        status, said = finish(folder)
        assert status == 0, f"run {runs} of seed {seed}, after {made}: {said[-6000:]}"
        assert tables(folder) == undisturbed, f"run {runs} of seed {seed}, after {made}"
        psutil.wait_procs(left_of(folder), timeout=60)
        shutil.rmtree(folder)
        runs += 1
    assert sum(made.values()) == asked


def test_ctrl_c_leaves_no_process_behind_and_the_next_run_goes_on(
    tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    folder = project(tmp_path / "interrupted")
    run = start(folder)
    end = time.monotonic() + 120
    while not jobs_of(run) and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(2)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to Snakemake and its jobs alike
    assert run.wait(120) != 0
    _, alive = psutil.wait_procs(left_of(folder), timeout=20)
    assert not alive
    status, said = finish(folder)
    assert status == 0, said
    assert tables(folder) == undisturbed
    assert finish(folder)[1].count("Nothing to be done") == 1
