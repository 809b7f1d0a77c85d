"""Ask the model every fact of the study; keep ranks, probabilities and the splits into D_val and D_test."""

import logging
from pathlib import Path

import pandas as pd

from knowcirc.facts.prompts import check_relation
from knowcirc.facts.relations import read_relations
from knowcirc.facts.survey import survey_relation
from knowcirc.files import write_json, write_table
from knowcirc.job import Job, progress, run
from knowcirc.models.loading import load

log = logging.getLogger(__name__)


def main(job: Job) -> None:
    """Write the survey of all relations, and which relations were left out and why."""
    params = job.params
    relations = list(read_relations(params.source, job.input.relations).values())
    model = load(Path(job.input.model).parent, **params.load_options, fast=True)
    frames, left_out = [], {}
    for relation in progress(relations, "known facts: relations"):
        try:
            check_relation(model.text, relation)
        except ValueError as error:
            if params.on_collision == "error":
                raise
            log.warning("left out: %s", error)
            left_out[relation.name] = str(error)
            continue
        templates = [0, params.tracing_template]
        frames.append(survey_relation(model, relation, templates, **params.facts, seed=params.seed))
    write_table(job.output.facts, pd.concat(frames, ignore_index=True))
    write_json(job.output.summary, {"used": [frame.relation.iloc[0] for frame in frames], "left_out": left_out})


if __name__ == "__main__":
    run(main, snakemake)
