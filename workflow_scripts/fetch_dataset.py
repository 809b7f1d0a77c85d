"""Fetch an upstream file: from the mirror where there is one, else from its public address; the checksum decides."""

from pathlib import Path

from knowcirc.download import fetch_file
from knowcirc.job import Job, run


def main(job: Job) -> None:
    """Write the file once its sha256 is the pinned one."""
    mirror = None if job.params.mirror is None else Path(job.params.mirror)
    place = f"{job.wildcards.dataset}.json"
    fetch_file(Path(job.output.data), place, **job.params.source, mirror=mirror, offline=job.params.offline)


if __name__ == "__main__":
    run(main, snakemake)
