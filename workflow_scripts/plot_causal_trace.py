"""Average indirect effects by layer and token role (ROME Fig. 2 and 7)."""

from knowcirc.files import read_table, write_table
from knowcirc.job import Job, run
from knowcirc.plots.style import save
from knowcirc.plots.tracing import causal_trace


def main(job: Job) -> None:
    """Draw the figure as PNG and PDF."""
    effects = read_table(job.input.effects)
    write_table(job.output.data, effects)
    save(causal_trace(effects, job.wildcards.model, job.params.window), job.output.png, job.output.pdf)


if __name__ == "__main__":
    run(main, snakemake)
