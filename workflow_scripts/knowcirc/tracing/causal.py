"""Causal tracing (ROME, section 2.1): which states carry a fact from its subject to its answer.

1. Clean run: keep every layer's residual stream, attention output and MLP output.
2. Corrupted run: Gaussian noise on the subject's embeddings, `draws` times; the answer's probability falls.
3. Restored runs: the corrupted run, but one site (a layer and position of the residual stream, or a window of
   layers of the MLP or attention outputs) is given its clean value. The rise of the probability is the site's
   indirect effect.

A restored run equals the corrupted one below the restored layer and before the restored position, so it starts
there, on the keys and values of the corrupted run. The sites of one position and all layers share one pass, each
joining it at its layer. Positions before the subject are the same in all runs: their effect is zero and they are
not run.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from knowcirc.facts.prompts import Prompt
from knowcirc.models.loading import LanguageModel
from knowcirc.models.transformer import KeyValue, Transformer

Kind = Literal["state", "mlp", "attention"]
KINDS: tuple[Kind, ...] = ("state", "mlp", "attention")


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """`noise` is the standard deviation added to the subject's embeddings; `window` counts layers."""

    noise: float
    draws: int
    window: int
    seed: int
    kinds: tuple[Kind, ...] = KINDS

    def __post_init__(self) -> None:
        if self.draws < 1 or self.window < 1 or self.noise < 0:
            raise ValueError(
                f"tracing: draws {self.draws} and window {self.window} must be 1 or more, noise {self.noise} 0 or more"
            )


@dataclass(frozen=True, slots=True)
class Trace:
    """Indirect effects of one fact, in probability: effects[kind] has the axes layer, pos."""

    p_clean: float
    p_corrupted: float
    effects: dict[Kind, Float[np.ndarray, "layer pos"]]

    @property
    def total(self) -> float:
        """The total effect: what the corruption takes from the answer's probability."""
        return self.p_clean - self.p_corrupted


def embedding_deviation(model: LanguageModel, prompts: list[Prompt]) -> float:
    """The standard deviation over all embedding entries of the prompts' subject tokens."""
    tokens = [token for prompt in prompts if prompt.span for token in prompt.ids[slice(*prompt.span)]]
    if not tokens:
        raise ValueError("no prompt with a subject: the noise level cannot be measured")
    return float(model.transformer.embedding[torch.tensor(tokens)].double().std(correction=0))


@dataclass(frozen=True, slots=True)
class _Layers:
    """What a run left at each layer, positions from `start` on, and the keys and values of all positions."""

    entering: list[Float[Tensor, "batch pos d_model"]]
    attention: list[Float[Tensor, "batch pos d_model"]]
    mlp: list[Float[Tensor, "batch pos d_model"]]
    keys_values: list[KeyValue]
    p: Float[Tensor, " batch"]


@torch.no_grad()
def trace_fact(model: LanguageModel, prompt: Prompt, settings: TraceSettings) -> Trace:
    """The indirect effect of every site on the probability of `prompt.answer[0]`, averaged over the draws.

    The noise is drawn by numpy's `RandomState(settings.seed)`, standard normal of shape draws x subject tokens x
    d_model, anew for each fact (as ROME's code does).

    Raises:
        ValueError: if the prompt has no subject.
    """
    if prompt.span is None:
        raise ValueError(f"prompt {prompt.text!r} has no subject to corrupt")
    network, first = model.transformer, prompt.span[0]
    embedded = network.embed(model.batch([prompt.ids]))
    answer = prompt.answer[0]
    clean = _run(network, embedded, answer)
    corrupted = _run(network, corrupt(embedded, prompt.span, settings), answer)
    effects: dict[Kind, np.ndarray] = {}
    for kind in settings.kinds:
        effect = np.zeros((network.shape.n_layers, len(prompt.ids)))
        for position in range(first, len(prompt.ids)):
            restored = _restore(network, clean, corrupted, kind, position, settings.window, answer)
            effect[:, position] = restored - float(corrupted.p.mean())
        effects[kind] = effect
    return Trace(float(clean.p.mean()), float(corrupted.p.mean()), effects)


def corrupt(
    embedded: Float[Tensor, "one pos d_model"], span: tuple[int, int], settings: TraceSettings
) -> Float[Tensor, "draw pos d_model"]:
    """The embedded prompt with noise on the subject, once a draw."""
    low, high = span
    shape = (settings.draws, high - low, embedded.shape[-1])
    noise = torch.from_numpy(np.random.RandomState(settings.seed).randn(*shape)) * settings.noise
    rows = embedded.repeat(settings.draws, 1, 1)
    rows[:, low:high] += noise.to(rows)
    return rows


def _run(network: Transformer, x: Tensor, answer: int) -> _Layers:
    entering, attention, mlp, pairs = [], [], [], []
    for layer in range(network.shape.n_layers):
        entering.append(x)
        pairs.append(network.keys_values(layer, x))
        attention.append(network.attend(layer, x))
        x = x + attention[-1]
        mlp.append(network.mlp(layer, x))
        x = x + mlp[-1]
    entering.append(x)
    return _Layers(entering, attention, mlp, pairs, _probability(network, x, answer))


def _probability(network: Transformer, x: Tensor, answer: int) -> Float[Tensor, " batch"]:
    return network.unembed(x[:, -1]).double().softmax(-1)[:, answer]


def window_layers(layer: int, window: int, n_layers: int) -> range:
    """The layers of a window around its centre, clipped at the ends.

    >>> window_layers(2, 10, 30), window_layers(15, 10, 30)
    (range(0, 7), range(10, 20))
    """
    return range(max(0, layer - window // 2), min(n_layers, layer - (-window // 2)))


def _restore(
    network: Transformer, clean: _Layers, corrupted: _Layers, kind: Kind, position: int, window: int, answer: int
) -> Float[np.ndarray, " layer"]:
    """Probability of the answer with each layer's site at `position` restored, averaged over the draws.

    The sites of all layers go up the network together: a site's rows join at the first layer that differs from
    the corrupted run. Row = site x draws + draw; positions before the restored one come from the corrupted run.
    """
    n_layers, draws = network.shape.n_layers, len(corrupted.p)
    starts = [
        layer + 1 if kind == "state" else window_layers(layer, window, n_layers).start for layer in range(n_layers)
    ]
    x = corrupted.entering[0][:0, position:]
    for current in range(n_layers + 1):
        joining = corrupted.entering[current][:, position:].repeat(starts.count(current), 1, 1)
        if kind == "state":
            joining[:, 0] = clean.entering[current][0, position]
        x = torch.cat((x, joining))
        if current < n_layers and len(x):
            sites = range(len(x) // draws)
            inside = [current in window_layers(site, window, n_layers) for site in sites]
            here = torch.tensor(inside, device=x.device).repeat_interleave(draws)
            keys, values = (pair[:, :position].repeat(len(sites), 1, 1, 1) for pair in corrupted.keys_values[current])
            attention = network.attend(current, x, position, (keys, values))
            if kind == "attention":
                attention[here, 0] = clean.attention[current][0, position]
            x = x + attention
            mlp = network.mlp(current, x)
            if kind == "mlp":
                mlp[here, 0] = clean.mlp[current][0, position]
            x = x + mlp
    return _probability(network, x, answer).view(n_layers, draws).mean(1).cpu().numpy()


def tabulate(trace: Trace, tokens: list[str]) -> Iterator[dict[str, object]]:
    """A trace as rows: kind, layer, position, token, effect; and the total effect (layer and position -1)."""
    yield {"kind": "total", "layer": -1, "position": -1, "token": "", "effect": trace.total}
    for kind, effects in trace.effects.items():
        for layer, position in np.ndindex(*effects.shape):
            effect = float(effects[layer, position])
            yield {"kind": kind, "layer": layer, "position": position, "token": tokens[position], "effect": effect}
