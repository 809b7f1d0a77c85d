"""Find the circuits of relations, each on its D_val prompts together (KC section 3)."""

from pathlib import Path

from knowcirc.circuits.evaluation import SIZES
from knowcirc.circuits.export import save_circuits
from knowcirc.circuits.finding import CircuitSettings
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.kept import KeptCircuits
from knowcirc.facts.survey import prompts_of, split_rows
from knowcirc.files import Parts, fingerprint, read_json, read_table, write_json
from knowcirc.job import Job, progress, run
from knowcirc.models.loading import load


def main(job: Job) -> None:
    """Write the circuits; one that is done is not done again after an interruption, and a search goes on."""
    params, settings = job.params, CircuitSettings(**job.params.circuits)
    survey = read_table(job.input.facts)
    model = load(Path(job.input.model).parent, **params.numerics, fast=True)
    graph = Graph.of(model.transformer.shape, params.kv)
    weights = read_json(job.input.model)["weights_sha256"]
    identity = (params.circuits, params.numerics, params.kv, params.code, params.seed, weights)
    parts = Parts(job.output.circuits, fingerprint(*identity))
    finder, circuits = KeptCircuits(model, graph, settings, parts, SIZES), {}
    known = set(survey.relation.unique())  # relations may have been left out by name
    for relation in progress([name for name in params.relations if name in known], f"circuits by {settings.method}"):
        prompts = prompts_of(model, split_rows(survey, relation, "val"))
        circuits[relation] = finder.find_with_partners(relation, prompts, params.seed)
    write_json(job.output.seconds, finder.seconds)
    save_circuits(Path(job.output.circuits), circuits)
    parts.clear()


if __name__ == "__main__":
    run(main, snakemake)
