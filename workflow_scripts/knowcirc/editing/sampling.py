"""Text that a model samples itself: the corpus of the second moments, and the prefixes that average ROME's keys."""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Int
from torch import Tensor

from knowcirc.facts.ranking import check_finite
from knowcirc.models.loading import LanguageModel, start_token_of
from knowcirc.models.tokens import special_ids
from knowcirc.models.transformer import KeyValue
from knowcirc.seeding import derive

Watch = Callable[[range, str], Iterable[int]]
"""Gives the numbers of a range one by one, and may say how far it is; the text says of what."""


def silent(numbers: range, what: str) -> Iterable[int]:
    """Gives the numbers, and says nothing."""
    return numbers


def start_token(model: LanguageModel) -> int:
    """The token that a text of this model begins with: its BOS, or the end-of-text token where it has none.

    Raises:
        ValueError: as `start_token_of` does.
    """
    return start_token_of(model.folder, model.config)


@torch.no_grad()
def sample(
    model: LanguageModel,
    prompts: Int[Tensor, "batch pos"],
    length: int,
    *,
    seed: int,
    top_k: int = 0,
    watch: Watch = silent,
    what: str = "",
) -> Int[Tensor, "batch pos_new"]:
    """`length` sampled tokens after prompts of equal length; special tokens are never drawn.

    `top_k` above zero samples among that many likeliest tokens. The draw comes from a CPU generator, so equal
    logits give equal text on any device. `watch` is given the positions and
    `what` they are of, and may say how far it is.

    Raises:
        ValueError: if prompt and text are longer than the model reads, or a logit is not finite.
    """
    if (reached := prompts.shape[1] + length - 1) > model.context:
        raise ValueError(
            f"sampled texts of {reached} tokens: {model.folder} reads {model.context}; ask for shorter ones"
        )
    network, rng = model.transformer, torch.Generator().manual_seed(derive(seed, "sample"))
    banned = torch.tensor(sorted(special_tokens(model)), dtype=torch.long)
    past: list[KeyValue | None] = [None] * network.shape.n_layers
    fed, start, out = prompts.to(model.device), 0, []
    for _ in watch(range(length), what):
        x = network.embed(fed, start)
        for layer in range(network.shape.n_layers):
            x, past[layer] = network.extend(layer, x, start, past[layer])
        logits = network.unembed(x[:, -1]).float().cpu()
        check_finite(logits, None)
        logits[:, banned] = float("-inf")
        if top_k:
            weakest = logits.topk(min(top_k, logits.shape[1])).values[:, -1:]
            logits = logits.masked_fill(logits < weakest, float("-inf"))
        chosen = torch.multinomial(logits.softmax(-1), 1, generator=rng)
        out.append(chosen)
        start, fed = start + fed.shape[1], chosen.to(model.device)
    return torch.cat(out, 1)


def special_tokens(model: LanguageModel) -> set[int]:
    """Ids of the tokenizer's special tokens, or of the configuration's where there is no tokenizer.

    Those that the vocabulary lacks (a padding token that was added to the tokenizer alone) are left out.
    """
    if model.tokenizer is not None:
        return {token for token in special_ids(model.tokenizer) if token < model.transformer.shape.d_vocab}
    return {start_token(model)}


def sample_prefixes(
    model: LanguageModel, counts: list[tuple[int, int]], seed: int, top_k: int = 50
) -> list[tuple[int, ...]]:
    """Sampled token sequences for `counts` of (length, how many): ROME's contexts, without the start token."""
    prefixes: list[tuple[int, ...]] = []
    for length, count in counts:
        begin = torch.full((count, 1), start_token(model))
        rows = sample(model, begin, length, seed=derive(seed, "prefix", length), top_k=top_k)
        prefixes += [tuple(row) for row in rows.tolist()]
    return prefixes
