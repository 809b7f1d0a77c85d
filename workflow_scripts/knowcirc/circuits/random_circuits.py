"""Random circuits of a given size: the chance level of everything that a found circuit is measured by."""

import numpy as np

from knowcirc.circuits.graph import EdgeMatrix, Graph

PATIENCE = 20  # paths in a row that bring no new edge, before the rest is drawn edge by edge


def random_circuit(graph: Graph, n_edges: int, seed: int) -> EdgeMatrix:
    """`n_edges` edges, connected: random paths from the embedding to the final stream until the size is reached.

    A path is grown from the final stream down: a random sender of the receiver, then a random input of that
    sender, until the embedding. A path that would exceed the size is replaced by single edges between nodes that
    are already on paths, and so is the rest once paths bring nothing new (circuits of nearly the whole graph); a
    size below the first path's length takes the direct edge.

    Raises:
        ValueError: if the graph has fewer edges.
    """
    if not 0 <= n_edges <= graph.n_edges:
        raise ValueError(f"edges: {n_edges} is outside 0 ... {graph.n_edges}, the size of this model's graph")
    rng = np.random.default_rng(seed)
    senders = [np.flatnonzero(graph.valid[:, dst]) for dst in range(graph.n_dst)]
    inputs = [np.flatnonzero(graph.owners[:, src]) for src in range(graph.n_src)]
    edges = np.zeros_like(graph.valid)
    size = 0
    misses = 0
    while size < n_edges:
        new = [edge for edge in _path(graph, senders, inputs, rng) if not edges[edge]]
        misses = 0 if new else misses + 1
        if size + len(new) > n_edges or misses >= PATIENCE:
            new = _fill(graph, edges, n_edges - size, rng)
            if not new:  # no single edge is left among these nodes: begin anew
                edges[:], size = False, 0
        for edge in new:
            edges[edge] = True
        size += len(new)
    return edges


def _path(
    graph: Graph, senders: list[np.ndarray], inputs: list[np.ndarray], rng: np.random.Generator
) -> list[tuple[int, int]]:
    path, dst = [], graph.final
    while True:
        src = int(rng.choice(senders[dst]))
        path.append((src, dst))
        if src == 0:
            return path
        dst = int(rng.choice(inputs[src]))


def _fill(graph: Graph, edges: EdgeMatrix, n: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """`n` absent edges between a sender that is reached and a receiver that is used: each closes a path."""
    reached = np.array(edges.any(1))
    reached[0] = True
    used = np.array((graph.owners & np.array(edges.any(1))[None]).any(1) & edges.any(0))
    used[graph.final] = True
    free = np.argwhere(graph.valid & ~edges & reached[:, None] & used[None])
    return [(int(s), int(d)) for s, d in free[rng.permutation(len(free))[:n]]]
