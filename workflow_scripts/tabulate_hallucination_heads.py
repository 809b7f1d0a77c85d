"""Wrong answers of the right type beside right ones, one row per relation (KC section 6.1)."""

from knowcirc.analysis.wrong_tables import hallucination_table
from knowcirc.files import read_table, write_latex, write_table
from knowcirc.job import Job, run


def main(job: Job) -> None:
    """Write the table as CSV and LaTeX."""
    table = hallucination_table(read_table(job.input.cases), job.wildcards.model)
    write_table(job.output.csv, table)
    write_latex(job.output.tex, table)


if __name__ == "__main__":
    run(main, snakemake)
