"""The mover, relation and mixture heads of a relation, and its facts without them (KC 4, B.2)."""

from pathlib import Path

import pandas as pd

from knowcirc.circuits.export import load_circuits
from knowcirc.circuits.graph import Graph
from knowcirc.facts.relations import read_relations
from knowcirc.facts.survey import known_facts, prompts_of, split_rows
from knowcirc.files import read_table, write_table
from knowcirc.job import Job, run
from knowcirc.models.loading import load
from knowcirc.reading import special_heads as study
from knowcirc.reading.heads import ROLES, Thresholds
from knowcirc.seeding import derive


def main(job: Job) -> None:
    """Write the named heads, and the ablations of each role's heads; no rows where no fact is known."""
    params, requested, name = job.params, job.params.components, job.wildcards.relation
    survey = read_table(job.input.facts)
    apart = survey[survey["split"] != "test"]  # heads are judged on D_test
    facts = known_facts(apart, name, requested["facts"], params.seed)
    if facts.empty:
        write_table(job.output.heads, pd.DataFrame(columns=["relation"]))
        write_table(job.output.ablation, pd.DataFrame(columns=list(study.ABLATED)))
        return
    relation = read_relations(params.source, [job.input.relation])[name]
    model = load(Path(job.input.model).parent, **params.load_options, fast=True)
    graph = Graph.of(model.transformer.shape, params.kv)
    circuit = load_circuits(Path(job.input.circuits), params.method)[name]
    seeds = tuple(derive(params.seed, "role", i) % 2**32 for i in range(requested["random_seeds"]))
    settings = study.RoleSettings(Thresholds(**params.heads), requested["share"], params.hits, seeds)
    rows = study.head_rows(model, relation, prompts_of(model, facts), facts["subject"].tolist(), settings.limits)
    found = study.in_circuits(study.name_heads(rows, settings.share), graph, circuit)
    roles = {role: study.heads_of(found, role) for role in ROLES}
    test = prompts_of(model, split_rows(survey, name, "test"))
    ablated = study.ablation_rows(model, relation, test, roles, settings)
    write_table(job.output.heads, found)
    write_table(job.output.ablation, pd.DataFrame(ablated, columns=list(study.ABLATED)))


if __name__ == "__main__":
    run(main, snakemake)
