"""Facts of a relation asked forward and backward: what the model says, and a circuit each way (KC C.3)."""

from dataclasses import replace
from pathlib import Path

from knowcirc.behaviours.reverse import reverse_wording, study_both_ways, write_both_ways
from knowcirc.circuits.kept import KeptCircuits
from knowcirc.facts.relations import read_relations
from knowcirc.job import Job, run


def main(job: Job) -> None:
    """Write answers and circuits; a search that was interrupted goes on."""
    params = job.params
    relation = read_relations(params.source, [job.input.relation])[job.wildcards.relation]
    relation = replace(relation, reverse_template=params.template or relation.reverse_template)
    reverse_wording(relation)
    finder = KeptCircuits.of(job, job.output.answers)
    study = study_both_ways(finder, relation, most=params.facts, d_val=params.d_val, seed=params.seed)
    write_both_ways(Path(job.output.answers), Path(job.output.circuits), study)
    finder.parts.clear()


if __name__ == "__main__":
    run(main, snakemake)
