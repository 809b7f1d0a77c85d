"""Which facts are traced: known facts of the survey, drawn from relations in turn, or a draw from ROME's known_1000."""

import logging
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


def facts_to_trace(
    model: LanguageModel, facts: pd.DataFrame, tracing: dict[str, Any], seed: int
) -> tuple[pd.DataFrame, list[Prompt]]:
    """At most `tracing.facts` rows of `facts` (they have relation and subject), drawn by seed, and their prompts.

    `facts` is the survey where `tracing.source` is builtin, and known1000's table of usable facts where it is
    known_1000. ROME section 2.2 traces 1,000 facts that the model knows.

    Raises:
        ValueError: if the model knows none of the facts.
    """
    if tracing["source"] == "known_1000":
        chosen = draw_usable(facts, tracing["facts"], seed)
        prompts = prompts_of_table(model, chosen)
    else:
        known = facts[(facts.template == tracing["template"]) & (facts["rank"] == 0)]
        chosen = draw_in_turn(known, tracing["relations"], tracing["facts"], seed)
        prompts = prompts_of(model, chosen)
    if chosen.empty:
        raise ValueError(f"tracing: the model knows no fact {REMEDY[tracing['source']]}")
    if len(chosen) < tracing["facts"]:
        log.warning("tracing.facts: %d asked for, the model knows %d; these are traced", tracing["facts"], len(chosen))
    return chosen, prompts
