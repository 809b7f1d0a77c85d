"""Find the circuits of relations, each on its D_val prompts together (KC section 3)."""

from pathlib import Path

from knowcirc.circuits.evaluation import SIZES
from knowcirc.circuits.export import save_circuits
from knowcirc.circuits.kept import KeptCircuits
from knowcirc.facts.survey import prompts_of, split_rows
from knowcirc.files import read_table, write_json
from knowcirc.job import Job, progress, run


def main(job: Job) -> None:
    """Write the circuits; one that is done is not done again after an interruption, and a search goes on."""
    params = job.params
    survey = read_table(job.input.facts)
    finder = KeptCircuits.of(job, job.output.circuits, SIZES)
    circuits = {}
    known = set(survey.relation.unique())  # relations may have been left out by name
    for relation in progress(
        [name for name in params.relations if name in known], f"circuits by {finder.settings.method}"
    ):
        prompts = prompts_of(finder.model, split_rows(survey, relation, "val"))
        circuits[relation] = finder.find_with_partners(relation, prompts, params.seed)
    write_json(job.output.seconds, finder.seconds)
    save_circuits(Path(job.output.circuits), circuits)
    finder.parts.clear()


if __name__ == "__main__":
    run(main, snakemake)
