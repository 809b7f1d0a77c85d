"""The methods that find circuits, side by side: faithfulness, completeness, CPR, CMD, hit@10, size, seconds."""

from knowcirc.analysis.methods import method_comparison
from knowcirc.files import read_json, read_table, write_latex, write_table
from knowcirc.job import Job, run


def main(job: Job) -> None:
    """Write the table as CSV and LaTeX."""
    seconds = dict(zip(job.params.methods, map(read_json, job.input.seconds), strict=True))
    table = method_comparison(read_table(job.input.comparison), seconds, job.wildcards.model)
    write_table(job.output.csv, table)
    write_latex(job.output.tex, table)


if __name__ == "__main__":
    run(main, snakemake)
