"""Make one table of the registry of items (knowcirc/items/tables.py)."""

from knowcirc.files import write_latex, write_table
from knowcirc.items.make import call, values_of
from knowcirc.job import Job, run


def main(job: Job) -> None:
    """Write the table as CSV and LaTeX."""
    table = call(job.params.item["function"], values_of(job))
    write_table(job.output.csv, table)
    write_latex(job.output.tex, table)


if __name__ == "__main__":
    run(main, snakemake)
