"""The clearest wrong answer of the right type beside a right answer of the same relation (KC Fig. 5, left)."""

from pathlib import Path

import pandas as pd

from knowcirc.behaviours.hallucination import describe_case, pick_cases
from knowcirc.behaviours.wrong_answers import first_tokens, main_mover
from knowcirc.files import read_table, write_json, write_table
from knowcirc.job import Job, run
from knowcirc.models.loading import load
from knowcirc.reading.heads import Thresholds


def main(job: Job) -> None:
    """Write both cases' curves through the layers, their relation's mover head and what they are."""
    survey, named = read_table(job.input.facts), read_table(job.input.heads)
    movers = {name: main_mover(named, name) for name in survey["relation"].unique()}
    cases = pick_cases(survey, [name for name, head in movers.items() if head is not None])
    model = load(Path(job.input.model).parent, **job.params.load_options, fast=True)
    limits = Thresholds(**job.params.heads)
    relation = cases["wrong"]["relation"]
    objects = first_tokens(model, survey.loc[survey["relation"] == relation, "object"].unique())
    described = {
        name: describe_case(model, name, row, objects, movers[relation], limits) for name, row in cases.items()
    }
    write_table(job.output.ranks, pd.concat([pd.DataFrame(case.ranks) for case in described.values()]))
    write_json(
        job.output.meta,
        {"heads": [case.head for case in described.values()], "meta": [case.meta for case in described.values()]},
    )


if __name__ == "__main__":
    run(main, snakemake)
