"""What a demonstration changes: new heads in the circuit, their attention, their ablation (KC Fig. 5, Table 2)."""

from pathlib import Path

import pandas as pd

from knowcirc.behaviours.in_context import IclSettings, enough, showcase_attention, study_relation
from knowcirc.circuits.export import load_circuits
from knowcirc.circuits.kept import KeptCircuits
from knowcirc.facts.relations import read_relations
from knowcirc.files import read_table, write_json, write_table
from knowcirc.job import Job, progress, run


def main(job: Job) -> None:
    """Write the ablation by relation, and the new heads' attention for the fact that demonstrations mend most.

    Circuits that are found are not searched again after an interruption, and a search goes on.
    """
    params = job.params
    survey = read_table(job.input.facts)
    first_wording = survey[survey.template == 0]
    relations = read_relations(params.source, job.input.relations)
    finder = KeptCircuits.of(job, job.output.ablation)
    own = load_circuits(Path(job.input.circuits[0]), finder.settings.method)
    counts = {key: value for key, value in params.icl.items() if key != "relations"}
    settings = IclSettings(**counts, hits=params.hits, seed=params.seed)
    studied = []
    for name in progress(enough(first_wording, params.icl), "in-context: relations"):
        rows = first_wording[first_wording.relation == name]
        studied.append(study_relation(finder, relations[name], rows, own.get(name), settings))
    write_table(job.output.ablation, pd.DataFrame([study.row for study in studied]))
    attention, meta = showcase_attention(finder.model, studied)
    write_table(job.output.attention, attention)
    write_json(job.output.meta, meta)
    finder.parts.clear()


if __name__ == "__main__":
    run(main, snakemake)
