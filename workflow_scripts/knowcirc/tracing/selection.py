"""Which facts are traced: known facts of the survey, drawn from relations in turn, or a draw from ROME's known_1000."""

import logging
from dataclasses import dataclass
from typing import Any

import pandas as pd

from knowcirc.facts.known1000 import draw_usable, prompts_of_table
from knowcirc.facts.prompts import Prompt
from knowcirc.facts.survey import draw_in_turn, prompts_of
from knowcirc.models.loading import LanguageModel

REMEDY = {
    "builtin": "of the relations in tracing.relations; name others",
    "known_1000": "of known_1000 (traces/left_out.csv has the reasons); set tracing.source to builtin",
}
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TracedFacts:
    """Facts to trace. `rows` have relation and subject, `prompts` are theirs; the subjects of `pool` set the noise.

    The pool does not depend on how many facts are drawn: one fact more leaves the noise of the others as it was.
    """

    rows: pd.DataFrame
    prompts: list[Prompt]
    pool: list[Prompt]


def facts_to_trace(model: LanguageModel, facts: pd.DataFrame, tracing: dict[str, Any], seed: int) -> TracedFacts:
    """At most `tracing.facts` known facts, drawn by seed (ROME section 2.2: 1,000 facts that the model knows).

    `facts` is the survey where `tracing.source` is builtin; the pool then holds all facts of tracing.relations.
    Where it is known_1000, `facts` is known1000's table of usable facts, and these are the pool.

    Raises:
        ValueError: if the model knows none of the facts.
    """
    if tracing["source"] == "known_1000":
        chosen = draw_usable(facts, tracing["facts"], seed)
        prompts, pool = prompts_of_table(model, chosen), prompts_of_table(model, facts)
    else:
        of_wording = facts[(facts.template == tracing["template"]) & facts.relation.isin(tracing["relations"])]
        chosen = draw_in_turn(of_wording[of_wording["rank"] == 0], tracing["relations"], tracing["facts"], seed)
        prompts, pool = prompts_of(model, chosen), prompts_of(model, of_wording)
    if chosen.empty:
        raise ValueError(f"tracing: the model knows no fact {REMEDY[tracing['source']]}")
    if len(chosen) < tracing["facts"]:
        log.warning("tracing.facts: %d asked for, the model knows %d; these are traced", tracing["facts"], len(chosen))
    return TracedFacts(chosen, prompts, pool)
