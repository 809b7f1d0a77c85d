"""Information-flow routes: which senders make up what is read on the way to the answer, top down, in one forward pass.

1. A sender's importance for what a receiver reads at a position: how much nearer the sum is with it than without, in
   the L1 norm, and never below 0; importances of all senders of a receiver sum to 1:

       importance(z, y) = max(|y| - |y - z|, 0) / sum over senders

   In the same way the positions that a head attends to make up what it writes at a position.
2. A threshold goes down. At each threshold the route begins at the output, at the last position, and takes from every
   receiver on it the senders that are at least as important: so do a head's positions. What is on the route brings in
   its own inputs.
3. The score of an edge is the threshold at which it enters the route at some position, the mean over prompts. A mean of
   routes is none, so an edge scores at most as much as the best one that goes on from its receiver (`as_route`).

The paper's routes go through the residual stream layer by layer; here, as in the whole library, a receiver reads every
earlier sender directly. Attention is taken as given: a head's queries are as important as what it writes, and its keys
as its values are. No answer, no metric and no other prompt is read.

Source: Ferrando and Voita 2024, arXiv 2403.00824.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from knowcirc.circuits.attribution import Targets, finished
from knowcirc.circuits.circuit import Scores
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.patched import Run, record
from knowcirc.models.token_tree import Layout, Prompts, TokenTree, layout_of
from knowcirc.models.transformer import Transformer


def importances(
    parts: Float[Tensor, "src *rows d_model"], whole: Float[Tensor, "*rows d_model"]
) -> Float[Tensor, "src *rows"]:
    """The importance of each part for the whole; they sum to 1, or are all 0 where no part brings the sum nearer."""
    norm = whole.abs().sum(-1)
    near = torch.stack([norm - (whole - part).abs().sum(-1) for part in parts]).clamp_min(0)
    total = near.sum(0)
    return torch.where(total > 0, near / total.clamp_min(torch.finfo(total.dtype).tiny), torch.zeros_like(near))


@dataclass(frozen=True, slots=True)
class Importances:
    """Importances in a run, at its nodes (rows x positions laid one behind the other).

    `attention`, `mlp` and `final` are of senders for what a layer's heads, its MLP and the output read; `sources` of
    the nodes that a head attends to.
    """

    attention: tuple[Float[Tensor, "_ node"], ...]
    sources: tuple[Float[Tensor, "head node node"], ...]
    mlp: tuple[Float[Tensor, "_ node"], ...]
    final: Float[Tensor, "src node"]


@torch.no_grad()
def measure(model: Transformer, graph: Graph, layout: Layout, run: Run) -> Importances:
    """The importances of a recorded run; its batch axis has one row."""
    outputs = run.outputs[:, 0]
    attention, sources, mlp = [], [], []
    for layer in range(graph.n_layers):
        stream = run.before_attention[layer]
        attention.append(importances(outputs[graph.before(layer)], stream[0]))
        sources.append(_sources(model, layer, layout, stream))
        mlp.append(importances(outputs[graph.before_mlp(layer)], run.before_mlp[layer][0]))
    return Importances(tuple(attention), tuple(sources), tuple(mlp), importances(outputs, run.final[0]))


def _sources(
    model: Transformer, layer: int, layout: Layout, stream: Float[Tensor, "1 node d_model"]
) -> Float[Tensor, "head node node"]:
    """How important each node that a head attends to (last axis) is for what the head adds to the stream at a node.

    The scale of a norm behind attention is left out: all parts share it.
    """
    att, after = model.blocks[layer].attention, model.blocks[layer].post1
    normed = model.blocks[layer].norm1(stream)
    q, k = (layout.turn(model, att.read_all(kind, normed)) for kind in ("q", "k"))
    pattern = layout.pattern(model, layer, q, model.expand(k))[0]
    values = att.write(range(len(pattern)), model.expand(att.read_all("v", normed))[0].transpose(0, 1))
    found = []
    for weights, value in zip(pattern, values, strict=True):
        parts = weights.T[..., None] * (value if after is None else value * after.weight)[:, None]
        found.append(importances(parts, parts.sum(0)).T)
    return torch.stack(found)


def route(graph: Graph, found: Importances, path: Int[Tensor, " pos"]) -> Float[Tensor, "src dst"]:
    """The threshold at which each edge enters the route of one prompt, whose nodes are `path`."""
    scores = torch.zeros(graph.n_src, graph.n_dst, dtype=found.final.dtype, device=found.final.device)
    on_route = scores.new_zeros(graph.n_src, len(path))  # the threshold at which a sender enters at a position

    def enter(senders: slice, receiver: int, importance: Tensor, entered: Float[Tensor, " pos"]) -> None:
        thresholds = torch.minimum(importance, entered)
        scores[senders, receiver] = thresholds.amax(1)
        on_route[senders] = torch.maximum(on_route[senders], thresholds)

    last = scores.new_zeros(len(path))
    last[-1] = 1.0
    enter(slice(0, graph.n_src), graph.final, found.final[:, path], last)
    group = graph.n_heads // graph.n_kv
    for layer in range(graph.n_layers - 1, -1, -1):
        enter(graph.before_mlp(layer), graph.mlp_in(layer), found.mlp[layer][:, path], on_route[graph.mlp(layer)])
        written = on_route[graph.heads(layer)].clone()
        sources = found.sources[layer][:, path][:, :, path]
        read = torch.minimum(sources, written[:, :, None]).amax(1).unflatten(0, (graph.n_kv, group)).amax(1)
        importance, before = found.attention[layer][:, path], graph.before(layer)
        for kind, entered in (("q", written), ("k", read), ("v", read)):
            for place, each in enumerate(entered):
                enter(before, graph.reads(layer, kind).start + place, importance, each)  # type: ignore[arg-type]
    return scores


def as_route(graph: Graph, scores: Scores) -> Scores:
    """Scores of which the strongest edges of any size are a route: none is above the best one out of its receiver."""
    found = scores.copy()
    for receiver in range(graph.n_dst - 1, -1, -1):
        if receiver != graph.final:
            on = found[graph.owners[receiver]]
            found[:, receiver] = np.minimum(found[:, receiver], on.max(initial=0.0))
    return found


@torch.no_grad()
def score_edges(
    model: Transformer,
    graph: Graph,
    clean: Prompts,
    corrupted: Int[Tensor, "_ _"] | TokenTree | None = None,
    targets: Targets | None = None,
) -> Scores:
    """Scores of all edges, from 0 to 1, summed over the prompts; corrupted prompts and targets are not read.

    Raises:
        ValueError: if a score is not finite.
    """
    layout = layout_of(clean)
    if not isinstance(layout, TokenTree):
        raise ValueError("information-flow routes are found on a tree of prompts; grow one (`token_tree.grow`)")
    found = measure(model, graph, layout, record(model, graph, layout))
    total = torch.zeros(graph.n_src, graph.n_dst, dtype=found.final.dtype, device=found.final.device)
    for path, length in zip(layout.paths, layout.lengths, strict=True):
        total += route(graph, found, path[:length])
    return finished(graph, total)
