"""Ask the model every fact of a relation; keep ranks, probabilities and the splits into D_val and D_test."""

import logging
from pathlib import Path

import pandas as pd

from knowcirc.facts.prompts import alike_objects, check_relation
from knowcirc.facts.relations import read_relations
from knowcirc.facts.survey import COLUMNS, survey_relation
from knowcirc.files import write_json, write_table
from knowcirc.job import Job, run
from knowcirc.models.loading import load

log = logging.getLogger(__name__)


def main(job: Job) -> None:
    """Write the relation's survey; no rows, and why, where an answer begins with no letter or digit."""
    params = job.params
    relation = read_relations(params.source, [job.input.relation])[job.wildcards.relation]
    model = load(Path(job.input.model).parent, **params.load_options, fast=True)
    left_out, survey = "", pd.DataFrame(columns=list(COLUMNS))
    alike = alike_objects(model.text, relation)
    if alike and params.on_collision == "error":
        raise ValueError(f"relation {relation.name}: objects {alike[0]} share their first token; drop or rename some")
    if alike:
        log.warning("%s: objects that share their first token: %s; what must tell them apart leaves their facts out",
                    relation.name, alike)  # fmt: skip
    try:
        check_relation(model.text, relation)
    except ValueError as error:
        if params.on_collision == "error":
            raise
        log.warning("left out: %s", error)
        left_out = str(error)
    else:
        survey = survey_relation(model, relation, [0, params.tracing_template], **params.facts, seed=params.seed)
    write_table(job.output.facts, survey)
    write_json(job.output.summary, {"left_out": left_out})


if __name__ == "__main__":
    run(main, snakemake)
