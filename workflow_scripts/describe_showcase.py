"""The showcase fact: its circuit as JSON, DOT and a drawing, and its answer through the layers (KC Fig. 1 and 3)."""

from pathlib import Path

import pandas as pd

from knowcirc.circuits.circuit_settings import CircuitSettings
from knowcirc.circuits.discovery import choose_partners
from knowcirc.circuits.export import write_circuit, write_dot
from knowcirc.circuits.finding import find_circuit
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.relation_scores import Questions, score_relation
from knowcirc.facts.relations import read_relations
from knowcirc.facts.survey import fact_row, object_tokens, prompts_of, split_rows
from knowcirc.files import read_table, write_json, write_table
from knowcirc.job import Job, Ticker, run
from knowcirc.models.loading import load
from knowcirc.reading.heads import Thresholds
from knowcirc.reading.showcase import describe_circuit, rank_curves
from knowcirc.reading.special_heads import context_of
from knowcirc.resume import parts_of
from knowcirc.seeding import derive


def main(job: Job) -> None:
    """Find the circuit of the one prompt, describe it, and see what it does for the relation's other facts."""
    params, showcase, relation = job.params, job.params.showcase, job.params.showcase["relation"]
    survey, settings = read_table(job.input.facts), CircuitSettings(**params.circuits)
    row = fact_row(survey, relation, showcase["subject"], showcase["template"])
    model = load(Path(job.input.model).parent, **params.load_options, fast=True)
    graph = Graph.of(model.transformer.shape, params.kv)
    others = survey[(survey.relation == relation) & (survey.template == 0) & (survey["rank"] == 0)]
    prompts = prompts_of(model, row) + prompts_of(model, others.assign(wording=showcase["template"]))
    prompt, index = prompts[0], choose_partners(prompts, params.seed)[0]
    partner = None if index is None else prompts[index]
    parts = parts_of(job, job.output.circuit)
    state, ticker = parts.path("search", ".npz"), Ticker(settings.method)
    circuit, found = find_circuit(model, graph, [prompt], [partner], settings, state=state, report=ticker)
    about: dict[str, object] = {"prompt": prompt.text, "answer": prompt.answer_text, "method": settings.method, **found}
    about |= {"corrupted": None if partner is None else partner.text, "answer_type": row["answer_type"].iloc[0]}
    test = split_rows(survey, relation, "test")
    test = prompts_of(model, test[test.subject != showcase["subject"]].assign(wording=showcase["template"]))
    seeds = [derive(params.seed, "random", "showcase", i) % 2**32 for i in range(params.random_seeds)]
    questions, name = Questions([prompt], test, object_tokens(model, survey, relation)), f"{settings.method}, one fact"
    of, ways, on = {name: circuit}, {name: settings}, ("zero",)  # a mean over one prompt would be its own run
    scores = score_relation(model, graph, of, questions, hits=params.hits, seeds=seeds, settings=ways, ablations=on)
    write_table(job.output.scores, pd.DataFrame(scores).assign(category=row["category"].iloc[0], relation=relation))
    shape, extra = model.transformer.shape, {"model": job.wildcards.model, **about}
    write_circuit(Path(job.output.circuit), graph, shape, circuit, extra)
    write_dot(Path(job.output.dot), graph, circuit)
    context = context_of(model, read_relations(params.source, [job.input.relation])[relation], prompt)
    drawing = describe_circuit(model, graph, circuit, prompt, params.drawn_edges, Thresholds(**params.heads), context)
    write_json(job.output.drawing, {**about, **drawing})
    write_table(job.output.ranks, rank_curves(model, prompt, showcase["subject"]))
    write_json(job.output.meta, {**about, "subject": showcase["subject"]})
    parts.clear()


if __name__ == "__main__":
    run(main, snakemake)
