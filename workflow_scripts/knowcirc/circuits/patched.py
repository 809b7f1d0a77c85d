"""The forward pass of a circuit: every receiver hears only the senders that its edges let through.

What an absent edge delivers is the ablation: nothing (zero), or the sender's output on a corrupted prompt (patch)
or its mean over prompts (mean). Attention output biases belong to no sender and are always heard.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from knowcirc.circuits.graph import EdgeMatrix, Graph
from knowcirc.models.transformer import Transformer

Outputs = Float[Tensor, "src batch pos d_model"]


@dataclass(frozen=True, slots=True)
class Run:
    """A plain forward pass taken apart: what each sender wrote and each layer's residual stream held."""

    outputs: Outputs
    before_attention: Float[Tensor, "layer batch pos d_model"]
    before_mlp: Float[Tensor, "layer batch pos d_model"]
    final: Float[Tensor, "batch pos d_model"]


@torch.no_grad()
def record(model: Transformer, graph: Graph, ids: Int[Tensor, "batch pos"]) -> Run:
    """The outputs of all senders on `ids`, and the residual stream that each layer read."""
    x = model.embed(ids)
    outputs, streams, middles = [x[None]], [], []
    for layer in range(graph.n_layers):
        streams.append(x)
        _, mixed = model.mix(layer, x)
        heads = model.head_outputs(layer, mixed).permute(2, 0, 1, 3)
        x = x + heads.sum(0) + _output_bias(model, layer)
        middles.append(x)
        mlp = model.mlp(layer, x)
        x = x + mlp
        outputs += [heads, mlp[None]]
    return Run(torch.cat(outputs), torch.stack(streams), torch.stack(middles), x)


def _output_bias(model: Transformer, layer: int) -> Tensor | float:
    bias = model.blocks[layer].attention.b_o
    return 0.0 if bias is None else bias


def _read(
    outputs: Outputs, ablated: Outputs | None, kept: Float[Tensor, "src dst"], bias: Tensor | float
) -> Float[Tensor, "dst batch pos d_model"]:
    """What receivers hear: kept senders' outputs, the ablation of the others, the biases passed so far."""
    heard = torch.einsum("sbpd,sr->rbpd", outputs, kept)
    if ablated is not None:
        heard = heard + torch.einsum("sbpd,sr->rbpd", ablated, 1 - kept)
    return heard + bias


@torch.no_grad()
def run_circuit(
    model: Transformer,
    graph: Graph,
    edges: EdgeMatrix,
    ids: Int[Tensor, "batch pos"],
    *,
    ablated: Outputs | None = None,
    without: Bool[ndarray, " src"] | None = None,
) -> Float[Tensor, "batch vocab"]:
    """Next-token logits of the circuit `edges` on prompts of equal length.

    `ablated` holds what absent edges deliver; None is zero ablation. `without`
    marks senders whose output is set to zero besides (the ablation of whole heads).
    """
    x = model.embed(ids)
    kept = torch.from_numpy(np.ascontiguousarray(edges)).to(x)
    outputs = x.new_zeros(graph.n_src, *x.shape)
    outputs[0] = x
    _silence(outputs, slice(0, 1), without)
    bias: Tensor | float = 0.0

    def hear(senders: slice, receivers: slice) -> Tensor:
        rest = None if ablated is None else ablated[senders]
        return _read(outputs[senders], rest, kept[senders, receivers], bias)

    for layer in range(graph.n_layers):
        queries, values = graph.reads(layer, "q"), graph.reads(layer, "v")
        reads = hear(graph.before(layer), slice(queries.start, values.stop))
        outputs[graph.heads(layer)] = _heads(model, layer, *reads.split((graph.n_heads, graph.n_kv, graph.n_kv)))
        bias = bias + _output_bias(model, layer)
        _silence(outputs, graph.heads(layer), without)
        receiver, sender = graph.mlp_in(layer), graph.mlp(layer)
        outputs[sender] = model.mlp(layer, hear(graph.before_mlp(layer), slice(receiver, receiver + 1))[0])
        _silence(outputs, slice(sender, sender + 1), without)
    final = hear(slice(0, graph.n_src), slice(graph.final, graph.final + 1))
    return model.unembed(final[0, :, -1])


def _silence(outputs: Tensor, senders: slice, without: ndarray | None) -> None:
    if without is not None and without[senders].any():
        outputs[senders][torch.from_numpy(without[senders])] = 0


def _heads(
    model: Transformer,
    layer: int,
    q_in: Float[Tensor, "head batch pos d_model"],
    k_in: Float[Tensor, "kv batch pos d_model"],
    v_in: Float[Tensor, "kv batch pos d_model"],
) -> Float[Tensor, "head batch pos d_model"]:
    """The outputs of a layer's heads when each reads inputs of its own."""
    block, att = model.blocks[layer], model.blocks[layer].attention
    readers = [head * len(att.w_k) // len(k_in) for head in range(len(k_in))]  # weights repeat in the per-head view
    q = att.read("q", range(len(q_in)), block.norm1(q_in))
    k, v = att.read("k", readers, block.norm1(k_in)), att.read("v", readers, block.norm1(v_in))
    q, k, v = (x.permute(1, 2, 0, 3) for x in (q, k, v))
    pattern = model.pattern(model.turn(q, 0), _all_heads(model.turn(k, 0), model))
    mixed = torch.einsum("bhqk,bkhe->hbqe", pattern, _all_heads(v, model))
    return att.write(range(len(q_in)), mixed)


def _all_heads(x: Tensor, model: Transformer) -> Tensor:
    return x if x.shape[2] == model.shape.n_heads else x.repeat_interleave(model.shape.n_heads // x.shape[2], 2)
