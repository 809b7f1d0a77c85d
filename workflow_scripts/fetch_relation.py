"""Fetch one relation of LRE: from the mirror where there is one, else from its public address; the checksum decides."""

from pathlib import Path

from knowcirc.download import fetch_file
from knowcirc.job import Job, run


def main(job: Job) -> None:
    """Write the relation's JSON file once its sha256 is the pinned one."""
    mirror = None if job.params.mirror is None else Path(job.params.mirror)
    place = f"lre/{job.wildcards.category}/{job.wildcards.relation}.json"
    fetch_file(Path(job.output.relation), place, **job.params.source, mirror=mirror, offline=job.params.offline)


if __name__ == "__main__":
    run(main, snakemake)  # noqa: F821
