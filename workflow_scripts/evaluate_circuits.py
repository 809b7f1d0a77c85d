"""What the circuits, the whole model and random circuits of the same size do alone (KC section 3.2, Table 1)."""

from pathlib import Path

import pandas as pd

from knowcirc.circuits.export import load_circuits
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.study import score_relation
from knowcirc.facts.survey import prompts_of, split_rows
from knowcirc.files import Parts, fingerprint, read_json, read_table, write_table
from knowcirc.job import Job, progress, run
from knowcirc.models.loading import load
from knowcirc.seeding import derive


def main(job: Job) -> None:
    """Write a row a relation; a relation that is done is not done again after an interruption."""
    params, method = job.params, job.wildcards.method
    survey = read_table(job.input.facts)
    model = load(Path(job.input.model).parent, **params.numerics, fast=True)
    graph = Graph.of(model.transformer.shape, params.kv)
    circuits = load_circuits(Path(job.input.circuits), method)
    weights = read_json(job.input.model)["weights_sha256"]
    parts = Parts(
        job.output.scores, fingerprint(params.hits, params.tau, params.random_seeds, params.code, weights, params.seed)
    )
    rows = []
    for relation, circuit in progress(list(circuits.items()), f"hit@{params.hits} of {method} circuits: relations"):
        val, test = (split_rows(survey, relation, split) for split in ("val", "test"))
        key = fingerprint(relation, val.subject.tolist(), test.subject.tolist(), circuit.edges.tobytes().hex())
        row = parts.get(key)
        if row is None:
            row = score_relation(
                model,
                graph,
                circuit,
                prompts_of(model, val),
                prompts_of(model, test),
                hits=params.hits,
                seeds=[derive(params.seed, "random", relation, i) % 2**32 for i in range(params.random_seeds)],
                tau=params.tau,
            )
            row = {"category": val["category"].iloc[0], "relation": relation, "method": method, **row}
            parts.put(key, row)
        rows.append(row)
    write_table(job.output.scores, pd.DataFrame(rows))
    parts.clear()


if __name__ == "__main__":
    run(main, snakemake)
