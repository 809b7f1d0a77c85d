"""Fetch an upstream file: from the mirror where there is one, else from its public address; the checksum decides."""

from pathlib import Path

from knowcirc.download import fetch_file, reach
from knowcirc.job import Job, run


def main(job: Job) -> None:
    """Write the file once its sha256 is the pinned one."""
    fetch_file(Path(job.output.data), job.wildcards.dataset, **job.params.source, **reach())


if __name__ == "__main__":
    run(main, snakemake)
