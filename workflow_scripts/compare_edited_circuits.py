"""Circuits of the edited fact and of an unrelated one in the original and the edited models (KC Fig. 4)."""

from pathlib import Path

import pandas as pd

from knowcirc.circuits.export import load_circuits
from knowcirc.circuits.graph import Graph
from knowcirc.edited.views import EditedView, read_view, view_rows
from knowcirc.editing.editors import UNEDITED
from knowcirc.editing.edits import applied, request
from knowcirc.editing.making import make_edit
from knowcirc.editing.scoring import placed_editors, read_material, read_records
from knowcirc.facts.survey import fact_row, prompts_of
from knowcirc.files import read_table, write_json, write_table
from knowcirc.job import Job, progress, run
from knowcirc.models.loading import load
from knowcirc.reading.heads import Thresholds


def main(job: Job) -> None:
    """Write what the mover heads see and write, and how far the circuits overlap, one row per prompt and model."""
    params, showcase = job.params, job.params.showcase
    survey = read_table(job.input.facts)
    subjects = {"edited": showcase["subject"], "unrelated": showcase["unrelated_subject"]}
    relation, wording = showcase["relation"], showcase["template"]
    rows = {name: fact_row(survey, relation, subject, wording) for name, subject in subjects.items()}
    model = load(Path(job.input.model).parent, **params.load_options, fast=True)
    graph = Graph.of(model.transformer.shape, params.kv)
    material = read_material(model, Path(job.input.moments).parent / "layers", read_records(Path(job.input.records))[1])
    settings = placed_editors(job, model)
    prompts = {name: prompts_of(model, row)[0] for name, row in rows.items()}
    edit_request = request(model, wording, showcase["subject"], showcase["new_object"])
    views: list[EditedView] = []
    for editor, path in progress(list(zip([UNEDITED, *settings], job.input.circuits, strict=True)), "edited circuits"):
        edit = None if editor == UNEDITED else make_edit(editor, model, edit_request, settings[editor], material)
        with applied(model, edit) as edited:
            for name, prompt in prompts.items():
                found = load_circuits(Path(path), params.methods[name])[name]
                views.append(
                    read_view(edited, lambda *_, found=found: found, name, editor, prompt, edit_request.target[0])
                )
    heads, overlap = view_rows(model, graph, views, prompts, edit_request.target[0], Thresholds(**params.heads))
    write_table(job.output.heads, pd.DataFrame(heads))
    write_table(job.output.overlap, pd.DataFrame(overlap))
    old = {name: row["object"].iloc[0] for name, row in rows.items()}
    meta = {
        "edit": {"subject": showcase["subject"], "old": old["edited"], "new": showcase["new_object"]},
        "prompts": {name: prompt.text for name, prompt in prompts.items()},
        "right": {"unrelated": f" {old['unrelated']}"},
        "method": dict(params.methods),
    }
    write_json(job.output.meta, meta)


if __name__ == "__main__":
    run(main, snakemake)
