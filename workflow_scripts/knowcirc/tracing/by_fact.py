"""Facts that a job works through one by one, each kept in a file of its own: what tracing and gradients share."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from knowcirc.facts.prompts import Prompt
from knowcirc.facts.survey import read_facts
from knowcirc.job import progress, release_pages, share_of
from knowcirc.models.loading import LanguageModel, load
from knowcirc.resume import parts_of
from knowcirc.seeding import derive
from knowcirc.tracing.averages import settings_of
from knowcirc.tracing.causal import TraceSettings
from knowcirc.tracing.other_subjects import other_subjects
from knowcirc.tracing.selection import TracedFacts, facts_to_trace, subjects_of

APART = ("facts", "left_out", "tracing", "seed", "part", "share")
"""What decides which facts are chosen, not what is found for one."""
Rows = Sequence[Mapping[str, object]]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The model, the facts of the study's choice, and what they are run by."""

    model: LanguageModel
    traced: TracedFacts
    settings: TraceSettings


def chosen_facts(job: Any) -> Chosen:
    """The facts that the study traces, drawn by its seed, and their settings.

    Raises:
        ValueError: if the model knows none of them.
    """
    tracing = job.params.tracing
    model = load(Path(job.input.model).parent, **job.params.load_options, fast=True)
    facts, others = read_facts(job.input.facts), subjects_of(job.input.left_out)
    traced = facts_to_trace(model, facts, tracing, derive(job.params.seed, "tracing"), others)
    return Chosen(model, traced, settings_of(tracing, traced.sample))


def with_others(chosen: Chosen, seed: int, most: int) -> dict[Prompt, Prompt | None]:
    """The first `most` of the facts that have one, each with the prompt of another subject (`other_subjects.py`).

    Raises:
        ValueError: if none has.
    """
    traced = chosen.traced
    found = other_subjects(chosen.model.text, traced.rows, traced.prompts, traced.known, derive(seed, "tracing"))
    if not found:
        raise ValueError(
            "tracing: no traced fact has another subject of its relation with as many tokens and another answer; "
            "trace more facts or other relations, or set tracing.counterfactual and tracing.heads.corruption otherwise"
        )
    if len(found) < most:
        log.warning("tracing: %d facts with another subject asked for, there are %d", most, len(found))
    return dict(list(found.items())[:most])


def measure_facts(
    job: Any,
    traced: TracedFacts,
    output: str,
    measure: Callable[[Prompt], Rows],
    *,
    label: str,
    instead: object,
    others: Mapping[Prompt, Prompt | None] | None = None,
) -> pd.DataFrame:
    """The rows of this job's share of the facts, with case, relation and subject; a fact that is done is kept.

    Files of facts lie in the folder `facts` beside the output's; `instead` stands for what was set apart in the
    identity of what is kept. With `others` its prompts alone are measured; what stands for each is part of its key.
    """
    parts = parts_of(job, output, folder=Path(output).parents[1] / "facts", apart=APART, instead=instead)
    frames = []
    cases = list(zip(range(len(traced.rows)), traced.rows.itertuples(), traced.prompts, strict=True))
    if others is not None:
        cases = [case for case in cases if case[2] in others]
    for case, row, prompt in progress(share_of(cases, job.wildcards.part, job.params.share), f"{label}: facts"):
        other = others[prompt] if others else None
        key = repr((prompt.text, prompt.span, prompt.answer_text, *([other.text] if other else [])))
        rows = parts.get(key)
        if rows is None:
            rows = list(measure(prompt))
            parts.put(key, rows)
            release_pages()  # prompts of ever new lengths would add up to twice the memory
        frames.append(pd.DataFrame(rows).assign(case=case, relation=row.relation, subject=row.subject))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
