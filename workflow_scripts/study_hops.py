"""Facts in two hops: what the model says, and how the circuits of the hops overlap (KC appendix)."""

from pathlib import Path

from knowcirc.behaviours.hops import Composition, hops_rows, study_chains
from knowcirc.circuits.export import load_circuits
from knowcirc.circuits.kept import KeptCircuits
from knowcirc.facts.relations import read_relations
from knowcirc.files import write_table
from knowcirc.job import Job, progress, run


def main(job: Job) -> None:
    """Write one row per composition; those with too few chains of known hops are named in the log.

    Circuits that are found are not searched again after an interruption, and a search goes on.
    """
    params = job.params
    relations = read_relations(params.source, job.input.relations)
    finder = KeptCircuits.of(job, job.output.hops)
    own = load_circuits(Path(job.input.circuits[0]), finder.settings.method)
    counts = {"most": params.hops["facts"], "d_val": params.hops["d_val"], "seed": params.seed}
    studies = []
    for each in progress(params.hops["compositions"], "hops: compositions"):
        composition = Composition(**each)
        pair = relations[composition.first], relations[composition.second]
        studies.append(study_chains(finder, composition, pair, **counts))
    write_table(job.output.hops, hops_rows(finder.graph, studies, own, params.hits))
    finder.parts.clear()


if __name__ == "__main__":
    run(main, snakemake)
