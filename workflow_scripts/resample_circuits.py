"""Find a relation's circuit again, on D_val drawn anew and in other wordings (`circuits/resampling.py`)."""

import logging
from dataclasses import replace
from pathlib import Path

from knowcirc.circuits.circuit import Circuit
from knowcirc.circuits.discovery import NoCircuitError
from knowcirc.circuits.export import save_circuits
from knowcirc.circuits.kept import KeptCircuits
from knowcirc.circuits.resampling import resampled_runs, reworded_runs
from knowcirc.facts.relations import read_relations
from knowcirc.facts.survey import prompts_of, split_rows
from knowcirc.files import read_table
from knowcirc.job import Job, progress, run
from knowcirc.seeding import derive

log = logging.getLogger(__name__)


def main(job: Job) -> None:
    """Write the circuits, without their scores; none for a relation without D_val. What is found is kept."""
    params, relation = job.params, job.wildcards.relation
    val = split_rows(read_table(job.input.facts), relation, "val")
    circuits: dict[str, Circuit] = {}
    if len(val):
        finder = KeptCircuits.of(job, job.output.circuits)
        templates = read_relations(params.source, [job.input.relation])[relation].templates
        prompts, asked, seed = prompts_of(finder.model, val), params.stability, params.seed
        runs = resampled_runs(prompts, finder.settings, relation, asked["resamples"], asked["resampling"], seed)
        runs += reworded_runs(finder.model, val, templates, finder.settings, asked["wordings"], seed)
        for one in progress(runs, f"{relation}: circuits found again"):
            try:
                found = finder.find(one.name, one.prompts, one.partners, seed=derive(seed, "partners", relation))
            except NoCircuitError as error:
                log.warning("%s, %s: %s", relation, one.name, error)
                continue
            circuits[one.name] = replace(found, scores=None, path={})
        save_circuits(Path(job.output.circuits), circuits)
        finder.parts.clear()
    else:
        save_circuits(Path(job.output.circuits), {})


if __name__ == "__main__":
    run(main, snakemake)
