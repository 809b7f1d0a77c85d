"""What a relation's circuits that were found again share, and what they and their consensus do on D_test."""

from pathlib import Path

import pandas as pd

from knowcirc.circuits.circuit import Circuit
from knowcirc.circuits.evaluation import pairs_of
from knowcirc.circuits.export import load_circuits, save_circuits
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.stability_scores import circuits_to_score, curve_rows, groups_of, score, stability_rows
from knowcirc.facts.survey import prompts_of, split_rows
from knowcirc.files import read_table, write_table
from knowcirc.job import Job, run
from knowcirc.models.loading import load
from knowcirc.seeding import derive


def main(job: Job) -> None:
    """Write a row per group of runs, the frequencies of edges, and the consensus circuits; none without circuits."""
    params, relation, method = job.params, job.wildcards.relation, job.wildcards.method
    asked = params.stability
    own = load_circuits(Path(job.input.circuits), method).get(relation)
    runs = {name: one.edges for name, one in load_circuits(Path(job.input.resamples), method).items()}
    model = load(Path(job.input.model).parent, **params.load_options, fast=True)
    graph = Graph.of(model.transformer.shape, params.kv)
    groups = [] if own is None else groups_of(graph, own, runs, asked["resampling"], asked["share"])
    rows, points = pd.DataFrame(columns=["relation"]), pd.DataFrame(columns=["relation"])
    if own is not None and groups:
        test = prompts_of(model, split_rows(read_table(job.input.facts), relation, "test"))
        pairs = pairs_of(test, asked["prompts"], derive(params.seed, "pairs", relation))
        scored = score(model, graph, circuits_to_score(own, groups), test, pairs, params.hits)
        about = {"relation": relation, "method": method}
        counts = {"n_test": len(test), "n_pairs": len(pairs), "n_relations": 1}
        rows = pd.DataFrame({**row, **counts} for row in stability_rows(graph, own, groups, scored, about))
        points = pd.DataFrame(curve_rows(graph, groups, about))
    write_table(job.output.rows, rows)
    write_table(job.output.frequencies, points)
    save_circuits(Path(job.output.consensus), {one.name: Circuit(method, one.by_size, None) for one in groups})


if __name__ == "__main__":
    run(main, snakemake)
