"""Edit zsRE's questions with one editor, judge each (ROME Table 1) and undo it; `none` judges the model as it is."""

from pathlib import Path

import pandas as pd

from knowcirc.editing.scoring import edit_question, placed, read_material, read_records
from knowcirc.facts.zsre import choose_questions, read_questions
from knowcirc.files import read_json, write_table
from knowcirc.job import Job, progress, run, share_of
from knowcirc.models.loading import load
from knowcirc.resume import parts_of


def main(job: Job) -> None:
    """Write one row per question of this job; one that is done is not done again after an interruption."""
    params, editor = job.params, job.wildcards.editor
    records = choose_questions(read_questions(Path(job.input.questions)), params.records)
    others, prefixes = read_records(Path(job.input.records))
    model = load(Path(job.input.model).parent, **params.load_options, fast=True)
    material = read_material(model, Path(job.input.moments).parent / "layers", prefixes, others)
    settings = placed(editor, params.settings, read_json(job.input.edit_layer), model.transformer.shape.n_layers)
    parts = parts_of(job, job.output.scores)
    rows = []
    for record in progress(share_of(records, job.wildcards.part, params.share), f"questions by {editor}"):
        row = parts.get(record.case)
        if row is None:
            row = edit_question(model, record, editor, settings, material)
            parts.put(record.case, row)
        rows.append(row)
    write_table(job.output.scores, pd.DataFrame(rows))
    parts.clear()


if __name__ == "__main__":
    run(main, snakemake)
