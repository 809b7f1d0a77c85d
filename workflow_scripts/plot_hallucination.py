"""A wrong answer beside a right one (KC Fig. 5, left)."""

from knowcirc.files import read_json, read_table
from knowcirc.job import Job, run
from knowcirc.plots.behaviours import hallucination
from knowcirc.plots.style import save


def main(job: Job) -> None:
    """Draw the figure as PNG and PDF."""
    about = read_json(job.input.meta)
    figure = hallucination(read_table(job.input.ranks), about["heads"], about["meta"], job.wildcards.model)
    save(figure, job.output.png, job.output.pdf)


if __name__ == "__main__":
    run(main, snakemake)
