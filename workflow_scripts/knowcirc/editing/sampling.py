"""Text that a model writes itself: sampled (corpora, and the prefixes that average ROME's keys), or its likeliest."""

from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from knowcirc.facts.prompts import batches
from knowcirc.facts.ranking import check_finite
from knowcirc.models.loading import LanguageModel, start_token_of
from knowcirc.models.tokens import special_ids, token_text
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


@torch.no_grad()
def greedy(model: LanguageModel, rows: Sequence[tuple[int, ...]], length: int) -> list[list[int]]:
    """The `length` likeliest tokens after each prompt, one after the other; special tokens are never taken.

    Prompts may differ in length: behind their ends all go on together, and what stands before shorter ones is hidden.

    Raises:
        ValueError: if prompt and text are longer than the model reads, or a logit is not finite.
    """
    model.check_rows((*row, *(0,) * (length - 1)) for row in rows)
    network, width = model.transformer, max(map(len, rows))
    starts = torch.tensor([len(row) for row in rows], device=model.device)
    hidden = torch.arange(width, device=model.device) < width - starts[:, None]
    past: list[KeyValue] = []
    last = torch.empty(len(rows), network.shape.d_model, dtype=network.embedding.dtype, device=model.device)
    for group in batches(rows, len(rows)):
        x = network.embed(model.batch([rows[i] for i in group]))
        for layer in range(network.shape.n_layers):
            x, seen = network.extend(layer, x, 0, None)
            if layer == len(past):
                empty = [each.new_zeros(len(rows), width, *each.shape[2:]) for each in seen]
                past.append((empty[0], empty[1]))
            for all_rows, own in zip(past[layer], seen, strict=True):
                all_rows[group, width - own.shape[1] :] = own
        last[group] = x[:, -1]
    banned = torch.tensor(sorted(special_tokens(model)), dtype=torch.long)
    out: list[Tensor] = []
    for step in range(length):
        logits = network.unembed(last).float().cpu()
        check_finite(logits, None)
        logits[:, banned] = float("-inf")
        out.append(logits.argmax(-1))
        if step + 1 == length:
            break
        at = starts + step
        x = network.embed_at(out[-1].to(model.device)[:, None], at[:, None])
        for layer in range(network.shape.n_layers):
            x, past[layer] = network.extend(layer, x, at, past[layer], hidden)
        last = x[:, -1]
    return torch.stack(out, 1).tolist()


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


def unseen_prefixes(
    model: LanguageModel,
    counts: list[tuple[int, int]],
    seed: int,
    top_k: int,
    contexts: Sequence[tuple[int, ...]],
) -> list[str]:
    """Texts to stand before requests as paraphrases, sampled as `sample_prefixes` does but by a seed of their own.

    `contexts` are what editors average over and optimise on; a text that holds one of them is left out, so that no edit
    is judged behind a text that made it.
    """
    seen = {text for each in contexts if (text := token_text(model.text, each).strip())}
    drawn = sample_prefixes(model, counts, derive(seed, "paraphrase"), top_k)
    texts = [token_text(model.text, prefix).strip() for prefix in drawn]
    return [text for text in texts if not any(context in text for context in seen)]
