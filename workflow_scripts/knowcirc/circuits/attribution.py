"""Edge attribution patching: score every edge of the graph from a few gradients.

1. Record all senders on the corrupted prompts (or take them as zero) and on the clean ones.
2. Run the clean prompts (`eap`), or prompts interpolated between the two embeddings (`eap-ig`), and take the
   gradient of the loss with respect to what every receiver reads.
3. score(src -> dst) = sum over positions of (corrupted - clean output of src) . (gradient at dst): the first-order
   change of the loss when the edge delivers the corrupted value.

Inputs of a layer's heads hold the same residual stream in an unpatched run, so the gradient at each is had from
the gradient at its projection, through the projection and the norm in closed form: no input is computed twice.
Nor is a position that prompts share: on a token tree the gradient at a node is the sum over its prompts, and so is the
score, since where a clean and a corrupted prompt share a node their outputs differ by the same there.

Sources: Syed et al. 2023 (EAP); Hanna et al. 2024, arXiv 2403.17806 (EAP-IG, integration over inputs).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from knowcirc.circuits.choices import Metric
from knowcirc.circuits.circuit import Scores
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.metrics import losses
from knowcirc.circuits.patched import Outputs, Run, output_bias, record
from knowcirc.models.token_tree import Layout, Prompts, TokenTree, layout_of
from knowcirc.models.transformer import Hook, HookPoint, Transformer, unchanged

Attend = Callable[[Tensor, Tensor], Tensor]
"""Gives the mixed values of heads (batch x pos x head x d_head) from attention pattern and values."""


def attended(
    pattern: Float[Tensor, "batch head pos key"], values: Float[Tensor, "batch key head d_head"]
) -> Float[Tensor, "batch pos head d_head"]:
    """The mixed values of heads, as the network has them."""
    return torch.einsum("bhqk,bkhe->bqhe", pattern, values)


@dataclass(frozen=True, slots=True)
class Targets:
    """What the loss reads at the last position: the answer, the partner's answer where there is one, and the metric.

    Without a metric it is `logit-diff` where there is a partner's answer and `nll` where there is none. `clean` holds
    the whole model's log-probabilities on the clean prompts (filled in by `score_edges`), `lengths` their tokens.
    """

    answers: Int[Tensor, " batch"]
    others: Int[Tensor, " batch"] | None
    metric: Metric | None = None
    clean: Float[Tensor, "batch vocab"] | None = None
    lengths: Int[Tensor, " batch"] | None = None

    def loss(self, logits: Float[Tensor, "batch vocab"]) -> Float[Tensor, " batch"]:
        """The metric prompt by prompt, in its unit (`metrics.py`); lower is better."""
        metric = self.metric or ("nll" if self.others is None else "logit-diff")
        wide = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
        lengths = torch.ones_like(self.answers) if self.lengths is None else self.lengths
        return losses(metric, wide, self.answers, self.others, self.clean, lengths)

    def anchored(self, logits: Float[Tensor, "batch vocab"], lengths: Sequence[int]) -> "Targets":
        """The same targets, measured from the whole model's logits on clean prompts of so many tokens."""
        wide = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
        return replace(self, clean=wide.log_softmax(-1), lengths=torch.tensor(lengths, device=wide.device))


def score_edges(
    model: Transformer,
    graph: Graph,
    clean: Prompts,
    corrupted: Int[Tensor, "_ _"] | TokenTree | None,
    targets: Targets,
    *,
    steps: int = 1,
    attend: Attend = attended,
    hook: Hook = unchanged,
) -> Scores:
    """Scores of all edges, summed over the prompts; unit of the loss, zero outside the graph.

    Prompts are rows of equal length or a token tree; that of the corrupted prompts is the clean one `with_tokens`.
    `steps` 1 is `eap` (gradient on the clean prompt), more is `eap-ig`: the gradient is averaged over inputs
    between the corrupted and the clean embedding. `attend` mixes values where gradients pass, `hook` is given
    what passes the hook points there.

    Raises:
        ValueError: if clean and corrupted prompts differ in length, or a score is not finite.
    """
    runs = record_both(model, graph, clean, corrupted)
    targets = targets.anchored(model.unembed(runs.layout.at_ends(runs.clean.final)), runs.layout.lengths)
    embedded, origin = runs.clean.outputs[0], runs.absent[0]
    difference = runs.absent - runs.clean.outputs
    total = torch.zeros(graph.n_src, graph.n_dst, device=model.device, dtype=difference.dtype)
    for share in interpolation(steps, zero=corrupted is None):
        between = torch.lerp(origin, embedded, share)
        total += score_step(model, graph, runs.layout, between, difference, targets, attend=attend, hook=hook)
    return finished(graph, total / steps)


@dataclass(frozen=True, slots=True)
class Both:
    """The senders' outputs in the clean run, and what absent edges deliver, in one layout."""

    layout: Layout
    clean: Run
    absent: Outputs


def record_both(
    model: Transformer, graph: Graph, clean: Prompts, corrupted: Int[Tensor, "_ _"] | TokenTree | None
) -> Both:
    """The clean run and the corrupted one; without corrupted prompts absent edges deliver nothing.

    Raises:
        ValueError: if clean and corrupted prompts differ in length.
    """
    layout = layout_of(clean)
    if corrupted is not None and layout_of(corrupted).ids.shape != layout.ids.shape:
        raise ValueError(
            f"clean prompts have shape {tuple(layout.ids.shape)}, corrupted ones "
            f"{tuple(layout_of(corrupted).ids.shape)}; a corrupted prompt needs as many tokens as the clean one"
        )
    present = record(model, graph, clean)
    absent = torch.zeros_like(present.outputs) if corrupted is None else record(model, graph, corrupted).outputs
    return Both(layout, present, absent)


def finished(graph: Graph, scores: Float[Tensor, "src dst"]) -> Scores:
    """Scores as they are kept, zero outside the graph.

    Raises:
        ValueError: if one is not finite.
    """
    if not bool(scores.isfinite().all()):
        kind = str(scores.dtype).removeprefix("torch.")
        raise ValueError(f"scores are not finite in {kind}; search in float32 or float64, or mend the model")
    found: Scores = scores.float().cpu().numpy() * graph.valid
    return found


def interpolation(steps: int, *, zero: bool) -> list[float]:
    """Where on the way from the corrupted to the clean embedding gradients are taken.

    One step: the clean prompt. More: k / steps for k = 0 ... steps - 1, as the reference has it. From the zero
    baseline k = 1 ... steps: at an embedding of zero the norms have no direction and gradients overflow.

    >>> interpolation(1, zero=False), interpolation(2, zero=False), interpolation(2, zero=True)
    ([1.0], [0.0, 0.5], [0.5, 1.0])
    """
    if steps == 1:
        return [1.0]
    return [(step + zero) / steps for step in range(steps)]


@dataclass(frozen=True, slots=True)
class Held:
    """Outputs of some senders that a forward pass takes as given: the embedding, a layer's heads, or its MLP."""

    senders: slice
    outputs: Outputs


def score_step(
    model: Transformer,
    graph: Graph,
    layout: Layout,
    embedded: Tensor,
    difference: Tensor,
    targets: Targets,
    *,
    attend: Attend = attended,
    hook: Hook = unchanged,
    held: Held | None = None,
) -> Float[Tensor, "src dst"]:
    """Scores from one gradient, with the network run on `embedded`; nothing passes back through `held` outputs."""
    taps, logits = _tapped_forward(model, graph, layout, embedded, attend, hook, held)
    leaves = [tensor for tap in taps for tensor in (tap.q, tap.k, tap.v, tap.mlp_in)] + [taps[-1].out]
    with torch.enable_grad():
        found = torch.autograd.grad(targets.loss(logits).sum(), leaves, allow_unused=True)
    grads = [torch.zeros_like(leaf) if grad is None else grad for leaf, grad in zip(leaves, found, strict=True)]
    scores = torch.zeros(graph.n_src, graph.n_dst, device=embedded.device, dtype=embedded.dtype)
    delivered = difference.flatten(1)
    for layer, tap in enumerate(taps):
        grad_q, grad_k, grad_v, grad_mlp = grads[4 * layer : 4 * layer + 4]
        before = graph.before(layer)
        block = model.blocks[layer]
        normed = block.norm1(tap.x)
        for kind, heads, grad in _projections(model, graph, grad_q, grad_k, grad_v):
            at_input = block.norm1.vjp(tap.x, block.attention.back(kind, heads, normed, grad))
            scores[before, graph.reads(layer, kind)] = delivered[before] @ at_input.flatten(1).T
        incoming = graph.before_mlp(layer)
        scores[incoming, graph.mlp_in(layer)] = delivered[incoming] @ grad_mlp.flatten()
    scores[:, graph.final] = delivered @ grads[-1].flatten()
    return scores


@dataclass(frozen=True, slots=True)
class _Tap:
    """Tensors of one layer at which gradients are read. Keys and values are repeated for the query heads."""

    x: Float[Tensor, "batch pos d_model"]
    q: Float[Tensor, "batch pos head d_head"]
    k: Float[Tensor, "batch pos head d_head"]
    v: Float[Tensor, "batch pos head d_head"]
    mlp_in: Float[Tensor, "batch pos d_model"]
    out: Float[Tensor, "batch pos d_model"]


@torch.enable_grad()
def _tapped_forward(
    model: Transformer, graph: Graph, layout: Layout, embedded: Tensor, attend: Attend, hook: Hook, held: Held | None
) -> tuple[list[_Tap], Tensor]:
    """A forward pass whose branches read leaves of their own, so that gradients at them are partial ones.

    The MLP's branch reads `mlp_in`, a node of the autograd graph apart from the stream that passes it by.
    """
    if held is not None and held.senders.start == 0:
        embedded = held.outputs[0]
    x = embedded.detach().requires_grad_()
    taps: list[_Tap] = []
    for layer in range(model.shape.n_layers):
        block, att = model.blocks[layer], model.blocks[layer].attention
        normed = block.norm1(x)
        q = att.read_all("q", normed)
        k = model.expand(att.read_all("k", normed)).clone()
        v = model.expand(att.read_all("v", normed)).clone()
        pattern = layout.pattern(model, layer, layout.turn(model, q), layout.turn(model, k))
        hooks = _Apart(model, graph, layer, hook, held)
        out = model.finish(layer, x, attend(pattern, v), hooks)
        taps.append(_Tap(x.detach(), q, k, v, hooks.mlp_in[0], out))
        x = out
    return taps, model.unembed(layout.at_ends(x))


class _Apart:
    """The hook of a layer: the MLP reads a node of its own, which is kept, and held outputs are written."""

    def __init__(self, model: Transformer, graph: Graph, layer: int, hook: Hook, held: Held | None) -> None:
        self.hook = hook
        self.mlp_in: list[Tensor] = []
        self.held: dict[HookPoint, Tensor] = {}
        if held is not None and held.senders == graph.heads(layer):
            self.held["attention"] = held.outputs.sum(0) + output_bias(model, layer)
        if held is not None and held.senders.start == graph.mlp(layer):
            self.held["mlp"] = held.outputs[0]

    def __call__(self, point: HookPoint, value: Tensor) -> Tensor:
        if point != "mlp_in":
            return self.held[point] if point in self.held else self.hook(point, value)
        self.mlp_in.append(self.hook(point, value).clone())
        return self.mlp_in[0]


def _projections(
    model: Transformer, graph: Graph, grad_q: Tensor, grad_k: Tensor, grad_v: Tensor
) -> list[tuple[Literal["q", "k", "v"], Sequence[int], Tensor]]:
    """(kind, heads that read, gradients) of a layer's projections, keys and values as the graph's view has them."""
    if graph.kv == "grouped":
        readers: Sequence[int] = range(graph.n_kv)
        grad_k, grad_v = (grad.unflatten(2, (graph.n_kv, -1)).sum(3) for grad in (grad_k, grad_v))
    else:
        readers = [head // model.shape.group for head in range(graph.n_heads)]
    return [("q", range(graph.n_heads), grad_q), ("k", readers, grad_k), ("v", readers, grad_v)]


def top_edges(graph: Graph, scores: Scores, n_edges: int, *, signed: bool = False) -> ndarray:
    """The circuit of the `n_edges` strongest edges by absolute score, disconnected parts dropped.

    `signed`: those of the highest scores, so that an edge that works against the answer comes last. Of equal scores the
    edge nearer to the output comes first: without it the others lead nowhere.

    Raises:
        ValueError: if `n_edges` is below one or above the graph's number of edges.
    """
    if not 1 <= n_edges <= graph.n_edges:
        raise ValueError(f"edges: {n_edges} is outside 1 ... {graph.n_edges}, the size of this model's graph")
    strength = np.where(graph.valid, scores if signed else np.abs(scores), -np.inf).ravel()
    receivers = np.broadcast_to(np.arange(graph.n_dst), graph.valid.shape).ravel()
    chosen = np.zeros(graph.valid.size, dtype=bool)
    chosen[np.lexsort((-receivers, -strength))[:n_edges]] = True
    return graph.connected(chosen.reshape(graph.valid.shape))
