"""hit@10 alone and faithfulness against circuit size, one line per method."""

from knowcirc.analysis.methods import curve_points
from knowcirc.files import read_table, write_table
from knowcirc.job import Job, run
from knowcirc.plots.methods import faithfulness_curves
from knowcirc.plots.style import save


def main(job: Job) -> None:
    """Draw the figure as PNG and PDF, its points beside it."""
    points = curve_points(read_table(job.input.comparison))
    write_table(job.output.data, points)
    save(faithfulness_curves(points, job.wildcards.model), job.output.png, job.output.pdf)


if __name__ == "__main__":
    run(main, snakemake)
