"""Circuits side by side: edges and nodes shared, lost and new; and where in the network a circuit lies."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat

import numpy as np

from knowcirc.circuits.circuit import Circuit
from knowcirc.circuits.graph import EdgeMatrix, Graph

KINDS = ("nodes", "edges")
log = logging.getLogger(__name__)


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


def overlap_columns(graph: Graph, pairs: Mapping[str, tuple[EdgeMatrix, Sequence[EdgeMatrix]]]) -> dict[str, float]:
    """The columns nodes_NAME and edges_NAME of a table for each named pair: Jaccard indices of a circuit with another.

    With several others it is the mean over these, with none NaN. A pair is one number, so it has no interval.
    """
    row: dict[str, float] = {}
    for name, (edges, others) in pairs.items():
        found = [compare(graph, edges, other) for other in others]
        for kind in KINDS:
            row[f"{kind}_{name}"] = float(np.mean([one[f"jaccard_{kind}"] for one in found])) if found else math.nan
    return row


def own_circuit(circuits: Mapping[str, Circuit], relation: str) -> list[EdgeMatrix]:
    """A relation's own circuit, found on its D_val; empty where it has none, which the log says."""
    if relation not in circuits:
        log.warning("relation %s has no circuit of its own, so what shares one with it is left empty", relation)
        return []
    return [circuits[relation].edges]


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
