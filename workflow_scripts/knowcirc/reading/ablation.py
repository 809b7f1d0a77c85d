"""Heads taken out of the whole model: their outputs set to zero at every position (KC Fig. 6)."""

from collections.abc import Collection, Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from knowcirc.facts.knowledge import Answer, read_answers
from knowcirc.facts.prompts import Prompt, batches
from knowcirc.facts.ranking import check_finite
from knowcirc.models.loading import LanguageModel
from knowcirc.models.transformer import Hook, HookPoint, Transformer

BATCH = 20
Head = tuple[int, int]  # layer, head


def head_name(head: Head) -> str:
    """The head's name in circuits.

    >>> head_name((23, 4))
    'a23.h4'
    """
    return f"a{head[0]}.h{head[1]}"


def head_of(name: str) -> Head:
    """The head of a name.

    >>> head_of("a23.h4")
    (23, 4)
    """
    layer, _, head = name.removeprefix("a").partition(".h")
    return int(layer), int(head)


def logits_without(
    network: Transformer, ids: Int[Tensor, "batch pos"], sets: Sequence[Collection[Head]]
) -> list[Float[Tensor, "batch vocab"]]:
    """Next-token logits of the model without each set of heads; layers below a set's first are computed once for all.

    The output bias of a layer belongs to no head and stays.
    """
    first = [min((layer for layer, _ in heads), default=network.shape.n_layers) for heads in sets]
    found: list[Tensor | None] = [None] * len(sets)
    x = network.embed(ids)
    for layer in range(network.shape.n_layers + 1):
        for index in (i for i, start in enumerate(first) if start == layer):
            found[index] = _finish(network, x, layer, sets[index])
        if layer < network.shape.n_layers:
            x = network.advance(layer, x)
    return [logits for logits in found if logits is not None]


def _finish(
    network: Transformer, x: Float[Tensor, "batch pos d_model"], start: int, heads: Collection[Head]
) -> Float[Tensor, "batch vocab"]:
    for layer in range(start, network.shape.n_layers):
        x = network.advance(layer, x, hook=_without(network, layer, [head for at, head in heads if at == layer]))
    return network.unembed(x[:, -1])


def _without(network: Transformer, layer: int, heads: list[int]) -> Hook:
    """Takes what some heads of a layer add out of its output; where their sum is normed, the scale stays."""
    if network.blocks[layer].post1 is None or not heads:
        return partial(_silence, heads)
    mixed: list[Tensor] = []

    def hook(point: HookPoint, value: Tensor) -> Tensor:
        if point == "heads":
            mixed.append(value)
        elif point == "attention":
            return value - network.head_outputs(layer, mixed[0])[:, :, heads].sum(2)
        return value

    return hook


def _silence(heads: list[int], point: HookPoint, value: Tensor) -> Tensor:
    return value.index_fill(2, torch.tensor(heads, device=value.device), 0.0) if point == "heads" and heads else value


@torch.no_grad()
def next_tokens(
    model: LanguageModel, prompt: Prompt, sets: Sequence[Collection[Head]]
) -> list[Float[Tensor, " vocab"]]:
    """The probabilities of the next token without each set of heads.

    Raises:
        ValueError: naming the prompt, if a logit is not finite.
    """
    logits = logits_without(model.transformer, model.batch([prompt.ids]), sets)
    for one in logits:
        check_finite(one, prompt.text)
    return [one[0].double().softmax(-1) for one in logits]


@torch.no_grad()
def answers_without(
    model: LanguageModel, prompts: Sequence[Prompt], sets: Sequence[Collection[Head]]
) -> list[list[Answer]]:
    """The answers without each set of heads, in the order of the prompts; an empty set is the whole model."""
    found: list[dict[int, Answer]] = [{} for _ in sets]
    for group in batches([prompt.ids for prompt in prompts], BATCH):
        ids = model.batch([prompts[i].ids for i in group])
        queried = [prompts[i] for i in group]
        for one, logits in zip(found, logits_without(model.transformer, ids, sets), strict=True):
            one.update(zip(group, read_answers(logits, queried), strict=True))
    return [[one[i] for i in range(len(prompts))] for one in found]


def random_heads(n_heads: int, chosen: Collection[Head], seed: int, last: Collection[Head] = ()) -> list[Head]:
    """As many heads of each layer as are chosen there, drawn from the others as far as these go.

    Of the others those of `last` are taken where no more are left.

    >>> sorted(random_heads(2, [(0, 1), (3, 0)], seed=0))
    [(0, 0), (3, 1)]
    >>> random_heads(3, [(0, 1)], seed=0, last=[(0, 2)])
    [(0, 0)]
    """
    rng = np.random.default_rng(seed)
    picked: list[Head] = []
    for layer in sorted({layer for layer, _ in chosen}):
        here = {head for at, head in chosen if at == layer}
        others = [int(head) for head in rng.permutation([head for head in range(n_heads) if head not in here])]
        others.sort(key=lambda head: (layer, head) in last)
        order = [*others, *rng.permutation(sorted(here))]
        picked += [(layer, int(head)) for head in order[: len(here)]]
    return picked
