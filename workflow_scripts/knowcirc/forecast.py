"""What a run will do, told before it starts: how many jobs, about how long, and where results go."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from knowcirc.plan import read_costs
from knowcirc.replay import UNMEASURED, Planned, replay
from knowcirc.told import Plan, span


def planned(job: Any) -> Planned:
    """A job of Snakemake's graph as `replay` knows it."""
    inputs, outputs = tuple(map(str, job.input)), tuple(map(str, job.output))
    return Planned(job.rule.name, inputs, outputs, int(job.priority), UNMEASURED, dict(job.wildcards_dict))


def forecast(jobs: Iterable[Any], config: Mapping[str, Any], root: Path, cores: int | None) -> Plan:
    """The plan of the jobs that are to run. `config` is the study's, whole; without `cores` their work is added up."""
    jobs = list(jobs)
    costs = replace(read_costs([], root), config=config)
    expected = [replace(one, seconds=costs.seconds(one)) for one in map(planned, jobs)]
    seconds = {job.jobid: one.seconds for job, one in zip(jobs, expected, strict=True)}
    total = sum(seconds.values())
    wall = replay(expected, cores) if cores else None
    many = "1 job" if len(jobs) == 1 else f"{len(jobs)} jobs"
    takes = (
        f"{span(total)} of a core"
        if wall is None
        else f"{span(wall)} on {'1 core' if cores == 1 else f'{cores} cores'}"
    )
    results = str(config["outdir"])
    text = (
        f"{many} to do, about {takes} as README.md measured them (yours may be faster). Results go to {results}/; "
        f"at the end see {results}/report.html."
    )
    return Plan(text, seconds, wall, results)


def announce(workflow: Any, config: Mapping[str, Any], root: Path) -> None:
    """Say what the run will do, in Snakemake's log; a logger that knows of it reads the plan off the record."""
    plan = forecast(workflow.dag.needrun_jobs(), config, root, workflow.resource_settings.cores)
    logging.getLogger("snakemake.logging").info(plan.text, extra={"knowcirc_plan": plan})
