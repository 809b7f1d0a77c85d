"""The text on which the perplexity of models that were edited again and again is measured."""

from pathlib import Path

from knowcirc.editing.perplexity import choose_text
from knowcirc.files import write_json
from knowcirc.job import Job, run
from knowcirc.models.loading import load


def main(job: Job) -> None:
    """Write rows of token ids, and what they are from: a text file, or the unedited model itself."""
    asked, files = job.params.sequential, job.input.text
    model = load(Path(job.input.model).parent, **job.params.load_options, fast=True)
    path = Path(files[0]) if len(files) else None
    rows = choose_text(model, path, asked["text_tokens"], length=asked["text_length"], seed=job.params.seed)
    source = "sampled by the model" if path is None else asked["text_file"]
    write_json(job.output.text, {"source": source, "rows": [list(row) for row in rows]})


if __name__ == "__main__":
    run(main, snakemake)
