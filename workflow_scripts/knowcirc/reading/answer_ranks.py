"""Where an answer rises: its rank at the subject's last token and at the last position, step by step (KC 4, B.1).

| measure | of one fact, at one position |
|---|---|
| rank | the answer's rank under the logit lens, from 1; geometric mean |
| rank drop | by how many orders of magnitude a layer's attention, or its MLP, brings that rank down |
| outranks | share of other objects of the relation that rank below the answer; likely ones lead from the start |
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray

from knowcirc.facts.prompts import Prompt, answer_tokens
from knowcirc.facts.relations import Relation
from knowcirc.models.loading import LanguageModel
from knowcirc.reading.lens import by_layer, rank_drops, step_contests
from knowcirc.seeding import derive

POSITIONS = ("subject", "last")
RIVALS = 50  # other objects beside the answer, at most


def fact_rows(
    model: LanguageModel, relation: Relation, prompts: Sequence[Prompt], subjects: Sequence[str], seed: int
) -> pd.DataFrame:
    """One row per fact, position and layer (0: embedding): rank, rank_drop_attention and rank_drop_mlp of the layer
    before, outranks.

    A prompt that ends with its subject has one position for both, and is left out.
    """
    kept = [i for i, prompt in enumerate(prompts) if prompt.subject_last < len(prompt.ids) - 1]
    chosen = [prompts[i] for i in kept]
    rivals = [_rivals(model, relation, prompt, derive(seed, "rivals", prompt.text)) for prompt in chosen]
    places = [{"subject": prompt.subject_last, "last": len(prompt.ids) - 1} for prompt in chosen]
    rows: list[dict[str, object]] = []
    for i, found in zip(kept, step_contests(model, chosen, rivals, places), strict=True):
        shared = {"relation": relation.name, "category": relation.category, "subject": subjects[i]}
        rows += [{**shared, "position": place, **row} for place in POSITIONS for row in _layer_rows(*found[place])]
    return pd.DataFrame(rows)


def _rivals(model: LanguageModel, relation: Relation, prompt: Prompt, seed: int) -> list[int]:
    """First tokens of some other objects of the relation, of those that do not begin as the answer does."""
    firsts = [answer_tokens(model.text, text)[0] for text in relation.objects if text != prompt.answer_text]
    others = [token for token in firsts if token != prompt.answer[0]]
    order = np.random.default_rng(seed).permutation(len(others))[:RIVALS]
    return [others[i] for i in order]


def _layer_rows(ranks: Int[ndarray, " step"], outranks: Float[ndarray, " step"]) -> list[dict[str, object]]:
    dropped = {name: np.concatenate([[0.0], values]) for name, values in rank_drops(ranks).items()}
    own, below = by_layer(ranks), by_layer(outranks)
    return [
        {
            "layer": layer,
            "rank": int(own[layer]),
            "rank_drop_attention": float(dropped["attention"][layer]),
            "rank_drop_mlp": float(dropped["mlp"][layer]),
            "outranks": float(below[layer]),
        }
        for layer in range(len(own))
    ]
