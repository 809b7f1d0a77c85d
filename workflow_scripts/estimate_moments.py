"""Second moments of the MLP keys of all layers, from sampled text or a text file (ROME, section 3)."""

from pathlib import Path

from knowcirc.editing.moments import moment_path, sampled_corpus, save_moment, second_moments, text_corpus
from knowcirc.files import read_json, write_json
from knowcirc.job import Job, progress, run
from knowcirc.models.loading import load


def main(job: Job) -> None:
    """Write one file per layer, then the summary with the corpus and the number of tokens."""
    params, requested = job.params, job.params.moments
    model = load(Path(job.input.model).parent, **params.load_options, fast=True)
    if requested["corpus"] is None:
        source = "sampled by the model"
        batches = sampled_corpus(
            model,
            requested["tokens"],
            length=requested["length"],
            batch=requested["batch"],
            seed=params.seed,
            watch=progress,
        )
    else:
        source = str(requested["corpus"])
        batches = text_corpus(model, Path(source), requested["tokens"], length=requested["length"])
    moments, count = second_moments(model, progress(batches, "second moments: batches of text"))
    digest = str(read_json(job.input.model)["weights_sha256"])
    about = {"weights_sha256": digest, "corpus": source, "tokens": str(count), "seed": str(params.seed)}
    folder = Path(job.output.layers)
    folder.mkdir(parents=True, exist_ok=True)
    for layer, moment in enumerate(moments):
        save_moment(moment_path(folder, layer), moment, {**about, "layer": str(layer)})
    write_json(job.output.summary, {**about, "layers": len(moments)})


if __name__ == "__main__":
    run(main, snakemake)
