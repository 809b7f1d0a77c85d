"""Facts asked forward and backward: what the model says, and how the circuits overlap (KC appendix)."""

from dataclasses import replace
from pathlib import Path

from knowcirc.behaviours.reverse import reverse_rows, reverse_wording, study_both_ways
from knowcirc.circuits.export import load_circuits
from knowcirc.circuits.kept import KeptCircuits
from knowcirc.facts.relations import read_relations
from knowcirc.files import write_table
from knowcirc.job import Job, progress, run


def main(job: Job) -> None:
    """Write one row per relation; those with too few known facts are named in the log.

    Circuits that are found are not searched again after an interruption, and a search goes on.
    """
    params, requested = job.params, job.params.both_ways
    relations = read_relations(params.source, job.input.relations)
    chosen = [
        replace(relations[name], reverse_template=requested["templates"].get(name, relations[name].reverse_template))
        for name in requested["relations"]
    ]
    for relation in chosen:
        reverse_wording(relation)
    finder = KeptCircuits.of(job, job.output.both_ways)
    own = load_circuits(Path(job.input.circuits[0]), finder.settings.method)
    counts = {"most": requested["facts"], "d_val": requested["d_val"], "seed": params.seed}
    studies = [study_both_ways(finder, relation, **counts) for relation in progress(chosen, "reverse relations")]
    write_table(job.output.both_ways, reverse_rows(finder.graph, studies, own, params.hits))
    finder.parts.clear()


if __name__ == "__main__":
    run(main, snakemake)
