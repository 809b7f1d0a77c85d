"""Causal traces of single heads, of the first of the facts that are traced (`knowcirc/tracing/heads.py`).

Each fact's trace is a file of its own in the study's folder traces/heads/facts, and stays there.
"""

from dataclasses import asdict

from knowcirc.facts.prompts import Prompt, token_texts
from knowcirc.files import write_table
from knowcirc.job import Job, run
from knowcirc.tracing.by_fact import Rows, chosen_facts, measure_facts, with_others
from knowcirc.tracing.heads import head_rows, trace_heads


def main(job: Job) -> None:
    """Trace this job's share of the facts; a fact that is done is not done again."""
    chosen, heads = chosen_facts(job), job.params.tracing["heads"]
    model, settings = chosen.model, chosen.settings
    others: dict[Prompt, Prompt | None] = dict.fromkeys(chosen.traced.prompts[: heads["facts"]])
    if heads["corruption"] == "subject":
        others = with_others(chosen, job.params.seed, heads["facts"])
    layers = None if heads["layers"] is None else (heads["layers"][0], heads["layers"][1] + 1)

    def trace(prompt: Prompt) -> Rows:
        found = trace_heads(model, prompt, settings, layers=layers, other=others[prompt])
        return list(head_rows(found, prompt, token_texts(model.text, prompt.ids)))

    output, instead = job.output.traces, [asdict(settings), layers]
    rows = measure_facts(job, chosen.traced, output, trace, label="heads", instead=instead, others=others)
    write_table(output, rows)


if __name__ == "__main__":
    run(main, snakemake)
