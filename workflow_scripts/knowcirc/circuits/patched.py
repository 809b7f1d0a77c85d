"""The forward pass of a circuit: every receiver reads only the senders that its edges let through.

What an absent edge delivers is the ablation: nothing (zero), or the sender's output on a corrupted prompt (patch)
or its mean over prompts (mean). Attention output biases belong to no sender and are always read.

Where the heads' sum is normed before it is added (Gemma 2, OLMo 2), a head's output is its part of the normed sum: what
its output matrix gives, at the scale that the norm has in the same run. The scale is that of all heads of the layer,
whether anything reads them or not; so a head's part follows what the others read, too.

Prompts are rows of equal length, or a token tree of prompts of any lengths, which computes once what they share; there
the batch axis is 1 and a position is a node.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from knowcirc.circuits.graph import EdgeMatrix, Graph
from knowcirc.models.token_tree import Layout, Prompts, layout_of, mix
from knowcirc.models.transformer import HookPoint, Transformer

Outputs = Float[Tensor, "src batch pos d_model"]


@dataclass(frozen=True, slots=True)
class Run:
    """A plain forward pass taken apart: what each sender wrote and each layer's residual stream held."""

    outputs: Outputs
    before_attention: Float[Tensor, "layer batch pos d_model"]
    before_mlp: Float[Tensor, "layer batch pos d_model"]
    final: Float[Tensor, "batch pos d_model"]


@torch.no_grad()
def record(model: Transformer, graph: Graph, prompts: Prompts) -> Run:
    """The outputs of all senders on the prompts, and the residual stream that each layer read."""
    layout = layout_of(prompts)
    x = layout.embed(model)
    outputs, streams = [x[None]], []
    middles: list[Tensor] = []

    def hook(point: HookPoint, value: Tensor) -> Tensor:
        if point == "attention":  # summed head by head, so that what senders wrote adds up to the stream
            return outputs[-1].sum(0) + output_bias(model, layer)
        if point == "mlp_in":
            middles.append(value)
        elif point == "mlp":
            outputs.append(value[None])
        return value

    for layer in range(graph.n_layers):
        streams.append(x)
        mixed = mix(model, layer, x, layout)
        outputs.append(model.head_outputs(layer, mixed).permute(2, 0, 1, 3))
        x = model.finish(layer, x, mixed, hook)
    return Run(torch.cat(outputs), torch.stack(streams), torch.stack(middles), x)


def output_bias(model: Transformer, layer: int) -> Tensor | float:
    """What a layer's attention writes beside its heads; 0 without a bias."""
    bias = model.blocks[layer].attention.b_o
    return 0.0 if bias is None else bias


@torch.no_grad()
def run_circuit(
    model: Transformer,
    graph: Graph,
    edges: EdgeMatrix,
    prompts: Prompts,
    *,
    ablated: Outputs | None = None,
) -> Float[Tensor, "prompt vocab"]:
    """Next-token logits of the circuit `edges` on prompts of equal length, or on a tree of prompts.

    `ablated` holds what absent edges deliver, in the layout of the prompts; None is zero ablation.
    """
    layout = layout_of(prompts)
    x = layout.embed(model)
    kept = torch.from_numpy(np.ascontiguousarray(edges.T)).to(x)
    beyond = x.new_empty(graph.n_src, *x.shape)  # what a kept sender delivers beyond its ablated value
    constant: Tensor | float = 0.0  # what ablated senders and biases have delivered so far

    def write(senders: slice, outputs: Tensor) -> None:
        nonlocal constant
        beyond[senders] = outputs
        if ablated is not None:
            beyond[senders] -= ablated[senders]
            constant = constant + ablated[senders].sum(0)

    def read(senders: slice, receivers: slice) -> Tensor:
        incoming = (kept[receivers, senders] @ beyond[senders].flatten(1)).unflatten(1, x.shape)
        return incoming + constant if isinstance(constant, Tensor) else incoming  # without biases nothing is added

    write(slice(0, 1), x[None])
    for layer in range(graph.n_layers):
        queries, values = graph.reads(layer, "q"), graph.reads(layer, "v")
        receiver, sender = graph.mlp_in(layer), graph.mlp(layer)
        reads = read(graph.before(layer), slice(queries.start, values.stop))
        heads = _heads(model, layout, layer, *reads.split((graph.n_heads, graph.n_kv, graph.n_kv)))
        beside = read(graph.before(layer), slice(receiver, receiver + 1)) if graph.parallel else None
        constant = constant + output_bias(model, layer)
        write(graph.heads(layer), heads)
        incoming = read(graph.before_mlp(layer), slice(receiver, receiver + 1)) if beside is None else beside
        write(slice(sender, sender + 1), model.mlp(layer, incoming))
    final = read(slice(0, graph.n_src), slice(graph.final, graph.final + 1))
    return model.unembed(layout.at_ends(final[0]))


def _heads(
    model: Transformer,
    layout: Layout,
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
    pattern = layout.pattern(model, layer, layout.turn(model, q), _all_heads(layout.turn(model, k), model))
    mixed = torch.einsum("bhqk,bkhe->hbqe", pattern, _all_heads(v, model))
    return block.shares(att.write(range(len(q_in)), mixed))


def _all_heads(x: Tensor, model: Transformer) -> Tensor:
    return x if x.shape[2] == model.shape.n_heads else x.repeat_interleave(model.shape.n_heads // x.shape[2], 2)
