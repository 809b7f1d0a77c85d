"""Causal tracing of known facts: state, MLP and attention sites, fact by fact (ROME, section 2)."""

from pathlib import Path

import pandas as pd

from knowcirc.files import Parts, fingerprint, read_json, read_table, write_table
from knowcirc.job import Job, progress, run
from knowcirc.models.loading import load
from knowcirc.seeding import derive
from knowcirc.tracing.causal import TraceSettings, embedding_deviation
from knowcirc.tracing.selection import facts_to_trace
from knowcirc.tracing.study import trace_rows


def main(job: Job) -> None:
    """Trace the chosen facts; a fact that is done is not done again after an interruption."""
    params, tracing = job.params, job.params.tracing
    model = load(Path(job.input.model).parent, **params.numerics, fast=True)
    traced = facts_to_trace(model, read_table(job.input.facts), tracing, derive(params.seed, "tracing"))
    noise = tracing["noise_multiplier"] * embedding_deviation(model, traced.pool)
    settings = TraceSettings(noise, tracing["draws"], tracing["window"], tracing["noise_seed"])
    weights = read_json(job.input.model)["weights_sha256"]
    parts = Parts(job.output.traces, fingerprint(params.numerics, tracing, noise, params.code, weights))
    frames = []
    cases = list(zip(range(len(traced.rows)), traced.rows.itertuples(), traced.prompts, strict=True))
    for case, row, prompt in progress(cases, "tracing: facts"):
        rows = parts.get(prompt.text)
        if rows is None:
            rows = trace_rows(model, prompt, settings)
            parts.put(prompt.text, rows)
        frames.append(pd.DataFrame(rows).assign(case=case, relation=row.relation, subject=row.subject, noise=noise))
    write_table(job.output.traces, pd.concat(frames, ignore_index=True))
    parts.clear()


if __name__ == "__main__":
    run(main, snakemake)
