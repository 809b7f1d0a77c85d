"""Circuits before and after edits of many facts, by method, editor, edited layer and prompt (KC section 5)."""

from knowcirc.analysis.averages import edited_overlap
from knowcirc.files import read_table, write_latex, write_table
from knowcirc.job import Job, run


def main(job: Job) -> None:
    """Write the table as CSV and LaTeX."""
    table = edited_overlap(read_table(job.input.circuits), job.wildcards.model)
    write_table(job.output.csv, table)
    write_latex(job.output.tex, table)


if __name__ == "__main__":
    run(main, snakemake)
