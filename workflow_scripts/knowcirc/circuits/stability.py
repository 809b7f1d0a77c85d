"""What circuits of one thing, found several times, share: Jaccard indices, how often each edge is in, a consensus.

Chance stands beside. Two random sets of a and b of N edges share X edges, X hypergeometric, so their Jaccard index is
on average the mean of X / (a + b - X). Of K random circuits with the shares p_i of the edges an edge is in k with the
probability of a Poisson binomial. Random sets of nodes are taken likewise: circuits of a tenth of the edges hold most
nodes, and so share most by chance.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from knowcirc.circuits.circuit import Scores
from knowcirc.circuits.graph import EdgeMatrix, Graph
from knowcirc.circuits.overlap import KINDS, compare

Pairs = Sequence[tuple[int, int]]


def all_pairs(n: int) -> Pairs:
    """Every pair of `n` circuits."""
    return list(itertools.combinations(range(n), 2))


def expected_jaccard(total: int, one: int, other: int) -> float:
    """The mean Jaccard index of two random subsets of `one` and `other` of `total` things; 1 where both are empty.

    >>> round(expected_jaccard(4, 2, 2), 6), expected_jaccard(9, 9, 9)
    (0.388889, 1.0)
    """
    if not one and not other:
        return 1.0
    logs = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, total + 1)))))
    shared = np.arange(max(0, one + other - total), min(one, other) + 1)
    ways = logs[one] - logs[shared] - logs[one - shared]
    ways += logs[total - one] - logs[other - shared] - logs[total - one - other + shared]
    p = np.exp(ways - (logs[total] - logs[other] - logs[total - other]))
    return float((p * shared / (one + other - shared)).sum())


def agreement(graph: Graph, circuits: Sequence[EdgeMatrix], pairs: Pairs, own: EdgeMatrix) -> dict[str, float]:
    """Jaccard indices of edges and nodes over pairs of circuits (mean, least, most), by chance, and with `own`."""
    row: dict[str, float] = {}
    found = [compare(graph, circuits[i], circuits[j]) for i, j in pairs]
    with_own = [compare(graph, own, one) for one in circuits if one is not own]
    totals = {"edges": graph.n_edges, "nodes": graph.n_src}
    for kind in KINDS:
        sizes = [int(one.sum() if kind == "edges" else graph.nodes(one).sum()) for one in circuits]
        values = [float(one[f"jaccard_{kind}"]) for one in found]
        chance = [expected_jaccard(totals[kind], sizes[i], sizes[j]) for i, j in pairs]
        row |= {f"jaccard_{kind}": _mean(values), f"chance_{kind}": _mean(chance)}
        row |= {f"least_{kind}": min(values, default=np.nan), f"most_{kind}": max(values, default=np.nan)}
        row[f"own_{kind}"] = _mean([float(one[f"jaccard_{kind}"]) for one in with_own])
    return row


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def frequencies(circuits: Sequence[EdgeMatrix]) -> Int[ndarray, "src dst"]:
    """In how many of the circuits each edge is."""
    return np.sum(np.stack([*circuits]), 0, dtype=int)


def expected_counts(total: int, sizes: Sequence[int]) -> Float[ndarray, " count"]:
    """How many of `total` edges are in exactly 0, 1, ... of random circuits of these sizes, on average.

    >>> expected_counts(8, [4, 4]).tolist()
    [2.0, 4.0, 2.0]
    """
    found = np.ones(1)
    for size in sizes:
        found = np.convolve(found, [1 - size / total, size / total])
    return total * found


def curve(graph: Graph, circuits: Sequence[EdgeMatrix]) -> Iterator[dict[str, float]]:
    """For each number of runs the edges that are in so many or more, and how many of random circuits would be."""
    sizes = [int(one.sum()) for one in circuits]
    counts, chance = frequencies(circuits), expected_counts(graph.n_edges, sizes)
    for least in range(1, len(circuits) + 1):
        yield {
            **{"at_least": least, "n_runs": len(circuits), "n_edges": int((counts >= least).sum())},
            **{"chance": float(chance[least:].sum()), "size": float(np.mean(sizes))},
        }


def consensus(graph: Graph, circuits: Sequence[EdgeMatrix], share: float) -> EdgeMatrix:
    """The edges that are in at least a share of the circuits, those on no path from input to output dropped."""
    least = int(np.ceil(share * len(circuits) - 1e-9))
    return graph.connected(frequencies(circuits) >= max(1, least))


def sized_consensus(
    graph: Graph, circuits: Sequence[EdgeMatrix], n_edges: int, scores: Scores | None = None
) -> EdgeMatrix:
    """The `n_edges` edges that are in the most circuits, disconnected parts dropped; ties go by absolute score.

    Edges without a score (NaN, or no scores) come last, in the graph's order; those of no circuit are left out.
    """
    counts = np.where(graph.valid, frequencies(circuits), -1).ravel()
    strength = np.zeros(counts.shape) if scores is None else np.abs(np.nan_to_num(scores, nan=0.0)).ravel()
    chosen = np.zeros(counts.size, dtype=bool)
    chosen[np.lexsort((-strength, -counts))[:n_edges]] = True
    return graph.connected((chosen & (counts > 0)).reshape(graph.valid.shape))
