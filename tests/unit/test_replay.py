"""The times of jobs replayed through their graph."""

from dataclasses import replace
from pathlib import Path

import pytest

from knowcirc.replay import Planned, behind, describe, needs_of, read_plan, replay

PLAN = """
[Sun Nov 29 01:31:50 2026]
rule fetch:
    output: r/model.json
    log: r/logs/fetch.log
    jobid: 7
    benchmark: r/benchmarks/fetch.tsv
    reason: Missing output files: r/model.json
    resources: tmpdir=/tmp

localrule gather:
    input: r/a.csv, r/b.csv
    output: r/all.csv
    jobid: 1

rule search:
    input: r/model.json
    output: r/a.csv, r/a.json
    jobid: 2
    benchmark: r/benchmarks/a.tsv
    wildcards: relation=a
    priority: 2
"""


def test_jobs_are_read_from_a_dry_run_with_their_seconds(tmp_path: Path) -> None:
    (tmp_path / "r/benchmarks").mkdir(parents=True)
    (tmp_path / "r/benchmarks/a.tsv").write_text("s\tmax_rss\n12.5\t100\n", "utf-8")
    fetch, gather, search = read_plan(PLAN, tmp_path)
    assert (fetch.rule, fetch.inputs, fetch.seconds, fetch.priority) == ("fetch", (), 1.0, 0)  # never measured
    assert gather.inputs == ("r/a.csv", "r/b.csv")
    assert [each.local for each in (fetch, gather, search)] == [False, True, False]
    assert (search.outputs, search.seconds, search.priority) == (("r/a.csv", "r/a.json"), 12.5, 2)
    assert (search.peak_mb, fetch.peak_mb) == (100.0, 0.0)
    assert needs_of([fetch, gather, search]) == [set(), {2}, {0}]
    assert behind([fetch, gather, search], needs_of([fetch, gather, search])) == [14.5, 1.0, 13.5]
    with pytest.raises(ValueError, match="no jobs: give the output"):
        read_plan("Nothing to be done.", tmp_path)


def test_a_job_of_a_moment_has_no_reading_of_its_memory(tmp_path: Path) -> None:
    (tmp_path / "r/benchmarks").mkdir(parents=True)
    (tmp_path / "r/benchmarks/a.tsv").write_text("s\tmax_rss\n0.2\tNA\n0.3\t-\n", "utf-8")
    search = read_plan(PLAN, tmp_path)[2]
    assert (search.seconds, search.peak_mb, search.measured) == (0.3, 0.0, True)


def job(name: str, seconds: float, *inputs: str, priority: int = 0) -> Planned:
    return Planned(name, inputs, (name,), priority, seconds)


def test_jobs_share_the_cores_and_wait_for_what_they_need() -> None:
    jobs = [job("a", 4.0), job("b", 3.0), job("c", 3.0), job("d", 2.0, "a", "b")]
    assert replay(jobs, 1) == 12.0
    assert replay(jobs, 2) == 6.0  # a and b, then c and d
    assert replay(jobs, 8) == 6.0  # a, then d
    assert "  2 cores:      6 s, at work 100 % of the time" in describe(jobs, [2])
    assert "4 jobs, 12 s in all, 6 s in the longest chain" in describe(jobs, [2])


def test_a_job_of_higher_priority_begins_first() -> None:
    jobs = [job("long", 5.0), job("first", 1.0, priority=1), job("after", 5.0, "first")]
    assert replay(jobs, 1) == 11.0
    assert replay([job("a", 5.0), job("b", 1.0), job("c", 2.0)], 2) == 5.0


def test_jobs_for_a_gpu_wait_for_one_while_others_run() -> None:
    on_gpu = [replace(job(name, 4.0), gpu=True) for name in "ab"]
    jobs = [*on_gpu, job("c", 3.0), job("d", 3.0)]
    assert replay(jobs, 4) == 4.0
    assert replay(jobs, 4, 1) == 8.0
    assert replay(jobs, 4, 2) == 4.0
    assert replay(jobs, 1, 1) == 14.0
    assert replay(jobs, 2, 1) == 8.0  # c and d beside a and b
