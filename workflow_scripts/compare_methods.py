"""Circuits of every method side by side: faithfulness and hit@10 at every size, completeness, by ablation."""

from functools import lru_cache
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
    """Write one row per method, relation, prompt and size; what is done is not done again after an interruption."""
    params = job.params
    survey = read_table(job.input.facts)
    model = load(Path(job.input.model).parent, **params.load_options, fast=True)
    graph = Graph.of(model.transformer.shape, params.kv)
    settings = Comparison(params.hits, params.prompts, params.seed)
    parts = parts_of(job, job.output.comparison)
    found = {
        method: load_circuits(Path(path), method)
        for method, path in zip(params.methods, job.input.circuits, strict=True)
    }

    @lru_cache(maxsize=1)
    def means(relation: str) -> AlignedMeans:
        return AlignedMeans.of(model, graph, prompts_of(model, split_rows(survey, relation, "val")))

    frames = []
    tasks = compared_circuits(graph, found, params.relations, params.seed)
    for number, (relation, circuit) in enumerate(progress(tasks, "comparison: methods and relations")):
        test = split_rows(survey, relation, "test")
        key = f"{number} {relation} {circuit.method}"
        if parts.get(key) is None:
            prompts = prompts_of(model, test)
            parts.put(key, measure_circuit(model, graph, relation, circuit, prompts, means(relation), settings))
        frames.append(pd.DataFrame(parts.get(key)))
    write_table(job.output.comparison, pd.concat(frames, ignore_index=True))
    parts.clear()


if __name__ == "__main__":
    run(main, snakemake)
