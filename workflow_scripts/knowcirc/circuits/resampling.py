"""The runs that say how far a circuit depends on its prompts: D_val drawn anew, and its facts in other wordings.

| runs | prompts |
|---|---|
| resampled, bootstrap | as many prompts of D_val as it has, drawn with replacement |
| resampled, halves | D_val split at random into two halves, again and again; partners lie in the same half |
| reworded | the facts of D_val in each of the relation's other templates |

Many methods leave out prompts without a partner; what is drawn from are then those with one, each with its partner.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from knowcirc.circuits.circuit_settings import CircuitSettings
from knowcirc.circuits.discovery import choose_partners, needs_partners
from knowcirc.circuits.settings import Resampling
from knowcirc.facts.prompts import Prompt
from knowcirc.facts.survey import prompts_of
from knowcirc.models.loading import LanguageModel
from knowcirc.seeding import derive

RESAMPLED, REWORDED = "resampled", "reworded"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Run:
    """One search: its kind and number as its name, its prompts and their partners."""

    name: str
    prompts: list[Prompt]
    partners: list[Prompt | None]


def draw(n: int, runs: int, how: Resampling, seed: int) -> list[list[int]]:
    """The places, of `n`, that each run is given, in the order of the draw: some methods take the first of them alone.

    Halves come in pairs: runs 0 and 1 share none, nor do 2 and 3.

    An odd number of halves is rounded up; of an odd `n` each split leaves out one.

    >>> [len(places) for places in draw(5, 3, "halves", 0)]
    [2, 2, 2, 2]
    """
    rng = np.random.default_rng(seed)
    if how == "bootstrap":
        return [rng.integers(0, n, n).tolist() for _ in range(runs)]
    half, found = n // 2, []
    for _ in range(-(-runs // 2)):
        order = rng.permutation(n).tolist()
        found += [order[:half], order[half : 2 * half]]
    return found


def resampled_runs(
    prompts: Sequence[Prompt], settings: CircuitSettings, relation: str, runs: int, how: Resampling, seed: int
) -> list[Run]:
    """The runs on prompts drawn anew; partners are those of the relation's own circuit, but in halves.

    Runs for which no prompt has a partner, where the method needs one, are left out and named in the log.
    """
    own = derive(seed, "partners", relation)
    partners = [None if i is None else prompts[i] for i in choose_partners(prompts, own)]
    scored = [i for i, partner in enumerate(partners) if partner is not None or not needs_partners(settings)]
    found: list[Run] = []
    if len(scored) < 2:
        log.warning("%s: %d prompts that %s scores; none are drawn anew", relation, len(scored), settings.method)
        return found
    for number, places in enumerate(draw(len(scored), runs, how, derive(seed, "resample", relation))):
        chosen = [scored[place] for place in places]
        part = [prompts[i] for i in chosen]
        beside = [partners[i] for i in chosen]
        if how == "halves":
            beside = [None if i is None else part[i] for i in choose_partners(part, own)]
        found.append(Run(f"{RESAMPLED} {number}", part, beside))
    return _usable(found, settings, relation)


def reworded_runs(
    model: LanguageModel, val: pd.DataFrame, templates: Sequence[str], settings: CircuitSettings, most: int, seed: int
) -> list[Run]:
    """The runs on D_val's facts (rows of the survey) in other wordings: those behind the first, at most so many."""
    relation, found = str(val["relation"].iloc[0]), []
    for number, template in enumerate(templates[1 : 1 + most], 1):
        prompts = prompts_of(model, val.assign(wording=template))
        places = choose_partners(prompts, derive(seed, "partners", relation))
        found.append(Run(f"{REWORDED} {number}", prompts, [None if i is None else prompts[i] for i in places]))
    return _usable(found, settings, relation)


def _usable(runs: Sequence[Run], settings: CircuitSettings, relation: str) -> list[Run]:
    """The runs that the method can score; the others are named."""
    out = [run.name for run in runs if needs_partners(settings) and not any(run.partners)]
    if out:
        why = f"no prompt has a partner that {settings.method} could score it by"
        log.warning("%s: left out, as %s: %s", relation, why, out)
    return [run for run in runs if run.name not in out]
