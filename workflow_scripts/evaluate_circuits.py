"""What the circuits, the whole model and random circuits of the same size say alone (KC section 3.2, Table 1)."""

from pathlib import Path

import pandas as pd

from knowcirc.circuits.export import load_circuits
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.relation_scores import Questions, score_relation
from knowcirc.facts.survey import object_tokens, prompts_of, split_rows
from knowcirc.files import read_table, write_table
from knowcirc.job import Job, progress, run
from knowcirc.models.loading import load
from knowcirc.resume import parts_of
from knowcirc.seeding import derive


def main(job: Job) -> None:
    """Write one row per relation, method and ablation; a relation that is done is not done again after an
    interruption."""
    params = job.params
    survey = read_table(job.input.facts)
    model = load(Path(job.input.model).parent, **params.load_options, fast=True)
    graph = Graph.of(model.transformer.shape, params.kv)
    paths = dict(zip(params.methods, map(Path, job.input.circuits), strict=True))
    found = {method: load_circuits(path, method) for method, path in paths.items()}
    parts = parts_of(job, job.output.scores)
    frames = []
    relations = list(dict.fromkeys(name for circuits in found.values() for name in circuits))
    for relation in progress(relations, f"hit@{params.hits} of circuits: relations"):
        circuits = {method: of[relation] for method, of in found.items() if relation in of}
        val, test = (split_rows(survey, relation, split) for split in ("val", "test"))
        if parts.get(relation) is None:
            objects = object_tokens(model, survey, relation)
            questions = Questions(prompts_of(model, val), prompts_of(model, test), objects)
            seeds = [derive(params.seed, "random", relation, i) % 2**32 for i in range(params.random_seeds)]
            taus = dict(params.taus)
            scores = score_relation(model, graph, circuits, questions, hits=params.hits, seeds=seeds, taus=taus)
            parts.put(relation, [{"category": val["category"].iloc[0], "relation": relation, **row} for row in scores])
        frames.append(pd.DataFrame(parts.get(relation)))
    write_table(job.output.scores, pd.concat(frames, ignore_index=True))
    parts.clear()


if __name__ == "__main__":
    run(main, snakemake)
