"""Circuits side by side: edges and nodes shared, lost and new; and where in the network a circuit lies."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat

import numpy as np

from knowcirc.circuits.graph import EdgeMatrix, Graph
from knowcirc.statistics import bootstrap, columns

KINDS = ("nodes", "edges")


def compare(graph: Graph, before: EdgeMatrix, after: EdgeMatrix) -> dict[str, int | float]:
    """Counts of edges and nodes shared, lost and new, and their Jaccard indices (0 to 1)."""
    result: dict[str, int | float] = {}
    sets = (("edges", before, after), ("nodes", graph.nodes(before), graph.nodes(after)))
    for name, old, new in sets:
        union = int((old | new).sum())
        result[f"shared_{name}"] = int((old & new).sum())
        result[f"lost_{name}"] = int((old & ~new).sum())
        result[f"new_{name}"] = int((new & ~old).sum())
        result[f"jaccard_{name}"] = result[f"shared_{name}"] / union if union else 1.0
    return result


def overlaps(graph: Graph, pairs: Iterable[tuple[EdgeMatrix, Sequence[EdgeMatrix]]]) -> dict[str, list[float]]:
    """Jaccard indices of nodes and of edges, a value a pair: of a circuit with others, the mean over these."""
    found = [[compare(graph, edges, other) for other in others] for edges, others in pairs if others]
    return {kind: [float(np.mean([one[f"jaccard_{kind}"] for one in case])) for case in found] for kind in KINDS}


def overlap_columns(
    graph: Graph, pairs: Mapping[str, Iterable[tuple[EdgeMatrix, Sequence[EdgeMatrix]]]]
) -> dict[str, float]:
    """The columns nodes_NAME and edges_NAME of a table for each named list of pairs, intervals over the pairs."""
    row: dict[str, float] = {}
    for name, matched in pairs.items():
        for kind, values in overlaps(graph, matched).items():
            row |= columns(f"{kind}_{name}", bootstrap(values))
    return row


def beside(
    circuits: Sequence[EdgeMatrix], others: Sequence[Sequence[EdgeMatrix]]
) -> list[tuple[EdgeMatrix, list[EdgeMatrix]]]:
    """Each circuit with one of every other group, in order, and from the first again where a group has fewer."""
    return [(edges, [group[i % len(group)] for group in others]) for i, edges in enumerate(circuits)]


def differences(graph: Graph, before: EdgeMatrix, after: EdgeMatrix) -> Iterator[dict[str, str]]:
    """Every node and edge of either circuit by name, and whether it is shared, lost (`before` alone) or new."""
    for kind, name, old, new in (
        *zip(repeat("node"), graph.src_names, graph.nodes(before), graph.nodes(after), strict=False),
        *(("edge", graph.edge_name(src, dst), before[src, dst], after[src, dst]) for src, dst in graph.edges()),
    ):
        if old or new:
            yield {"kind": kind, "name": name, "status": "shared" if old and new else "lost" if old else "new"}


def component_rows(graph: Graph, relation: str, circuit: EdgeMatrix) -> Iterator[dict[str, str | int | float]]:
    """How much of a relation's circuit lies in the heads, and in the MLP, of each layer (KC Fig. 2).

    `frequency` is the share of a layer's heads that are nodes of the circuit (of its MLP 0 or 1), `edge_share` that of
    the possible edges out of these that the circuit holds.
    """
    alive = graph.nodes(circuit)
    for layer in range(graph.n_layers):
        mlp = slice(graph.mlp(layer), graph.mlp(layer) + 1)
        for component, nodes in (("head", graph.heads(layer)), ("mlp", mlp)):
            yield {
                "relation": relation,
                "component": component,
                "layer": layer,
                "frequency": float(alive[nodes].mean()),
                "edge_share": float(circuit[nodes].sum() / graph.valid[nodes].sum()),
            }
