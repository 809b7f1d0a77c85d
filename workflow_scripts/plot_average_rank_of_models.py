"""The answer's average rank through the layers, one line per model of the study (KC appendix)."""

import pandas as pd

from knowcirc.files import read_table, write_table
from knowcirc.job import Job, run
from knowcirc.plots.components import average_rank_of_models
from knowcirc.plots.style import save


def main(job: Job) -> None:
    """Write the rows of all models, and draw the figure as PNG and PDF."""
    ranks = pd.concat(map(read_table, job.input.ranks), ignore_index=True)
    ranks = ranks[ranks["category"] == "all"]
    write_table(job.output.data, ranks)
    save(average_rank_of_models(ranks), job.output.png, job.output.pdf)


if __name__ == "__main__":
    run(main, snakemake)
