"""Read off the files of this run the numbers that the report states in words."""

from knowcirc.files import read_json, read_table, write_json
from knowcirc.job import Job, run
from knowcirc.tables.findings import collect


def main(job: Job) -> None:
    """Write the findings as JSON."""
    tables = {name: read_table(path) for name, path in job.input.items() if path.endswith(".csv")}
    documents = {name: read_json(path) for name, path in job.input.items() if path.endswith(".json")}
    write_json(job.output.findings, collect(tables, documents))


if __name__ == "__main__":
    run(main, snakemake)
