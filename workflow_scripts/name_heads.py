"""The mover, relation and mixture heads of every relation, and its facts without them (KC section 4.3)."""

from pathlib import Path

import pandas as pd

from knowcirc.circuits.export import load_circuits
from knowcirc.circuits.graph import Graph
from knowcirc.facts.relations import read_relations
from knowcirc.facts.survey import fact_row, known_facts, prompts_of, split_rows
from knowcirc.files import read_table, write_json, write_table
from knowcirc.job import Job, progress, run
from knowcirc.models.loading import load
from knowcirc.reading import special_heads as study
from knowcirc.reading.heads import ROLES, Thresholds
from knowcirc.seeding import derive


def main(job: Job) -> None:
    """Write the named heads of all relations, and the ablations of each role's heads."""
    params, requested = job.params, job.params.components
    survey = read_table(job.input.facts)
    relations = read_relations(params.source, job.input.relations)
    model = load(Path(job.input.model).parent, **params.load_options, fast=True)
    graph = Graph.of(model.transformer.shape, params.kv)
    circuits = load_circuits(Path(job.input.circuits[0]), params.method)
    seeds = tuple(derive(params.seed, "role", i) % 2**32 for i in range(requested["random_seeds"]))
    settings = study.RoleSettings(Thresholds(**params.heads), requested["share"], params.hits, seeds)
    named, ablated = [], []
    for name in progress(list(survey.relation.unique()), "special heads: relations"):
        facts = known_facts(survey, name, requested["facts"], params.seed)
        if facts.empty:
            continue
        rows = study.head_rows(
            model, relations[name], prompts_of(model, facts), facts["subject"].tolist(), settings.limits
        )
        found = study.in_circuits(study.name_heads(rows, settings.share), graph, circuits[name])
        test = prompts_of(model, split_rows(survey, name, "test"))
        roles = {role: study.heads_of(found, role) for role in ROLES}
        ablated += study.ablation_rows(model, relations[name], test, roles, settings)
        named.append(found)
    write_table(job.output.heads, pd.concat(named, ignore_index=True))
    write_table(job.output.ablation, pd.DataFrame(ablated, columns=list(study.ABLATED)))
    row = fact_row(survey, params.showcase["relation"], params.showcase["subject"], params.showcase["template"])
    prompt = prompts_of(model, row)[0]
    context = study.context_of(model, relations[params.showcase["relation"]], prompt)
    write_table(job.output.tokens, pd.DataFrame(study.token_rows(model, prompt, context, settings.limits)))
    write_json(job.output.meta, {"prompt": prompt.text, "answer": prompt.answer_text})


if __name__ == "__main__":
    run(main, snakemake)
