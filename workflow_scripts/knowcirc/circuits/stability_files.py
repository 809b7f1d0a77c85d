"""Several circuit files of one model: read in one view, how often each edge is in, and their consensus as a file."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from knowcirc.circuits.circuit import Circuit
from knowcirc.circuits.export import document_of, expanded, read_circuit
from knowcirc.circuits.graph import EdgeMatrix, Graph
from knowcirc.circuits.stability import consensus, frequencies, sized_consensus
from knowcirc.files import read_json

METHOD = "consensus"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Alike:
    """Circuits of one graph, the width of its model, and the weight processing that they were found under."""

    graph: Graph
    circuits: list[Circuit]
    d_model: int
    processings: tuple[str, ...]


def read_alike(paths: Sequence[Path]) -> Alike:
    """The circuits of files, all of query heads where some are.

    Raises:
        ValueError: naming two files of different models.
    """
    read = [read_circuit(path) for path in paths]
    if len({graph.kv for graph, _ in read}) > 1:  # one has K/V heads' names, another query heads'
        read = [expanded(graph, circuit) for graph, circuit in read]
    graph = read[0][0]
    for path, (other, _) in zip(paths, read, strict=True):
        if other != graph:
            sizes = [f"{each.n_layers} layers of {each.n_heads} heads ({each.n_kv} K/V)" for each in (graph, other)]
            raise ValueError(f"{paths[0]} has {sizes[0]}, {path} {sizes[1]}: give circuits of one model")
    documents = [read_json(path) for path in paths]
    processings = tuple(dict.fromkeys(str(document.get("processing", "none")) for document in documents))
    return Alike(graph, [circuit for _, circuit in read], int(documents[0]["cfg"].get("d_model", 0)), processings)


def frequency_table(graph: Graph, circuits: Sequence[EdgeMatrix]) -> pd.DataFrame:
    """Every node and edge of any circuit by name, in how many circuits it is, and in what share of them."""
    edges, nodes = frequencies(circuits), np.sum([graph.nodes(one) for one in circuits], 0)
    found = [("node", name, int(count)) for name, count in zip(graph.src_names, nodes, strict=True)]
    found += [("edge", graph.edge_name(src, dst), int(edges[src, dst])) for src, dst in graph.edges(edges > 0)]
    table = pd.DataFrame([row for row in found if row[2]], columns=["kind", "name", "count"])
    return table.assign(share=table["count"] / len(circuits))


def consensus_document(
    alike: Alike, names: Sequence[str], share: float, n_edges: int | None
) -> tuple[Circuit, dict[str, object]]:
    """The consensus circuit, and its file; an edge's score is the share of the circuits that it is in.

    It holds the edges in at least `share` of the circuits, or, where `n_edges` is given, so many that are in the most;
    of edges in equally many those of the larger scores, on average over the circuits that have scores.

    Raises:
        ValueError: if the circuits were found under different weight processings, or nothing is left of the consensus.
    """
    if len(alike.processings) > 1:
        raise ValueError(
            f"the circuits were found under the weight processings {' and '.join(alike.processings)}; give circuits of "
            "one for a consensus"
        )
    graph, circuits = alike.graph, [one.edges for one in alike.circuits]
    scored = [np.abs(np.nan_to_num(one.scores, nan=0.0)) for one in alike.circuits if one.scores is not None]
    if n_edges is None:
        edges = consensus(graph, circuits, share)
    else:
        edges = sized_consensus(graph, circuits, n_edges, np.mean(scored, 0) if scored else None)
    if not edges.any():
        raise ValueError(
            "no path of the consensus joins the input to the output; take a lower --share, or more --edges"
        )
    found = Circuit(METHOD, edges, frequencies(circuits) / len(circuits))
    about = {"files": [*names], "share": None if n_edges else share, "edges": n_edges}
    extra: dict[str, object] = {"processing": alike.processings[0], "consensus": about}
    return found, document_of(graph, alike.d_model, found, extra)
