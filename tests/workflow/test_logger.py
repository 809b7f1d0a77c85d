"""Snakemake runs with the logger that `make` asks for: calm lines, a job's own message, and nothing hidden."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "workflow_scripts"
SNAKEFILE = """
import logging
from knowcirc.replay import Planned
from knowcirc.told import Plan

onstart:
    jobs = {number: Planned("rule", (), (), 0, 1.0) for number in range(3)}
    plan = Plan("3 jobs to do, which take about 3 s.", jobs, 1, "results")
    logging.getLogger("snakemake.logging").info(plan.text, extra={"knowcirc_plan": plan})

rule all:
    input: "good.txt", "bad.txt"
    output: "results/report.html"
    shell: "touch {output}"

rule good:
    output: "good.txt"
    shell: "touch {output}"

rule bad:
    output: "bad.txt"
    log: "logs/bad.log"
    script: "bad.py"
"""
SCRIPT = """
import os
from knowcirc.job import progress, run

def main(job):
    list(progress(range(3), "facts"))
    if not os.path.exists("mended"):
        raise ValueError("the fact has no subject; name it")
    open(job.output[0], "w").close()

run(main, snakemake)
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, subprocess.CompletedProcess[str]]:
    """A run that fails, the same told by Snakemake, a dry run, a run that ends well, and one with nothing to do."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "Snakefile").write_text(SNAKEFILE)
    (folder / "bad.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}

    def snakemake(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "snakemake", "--cores", "1", "--keep-going", *arguments]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)

    found = {"failed": snakemake("--logger", "knowcirc"), "plain": snakemake()}
    found["dry"] = snakemake("--logger", "knowcirc", "-n")
    (folder / "mended").touch()
    found["refused"] = snakemake("--logger", "knowcirc", "--", "no_such_file")
    found["done"] = snakemake("--logger", "knowcirc", "--forceall")
    found["again"] = snakemake("--logger", "knowcirc")
    return found


Runs = dict[str, subprocess.CompletedProcess[str]]


def test_a_failure_is_told_in_a_few_lines(runs: Runs) -> None:
    assert runs["failed"].returncode == 1
    begin, *lines = runs["failed"].stderr.splitlines()
    assert begin == "Reading the workflow, and what is done of it ..."  # which takes seconds
    assert lines[0] == "3 jobs to do, which take about 3 s."
    assert lines[1:3] == ["FAILED bad: the fact has no subject; name it", "  log: logs/bad.log"]
    assert lines[3] == "  where in the code: logs/bad.traceback.txt"
    assert lines[4].startswith("1 job failed after ")
    assert "give the same command again" in lines[4]
    assert len(lines) == 5


def test_plain_snakemake_tells_the_run_as_ever(runs: Runs) -> None:
    assert runs["plain"].returncode == 1
    assert "3 jobs to do, which take about 3 s." in runs["plain"].stderr
    assert "Error in rule bad:" in runs["plain"].stderr
    assert "facts: 3 of 3" in runs["plain"].stderr  # the job's own progress


def test_a_dry_run_lists_its_jobs(runs: Runs) -> None:
    assert runs["dry"].returncode == 0
    assert "rule bad:" in runs["dry"].stderr + runs["dry"].stdout


def test_what_snakemake_refuses_is_told(runs: Runs) -> None:
    assert runs["refused"].returncode == 1
    assert "no_such_file" in runs["refused"].stderr


def test_a_run_that_ends_well_says_where_to_look(runs: Runs) -> None:
    assert runs["done"].returncode == 0
    lines = runs["done"].stderr.splitlines()
    assert lines[2].startswith("Done in ")
    assert lines[3:] == ["  report: results/report.html"]


def test_a_run_with_nothing_to_do_says_so(runs: Runs) -> None:
    assert runs["again"].returncode == 0
    assert runs["again"].stderr.splitlines()[1:] == ["Nothing to do: all is up to date."]
