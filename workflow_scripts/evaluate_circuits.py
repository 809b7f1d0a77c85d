"""What circuits, the whole model and random circuits of the same size say of a relation (KC section 3.3, Table 1)."""

from pathlib import Path

import pandas as pd

from knowcirc.circuits.circuit_settings import CircuitSettings
from knowcirc.circuits.export import load_circuits
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.relation_scores import Questions, score_relation
from knowcirc.facts.survey import object_tokens, prompts_of, split_rows
from knowcirc.files import read_table, write_table
from knowcirc.job import Job, run
from knowcirc.models.loading import load
from knowcirc.seeding import derive


def main(job: Job) -> None:
    """Write one row per method and ablation; none for a relation without a circuit."""
    params, relation = job.params, job.wildcards.relation
    survey = read_table(job.input.facts)
    val, test = (split_rows(survey, relation, split) for split in ("val", "test"))
    if val.empty:
        write_table(job.output.scores, pd.DataFrame(columns=["relation"]))
        return
    model = load(Path(job.input.model).parent, **params.load_options, fast=True)
    graph = Graph.of(model.transformer.shape, params.kv)
    ways = {way["method"]: CircuitSettings(**way) for way in params.circuits}
    paths = dict(zip(ways, map(Path, job.input.circuits), strict=True))
    circuits = {method: load_circuits(path, method)[relation] for method, path in paths.items()}
    questions = Questions(prompts_of(model, val), prompts_of(model, test), object_tokens(model, survey, relation))
    seeds = [derive(params.seed, "random", relation, i) % 2**32 for i in range(params.random_seeds)]
    rows = score_relation(model, graph, circuits, questions, hits=params.hits, seeds=seeds, settings=ways)
    scores = pd.DataFrame({"category": val["category"].iloc[0], "relation": relation, **row} for row in rows)
    write_table(job.output.scores, scores)


if __name__ == "__main__":
    run(main, snakemake)
