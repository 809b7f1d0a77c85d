"""Edit every record with one editor, judge it (ROME, section 3.3) and undo it; `none` judges the model as it is."""

from pathlib import Path

import pandas as pd

from knowcirc.editing.evaluation import fit_vectorizer, published_vectorizer
from knowcirc.editing.scoring import edit_record, placed, read_material, read_records
from knowcirc.files import read_json, write_table
from knowcirc.job import Job, progress, run, share_of
from knowcirc.models.loading import load
from knowcirc.resume import parts_of


def main(job: Job) -> None:
    """Write one row per record of this job; a record that is done is not done again after an interruption."""
    params, editor = job.params, job.wildcards.editor
    records, prefixes = read_records(Path(job.input.records))
    model = load(Path(job.input.model).parent, **params.load_options, fast=True)
    material = read_material(model, Path(job.input.moments).parent / "layers", prefixes, records)
    chosen, n_layers = read_json(job.input.edit_layer), model.transformer.shape.n_layers
    settings = placed(editor, params.settings, chosen, n_layers)
    generation = {
        "continuations": params.continuations,
        "length": params.generation_tokens,
        "seed": params.seed,
    }
    files = [Path(path) for path in job.input.frequencies]
    vectorizer = published_vectorizer(*files) if files else fit_vectorizer(records)
    parts = parts_of(job, job.output.scores)
    rows = []
    numbered = share_of(list(enumerate(records)), job.wildcards.part, params.share)
    for number, record in progress(numbered, f"edits by {editor}: records"):
        row = parts.get(record.case)
        if row is None:
            requested = generation if number < params.generation_records else None
            row = edit_record(model, record, editor, settings, material, generation=requested, vectorizer=vectorizer)
            parts.put(record.case, row)
        rows.append(row)
    write_table(job.output.scores, pd.DataFrame(rows) if rows else pd.DataFrame(columns=["case"]))
    parts.clear()


if __name__ == "__main__":
    run(main, snakemake)
