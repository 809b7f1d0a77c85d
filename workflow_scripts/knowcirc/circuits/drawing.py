"""A circuit made small enough to draw: its main edges, and how many edges run between layers in the whole."""

import re

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from knowcirc.circuits.circuit import Circuit
from knowcirc.circuits.graph import Graph

NODE = re.compile(r"^[am](\d+)(?:\.h\d+)?$")


def layer_of(name: str, n_layers: int) -> int:
    """A node's layer: -1 for the input, `n_layers` for the logits.

    >>> layer_of("a5.h3", 30), layer_of("m7", 30), layer_of("input", 30), layer_of("logits", 30)
    (5, 7, -1, 30)
    """
    if name in ("input", "logits"):
        return -1 if name == "input" else n_layers
    match = NODE.match(name)
    if match is None:
        raise ValueError(f"{name!r} is no node name")
    return int(match[1])


def node_kind(name: str) -> str:
    """`head`, `mlp`, `input` or `logits`."""
    return name if name in ("input", "logits") else {"a": "head", "m": "mlp"}[name[0]]


def flows(graph: Graph, circuit: Circuit) -> Float[ndarray, "src dst"]:
    """How much of the logits' inflow passes each edge, were every node's inflow split by its edges' absolute scores.

    The edges into the logits share 1; what passes a node is shared among the edges into it. So an edge counts for what
    it matters to the answer, where scores alone count what matters to a node: the first layers' scores are the largest
    of ACDC's, since nothing works without them.

    Raises:
        ValueError: if the circuit has no scores.
    """
    if circuit.scores is None:
        raise ValueError("a circuit without scores has no strongest edges")
    strength = np.where(circuit.edges, np.abs(np.nan_to_num(circuit.scores)), 0.0).astype(np.float64)
    into = strength.sum(0)
    shares = np.divide(strength, into, out=np.zeros_like(strength), where=into > 0)
    through = np.zeros(graph.n_dst)
    through[graph.final] = 1.0
    passed = shares * through
    for source in graph.latest_first:
        receivers = graph.owners[:, source]
        inflow = into * receivers
        if inflow.any():
            inflow *= passed[source].sum() / inflow.sum()
            through += inflow
            passed[:, receivers] = shares[:, receivers] * through[receivers]
    return passed


def strongest(graph: Graph, circuit: Circuit, n_edges: int) -> Circuit:
    """The circuit's edges that most of the flow passes and that form paths from the input to the logits.

    Edges are taken from the largest flow on until `n_edges` of them are connected.
    """
    passed = np.where(circuit.edges, flows(graph, circuit), -1.0)
    order = np.argsort(-passed, axis=None, kind="stable")[: circuit.n_edges]
    chosen = np.zeros_like(circuit.edges)
    best = chosen
    for low in range(0, len(order), 5):
        chosen.flat[order[low : low + 5]] = True
        connected = graph.connected(chosen)
        if connected.sum() > n_edges and best.any():
            break
        best = connected
    return Circuit(circuit.method, best, circuit.scores)


def draw(graph: Graph, circuit: Circuit, n_edges: int) -> dict[str, object]:
    """Nodes and edges of the simplified circuit, and edge counts between layers of the whole one.

    K/V inputs of a group are drawn at every query head of the group that is in the drawing.
    """
    small, passed = strongest(graph, circuit, n_edges), flows(graph, circuit)
    alive = {graph.src_names[i] for i in np.flatnonzero(graph.nodes(small.edges))} | {"logits"}
    edges: list[dict[str, object]] = []
    for src, dst in graph.edges(small.edges):
        kind = graph.dst_names[dst].rstrip(">").partition("<")[2] or None
        score = float(circuit.scores[src, dst]) if circuit.scores is not None else None
        for reader in _readers(graph, dst, alive):
            named = {"src": graph.src_names[src], "dst": reader, "kind": kind}
            edges.append({**named, "score": score, "flow": float(passed[src, dst])})
    nodes = [
        {"name": name, "layer": layer_of(name, graph.n_layers), "kind": node_kind(name), "shown": True}
        for name in sorted(alive, key=lambda name: (layer_of(name, graph.n_layers), name))
    ]
    return {"nodes": nodes, "edges": edges, "whole": {"layer_edges": _between_layers(graph, circuit)}}


def _readers(graph: Graph, dst: int, alive: set[str]) -> list[str]:
    """The drawn nodes that compute from a receiver: every living head of a K/V group."""
    if dst == graph.final:
        return ["logits"]
    names = [graph.src_names[i] for i in np.flatnonzero(graph.owners[dst])]
    return [name for name in names if name in alive]


def _between_layers(graph: Graph, circuit: Circuit) -> list[dict[str, int]]:
    counts: dict[tuple[int, int], int] = {}
    for src, dst in graph.edges(circuit.edges):
        receiver = graph.dst_names[dst].partition("<")[0]
        key = (layer_of(graph.src_names[src], graph.n_layers), layer_of(receiver, graph.n_layers))
        counts[key] = counts.get(key, 0) + 1
    return [{"src_layer": a, "dst_layer": b, "count": n, "weight": n} for (a, b), n in sorted(counts.items())]
