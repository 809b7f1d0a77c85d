"""The answer's rank and probability through the layers (KC Fig. 3)."""

from knowcirc.files import read_json, read_table
from knowcirc.job import Job, run
from knowcirc.plots.ranks import answer_rank_by_layer
from knowcirc.plots.style import save


def main(job: Job) -> None:
    """Draw the figure as PNG and PDF."""
    figure = answer_rank_by_layer(read_table(job.input.ranks), read_json(job.input.meta), job.wildcards.model)
    save(figure, job.output.png, job.output.pdf)


if __name__ == "__main__":
    run(main, snakemake)
