"""Causal traces with another subject in place of noise, of the first of the facts that are traced and have one.

Each fact's trace is a file of its own in the study's folder traces/counterfactual/facts, and stays there.
"""

from dataclasses import asdict, replace

from knowcirc.facts.prompts import Prompt, token_texts
from knowcirc.files import write_table
from knowcirc.job import Job, run
from knowcirc.tracing.averages import trace_rows
from knowcirc.tracing.by_fact import Rows, chosen_facts, measure_facts, with_others
from knowcirc.tracing.causal import KINDS, trace_fact


def main(job: Job) -> None:
    """Trace this job's share of the facts; a fact that is done is not done again."""
    chosen = chosen_facts(job)
    model, settings = chosen.model, replace(chosen.settings, kinds=KINDS)
    others = with_others(chosen, job.params.seed, job.params.tracing["counterfactual"])

    def trace(prompt: Prompt) -> Rows:
        found = trace_fact(model, prompt, settings, other=others[prompt])
        return trace_rows(found, prompt, token_texts(model.text, prompt.ids))

    output, instead = job.output.traces, asdict(settings)
    rows = measure_facts(job, chosen.traced, output, trace, label="tracing", instead=instead, others=others)
    if len(rows):
        partners = {prompt.text: other.text for prompt, other in others.items() if other is not None}
        rows = rows.assign(other=rows["prompt"].map(partners))
    write_table(output, rows)


if __name__ == "__main__":
    run(main, snakemake)
