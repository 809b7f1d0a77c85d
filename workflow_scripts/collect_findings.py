"""Read off the tables of this run the numbers that the report states in words."""

from knowcirc.files import read_json, read_table, write_json
from knowcirc.job import Job, run
from knowcirc.tables.findings import DOCUMENTS, TABLES, collect


def main(job: Job) -> None:
    """Write the findings as JSON."""
    tables = {name: read_table(getattr(job.input, name)) for name in TABLES}
    documents = {name: read_json(getattr(job.input, name)) for name in DOCUMENTS}
    write_json(job.output.findings, collect(tables, documents))


if __name__ == "__main__":
    run(main, snakemake)
