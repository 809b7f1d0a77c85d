"""Facts in two hops, one row per composition (KC appendix)."""

from knowcirc.files import read_table, write_latex, write_table
from knowcirc.job import Job, run


def main(job: Job) -> None:
    """Write the table as CSV and LaTeX."""
    table = read_table(job.input.hops)
    table.insert(0, "model", job.wildcards.model)
    write_table(job.output.csv, table)
    write_latex(job.output.tex, table)


if __name__ == "__main__":
    run(main, snakemake)
