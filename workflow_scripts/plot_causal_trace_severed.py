"""Effects of restored states with MLPs or attention severed above them, by layer (ROME Fig. 3)."""

from knowcirc.files import read_table, write_table
from knowcirc.job import Job, run
from knowcirc.plots.style import save
from knowcirc.plots.tracing import causal_trace_severed


def main(job: Job) -> None:
    """Draw the figure as PNG and PDF."""
    effects = read_table(job.input.effects)
    write_table(job.output.data, effects)
    save(causal_trace_severed(effects, job.wildcards.model), job.output.png, job.output.pdf)


if __name__ == "__main__":
    run(main, snakemake)
