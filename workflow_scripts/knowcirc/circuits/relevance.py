"""Relevance patching (RelP): the scores of EAP, with the rules of layer-wise relevance propagation for gradients.

The network's values stay as they are; what passes back through it is changed:

| part | rule | what passes back |
|---|---|---|
| norms | LN-rule | as if the scale (and it alone) were a constant |
| activation functions | identity rule | act(x) / x, the secant from 0, for the slope |
| the gate's product | half rule | half to each factor |
| attention | `gradient` | the gradient |
| | `frozen` (AH-rule) | the pattern is a constant: queries and keys get nothing |
| | `half` (AttnLRP) | half of each product: of pattern and values, and of queries and keys |
| linear maps | 0-rule | the gradient |

Sources: Rezaei Jafari et al. 2025, arXiv 2508.21258 (RelP); Ali et al. 2022 (LN-rule, AH-rule); Achtibat et al. 2024,
arXiv 2402.05602 (AttnLRP).
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from knowcirc.circuits import attribution
from knowcirc.circuits.attribution import Attend, Targets, attended
from knowcirc.circuits.circuit import Scores
from knowcirc.circuits.graph import Graph
from knowcirc.models.layers import Attention, Block, Mlp, Norm
from knowcirc.models.token_tree import Prompts, TokenTree
from knowcirc.models.transformer import HookPoint, Transformer, unchanged

LEAST = 1e-6  # below this, an activation's secant is taken there

Rule = Literal["gradient", "frozen", "half"]


@dataclass(frozen=True, slots=True)
class FrozenNorm(Norm):
    """A norm whose scale passes nothing back."""

    def __call__(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        found = self._centred(x) * self._scale(x) * self.weight
        return found if self.bias is None else found + self.bias

    def vjp(
        self, x: Float[Tensor, "*shared d_model"], grad: Float[Tensor, "*rows d_model"]
    ) -> Float[Tensor, "*rows d_model"]:
        """What passes back to `x` from `grad` at its output."""
        return self._centred(grad * self.weight * self._scale(x))

    def drawn(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows 1"]:
        """Nothing: the scale is a constant."""
        return torch.zeros_like(x[..., :1])

    def _centred(self, x: Tensor) -> Tensor:
        return x - x.mean(-1, keepdim=True) if self.centred else x

    def _scale(self, x: Tensor) -> Tensor:
        return (self._centred(x.detach()).pow(2).mean(-1, keepdim=True) + self.eps).rsqrt()


@dataclass(frozen=True, slots=True)
class Secant:
    """An activation function that passes back act(x) / x, the slope of its secant from 0."""

    activation: Callable[[Tensor], Tensor]

    def __call__(self, x: Tensor) -> Tensor:
        at = x.detach()
        at = torch.where(at.abs() < LEAST, torch.full_like(at, LEAST), at)
        passed = x * (self.activation(at) / at)
        return passed + (self.activation(x) - passed).detach()


def half(x: Tensor) -> Tensor:
    """The same values; half of what comes back passes on."""
    return x / 2 + (x / 2).detach()


def _frozen(pattern: Tensor, values: Tensor) -> Tensor:
    return attended(pattern.detach(), values)


def _halved(pattern: Tensor, values: Tensor) -> Tensor:
    """Half of each product: that of queries and keys reaches them through the pattern."""
    return half(attended(half(pattern), values))


ATTENTION: dict[Rule, Attend] = {"gradient": attended, "frozen": _frozen, "half": _halved}


def relevant(part: Any) -> Any:
    """A network, or a part of it, whose norms and activation functions pass back by the rules; weights are shared."""
    if type(part) is Norm:  # what only stands in the place of one has no scale
        return FrozenNorm(**{field.name: getattr(part, field.name) for field in fields(part)})
    if isinstance(part, Mlp):
        return replace(part, activation=Secant(part.activation))
    if isinstance(part, tuple):
        return tuple(map(relevant, part))
    if not isinstance(part, (Transformer, Block, Attention)):
        return part
    inner = {field.name: getattr(part, field.name) for field in fields(part)}
    return replace(part, **{name: relevant(value) for name, value in inner.items()})


def _half_of_gates(point: HookPoint, value: Tensor) -> Tensor:
    """The half rule: what is read out of a gated MLP is a product of two."""
    return half(value) if point == "keys" else value


def score_edges(
    model: Transformer,
    graph: Graph,
    clean: Prompts,
    corrupted: Int[Tensor, "_ _"] | TokenTree | None,
    targets: Targets,
    *,
    attention: Rule = "gradient",
) -> Scores:
    """Scores of all edges, summed over the prompts; unit of the loss, zero outside the graph.

    Prompts are given as in `attribution.score_edges`. A clean run, a corrupted one and one pass back.

    Raises:
        ValueError: if clean and corrupted prompts differ in length, or a score is not finite.
    """
    network: Transformer = relevant(model)
    hook = unchanged if model.blocks[0].mlp.w_gate is None else _half_of_gates
    return attribution.score_edges(network, graph, clean, corrupted, targets, attend=ATTENTION[attention], hook=hook)
