"""Go on with a relation's search below its size, so that methods can be compared at smaller ones (MIB's sizes)."""

from pathlib import Path

from knowcirc.circuits.evaluation import SIZES
from knowcirc.circuits.export import load_circuits, save_circuits
from knowcirc.circuits.kept import KeptCircuits
from knowcirc.facts.survey import prompts_of, split_rows
from knowcirc.files import read_table
from knowcirc.job import Job, run


def main(job: Job) -> None:
    """Write the circuit with the smaller ones in its path; none where the relation has none."""
    relation, circuits = job.wildcards.relation, load_circuits(Path(job.input.circuits), job.wildcards.method)
    val = split_rows(read_table(job.input.facts), relation, "val")
    if relation in circuits:
        finder = KeptCircuits.of(job, job.output.circuits)
        prompts = prompts_of(finder.model, val)
        circuits[relation] = finder.shrink(relation, circuits[relation], prompts, job.params.seed, SIZES)
        save_circuits(Path(job.output.circuits), circuits)
        finder.parts.clear()
    else:
        save_circuits(Path(job.output.circuits), {})


if __name__ == "__main__":
    run(main, snakemake)
