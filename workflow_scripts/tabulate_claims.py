"""The papers' claims, each decided by a number of this run and its interval."""

from knowcirc.analysis.claims import Evidence, claims_table
from knowcirc.files import read_table, write_latex, write_table
from knowcirc.job import Job, run


def main(job: Job) -> None:
    """Write the table as CSV and LaTeX."""
    names = (
        "ranks",
        "heads",
        "ablation",
        "traces",
        "circuits",
        "edited_ranks",
        "wrong",
        "icl",
        "hops",
        "both_ways",
        "alone",
    )
    tables = {name: read_table(getattr(job.input, name)) for name in names}
    edits = dict(zip(job.params.editors, map(read_table, job.input.edits), strict=True))
    table = claims_table(Evidence(**tables, edits=edits), job.wildcards.model)
    write_table(job.output.csv, table)
    write_latex(job.output.tex, table)


if __name__ == "__main__":
    run(main, snakemake)
