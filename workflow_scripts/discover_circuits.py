"""Find the circuit of a relation on its D_val prompts together (KC section 3)."""

import logging
from pathlib import Path

from knowcirc.circuits.evaluation import SIZES
from knowcirc.circuits.export import save_circuits
from knowcirc.circuits.kept import KeptCircuits
from knowcirc.facts.survey import prompts_of, split_rows
from knowcirc.files import read_table, write_json
from knowcirc.job import Job, run

log = logging.getLogger(__name__)


def main(job: Job) -> None:
    """Write the circuit; none for a relation that was left out, or of which the model knows nothing.

    A search that was interrupted goes on.
    """
    relation = job.wildcards.relation
    val = split_rows(read_table(job.input.facts), relation, "val")
    circuits, costs = {}, {}
    if len(val):
        finder = KeptCircuits.of(job, job.output.circuits, SIZES)
        prompts = prompts_of(finder.model, val)
        circuits[relation] = finder.find_with_partners(relation, prompts, job.params.seed)
        costs = finder.costs
    else:
        log.warning("%s has no circuit: the model has none of its answers among the first", relation)
    write_json(job.output.costs, costs)
    save_circuits(Path(job.output.circuits), circuits)
    if circuits:
        finder.parts.clear()


if __name__ == "__main__":
    run(main, snakemake)
