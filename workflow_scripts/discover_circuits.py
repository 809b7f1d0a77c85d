"""Find the circuit of every relation on its D_val prompts together (KC section 3)."""

from pathlib import Path

import numpy as np

from knowcirc.circuits.discovery import Circuit, choose_partners, discover
from knowcirc.circuits.export import save_circuits
from knowcirc.circuits.graph import Graph
from knowcirc.facts.survey import prompts_of, split_rows
from knowcirc.files import Parts, atomic, fingerprint, read_json, read_table
from knowcirc.job import Job, progress, run
from knowcirc.models.loading import load
from knowcirc.seeding import derive


def main(job: Job) -> None:
    """Write the circuits of all relations; a relation that is done is not done again after an interruption."""
    params, method = job.params, job.wildcards.method
    survey = read_table(job.input.facts)
    model = load(Path(job.input.model).parent, **params.numerics)
    graph = Graph.of(model.transformer.shape, params.kv)
    n_edges = round(params.share * graph.n_edges)
    weights = read_json(job.input.model)["weights_sha256"]
    shared = (method, n_edges, params.numerics, params.kv, params.seed, params.code, weights)
    circuits: dict[str, Circuit] = {}
    parts = Parts(job.output.circuits, fingerprint(*shared))
    for relation in progress(survey.relation.unique().tolist(), f"circuits by {method}: relations"):
        prompts = prompts_of(model, split_rows(survey, relation, "val"))
        done = parts.path(fingerprint(relation, [prompt.text for prompt in prompts]), ".npz")
        if not done.is_file():
            seed = derive(params.seed, "partners", relation)
            partners = [None if i is None else prompts[i] for i in choose_partners(prompts, seed)]
            found = discover(model, graph, prompts, partners, method=method, n_edges=n_edges, seed=seed)
            with atomic(done) as part, part.open("wb") as handle:
                np.savez_compressed(handle, edges=found.edges, scores=np.asarray(found.scores, dtype=np.float32))
        with np.load(done, allow_pickle=False) as arrays:
            circuits[relation] = Circuit(method, arrays["edges"], arrays["scores"])
    save_circuits(Path(job.output.circuits), circuits)
    parts.clear()


if __name__ == "__main__":
    run(main, snakemake)
