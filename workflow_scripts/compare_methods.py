"""Circuits of every method side by side, of one relation: faithfulness and hit@10 at every size, completeness."""

from functools import cache
from pathlib import Path

import pandas as pd

from knowcirc.circuits.ablations import AlignedMeans
from knowcirc.circuits.export import load_circuits
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.method_scores import Comparison, compared_circuits, measure_circuit
from knowcirc.facts.survey import prompts_of, split_rows
from knowcirc.files import read_table, write_table
from knowcirc.job import Job, progress, run
from knowcirc.models.loading import load
from knowcirc.resume import parts_of


def main(job: Job) -> None:
    """Write one row per method, prompt and size; what is done is not done again after an interruption."""
    params, relation = job.params, job.wildcards.relation
    survey = read_table(job.input.facts)
    if split_rows(survey, relation, "val").empty:
        write_table(job.output.comparison, pd.DataFrame(columns=["relation"]))
        return
    model = load(Path(job.input.model).parent, **params.load_options, fast=True)
    graph = Graph.of(model.transformer.shape, params.kv)
    settings = Comparison(params.hits, params.prompts, params.seed)
    parts = parts_of(job, job.output.comparison)
    paths = dict(zip(params.methods, map(Path, job.input.circuits), strict=True))
    found = [load_circuits(path, method)[relation] for method, path in paths.items()]
    prompts = prompts_of(model, split_rows(survey, relation, "test"))

    @cache
    def means() -> AlignedMeans:
        return AlignedMeans.of(model, graph, prompts_of(model, split_rows(survey, relation, "val")))

    frames = []
    for circuit in progress(compared_circuits(graph, relation, found, params.seed), "comparison: methods"):
        if parts.get(circuit.method) is None:
            rows = measure_circuit(model, graph, relation, circuit, prompts, means(), settings)
            parts.put(circuit.method, rows)
        frames.append(pd.DataFrame(parts.get(circuit.method)))
    write_table(job.output.comparison, pd.concat(frames, ignore_index=True))
    parts.clear()


if __name__ == "__main__":
    run(main, snakemake)
