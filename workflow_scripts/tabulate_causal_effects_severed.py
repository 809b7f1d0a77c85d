"""Average effects of restored states with MLPs or attention severed above them (ROME Fig. 3)."""

from knowcirc.files import read_table, write_latex, write_table
from knowcirc.job import Job, run
from knowcirc.tracing.study import causal_effects_severed


def main(job: Job) -> None:
    """Write the table as CSV and LaTeX."""
    table = causal_effects_severed(read_table(job.input.traces), job.wildcards.model)
    write_table(job.output.csv, table)
    write_latex(job.output.tex, table)


if __name__ == "__main__":
    run(main, snakemake)
