"""Integrated gradients of the answer's probability beside causal traces (ROME B.4, Fig. 16; Sundararajan et al. 2017).

The activations of one kind and layer, of all positions together, go on a straight line from a baseline to their clean
values, while everything before them stays clean and everything behind follows. Each position's integrated gradient is
the average gradient along the line times the way that its activation goes; ROME plots its norm. Summed over components
and positions it is the difference of the answer's probability between the two ends, as far as the quadrature is exact.

| kind | what goes | at |
|---|---|---|
| embedding | token embeddings (positions stay) | below layer 0 |
| state | the residual stream | after each layer |
| mlp, attention | the MLP's or the attention layer's output | each layer |

| baseline | where the line begins |
|---|---|
| zero | activations of 0; close to it a norm turns quickly, so that late layers need many steps |
| corrupted | the activations of each corrupted run (`causal.py`); the gradients are averaged over the draws |

The paper names neither the baseline nor whether positions go together; both are choices of this module.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.polynomial.legendre import leggauss
from torch import Tensor

from knowcirc.facts.prompts import Prompt
from knowcirc.models.loading import LanguageModel
from knowcirc.models.memory import CPU_MEMORY
from knowcirc.models.transformer import Transformer
from knowcirc.tracing.causal import TraceSettings, corrupt, corrupted_span
from knowcirc.tracing.restored import Run, probability, run
from knowcirc.tracing.settings import BASELINES, Activation, Baseline


@dataclass(frozen=True, slots=True)
class Saliency:
    """Integrated gradients of one kind and layer (-1: the token embeddings), in probability.

    `norms` has the norm of each position's integrated gradient, `sums` the sum of its components. `missing` is what
    the sums, added up, lack of the difference of the answer's probability between the ends of the line.
    """

    kind: Activation
    layer: int
    norms: Float[np.ndarray, " pos"]
    sums: Float[np.ndarray, " pos"]
    missing: float


@dataclass(frozen=True, slots=True)
class Line:
    """Where activations go, as the residual stream that is read next has it: from `end` - `way` to `end`.

    `layer` is the first that reads it, or, where `middle`, the one whose MLP does (in parallel layers none does).
    """

    kind: Activation
    of: int
    layer: int
    middle: bool
    end: Float[Tensor, "one pos d_model"]
    way: Float[Tensor, "baseline pos d_model"]


def saliency(
    model: LanguageModel,
    prompt: Prompt,
    baseline: Baseline,
    settings: TraceSettings,
    *,
    steps: int = 50,
    memory: int = CPU_MEMORY,
) -> Iterator[Saliency]:
    """The integrated gradients of `prompt.answer[0]`'s probability: embeddings, then every kind and layer.

    Gauss-Legendre quadrature of `steps` nodes. `settings` says how a corrupted baseline is drawn, and is not read with
    the baseline zero; `memory` bounds the bytes that a pass takes (one node of it is run whatever it takes).

    Raises:
        ValueError: if there is no such baseline or no step; of corrupted runs, as `trace_fact`.
    """
    if baseline not in BASELINES:
        raise ValueError(f"saliency: baseline {baseline!r} is none of {', '.join(BASELINES)}")
    if steps < 1:
        raise ValueError(f"saliency: steps {steps} must be 1 or more")
    network, answer = model.transformer, prompt.answer[0]
    with torch.no_grad():
        ids = model.batch([prompt.ids])
        embedded = network.embed(ids)
        clean, corrupted = run(network, embedded, answer), None
        if baseline == "corrupted":
            span = corrupted_span(prompt, settings.extra)
            corrupted = run(network, corrupt(network, embedded, span, settings), answer)
    most = max(1, memory // _bytes_a_row(network, len(prompt.ids)))
    for line in lines(network, network.tokens(ids), clean, corrupted):
        yield _integrate(network, line, answer, float(clean.p), steps, most)


def lines(
    network: Transformer, tokens: Float[Tensor, "one pos d_model"], clean: Run, corrupted: Run | None
) -> Iterator[Line]:
    """The lines of all kinds and layers, from activations of zero where there is no corrupted run.

    `tokens` are the embeddings without positions.
    """
    start = clean.entering[0]
    yield Line("embedding", -1, 0, False, start, tokens if corrupted is None else start - corrupted.entering[0])
    runs = [clean] if corrupted is None else [clean, corrupted]
    states, mlps = [one.entering[1:] for one in runs], [one.mlp for one in runs]
    for kind, values in (("state", states), ("mlp", mlps), ("attention", [one.attention for one in runs])):
        for layer in range(network.shape.n_layers):
            value, *others = (each[layer] for each in values)
            way = value - others[0] if others else value
            if kind == "attention" and not network.shape.parallel:
                yield Line("attention", layer, layer, True, clean.entering[layer] + value, way)
            else:
                yield Line(kind, layer, layer + 1, False, clean.entering[layer + 1], way)  # type: ignore[arg-type]


def _integrate(network: Transformer, line: Line, answer: int, p_clean: float, steps: int, most: int) -> Saliency:
    """The integrated gradients along a line, the mean over its baselines; a pass has at most `most` rows."""
    nodes, weights = (torch.from_numpy(part).to(line.end.device) for part in leggauss(steps))
    found = torch.zeros(line.way.shape[1:], dtype=torch.float64, device=line.end.device)
    p_start = []
    for way in line.way:
        with torch.no_grad():
            p_start.append(float(_answer(network, line.end - way, line, answer)))
        gradient = torch.zeros_like(found)
        for at, weight in zip(((nodes - 1) / 2).split(most), (weights / 2).split(most), strict=True):
            rows = line.end + at.to(line.end)[:, None, None] * way
            gradient += (weight[:, None, None] * _gradient(network, rows, line, answer)).sum(0)
        found += gradient * way.double() / len(line.way)
    sums = found.sum(-1)
    missing = p_clean - float(np.mean(p_start)) - float(sums.sum())
    return Saliency(line.kind, line.of, found.norm(dim=-1).cpu().numpy(), sums.cpu().numpy(), missing)


@torch.enable_grad()
def _gradient(
    network: Transformer, rows: Float[Tensor, "row pos d_model"], line: Line, answer: int
) -> Float[Tensor, "row pos d_model"]:
    """The gradient of each row's probability, in double precision."""
    rows = rows.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(_answer(network, rows, line, answer).sum(), rows)
    return gradient.double()


def _answer(
    network: Transformer, x: Float[Tensor, "row pos d_model"], line: Line, answer: int
) -> Float[Tensor, " row"]:
    """The answer's probability from the residual stream that a line goes along."""
    if line.middle:
        x = x + network.mlp(line.layer, x)
    for layer in range(line.layer + line.middle, network.shape.n_layers):
        x = network.advance(layer, x)
    return probability(network, x, answer)


def _bytes_a_row(network: Transformer, positions: int) -> int:
    """About what autograd keeps of one row: the activations of all layers, and the logits."""
    shape = network.shape
    a_layer = positions * (12 * shape.d_model + 4 * shape.d_mlp + 3 * shape.n_heads * positions)
    return (shape.n_layers * a_layer + 4 * shape.d_vocab) * network.embedding.element_size()
