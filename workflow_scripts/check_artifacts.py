"""Verify the study's artifacts; checks.json is written only if every one is sound."""

from pathlib import Path

from knowcirc.checks import check_results
from knowcirc.files import write_json
from knowcirc.job import Job, run


def main(job: Job) -> None:
    """Write the list of checks, or fail naming what is not as promised."""
    rows = check_results(Path(job.input.manifest).parent)
    if bad := [f"{row['name']}: {row['reason']}" for row in rows if not row["ok"]]:
        raise ValueError("artifacts are not as promised:\n  " + "\n  ".join(bad))
    write_json(job.output.checks, {"checked": len(rows), "failed": 0, "artifacts": rows})


if __name__ == "__main__":
    run(main, snakemake)
