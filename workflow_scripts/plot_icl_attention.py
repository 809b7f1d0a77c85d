"""New heads of a demonstrated prompt (KC Fig. 5, right)."""

from knowcirc.files import read_json, read_table
from knowcirc.job import Job, run
from knowcirc.plots.behaviours import icl_attention
from knowcirc.plots.style import save


def main(job: Job) -> None:
    """Draw the figure as PNG and PDF."""
    figure = icl_attention(read_table(job.input.attention), read_json(job.input.meta), job.wildcards.model)
    save(figure, job.output.png, job.output.pdf)


if __name__ == "__main__":
    run(main, snakemake)
