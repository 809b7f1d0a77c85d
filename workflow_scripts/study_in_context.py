"""What demonstrations change in a relation: new heads in the circuit, their attention, their ablation (KC Table 2)."""

import logging
from pathlib import Path

import pandas as pd

from knowcirc.behaviours.in_context import ATTENTION_COLUMNS, IclSettings, attention_of, enough, study_relation
from knowcirc.circuits.export import load_circuits
from knowcirc.circuits.kept import KeptCircuits
from knowcirc.facts.relations import read_relations
from knowcirc.files import read_table, write_json, write_table
from knowcirc.job import Job, run

log = logging.getLogger(__name__)


def main(job: Job) -> None:
    """Write the relation's row of the ablation, and the new heads' attention for the fact that is mended most.

    No row is written where the model knows too few facts to demonstrate. Circuits that are found are not searched
    again after an interruption, and a search goes on.
    """
    params, name = job.params, job.wildcards.relation
    survey = read_table(job.input.facts)
    rows = survey[(survey.template == 0) & (survey.relation == name)]
    if not enough(rows, params.icl["demonstrations"]):
        log.warning("in-context: %s is left out, too few of its facts are known to demonstrate", name)
        write_table(job.output.row, pd.DataFrame(columns=["relation"]))
        write_table(job.output.attention, pd.DataFrame(columns=list(ATTENTION_COLUMNS)))
        write_json(job.output.meta, {})
        return
    finder = KeptCircuits.of(job, job.output.row)
    relation = read_relations(params.source, [job.input.relation])[name]
    own = load_circuits(Path(job.input.circuits), finder.settings.method).get(name)
    study = study_relation(finder, relation, rows, own, IclSettings(**params.icl, hits=params.hits, seed=params.seed))
    attention, meta = attention_of(finder.model, study)
    write_table(job.output.row, pd.DataFrame([study.row]))
    write_table(job.output.attention, attention)
    write_json(job.output.meta, meta)
    finder.parts.clear()


if __name__ == "__main__":
    run(main, snakemake)
