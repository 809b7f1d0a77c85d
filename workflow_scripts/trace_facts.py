"""Causal tracing of known facts: state, MLP and attention sites, fact by fact (ROME, section 2)."""

from pathlib import Path

import pandas as pd

from knowcirc.facts.survey import draw_in_turn, prompts_of
from knowcirc.files import Parts, fingerprint, read_json, read_table, write_table
from knowcirc.job import Job, progress, run
from knowcirc.models.loading import load
from knowcirc.seeding import derive
from knowcirc.tracing.causal import TraceSettings, embedding_deviation
from knowcirc.tracing.study import trace_rows


def main(job: Job) -> None:
    """Trace the chosen facts; a fact that is done is not done again after an interruption."""
    params, tracing = job.params, job.params.tracing
    survey = read_table(job.input.facts)
    known = survey[(survey.template == tracing["template"]) & (survey["rank"] == 0)]
    chosen = draw_in_turn(known, tracing["relations"], tracing["facts"], derive(params.seed, "tracing"))
    if chosen.empty:
        raise ValueError("tracing: the model knows no fact of the relations in tracing.relations; name others")
    model = load(Path(job.input.model).parent, **params.numerics, fast=True)
    prompts = prompts_of(model, chosen)
    noise = tracing["noise_multiplier"] * embedding_deviation(model, prompts)
    settings = TraceSettings(noise, tracing["draws"], tracing["window"], tracing["noise_seed"])
    weights = read_json(job.input.model)["weights_sha256"]
    parts = Parts(job.output.traces, fingerprint(params.numerics, tracing, noise, params.code, weights))
    frames = []
    cases = list(zip(range(len(chosen)), chosen.itertuples(), prompts, strict=True))
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
