"""The answer's average rank through the layers, at the subject and at the last position (KC appendix)."""

from knowcirc.analysis.averages import average_ranks
from knowcirc.files import read_table, write_table
from knowcirc.job import Job, run
from knowcirc.plots.components import average_rank_by_layer
from knowcirc.plots.style import save


def main(job: Job) -> None:
    """Write the averages, and draw the figure as PNG and PDF."""
    ranks = average_ranks(read_table(job.input.ranks), job.wildcards.model)
    write_table(job.output.data, ranks)
    save(average_rank_by_layer(ranks, job.wildcards.model), job.output.png, job.output.pdf)


if __name__ == "__main__":
    run(main, snakemake)
