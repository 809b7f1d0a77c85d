"""Find the circuit of every relation on its D_val prompts together (KC section 3)."""

import time
from pathlib import Path

import numpy as np

from knowcirc.circuits.discovery import Circuit, choose_partners, discover
from knowcirc.circuits.export import save_circuits
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.searching import AcdcSettings, refine
from knowcirc.facts.survey import prompts_of, split_rows
from knowcirc.files import Parts, atomic, fingerprint, read_json, read_table, write_json
from knowcirc.job import Job, Ticker, progress, run
from knowcirc.models.loading import load
from knowcirc.seeding import derive


def main(job: Job) -> None:
    """Write the circuits of the method's relations; one that is done is not done again after an interruption."""
    params, method = job.params, job.wildcards.method
    survey = read_table(job.input.facts)
    model = load(Path(job.input.model).parent, **params.numerics, fast=True)
    graph = Graph.of(model.transformer.shape, params.kv)
    n_edges = round(params.size["share"] * graph.n_edges)
    weights = read_json(job.input.model)["weights_sha256"]
    parts = Parts(
        job.output.circuits, fingerprint(method, params.size, params.numerics, params.kv, params.code, weights)
    )
    circuits: dict[str, Circuit] = {}
    seconds: dict[str, float] = {}
    relations = [name for name in survey.relation.unique() if params.relations is None or name in params.relations]
    for relation in progress(relations, f"circuits by {method}: relations"):
        prompts = prompts_of(model, split_rows(survey, relation, "val"))[: params.size.get("prompts")]
        key = fingerprint(relation, [prompt.text for prompt in prompts], params.seed)
        done = parts.path(key, ".npz")
        if not done.is_file():
            seed = derive(params.seed, "partners", relation)
            partners = [None if i is None else prompts[i] for i in choose_partners(prompts, seed)]
            start = time.perf_counter()
            if method == "eap-ig+acdc":
                search = {"n_edges": n_edges, "state": parts.path(f"{key} search", ".npz"), "report": Ticker(relation)}
                found = refine(model, graph, prompts, partners, AcdcSettings(**params.size["rule"]), **search)
            else:
                found = discover(model, graph, prompts, partners, method=method, n_edges=n_edges, seed=seed)
            spent, scores = time.perf_counter() - start, np.asarray(found.scores, dtype=np.float32)
            with atomic(done) as part, part.open("wb") as handle:
                np.savez_compressed(handle, edges=found.edges, scores=scores, seconds=np.array(spent))
        with np.load(done, allow_pickle=False) as arrays:
            circuits[relation] = Circuit(method, arrays["edges"], arrays["scores"])
            seconds[relation] = float(arrays["seconds"])
    write_json(job.output.seconds, seconds)
    save_circuits(Path(job.output.circuits), circuits)
    parts.clear()


if __name__ == "__main__":
    run(main, snakemake)
