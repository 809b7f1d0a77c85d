"""ROME's efficacy, generalization and specificity by edited layer and token (ROME Fig. 5)."""

from knowcirc.files import read_json, read_table, write_table
from knowcirc.job import Job, run
from knowcirc.plots.style import save
from knowcirc.plots.sweep import editing_sweep


def main(job: Job) -> None:
    """Draw the figure as PNG and PDF."""
    sweep, place = read_table(job.input.sweep), read_json(job.input.place)
    write_table(job.output.data, sweep)
    figure = editing_sweep(sweep, place["layer"], place["clamp"], job.wildcards.model)
    save(figure, job.output.png, job.output.pdf)


if __name__ == "__main__":
    run(main, snakemake)
