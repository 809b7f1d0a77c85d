"""What the model writes after the same prompts before and after each edit (ROME Fig. 6)."""

from pathlib import Path

import pandas as pd

from knowcirc.editing.editors import UNEDITED
from knowcirc.editing.edits import applied, request
from knowcirc.editing.evaluation import generate
from knowcirc.editing.making import make_edit
from knowcirc.editing.scoring import placed_editors, read_material, read_records
from knowcirc.files import write_table
from knowcirc.job import Job, progress, run
from knowcirc.models.loading import load
from knowcirc.seeding import derive
from knowcirc.wording import fill_in


def main(job: Job) -> None:
    """Write one row per edit, editor, prompt and sample."""
    params, requested = job.params, job.params.generations
    records, prefixes = read_records(Path(job.input.records))
    model = load(Path(job.input.model).parent, **params.load_options, fast=True)
    material = read_material(model, Path(job.input.moments).parent / "layers", prefixes, records)
    settings = placed_editors(job, model)
    rows = []
    for case in progress(requested["edits"], "generations: edits"):
        edit_request = request(model, case["template"], case["subject"], case["target"])
        named = f"{edit_request.prompt.text} {case['target']}"
        prompts = [fill_in(text, case["subject"]) for text in case["prompts"] for _ in range(requested["samples"])]
        for editor in (UNEDITED, *settings):
            edit = None if editor == UNEDITED else make_edit(editor, model, edit_request, settings[editor], material)
            with applied(model, edit) as edited:
                texts = generate(edited, prompts, requested["tokens"], seed=derive(params.seed, case["subject"]))
            for number, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
                rows.append(
                    {
                        "editor": editor,
                        "edit": named,
                        "prompt": prompt,
                        "sample": number % requested["samples"],
                        "text": text[len(prompt) :],
                    }
                )
    write_table(job.output.texts, pd.DataFrame(rows))


if __name__ == "__main__":
    run(main, snakemake)
