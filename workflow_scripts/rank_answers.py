"""The rank of a relation's known answers through the layers, at the subject and the last position (KC 4, B.1)."""

from pathlib import Path

import pandas as pd

from knowcirc.facts.relations import read_relations
from knowcirc.facts.survey import known_facts, prompts_of
from knowcirc.files import read_table, write_table
from knowcirc.job import Job, run
from knowcirc.models.loading import load
from knowcirc.reading.answer_ranks import fact_rows


def main(job: Job) -> None:
    """Write one row per fact, position and layer; none where no fact is known."""
    params, name = job.params, job.wildcards.relation
    facts = known_facts(read_table(job.input.facts), name, params.facts, params.seed)
    if facts.empty:
        write_table(job.output.ranks, pd.DataFrame({"relation": pd.Series(dtype=str)}))
        return
    relation = read_relations(params.source, [job.input.relation])[name]
    model = load(Path(job.input.model).parent, **params.load_options, fast=True)
    rows = fact_rows(model, relation, prompts_of(model, facts), facts["subject"].tolist(), params.seed)
    write_table(job.output.ranks, rows)


if __name__ == "__main__":
    run(main, snakemake)
