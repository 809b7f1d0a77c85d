"""Circuits of the edited fact and of an unrelated one under the weights of one editor (KC Fig. 4)."""

from pathlib import Path

from knowcirc.circuits.circuit_settings import CircuitSettings
from knowcirc.circuits.export import read_circuit, save_circuits
from knowcirc.circuits.finding import find_circuit
from knowcirc.circuits.graph import Graph
from knowcirc.edited.views import said_by
from knowcirc.editing.edits import applied, request
from knowcirc.editing.making import make_edit
from knowcirc.editing.scoring import placed_editors, read_material, read_records
from knowcirc.facts.survey import fact_row, prompts_of
from knowcirc.files import read_table
from knowcirc.job import Job, Ticker, run
from knowcirc.models.loading import load
from knowcirc.resume import parts_of


def main(job: Job) -> None:
    """Write both circuits, each of what these weights answer; a search that was interrupted goes on.

    `exact` is the request's circuit under the model's own weights, where it is found already.
    """
    params, showcase = job.params, job.params.showcase
    survey = read_table(job.input.facts)
    subjects = {"edited": showcase["subject"], "unrelated": showcase["unrelated_subject"]}
    relation, wording = showcase["relation"], showcase["template"]
    model = load(Path(job.input.model).parent, **params.load_options, fast=True)
    graph = Graph.of(model.transformer.shape, params.kv)
    material = read_material(model, Path(job.input.moments).parent / "layers", read_records(Path(job.input.records))[1])
    ways = {"edited": params.circuits, "unrelated": params.unrelated_circuits}
    circuits = {}
    if len(job.input.exact):
        circuits["edited"] = read_circuit(Path(job.input.exact[0]))[1]
    parts, edit = parts_of(job, job.output.circuits), None
    requested = request(model, wording, showcase["subject"], showcase["new_object"])
    for editor, settings in placed_editors(job, model).items():  # none, or the one of this job
        edit = make_edit(editor, model, requested, settings, material)
    with applied(model, edit) as edited:
        for name in [name for name in subjects if name not in circuits]:
            prompt = said_by(edited, prompts_of(model, fact_row(survey, relation, subjects[name], wording))[0])
            way, state = CircuitSettings(**ways[name]), parts.path(name, ".npz")
            report = Ticker(f"{job.wildcards.editor}, {name}: {way.method}")
            circuits[name], _ = find_circuit(edited, graph, [prompt], [None], way, state=state, report=report)
    save_circuits(Path(job.output.circuits), circuits)
    parts.clear()


if __name__ == "__main__":
    run(main, snakemake)
