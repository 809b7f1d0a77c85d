"""Integrated gradients of the facts that are traced, fact by fact (ROME Fig. 16).

Each fact's gradients are a file of its own in the study's folder traces/saliency/facts, and stay there.
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
from knowcirc.tracing.averages import settings_of
from knowcirc.tracing.saliency import saliency
from knowcirc.tracing.saliency_tables import saliency_rows
from knowcirc.tracing.selection import facts_to_trace, subjects_of


def main(job: Job) -> None:
    """Measure this job's share of the facts; a fact that is done is not done again."""
    params, tracing = job.params, job.params.tracing
    model = load(Path(job.input.model).parent, **params.load_options, fast=True)
    facts, others = read_facts(job.input.facts), subjects_of(job.input.left_out)
    traced = facts_to_trace(model, facts, tracing, derive(params.seed, "tracing"), others)
    settings, baseline, steps = settings_of(tracing, traced.sample), tracing["saliency"], tracing["saliency_steps"]
    folder, apart = Path(job.output.gradients).parents[1] / "facts", ("facts", "left_out", "tracing", "seed", "part")
    instead = [asdict(settings), baseline, steps]
    parts = parts_of(job, job.output.gradients, folder=folder, apart=(*apart, "share"), instead=instead)
    frames = []
    cases = list(zip(range(len(traced.rows)), traced.rows.itertuples(), traced.prompts, strict=True))
    for case, row, prompt in progress(share_of(cases, job.wildcards.part, params.share), "saliency: facts"):
        key = repr((prompt.text, prompt.span, prompt.answer_text))
        rows = parts.get(key)
        if rows is None:
            found = saliency(model, prompt, baseline, settings, steps=steps)
            rows = list(saliency_rows(found, prompt, token_texts(model.text, prompt.ids)))
            parts.put(key, rows)
            release_pages()  # prompts of ever new lengths would add up to twice the memory
        frames.append(pd.DataFrame(rows).assign(case=case, relation=row.relation, subject=row.subject))
    write_table(job.output.gradients, pd.concat(frames, ignore_index=True) if frames else pd.DataFrame())


if __name__ == "__main__":
    run(main, snakemake)
