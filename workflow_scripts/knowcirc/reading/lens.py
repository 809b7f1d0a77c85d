"""The logit lens: what the residual stream says at each layer, read through the final norm and the vocabulary.

Every layer has two steps, its attention and its MLP, so that a rise of the answer can be laid to either.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from numpy import ndarray
from torch import Tensor

from knowcirc.facts.prompts import Prompt, batches
from knowcirc.facts.ranking import token_ranks
from knowcirc.models.loading import LanguageModel
from knowcirc.models.transformer import Transformer, keeping

BATCH = 16


def steps(network: Transformer, ids: Int[Tensor, "batch pos"]) -> Iterator[Float[Tensor, "batch pos d_model"]]:
    """The residual stream before layer 0, then after the attention and after the MLP of each layer."""
    x = network.embed(ids)
    middle: list[Tensor] = []
    yield x
    for layer in range(network.shape.n_layers):
        x = network.advance(layer, x, hook=keeping("middle", middle))
        yield middle.pop()
        yield x


@torch.no_grad()
def step_ranks(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    tokens: Sequence[Mapping[str, int]],
    positions: Sequence[Mapping[str, int]],
) -> list[dict[tuple[str, str], Int[ndarray, " step"]]]:
    """Ranks (from 1) of tokens at positions after each step, by (token, position); 1 + 2 n_layers steps.

    Each prompt has named tokens and named positions of its own; every token is ranked at every position.
    """
    found: list[dict[tuple[str, str], ndarray]] = [{} for _ in prompts]
    for i, place, logits in _step_logits(model, prompts, positions):
        for name, token in tokens[i].items():
            found[i][name, place] = (token_ranks(logits, token, prompts[i].text) + 1).cpu().numpy()
    return found


@torch.no_grad()
def step_contests(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    rivals: Sequence[Sequence[int]],
    positions: Sequence[Mapping[str, int]],
) -> list[dict[str, tuple[Int[ndarray, " step"], Float[ndarray, " step"]]]]:
    """By position, after each step: the rank of the prompt's answer (from 1), and the share of rivals below it."""
    found: list[dict[str, tuple[ndarray, ndarray]]] = [{} for _ in prompts]
    for i, place, logits in _step_logits(model, prompts, positions):
        answer = prompts[i].answer[0]
        own = token_ranks(logits, answer, prompts[i].text) + 1
        below = (logits[:, list(rivals[i])] < logits[:, answer, None]).double().mean(-1)
        found[i][place] = own.cpu().numpy(), below.cpu().numpy()
    return found


@torch.no_grad()
def last_logits(
    model: LanguageModel, prompts: Sequence[Prompt], tokens: Sequence[int]
) -> list[Float[ndarray, "step token"]]:
    """Logits of some tokens at each prompt's last position, after each step."""
    found: list[ndarray] = [np.empty(0)] * len(prompts)
    for i, _, logits in _step_logits(model, prompts, [{"last": len(prompt.ids) - 1} for prompt in prompts]):
        found[i] = logits[:, list(tokens)].double().cpu().numpy()
    return found


def _step_logits(
    model: LanguageModel, prompts: Sequence[Prompt], positions: Sequence[Mapping[str, int]]
) -> Iterator[tuple[int, str, Float[Tensor, "step vocab"]]]:
    """(prompt, position, logits after each step) for all prompts and positions, prompts of one length together."""
    network = model.transformer
    for group in batches([prompt.ids for prompt in prompts], BATCH):
        stream = torch.stack(list(steps(network, model.batch([prompts[i].ids for i in group]))))
        for row, i in enumerate(group):
            for place, position in positions[i].items():
                yield i, place, network.unembed(stream[:, row, position])


def by_layer(values: Shaped[ndarray, "step *rest"]) -> Shaped[ndarray, "layer *rest"]:
    """The values before layer 0 and after each layer, of those after each step."""
    return np.asarray(values[::2])


def rank_drops(ranks: Int[ndarray, " step"]) -> dict[str, Float[ndarray, " layer"]]:
    """By how many orders of magnitude each layer's attention and MLP bring the rank down (negative: up).

    >>> {name: values.tolist() for name, values in rank_drops(np.array([10000, 1000, 10])).items()}
    {'attention': [1.0], 'mlp': [2.0]}
    """
    orders = -np.diff(np.log10(ranks))
    return {"attention": orders[::2], "mlp": orders[1::2]}


@torch.no_grad()
def token_curve(model: LanguageModel, prompt: Prompt, token: int, position: int) -> list[tuple[int, float]]:
    """Rank (from 1) and probability of a token at a position, before layer 0 and after each layer."""
    curve = []
    for stream in model.transformer.stream(model.batch([prompt.ids])):
        logits = model.transformer.unembed(stream[0, position])
        rank = int(token_ranks(logits, token, prompt.text)) + 1
        curve.append((rank, float(logits.double().softmax(-1)[token])))
    return curve


def curve_rows(curve: Sequence[tuple[int, float]], **labels: object) -> list[dict[str, object]]:
    """A curve as table rows: layer (0 is the embedding), rank, probability, and the labels."""
    return [{**labels, "layer": layer, "rank": rank, "probability": p} for layer, (rank, p) in enumerate(curve)]
