"""A model's matrices laid out for oneDNN: the same products, on many CPUs more than twice as fast.

torch multiplies float32 matrices with MKL, which does not use the widest vector units of processors that are not
Intel's. oneDNN does, once the weights are in its own layout. Packing copies the matrices, so a packed model does not
see later changes of them (`with_blocks` copies anew). Gradients pass through it to activations, never
to weights.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from knowcirc.models.layers import Attention, Block, Mlp
from knowcirc.models.transformer import Transformer

ROWS = 64  # the layout suits batches of about so many rows
FEW = 160  # of fewer rows, one batched product over a layer's heads is faster than one packed product for each
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Packed:
    """A linear map in oneDNN's layout. Its transpose, which gradients need, is packed when one first does."""

    weight: Tensor
    bias: Tensor | None
    plain: Float[Tensor, "d_out d_in"]
    _transposed: list[Tensor] = field(default_factory=list)

    @classmethod
    def of(cls, weight: Float[Tensor, "d_out d_in"], bias: Float[Tensor, " d_out"] | None = None) -> "Packed":
        """A copy of the map in the packed layout."""
        weight = weight.detach()
        return cls(_reorder(weight), None if bias is None else bias.detach(), weight)

    def __call__(self, x: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows d_out"]:
        if torch.is_grad_enabled() and x.requires_grad:
            result: Tensor = _Product.apply(x, self)  # type: ignore[no-untyped-call]
            return result
        return _multiply(x, self.weight, self.bias)

    def back(self, grad: Float[Tensor, "*rows d_out"]) -> Float[Tensor, "*rows d_in"]:
        """The gradient at the map's input from that at its output."""
        if not self._transposed:
            self._transposed.append(_reorder(self.plain.T))
        return _multiply(grad.contiguous(), self._transposed[0], None)


class _Product(torch.autograd.Function):
    """A packed map of activations that carry a gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, packed_map: Packed) -> Tensor:
        ctx.packed_map = packed_map
        return _multiply(x, packed_map.weight, packed_map.bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return ctx.packed_map.back(grad), None


def _reorder(weight: Float[Tensor, "d_out d_in"]) -> Tensor:
    reordered: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), ROWS)
    return reordered


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedMlp(Mlp):
    """An MLP whose products run on packed copies of its matrices."""

    up: Packed
    gate: Packed | None
    out: Packed

    @classmethod
    def of(cls, mlp: Mlp) -> "PackedMlp":
        """The MLP with packed copies beside its weights."""
        return cls(
            **{each.name: getattr(mlp, each.name) for each in fields(Mlp)},
            up=Packed.of(mlp.w_in, mlp.b_in),
            gate=None if mlp.w_gate is None else Packed.of(mlp.w_gate, mlp.b_gate),
            out=Packed.of(mlp.w_out, mlp.b_out),
        )

    def hidden(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_mlp"]:
        """The input of the output matrix."""
        if self.gate is None:
            return self.activation(self.up(x))
        gate, up = self.activation(self.gate(x)), self.up(x)
        return gate * up if gate.requires_grad else gate.mul_(up)

    def read_out(self, hidden: Float[Tensor, "*rows d_mlp"]) -> Float[Tensor, "*rows d_model"]:
        """The block's output, bias included."""
        return self.out(hidden)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedAttention(Attention):
    """An attention layer whose heads' input maps are packed one by one, and all heads' maps together (`whole`)."""

    q: tuple[Packed, ...]
    k: tuple[Packed, ...]
    v: tuple[Packed, ...]
    whole: dict[str, Packed]

    @classmethod
    def of(cls, att: Attention) -> "PackedAttention":
        """The layer with packed copies beside its weights."""

        def each(weight: Tensor, bias: Tensor | None) -> tuple[Packed, ...]:
            return tuple(Packed.of(head, None if bias is None else bias[i]) for i, head in enumerate(weight))

        def together(weight: Tensor, bias: Tensor | None) -> Packed:
            return Packed.of(weight.flatten(0, 1), None if bias is None else bias.flatten())

        return cls(
            **{each.name: getattr(att, each.name) for each in fields(Attention)},
            q=each(att.w_q, att.b_q),
            k=each(att.w_k, att.b_k),
            v=each(att.w_v, att.b_v),
            whole={
                "q": together(att.w_q, att.b_q),
                "k": together(att.w_k, att.b_k),
                "v": together(att.w_v, att.b_v),
                "o": Packed.of(att.w_o.transpose(0, 1).flatten(1), att.b_o),
            },
        )

    def project_each(
        self, kind: Literal["q", "k", "v"], heads: Sequence[int], x: Float[Tensor, "n *rows d_model"]
    ) -> Float[Tensor, "n *rows d_head"]:
        """Queries, keys or values of heads that read a normed input each, before any norm of them."""
        if x[0].numel() < FEW * x.shape[-1]:
            return Attention.project_each(self, kind, heads, x)  # slots: super() does not know the class
        maps = {"q": self.q, "k": self.k, "v": self.v}[kind]
        return torch.stack([maps[head](part) for head, part in zip(heads, x, strict=True)])

    def project_all(self, kind: Literal["q", "k", "v"], x: Float[Tensor, "*rows d_model"]) -> Tensor:
        """Queries, keys or values of all heads from one shared normed input, before any norm of them."""
        return self.whole[kind](x).unflatten(-1, (-1, self.w_q.shape[1]))

    def write_all(self, mixed: Float[Tensor, "*rows head d_head"]) -> Float[Tensor, "*rows d_model"]:
        """The layer's output for the mixed values of all heads, bias included."""
        return self.whole["o"](mixed.flatten(-2))


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedTransformer(Transformer):
    """A transformer whose matrices are packed."""

    vocabulary: Packed

    def unembed(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows vocab"]:
        """Logits of the residual stream."""
        return self.cap(self.vocabulary(self.final_norm(x)))


def packed(model: Transformer) -> Transformer:
    """The model packed for oneDNN where that applies (float32 on a CPU), the model itself elsewhere.

    The result does not follow later changes of the weights.
    """
    weight = model.embedding
    if isinstance(model, PackedTransformer):
        return model
    if weight.device.type != "cpu" or weight.dtype != torch.float32 or not _available():
        return model
    parts = {each.name: getattr(model, each.name) for each in fields(Transformer)}
    blocks = tuple(map(_pack, model.blocks))
    return PackedTransformer(**{**parts, "blocks": blocks}, vocabulary=Packed.of(model.unembedding))


def with_blocks(model: Transformer, blocks: Mapping[int, Block]) -> Transformer:
    """The model with other blocks at some layers, packed where it is: they see the weights as they are now."""
    made = {layer: _pack(block) if isinstance(model, PackedTransformer) else block for layer, block in blocks.items()}
    return replace(model, blocks=tuple(made.get(layer, block) for layer, block in enumerate(model.blocks)))


def _pack(block: Block) -> Block:
    return replace(block, attention=PackedAttention.of(block.attention), mlp=PackedMlp.of(block.mlp))


def _available() -> bool:
    try:
        torch.ops.mkldnn._linear_pointwise  # noqa: B018 (asks whether the operator exists)
        torch.ops.mkldnn._reorder_linear_weight  # noqa: B018
    except AttributeError:
        log.info("this build of torch has no oneDNN; its own matrix products are used")
        return False
    return torch.backends.mkldnn.is_available()
