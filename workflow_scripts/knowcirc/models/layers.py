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

    def scale(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows 1"]:
        """What an RMSNorm multiplies `x` by before its weight."""
        return (x.pow(2).mean(-1, keepdim=True) + self.eps).rsqrt()

    def drawn(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows 1"]:
        """How strongly an RMSNorm's scale answers: d scale(x) / d x is -drawn(x) * scale(x) * x."""
        return self.scale(x).square() / x.shape[-1]


@dataclass(frozen=True, slots=True)
class NoNorm(Norm):
    """Stands where a layer has no norm before it: gives what it reads."""

    @classmethod
    def like(cls, weight: Float[Tensor, " d_model"]) -> "NoNorm":
        """One for activations of the size, type and place of a norm's weight."""
        return cls(torch.ones_like(weight), None, 0.0, centred=False)

    def __call__(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        return x

    def vjp(
        self, x: Float[Tensor, "*shared d_model"], grad: Float[Tensor, "*rows d_model"]
    ) -> Float[Tensor, "*rows d_model"]:
        """The gradient itself."""
        return grad


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
    """The weights of one attention layer; key/value heads may be fewer than query heads.

    `q_norm` and `k_norm` norm queries and keys before they are turned: each head's own (weights d_head), or those of
    all heads together (weights head x d_head, flat). In the second case too a head's query is a function of the one
    input that it reads: what it would be if all heads read that input.
    Products of queries and keys are divided by `divisor` (None: the square root of d_head) and held between -`cap` and
    `cap` by a tanh (None: as they are). A position sees the last `window` positions, itself included (None: all).
    """

    w_q: Float[Tensor, "head d_head d_model"]
    w_k: Float[Tensor, "kv_head d_head d_model"]
    w_v: Float[Tensor, "kv_head d_head d_model"]
    w_o: Float[Tensor, "head d_model d_head"]
    b_q: Float[Tensor, "head d_head"] | None
    b_k: Float[Tensor, "kv_head d_head"] | None
    b_v: Float[Tensor, "kv_head d_head"] | None
    b_o: Float[Tensor, " d_model"] | None
    q_norm: Norm | None = None
    k_norm: Norm | None = None
    divisor: float | None = None
    cap: float | None = None
    window: int | None = None

    def read(
        self, kind: Literal["q", "k", "v"], heads: Sequence[int], x: Float[Tensor, "n *rows d_model"]
    ) -> Float[Tensor, "n *rows d_head"]:
        """Queries, keys or values of heads (for k and v: of K/V heads) that read a normed input each."""
        norm = self._norm_of(kind)
        if norm is None:
            return self.project_each(kind, heads, x)
        if not self._is_joint(norm):
            return norm(self.project_each(kind, heads, x))
        every = self.read_all(kind, x)
        return torch.stack([every[place, ..., head, :] for place, head in enumerate(heads)])

    def read_all(self, kind: Literal["q", "k", "v"], x: Float[Tensor, "*rows d_model"]) -> Tensor:
        """Queries, keys or values of all heads, *rows x head x d_head, from one shared normed input."""
        norm, projected = self._norm_of(kind), self.project_all(kind, x)
        if norm is None:
            return projected
        return norm(projected.flatten(-2)).view_as(projected) if self._is_joint(norm) else norm(projected)

    def back(
        self,
        kind: Literal["q", "k", "v"],
        heads: Sequence[int],
        x: Float[Tensor, "*rows d_model"],
        grad: Float[Tensor, "*rows n d_head"],
    ) -> Float[Tensor, "n *rows d_model"]:
        """Gradients at each head's own input `x` from those at its queries, keys or values, in closed form."""
        weight, norm = _of(self._maps(kind)[0], heads), self._norm_of(kind)
        if norm is None:
            return torch.einsum("...ne,ned->n...d", grad, weight)
        projected = self.project_all(kind, x)
        if not self._is_joint(norm):
            return torch.einsum("...ne,ned->n...d", norm.vjp(projected[..., list(heads), :], grad), weight)
        whole = projected.flatten(-2)
        inner = grad * norm.weight.view(-1, grad.shape[-1])[list(heads)]
        own = (projected[..., list(heads), :] * inner).sum(-1).movedim(-1, 0)[..., None]
        scale = norm.scale(whole)
        drawn = (whole @ self._maps(kind)[0].flatten(0, 1)) * norm.drawn(whole)
        return (torch.einsum("...ne,ned->n...d", inner, weight) - drawn * own) * scale

    def scores(self, products: Float[Tensor, "*rows pos key"]) -> Float[Tensor, "*rows pos key"]:
        """Attention scores from the dot products of queries and keys."""
        scaled = products / (math.sqrt(self.w_q.shape[1]) if self.divisor is None else self.divisor)
        return scaled if self.cap is None else soft_cap(scaled, self.cap)

    def _norm_of(self, kind: Literal["q", "k", "v"]) -> Norm | None:
        return {"q": self.q_norm, "k": self.k_norm, "v": None}[kind]

    def _is_joint(self, norm: Norm) -> bool:
        """Whether a norm of queries or keys is one over all heads."""
        return norm.weight.numel() != self.w_q.shape[1]

    def project_each(
        self, kind: Literal["q", "k", "v"], heads: Sequence[int], x: Float[Tensor, "n *rows d_model"]
    ) -> Float[Tensor, "n *rows d_head"]:
        """The same before the norm of queries or keys, if there is one."""
        weight, bias = self._maps(kind)
        out = torch.bmm(x.flatten(1, -2), _of(weight, heads).transpose(1, 2))
        if bias is not None:
            out = out + _of(bias, heads)[:, None]
        return out.unflatten(1, x.shape[1:-1])

    def write(self, heads: Sequence[int], mixed: Float[Tensor, "n *rows d_head"]) -> Float[Tensor, "n *rows d_model"]:
        """What heads add to the residual stream, each from its own mixed values; linear, without the output bias."""
        out = torch.bmm(mixed.flatten(1, -2), _of(self.w_o, heads).transpose(1, 2))
        return out.unflatten(1, mixed.shape[1:-1])

    def project_all(self, kind: Literal["q", "k", "v"], x: Float[Tensor, "*rows d_model"]) -> Tensor:
        """The same as `read_all`, before the norm of queries or keys, if there is one."""
        return project(x, *self._maps(kind))

    def write_all(self, mixed: Float[Tensor, "*rows head d_head"]) -> Float[Tensor, "*rows d_model"]:
        """The layer's output for the mixed values of all heads, bias included."""
        return torch.nn.functional.linear(mixed.flatten(-2), self.w_o.transpose(0, 1).flatten(1), self.b_o)

    def _maps(self, kind: Literal["q", "k", "v"]) -> tuple[Tensor, Tensor | None]:
        return {"q": (self.w_q, self.b_q), "k": (self.w_k, self.b_k), "v": (self.w_v, self.b_v)}[kind]


@dataclass(frozen=True, slots=True)
class Block:
    """One layer: norm, attention, norm, MLP.

    `post1` and `post2` norm what attention and the MLP give, before it is added to the residual stream (None: nothing
    does). `post1` norms the heads' sum, so what one head adds depends on the others, by the scale (`shares`).
    """

    norm1: Norm
    attention: Attention
    norm2: Norm
    mlp: Mlp
    post1: Norm | None = None
    post2: Norm | None = None

    def shares(
        self, written: Float[Tensor, "head *rows d_model"], total: Float[Tensor, "*rows d_model"] | None = None
    ) -> Float[Tensor, "head *rows d_model"]:
        """What heads add to the residual stream, from what their output matrices give.

        Where attention's output is normed, each head's part is scaled as the sum of all heads (`total`; None: these are
        all) is in the same run, so that the parts add up to the normed sum.
        """
        if self.post1 is None:
            return written
        return written * self.post1.scale(written.sum(0) if total is None else total) * self.post1.weight

    def attention_out(self, merged: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        """What attention adds to the residual stream, from its output."""
        return merged if self.post1 is None else self.post1(merged)

    def mlp_out(self, value: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        """What the MLP adds to the residual stream, from its output (`Mlp.read_out`)."""
        return value if self.post2 is None else self.post2(value)

    def mlp_change(
        self, value: Float[Tensor, "*rows d_model"], wanted: Float[Tensor, "*rows d_model"]
    ) -> Float[Tensor, "*rows d_model"]:
        """How the MLP's output `value` must change so that what the MLP adds changes as `wanted`.

        Behind a norm: the direction that it has to have, at the length that it has; no length reaches more.
        """
        if self.post2 is None:
            return wanted
        norm = self.post2
        direction = torch.where(norm.weight == 0, 0.0, (norm(value) + wanted) / norm.weight)
        return direction / norm.scale(value) - value


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
    """Queries or keys turned by the angles of their positions (which broadcast against the rows).

    Where there are fewer angles than components, the first components are turned.
    """
    if (turned := cos.shape[-1]) < x.shape[-1]:
        return torch.cat((rotate(x[..., :turned], cos, sin), x[..., turned:]), -1)
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


def soft_cap(x: Tensor, cap: float) -> Tensor:
    """`x` held between -cap and cap by a tanh."""
    return cap * torch.tanh(x / cap)


def attention_pattern(
    att: Attention,
    q: Float[Tensor, "batch pos head d_head"],
    k: Float[Tensor, "batch key head d_head"],
    hidden: Bool[Tensor, "*rows pos key"],
) -> Float[Tensor, "batch head pos key"]:
    """Attention probabilities of queries over the keys that are not hidden from them."""
    scores = att.scores(torch.einsum("bqhe,bkhe->bhqk", q, k))
    return scores.masked_fill(hidden, float("-inf")).softmax(-1)
