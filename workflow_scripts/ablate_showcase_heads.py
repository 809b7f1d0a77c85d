"""The next token of the showcase's prompt without its mover or relation head (KC Fig. 6)."""

from pathlib import Path

import pandas as pd

from knowcirc.facts.relations import read_relations
from knowcirc.facts.survey import fact_row, prompts_of
from knowcirc.files import read_table, write_json, write_table
from knowcirc.job import Job, run
from knowcirc.models.loading import load
from knowcirc.reading.heads import Thresholds
from knowcirc.reading.special_heads import context_of, token_rows


def main(job: Job) -> None:
    """Write the likeliest tokens of the model and of each ablation."""
    showcase = job.params.showcase
    relation = read_relations(job.params.source, [job.input.relation])[showcase["relation"]]
    row = fact_row(read_table(job.input.facts), relation.name, showcase["subject"], showcase["template"])
    model = load(Path(job.input.model).parent, **job.params.load_options, fast=True)
    prompt = prompts_of(model, row)[0]
    rows = token_rows(model, prompt, context_of(model, relation, prompt), Thresholds(**job.params.heads))
    write_table(job.output.tokens, pd.DataFrame(rows))
    write_json(job.output.meta, {"prompt": prompt.text, "answer": prompt.answer_text})


if __name__ == "__main__":
    run(main, snakemake)
