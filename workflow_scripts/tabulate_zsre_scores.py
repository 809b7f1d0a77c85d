"""The editors' scores on questions, in the manner of zsRE (ROME Table 1)."""

from knowcirc.editing.study import zsre_scores
from knowcirc.files import read_table, write_latex, write_table
from knowcirc.job import Job, run


def main(job: Job) -> None:
    """Write the table as CSV and LaTeX."""
    frames = dict(zip(job.params.editors, map(read_table, job.input.scores), strict=True))
    table = zsre_scores(frames, job.wildcards.model)
    write_table(job.output.csv, table)
    write_latex(job.output.tex, table)


if __name__ == "__main__":
    run(main, snakemake)
