"""The rank of known answers through the layers, at the subject's last token and the last position (KC section 4.2)."""

from pathlib import Path

import pandas as pd

from knowcirc.facts.relations import read_relations
from knowcirc.facts.survey import known_facts, prompts_of
from knowcirc.files import read_table, write_table
from knowcirc.job import Job, progress, run
from knowcirc.models.loading import load
from knowcirc.reading.answer_ranks import fact_rows


def main(job: Job) -> None:
    """Write one row per fact, position and layer."""
    params = job.params
    survey = read_table(job.input.facts)
    relations = read_relations(params.source, job.input.relations)
    model = load(Path(job.input.model).parent, **params.load_options, fast=True)
    rows = []
    for name in progress(list(survey.relation.unique()), "answers through the layers: relations"):
        facts = known_facts(survey, name, params.facts, params.seed)
        if len(facts):
            prompts = prompts_of(model, facts)
            rows.append(fact_rows(model, relations[name], prompts, facts["subject"].tolist(), params.seed))
    write_table(job.output.ranks, pd.concat(rows, ignore_index=True))


if __name__ == "__main__":
    run(main, snakemake)
