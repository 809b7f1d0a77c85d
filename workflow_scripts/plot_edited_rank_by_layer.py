"""The new object's rank through the layers, by editor and edited layer (KC appendix)."""

from knowcirc.analysis.averages import edited_ranks
from knowcirc.files import read_table, write_table
from knowcirc.job import Job, run
from knowcirc.plots.edited_ranks import edited_rank_by_layer
from knowcirc.plots.style import save


def main(job: Job) -> None:
    """Write the averages, and draw the figure as PNG and PDF."""
    ranks = edited_ranks(read_table(job.input.ranks), job.wildcards.model)
    write_table(job.output.data, ranks)
    save(edited_rank_by_layer(ranks, job.wildcards.model), job.output.png, job.output.pdf)


if __name__ == "__main__":
    run(main, snakemake)
