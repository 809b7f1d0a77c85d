"""The editors' scores (ROME Tables 4 and 5)."""

from knowcirc.editing.study import editing_scores
from knowcirc.files import read_table, write_latex, write_table
from knowcirc.job import Job, run


def main(job: Job) -> None:
    """Write the table as CSV and LaTeX."""
    frames = dict(zip(job.params.editors, map(read_table, job.input.scores), strict=True))
    layers = {editor: settings["layer"] for editor, settings in job.params.settings.items()}
    table = editing_scores(frames, layers, job.wildcards.model)
    write_table(job.output.csv, table)
    write_latex(job.output.tex, table)


if __name__ == "__main__":
    run(main, snakemake)
