"""Which facts are traced: known facts of the survey, drawn from relations in turn, or a draw from ROME's known_1000."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from knowcirc.facts.known1000 import draw_usable, prompts_of_table
from knowcirc.facts.prompts import Prompt
from knowcirc.facts.survey import draw_in_turn, prompts_of
from knowcirc.files import read_table
from knowcirc.models.loading import LanguageModel
from knowcirc.tracing.noise import Sample, sample_of

REMEDY = {
    "builtin": "of the relations in tracing.relations; name others",
    "known_1000": "of known_1000 (traces/left_out.csv has the reasons); set tracing.source to builtin",
}
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TracedFacts:
    """Facts to trace. `rows` have relation and subject, `prompts` are theirs; `sample` sets the noise.

    The sample does not depend on how many facts are drawn: one fact more leaves the noise of the others as it was.
    `known` are all facts that the model knows of these relations: relation, subject, answer.
    """

    rows: pd.DataFrame
    prompts: list[Prompt]
    sample: Sample
    known: pd.DataFrame


def facts_to_trace(
    model: LanguageModel, facts: pd.DataFrame, tracing: dict[str, Any], seed: int, left_out: Sequence[str] = ()
) -> TracedFacts:
    """At most `tracing.facts` known facts, drawn by seed (ROME section 2.2: 1,000 facts that the model knows).

    `facts` is the survey where `tracing.source` is builtin; the noise is set by the subjects of all facts of
    tracing.relations then. Where it is known_1000, `facts` is known1000's table of usable facts, whose subjects set the
    noise, together with `left_out` (the subjects of the file's other facts) where `tracing.noise_from` is subjects.
    Facts with fewer tokens after their subject than `tracing.extra` are not drawn, and named.

    Raises:
        ValueError: if the model knows none of the facts, or none has so many tokens after its subject.
    """
    builtin = tracing["source"] == "builtin"
    if builtin:
        facts = facts[facts.relation.isin(tracing["relations"])]
        # the survey asks a relation with fewer wordings in its last one
        last = facts.groupby("relation").template.transform("max")
        facts = facts[facts.template == last.clip(upper=tracing["template"])]
    known = facts[facts["rank"] == 0] if builtin else facts
    if known.empty:
        raise ValueError(f"tracing: the model knows no fact {REMEDY[tracing['source']]}")
    pool = prompts_of(model, facts) if builtin else prompts_of_table(model, facts)
    prompts = dict(zip(facts.index, pool, strict=True))
    usable = _with_tokens_after(known, prompts, tracing["extra"])
    if usable.empty:
        raise ValueError(f"tracing.extra: no known fact has {tracing['extra']} tokens after its subject; ask for fewer")
    if builtin:
        chosen = draw_in_turn(usable, tracing["relations"], tracing["facts"], seed)
    else:
        chosen = draw_usable(usable, tracing["facts"], seed)
    if len(chosen) < tracing["facts"]:
        log.warning("tracing.facts: %d asked for, the model knows %d; these are traced", tracing["facts"], len(chosen))
    sample = sample_of(model, pool, [*facts["subject"], *left_out], tracing["noise_from"])
    answers = known.rename(columns={"object": "answer"})[["relation", "subject", "answer"]]
    return TracedFacts(chosen, [prompts[index] for index in chosen.index], sample, answers)


def subjects_of(tables: Sequence[str]) -> list[str]:
    """The subjects of tables of facts that were left out."""
    return [str(subject) for path in tables for subject in read_table(path)["subject"]]


def _with_tokens_after(known: pd.DataFrame, prompts: Mapping[Any, Prompt], extra: int) -> pd.DataFrame:
    """The facts whose prompts have at least `extra` tokens after the subject."""
    short = [index for index in known.index if _tokens_after(prompts[index]) < extra]
    if short:
        names = ", ".join(dict.fromkeys(known.loc[short, "subject"]))
        log.warning("tracing.extra: left out, with fewer than %d tokens after the subject: %s", extra, names)
    return known.drop(index=short)


def _tokens_after(prompt: Prompt) -> int:
    return len(prompt.ids) - prompt.subject_last - 1
