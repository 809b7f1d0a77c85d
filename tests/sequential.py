"""ACDC one edge at a time, a whole forward pass per test: what the fast search must agree with."""

import numpy as np
import torch
from torch import Tensor

from knowcirc.circuits.acdc import PROJECTION, Criterion, EdgeTest
from knowcirc.circuits.graph import EdgeMatrix, Graph
from knowcirc.circuits.metrics import Task
from knowcirc.circuits.patched import Outputs, run_circuit
from knowcirc.models.transformer import Transformer


def measure(model: Transformer, graph: Graph, task: Task, edges: EdgeMatrix, absent: Outputs | None = None) -> float:
    """The task's metric of a circuit, prompt by prompt, each at its own length."""
    logits: list[Tensor] = []
    for row, last in enumerate(task.last.tolist()):
        ids = task.ids[row : row + 1, : last + 1]
        patch = None if absent is None else absent[:, row : row + 1, : last + 1]
        logits.append(run_circuit(model, graph, edges, ids, ablated=patch)[0])
    return float(task.measure(torch.stack(logits)))


def order_of(graph: Graph, receiver: int, edges: EdgeMatrix) -> list[int]:
    """Senders of a receiver: from the last layer down, the MLP before heads 0, 1, ...; the embedding last."""
    senders = [
        sender
        for layer in reversed(range(graph.n_layers))
        for sender in (graph.mlp(layer), *(graph.head(layer, head) for head in range(graph.n_heads)))
    ]
    return [sender for sender in [*senders, 0] if edges[sender, receiver]]


def receivers_of(graph: Graph) -> list[list[int]]:
    """Receivers in ACDC's order, those of a layer's heads together (their projections come before their senders)."""
    groups = [[graph.final]]
    for layer in reversed(range(graph.n_layers)):
        reads = [range(graph.n_dst)[graph.reads(layer, kind)][::-1] for kind in ("v", "k", "q")]
        groups += [[graph.mlp_in(layer)], [receiver for span in reads for receiver in span]]
    return groups


def sequential_acdc(
    model: Transformer,
    graph: Graph,
    task: Task,
    rule: Criterion,
    *,
    absent: Outputs | None = None,
    edges: EdgeMatrix | None = None,
    only: range | None = None,
) -> tuple[list[EdgeTest], EdgeMatrix, np.ndarray]:
    """Tests in order, the edges that are left and the projections that are kept. `only` limits the receivers."""
    task = task.anchored(model)
    edges = graph.valid.copy() if edges is None else edges.copy()
    projections = graph.projections & edges.any(0)
    tests: list[EdgeTest] = []
    metric = measure(model, graph, task, edges, absent)

    def decide(src: int, dst: int) -> None:
        nonlocal metric
        trial = edges.copy()
        trial[slice(None) if src == PROJECTION else src, dst] = False
        after = measure(model, graph, task, trial, absent)
        score = after - metric
        keep = (abs(score) if rule.absolute else score) >= rule.tau
        tests.append(EdgeTest(src, dst, score, keep))
        if not keep:
            edges[:], metric = trial, after
            if src == PROJECTION:
                projections[dst] = False

    for group in receivers_of(graph):
        for receiver in group:
            dead = receiver != graph.final and not (graph.owners[receiver] & edges.any(1)).any()
            if dead:
                edges[:, receiver] = projections[receiver] = False
        if model.blocks[0].post1 is not None:  # what a dead head reads moves the scale of the others
            metric = measure(model, graph, task, edges, absent)
        group = [receiver for receiver in group if only is None or receiver in only]
        for receiver in group:
            if projections[receiver]:
                decide(PROJECTION, receiver)
        for receiver in group:
            for sender in order_of(graph, receiver, edges):
                decide(sender, receiver)
    return tests, edges, projections
