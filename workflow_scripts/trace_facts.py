"""Causal tracing of known facts: state, MLP and attention sites, fact by fact (ROME, section 2).

Each fact's trace is a file of its own in the study's folder traces/facts, and stays there: a later run under the same
settings, weights and code traces new facts alone.
"""

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from knowcirc.facts.prompts import token_texts
from knowcirc.facts.survey import read_facts
from knowcirc.files import write_table
from knowcirc.job import Job, progress, release_pages, run, share_of
from knowcirc.models.loading import load
from knowcirc.resume import parts_of
from knowcirc.seeding import derive
from knowcirc.tracing.averages import settings_of, trace_rows
from knowcirc.tracing.causal import trace_fact
from knowcirc.tracing.selection import facts_to_trace, subjects_of


def main(job: Job) -> None:
    """Trace this job's share of the chosen facts; a fact that is done is not done again."""
    params, tracing = job.params, job.params.tracing
    model = load(Path(job.input.model).parent, **params.load_options, fast=True)
    facts, others = read_facts(job.input.facts), subjects_of(job.input.left_out)
    traced = facts_to_trace(model, facts, tracing, derive(params.seed, "tracing"), others)
    settings = settings_of(tracing, traced.sample)
    folder, apart = (
        Path(job.output.traces).parents[1] / "facts",
        ("facts", "left_out", "tracing", "seed", "part", "share"),
    )
    parts = parts_of(job, job.output.traces, folder=folder, apart=apart, instead=asdict(settings))
    frames = []
    cases = list(zip(range(len(traced.rows)), traced.rows.itertuples(), traced.prompts, strict=True))
    for case, row, prompt in progress(share_of(cases, job.wildcards.part, params.share), "tracing: facts"):
        key = repr((prompt.text, prompt.span, prompt.answer_text))
        rows = parts.get(key)
        if rows is None:
            rows = trace_rows(trace_fact(model, prompt, settings), prompt, token_texts(model.text, prompt.ids))
            parts.put(key, rows)
            release_pages()  # prompts of ever new lengths would add up to twice the memory
        about = {"case": case, "relation": row.relation, "subject": row.subject, "noise": settings.noise}
        frames.append(pd.DataFrame(rows).assign(**about))
    write_table(job.output.traces, pd.concat(frames, ignore_index=True) if frames else pd.DataFrame())


if __name__ == "__main__":
    run(main, snakemake)
