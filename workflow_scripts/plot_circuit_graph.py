"""The showcase fact's circuit (KC Fig. 1)."""

from knowcirc.files import read_json
from knowcirc.job import Job, run
from knowcirc.plots.circuits import circuit_graph
from knowcirc.plots.style import save


def main(job: Job) -> None:
    """Draw the figure as PNG and PDF."""
    save(circuit_graph(read_json(job.input.drawing), job.wildcards.model), job.output.png, job.output.pdf)


if __name__ == "__main__":
    run(main, snakemake)
