"""The showcase fact: its circuit as JSON, DOT and a drawing, and its answer through the layers (KC Fig. 1 and 3)."""

from pathlib import Path

from knowcirc.analysis.showcase import describe_circuit, rank_curves
from knowcirc.circuits.discovery import choose_partners, discover
from knowcirc.circuits.export import write_circuit, write_dot
from knowcirc.circuits.graph import Graph
from knowcirc.facts.survey import fact_row, prompts_of
from knowcirc.files import read_table, write_json, write_table
from knowcirc.job import Job, run
from knowcirc.models.loading import load


def main(job: Job) -> None:
    """Find the circuit of the one prompt against a partner of the relation, and describe it."""
    params, showcase = job.params, job.params.showcase
    survey = read_table(job.input.facts)
    row = fact_row(survey, showcase["relation"], showcase["subject"], showcase["template"])
    model = load(Path(job.input.model).parent, **params.numerics)
    graph = Graph.of(model.transformer.shape, params.kv)
    others = survey[(survey.relation == showcase["relation"]) & (survey.template == 0) & (survey["rank"] == 0)]
    prompts = prompts_of(model, row) + prompts_of(model, others.assign(wording=showcase["template"]))
    prompt, partner = prompts[0], choose_partners(prompts, params.seed)[0]
    circuit = discover(
        model,
        graph,
        [prompt],
        [None if partner is None else prompts[partner]],
        method=params.method,
        n_edges=round(params.share * graph.n_edges),
        seed=params.seed,
    )
    about = {
        "prompt": prompt.text,
        "answer": prompt.answer_text,
        "corrupted": None if partner is None else prompts[partner].text,
        "answer_type": row["answer_type"].iloc[0],
        "method": params.method,
    }
    write_circuit(Path(job.output.circuit), graph, model.transformer.shape, circuit, about)
    write_dot(Path(job.output.dot), graph, circuit)
    drawing = describe_circuit(model, graph, circuit, prompt, params.drawn_edges, params.heads)
    write_json(job.output.drawing, {**about, **drawing})
    write_table(job.output.ranks, rank_curves(model, prompt, showcase["subject"]))
    write_json(job.output.meta, {**about, "subject": showcase["subject"]})


if __name__ == "__main__":
    run(main, snakemake)
