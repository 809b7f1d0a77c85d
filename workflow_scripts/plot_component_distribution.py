"""Heads and MLPs of the circuits by layer (KC Fig. 2)."""

from knowcirc.files import read_table
from knowcirc.job import Job, run
from knowcirc.plots.circuits import component_distribution
from knowcirc.plots.style import save


def main(job: Job) -> None:
    """Draw the figure as PNG and PDF."""
    figure = component_distribution(read_table(job.input.components), job.wildcards.model, job.params.method)
    save(figure, job.output.png, job.output.pdf)


if __name__ == "__main__":
    run(main, snakemake)
