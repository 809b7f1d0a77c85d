"""Edit records one after the other on one model with one editor; `none` judges the model as it is."""

from pathlib import Path

import pandas as pd

from knowcirc.editing.editors import UNEDITED
from knowcirc.editing.edits import Edit, Material, Request
from knowcirc.editing.making import make_edit
from knowcirc.editing.scoring import placed, read_material, read_records
from knowcirc.editing.sequence import edit_in_sequence, shuffled
from knowcirc.files import read_json, write_table
from knowcirc.job import Job, progress, run
from knowcirc.models.loading import LanguageModel, load
from knowcirc.resume import parts_of


def main(job: Job) -> None:
    """Write a row for each judgement and record; after an interruption the edits that are made are not made again."""
    params, editor = job.params, job.wildcards.editor
    path = Path(job.input.records)
    records, prefixes = read_records(path)
    model = load(Path(job.input.model).parent, **params.load_options, fast=True)
    material = read_material(model, Path(job.input.moments).parent / "layers", prefixes)
    settings = placed(editor, params.settings, read_json(job.input.edit_layer), model.transformer.shape.n_layers)

    def make(current: LanguageModel, requested: Request, given: Material) -> Edit:
        return make_edit(editor, current, requested, settings, given)

    at = params.sequential["edits"]
    chosen = shuffled([*records, *read_records(path, "more_records")[0]], max(at), params.seed)
    parts = parts_of(job, job.output.scores)
    rows = edit_in_sequence(
        model,
        progress(chosen, f"edits in sequence by {editor}"),
        None if editor == UNEDITED else make,
        material,
        text=[tuple(row) for row in read_json(job.input.text)["rows"]],
        at=at,
        kept=parts.path("done", ".safetensors"),
    )
    write_table(job.output.scores, pd.DataFrame(rows))
    parts.clear()


if __name__ == "__main__":
    run(main, snakemake)
