"""How well a model still reads text after edits: perplexity on text that no edit and no second moments have seen.

The text is the unedited model's own, sampled by a seed of its own, or a file's; each row begins with a start token,
which is not counted. Perplexity is exp of the mean negative log-likelihood of a token.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from knowcirc.editing.moments import sampled_corpus, text_corpus
from knowcirc.facts.prompts import batches
from knowcirc.facts.ranking import check_finite
from knowcirc.models.loading import LanguageModel
from knowcirc.seeding import derive

Row = tuple[int, ...]
BATCH = 4  # rows whose logits are kept at once
MOST = 32  # rows that are sampled together


def choose_text(model: LanguageModel, path: Path | None, n_tokens: int, *, length: int, seed: int) -> list[Row]:
    """Rows of tokens of a text file or, without one, sampled by the model; `n_tokens` beside the start tokens.

    Raises:
        ValueError: if the file holds fewer tokens.
    """
    if path is not None:
        texts = text_corpus(model, path, n_tokens, length=length)
    else:
        batch = min(MOST, math.ceil(n_tokens / length))
        texts = sampled_corpus(model, n_tokens, length=length, batch=batch, seed=derive(seed, "perplexity"))
    rows, left = [], n_tokens
    for row in (row for text in texts for row in text.tolist()):
        if left:
            rows.append(tuple(row[: left + 1]))
            left -= len(rows[-1]) - 1
    return rows


@torch.no_grad()
def perplexity(model: LanguageModel, rows: Sequence[Row]) -> float:
    """exp of the mean negative log-likelihood (nats) of the rows' tokens, the first of each left out.

    Raises:
        ValueError: if a logit is not finite, or a row holds its start token alone.
    """
    if not rows or min(map(len, rows)) < 2:
        raise ValueError("perplexity: a row of text holds no token behind its start token; give a longer text")
    network, total, count = model.transformer, 0.0, 0
    for group in batches(rows, BATCH):
        ids = model.batch([rows[i] for i in group])
        x = network.embed(ids[:, :-1])
        for layer in range(network.shape.n_layers):
            x = network.advance(layer, x)
        logits = network.unembed(x)
        check_finite(logits, None)
        chosen = logits.float().log_softmax(-1).gather(2, ids[:, 1:, None])
        total -= float(chosen.double().sum())
        count += chosen.numel()
    return math.exp(min(total / count, MOST_NATS))


MOST_NATS = 700.0
"""Above it exp is no number any more."""
