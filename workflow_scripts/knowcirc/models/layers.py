"""The parts of a layer as plain tensors: norm, attention, MLP, rotary positions."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Start = int | Int[Tensor, " batch"]


@dataclass(frozen=True, slots=True)
class Norm:
    """LayerNorm (`centred`) or RMSNorm over the last axis."""

    weight: Float[Tensor, " d_model"]
    bias: Float[Tensor, " d_model"] | None
    eps: float
    centred: bool

    def __call__(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        if self.centred:
            return torch.nn.functional.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)
        if x.device.type != "cpu" or x.dtype != torch.float32:
            return torch.nn.functional.rms_norm(x, x.shape[-1:], self.weight, self.eps)
        # torch's own takes five passes over x on a CPU, which is 3.5 times as long
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return (x * (length.square() / x.shape[-1] + self.eps).rsqrt()).mul_(self.weight)

    def vjp(
        self, x: Float[Tensor, "*shared d_model"], grad: Float[Tensor, "*rows d_model"]
    ) -> Float[Tensor, "*rows d_model"]:
        """Gradient with respect to `x` of sum(self(x) * grad), in closed form.

        `x` may have fewer rows than `grad` (size-one axes): several readers of one input share it.
        """
        centred = x - x.mean(-1, keepdim=True) if self.centred else x
        scale = (centred.pow(2).mean(-1, keepdim=True) + self.eps).rsqrt()
        unit = centred * scale
        inner = grad * self.weight
        out = inner - unit * (inner * unit).mean(-1, keepdim=True)
        if self.centred:
            out = out - inner.mean(-1, keepdim=True)
        return out * scale

    def linear(self, x: Float[Tensor, " d_model"], direction: Float[Tensor, " d_model"]) -> Float[Tensor, " d_model"]:
        """What reads `direction` off self(x), part by part of x: the norm with the scale that it has at `x`.

        A part's dot product with the result, summed over the parts of `x`, is self(x) . direction, less the bias.
        """
        centred = x - x.mean() if self.centred else x
        read = direction * self.weight * (centred.pow(2).mean() + self.eps).rsqrt()
        return read - read.mean() if self.centred else read


@dataclass(frozen=True, slots=True)
class Mlp:
    """A feed-forward block; `hidden` gives ROME's keys, `read_out` its values."""

    w_in: Float[Tensor, "d_mlp d_model"]
    b_in: Float[Tensor, " d_mlp"] | None
    w_gate: Float[Tensor, "d_mlp d_model"] | None
    b_gate: Float[Tensor, " d_mlp"] | None
    w_out: Float[Tensor, "d_model d_mlp"]
    b_out: Float[Tensor, " d_model"] | None
    activation: Callable[[Tensor], Tensor]

    def hidden(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_mlp"]:
        """The input of the output matrix: k in ROME's linear associative memory."""
        up = torch.nn.functional.linear(x, self.w_in, self.b_in)
        if self.w_gate is None:
            return self.activation(up)
        return self.activation(torch.nn.functional.linear(x, self.w_gate, self.b_gate)) * up

    def read_out(self, hidden: Float[Tensor, "*rows d_mlp"]) -> Float[Tensor, "*rows d_model"]:
        """The block's output, bias included: v in ROME's linear associative memory."""
        return torch.nn.functional.linear(hidden, self.w_out, self.b_out)

    def __call__(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        return self.read_out(self.hidden(x))


@dataclass(frozen=True, slots=True)
class Attention:
    """The weights of one attention layer; key/value heads may be fewer than query heads."""

    w_q: Float[Tensor, "head d_head d_model"]
    w_k: Float[Tensor, "kv_head d_head d_model"]
    w_v: Float[Tensor, "kv_head d_head d_model"]
    w_o: Float[Tensor, "head d_model d_head"]
    b_q: Float[Tensor, "head d_head"] | None
    b_k: Float[Tensor, "kv_head d_head"] | None
    b_v: Float[Tensor, "kv_head d_head"] | None
    b_o: Float[Tensor, " d_model"] | None

    def read(
        self, kind: Literal["q", "k", "v"], heads: Sequence[int], x: Float[Tensor, "n *rows d_model"]
    ) -> Float[Tensor, "n *rows d_head"]:
        """Queries, keys or values of heads (for k and v: of K/V heads) that read a normed input each."""
        weight, bias = self._maps(kind)
        out = torch.bmm(x.flatten(1, -2), _of(weight, heads).transpose(1, 2))
        if bias is not None:
            out = out + _of(bias, heads)[:, None]
        return out.unflatten(1, x.shape[1:-1])

    def write(self, heads: Sequence[int], mixed: Float[Tensor, "n *rows d_head"]) -> Float[Tensor, "n *rows d_model"]:
        """What heads add to the residual stream, each from its own mixed values; linear, without the output bias."""
        out = torch.bmm(mixed.flatten(1, -2), _of(self.w_o, heads).transpose(1, 2))
        return out.unflatten(1, mixed.shape[1:-1])

    def read_all(self, kind: Literal["q", "k", "v"], x: Float[Tensor, "*rows d_model"]) -> Tensor:
        """Queries, keys or values of all heads, *rows x head x d_head, from one shared normed input."""
        return project(x, *self._maps(kind))

    def write_all(self, mixed: Float[Tensor, "*rows head d_head"]) -> Float[Tensor, "*rows d_model"]:
        """The layer's output for the mixed values of all heads, bias included."""
        return torch.nn.functional.linear(mixed.flatten(-2), self.w_o.transpose(0, 1).flatten(1), self.b_o)

    def _maps(self, kind: Literal["q", "k", "v"]) -> tuple[Tensor, Tensor | None]:
        return {"q": (self.w_q, self.b_q), "k": (self.w_k, self.b_k), "v": (self.w_v, self.b_v)}[kind]


@dataclass(frozen=True, slots=True)
class Block:
    """One layer: norm, attention, norm, MLP."""

    norm1: Norm
    attention: Attention
    norm2: Norm
    mlp: Mlp


@dataclass(frozen=True, slots=True)
class Rotary:
    """Angles of rotary position embeddings, as the Hugging Face model computes them."""

    angles: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

    def __call__(
        self, x: Float[Tensor, "batch pos head d_head"], start: Start
    ) -> Float[Tensor, "batch pos head d_head"]:
        positions = torch.arange(x.shape[1], device=x.device)[None]
        positions = positions + (start if isinstance(start, int) else start[:, None])
        cos, sin = self.angles(x, positions)
        return rotate(x, cos[:, :, None], sin[:, :, None])


def rotate(x: Float[Tensor, "*rows d_head"], cos: Tensor, sin: Tensor) -> Float[Tensor, "*rows d_head"]:
    """Queries or keys turned by the angles of their positions (which broadcast against the rows)."""
    first, second = x.chunk(2, -1)
    return torch.addcmul(x * cos, torch.cat((-second, first), -1), sin)


def project(
    x: Float[Tensor, "*rows d_model"],
    weight: Float[Tensor, "head d_head d_model"],
    bias: Float[Tensor, "head d_head"] | None,
) -> Float[Tensor, "*rows head d_head"]:
    """Queries, keys or values of all heads from one shared input."""
    flat = None if bias is None else bias.flatten()
    return torch.nn.functional.linear(x, weight.flatten(0, 1), flat).unflatten(-1, weight.shape[:2])


def _of(weights: Tensor, heads: Sequence[int]) -> Tensor:
    """The weights of some heads; not a copy where these are all of them."""
    chosen = list(heads)
    return weights if chosen == list(range(len(weights))) else weights[chosen]


def attention_pattern(
    q: Float[Tensor, "batch pos head d_head"],
    k: Float[Tensor, "batch key head d_head"],
    hidden: Bool[Tensor, "*rows pos key"],
) -> Float[Tensor, "batch head pos key"]:
    """Attention probabilities of queries over the keys that are not hidden from them."""
    scores = torch.einsum("bqhe,bkhe->bhqk", q, k) / math.sqrt(q.shape[-1])
    return scores.masked_fill(hidden, float("-inf")).softmax(-1)
