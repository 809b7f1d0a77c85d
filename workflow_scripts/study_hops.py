"""Facts in two hops: what the model says, and the circuits of the hops of one composition (KC C.1)."""

from pathlib import Path

from knowcirc.behaviours.hops import Composition, study_chains, write_chains
from knowcirc.circuits.kept import KeptCircuits
from knowcirc.facts.relations import read_relations
from knowcirc.job import Job, run


def main(job: Job) -> None:
    """Write answers and circuits; a search that was interrupted goes on."""
    params = job.params
    composition = Composition(**params.composition)
    relations = read_relations(params.source, job.input.relations)
    finder = KeptCircuits.of(job, job.output.answers)
    pair = relations[composition.first], relations[composition.second]
    study = study_chains(finder, composition, pair, most=params.facts, d_val=params.d_val, seed=params.seed)
    write_chains(Path(job.output.answers), Path(job.output.circuits), study)
    finder.parts.clear()


if __name__ == "__main__":
    run(main, snakemake)
