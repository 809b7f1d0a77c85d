"""The weight processing under which Knowledge Circuits ran GPT-2: norms and value biases folded away.

Folding leaves the logits as they are, but not the ablations: a head's constant part (its value bias and the
norm's bias seen through the value matrix) moves into the attention layer's output bias, which belongs to no
node, and so survives when the head is ablated. Centring the writing weights changes no ablation score and is
not done. Norms behind attention and MLP, and of queries and keys, stay as they are: they have no bias to fold.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from knowcirc.models.layers import Attention, Block, Mlp, Norm
from knowcirc.models.transformer import Transformer


def fold(model: Transformer) -> Transformer:
    """A transformer of equal logits whose norms only centre and scale and whose values carry no bias."""
    return replace(model, blocks=tuple(map(fold_block, model.blocks)))


def fold_block(block: Block) -> Block:
    """One layer of such a transformer."""
    return replace(
        block,
        norm1=_plain(block.norm1),
        attention=_fold_attention(block.norm1, block.attention),
        norm2=_plain(block.norm2),
        mlp=_fold_mlp(block.norm2, block.mlp),
    )


def _plain(norm: Norm) -> Norm:
    bias = None if norm.bias is None else torch.zeros_like(norm.bias)
    return replace(norm, weight=torch.ones_like(norm.weight), bias=bias)


def _fold_linear(
    norm: Norm, weight: Float[Tensor, "*out d_model"], bias: Float[Tensor, "*out"] | None
) -> tuple[Tensor, Tensor | None]:
    """Weight and bias that read the plain norm's output as `weight`, `bias` read the norm's."""
    shift = None if norm.bias is None else weight @ norm.bias
    if bias is not None:
        shift = bias if shift is None else bias + shift
    return weight * norm.weight, shift


def _fold_attention(norm: Norm, att: Attention) -> Attention:
    w_q, b_q = _fold_linear(norm, att.w_q, att.b_q)
    w_k, b_k = _fold_linear(norm, att.w_k, att.b_k)
    w_v, b_v = _fold_linear(norm, att.w_v, att.b_v)
    b_o = att.b_o
    if b_v is not None:
        per_head = b_v.repeat_interleave(len(w_q) // len(w_v), 0)
        constant = torch.einsum("he,hde->d", per_head, att.w_o)
        b_o = constant if b_o is None else b_o + constant
    return replace(att, w_q=w_q, w_k=w_k, w_v=w_v, b_q=b_q, b_k=b_k, b_v=None, b_o=b_o)


def _fold_mlp(norm: Norm, mlp: Mlp) -> Mlp:
    w_in, b_in = _fold_linear(norm, mlp.w_in, mlp.b_in)
    w_gate, b_gate = (None, None) if mlp.w_gate is None else _fold_linear(norm, mlp.w_gate, mlp.b_gate)
    return replace(mlp, w_in=w_in, b_in=b_in, w_gate=w_gate, b_gate=b_gate)
