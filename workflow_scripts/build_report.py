"""Build the report: one HTML file with every figure, table and caption, and nothing outside itself."""

from pathlib import Path

from knowcirc.files import atomic, read_json
from knowcirc.job import Job, run
from knowcirc.report.page import build


def main(job: Job) -> None:
    """Write report.html."""
    manifest = read_json(job.input.manifest)
    results = Path(job.input.manifest).parent
    captions = {Path(path).stem: Path(path).read_text("utf-8") for path in job.input.captions}
    with atomic(job.output.report) as part:
        part.write_text(build(results, manifest, captions, job.params.config), "utf-8")


if __name__ == "__main__":
    run(main, snakemake)
