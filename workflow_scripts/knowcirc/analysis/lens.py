"""The logit lens: what the residual stream says at each layer, read through the final norm and the vocabulary."""

from collections.abc import Sequence

import torch

from knowcirc.facts.prompts import Prompt
from knowcirc.models.loading import LanguageModel


@torch.no_grad()
def token_curve(model: LanguageModel, prompt: Prompt, token: int, position: int) -> list[tuple[int, float]]:
    """Rank (from 1) and probability of a token at a position, before layer 0 and after each layer."""
    curve = []
    for stream in model.transformer.stream(model.batch([prompt.ids])):
        p = model.transformer.unembed(stream[0, position]).double().softmax(-1)
        curve.append((int((p > p[token]).sum()) + 1, float(p[token])))
    return curve


def curve_rows(curve: Sequence[tuple[int, float]], **labels: object) -> list[dict[str, object]]:
    """A curve as table rows: layer (0 is the embedding), rank, probability, and the labels."""
    return [{**labels, "layer": layer, "rank": rank, "probability": p} for layer, (rank, p) in enumerate(curve)]
