"""The mover heads before and after edits (KC Fig. 4)."""

from knowcirc.files import read_json, read_table
from knowcirc.job import Job, run
from knowcirc.plots.edits import edited_circuits
from knowcirc.plots.style import save


def main(job: Job) -> None:
    """Draw the figure as PNG and PDF."""
    heads, overlap = read_table(job.input.heads), read_table(job.input.overlap)
    figure = edited_circuits(heads, overlap, read_json(job.input.meta), job.wildcards.model)
    save(figure, job.output.png, job.output.pdf)


if __name__ == "__main__":
    run(main, snakemake)
