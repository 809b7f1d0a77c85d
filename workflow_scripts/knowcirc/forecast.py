"""What a run will do, told before it starts: how many jobs, about how long, and where results go."""

import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from knowcirc.costs import Costs
from knowcirc.plan import seconds_of
from knowcirc.replay import UNMEASURED, Planned, replay
from knowcirc.told import Plan, span


def planned(job: Any) -> Planned:
    """A job of Snakemake's graph as `replay` knows it."""
    inputs, outputs = tuple(map(str, job.input)), tuple(map(str, job.output))
    return Planned(job.rule.name, inputs, outputs, int(job.priority), UNMEASURED, dict(job.wildcards_dict))


def forecast(jobs: Iterable[Any], costs: Costs, cores: int | None) -> Plan:
    """The plan of the jobs that are to run; without `cores` their work is added up.

    A model or setting that config/costs.tsv cannot be scaled to stops no run: then no time is told.
    """
    jobs, results = list(jobs), str(costs.config["outdir"])
    try:
        expected = [replace(one, seconds=seconds_of(one, costs)) for one in map(planned, jobs)]
        if cores:
            takes = f"about {span(replay(expected, cores))} on {_cores(cores)}"
        else:
            takes = f"about {span(sum(one.seconds for one in expected))} of a core"
        takes += " as docs/costs.md measured them (yours may be faster)"
    except (KeyError, ArithmeticError) as error:
        expected, cores = list(map(planned, jobs)), None
        takes = f"and how long they take is not known (config/costs.tsv: {type(error).__name__} {error})"
    numbered = {job.jobid: one for job, one in zip(jobs, expected, strict=True)}
    many = "1 job" if len(jobs) == 1 else f"{len(jobs)} jobs"
    where = f"Results go to {results}/; at the end see {results}/report.html."
    return Plan(f"{many} to do, {takes}. {where}", numbered, cores, results)


def _cores(number: int | None) -> str:
    return "1 core" if number == 1 else f"{number} cores"


def announce(workflow: Any, costs: Costs) -> None:
    """Say what the run will do, in Snakemake's log; a logger that knows of it reads the plan off the record."""
    plan = forecast(workflow.dag.needrun_jobs(), costs, workflow.resource_settings.cores)
    logging.getLogger("snakemake.logging").info(plan.text, extra={"knowcirc_plan": plan})
