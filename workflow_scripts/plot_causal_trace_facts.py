"""Traces of single facts with their tokens (ROME Fig. 1)."""

from knowcirc.files import read_table, write_table
from knowcirc.job import Job, run
from knowcirc.plots.style import save
from knowcirc.plots.tracing import KINDS, causal_trace_facts


def main(job: Job) -> None:
    """Draw the figure as PNG and PDF."""
    traces = read_table(job.input.traces)
    traces = traces[(traces.case < job.params.examples) & traces.kind.isin(KINDS)]
    write_table(job.output.data, traces)
    save(causal_trace_facts(traces, job.wildcards.model, job.params.window), job.output.png, job.output.pdf)


if __name__ == "__main__":
    run(main, snakemake)
