"""Causal tracing of known facts: state, MLP and attention sites, fact by fact (ROME, section 2).

Each fact's trace is a file of its own in the study's folder traces/facts, and stays there: a later run under the same
settings, weights and code traces new facts alone.
"""

from dataclasses import asdict

from knowcirc.facts.prompts import Prompt, token_texts
from knowcirc.files import write_table
from knowcirc.job import Job, run
from knowcirc.tracing.averages import trace_rows
from knowcirc.tracing.by_fact import Rows, chosen_facts, measure_facts
from knowcirc.tracing.causal import trace_fact


def main(job: Job) -> None:
    """Trace this job's share of the chosen facts; a fact that is done is not done again."""
    chosen = chosen_facts(job)
    model, settings = chosen.model, chosen.settings

    def trace(prompt: Prompt) -> Rows:
        return trace_rows(trace_fact(model, prompt, settings), prompt, token_texts(model.text, prompt.ids))

    output = job.output.traces
    rows = measure_facts(job, chosen.traced, output, trace, label="tracing", instead=asdict(settings))
    write_table(output, rows.assign(noise=settings.noise) if len(rows) else rows)


if __name__ == "__main__":
    run(main, snakemake)
