"""Circuits node by node: a head's query, key and value inputs taken as one, as Knowledge Circuits counts its edges.

So are the circuits that it has released (files `graph.gv` of graphviz): `<a5.3>` is a head, `<m7>` an
MLP, `embed` and `<resid_post>` the two ends. Circuits of this project are merged to compare with them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from knowcirc.circuits.graph import EdgeMatrix, Graph

SUFFIX = ".gv"
EDGE = re.compile(r'^\s*"?<?([^"<>\s]+)>?"?\s*->\s*"?<?([^"<>\s]+)>?"?\s*[\[;]?')
NODE = re.compile(r"(?:a(\d+)\.(\d+)|m(\d+)|(embed)|(resid_post))")


@dataclass(frozen=True, slots=True)
class MergedCircuit:
    """Edges as pairs of node names (`input`, `a5.h3`, `m7`, `logits`)."""

    edges: frozenset[tuple[str, str]]

    @property
    def nodes(self) -> frozenset[str]:
        """Senders that take part: nodes with an edge out of them, as `Graph.nodes` counts."""
        return frozenset(src for src, _ in self.edges)

    @property
    def n_layers(self) -> int:
        """The least number of layers of a model that has these nodes."""
        found = [int(node[1:].partition(".")[0]) for edge in self.edges for node in edge if node[0] in "am"]
        return max(found, default=-1) + 1


def read_published(path: Path) -> MergedCircuit:
    """The circuit of a `.gv` file.

    Raises:
        ValueError: naming the file and the line that is no edge of a transformer, or if it has no edge.
    """
    edges = set()
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if (found := EDGE.match(line)) is not None:
            edges.add(tuple(_name(node, path, number) for node in found.groups()))
    if not edges:
        raise ValueError(f"{path} holds no edge (NODE -> NODE); give a circuit of Knowledge Circuits, or a .json file")
    return MergedCircuit(frozenset(edges))  # type: ignore[arg-type]


def _name(node: str, path: Path, number: int) -> str:
    found = NODE.fullmatch(node)
    if found is None:
        raise ValueError(f"{path}, line {number}: {node!r} is no node; they are embed, a5.3, m7 and resid_post")
    layer, head, mlp, embedding, _ = found.groups()
    if layer is not None:
        return f"a{layer}.h{head}"
    return f"m{mlp}" if mlp is not None else "input" if embedding else "logits"


def merge(graph: Graph, edges: EdgeMatrix) -> MergedCircuit:
    """A circuit with each head's inputs taken as one; what enters a K/V head enters the query heads of its group.

    As many edges as `Graph.merged` counts.
    """
    alive = graph.nodes(edges)
    pairs = {(graph.src_names[src], "logits") for src in edges[:, graph.final].nonzero()[0]}
    for src, dst in graph.edges(edges):
        for owner in graph.owners[dst].nonzero()[0]:
            if alive[owner]:
                pairs.add((graph.src_names[src], graph.src_names[int(owner)]))
    return MergedCircuit(frozenset(pairs))


def check_fits(circuit: MergedCircuit, path: Path, graph: Graph, other: Path) -> None:
    """Refuse a circuit with nodes that the other's model does not have.

    Raises:
        ValueError: naming both files and such a node.
    """
    names = {*graph.src_names, "logits"}
    if odd := sorted({node for edge in circuit.edges for node in edge} - names):
        sizes = f"{graph.n_layers} layers of {graph.n_heads} heads"
        raise ValueError(f"{path} has {odd[0]}, {other} {sizes}: give two circuits of one model")


def compare_merged(before: MergedCircuit, after: MergedCircuit) -> dict[str, int | float]:
    """Counts of edges and nodes shared, lost and new, and their Jaccard indices, as `overlap.compare` gives them."""
    result: dict[str, int | float] = {}
    for name in ("edges", "nodes"):
        old, new = getattr(before, name), getattr(after, name)
        result |= {f"shared_{name}": len(old & new), f"lost_{name}": len(old - new), f"new_{name}": len(new - old)}
        result[f"jaccard_{name}"] = len(old & new) / len(old | new) if old | new else 1.0
    return result


def merged_differences(before: MergedCircuit, after: MergedCircuit) -> Iterator[dict[str, str]]:
    """Every node and edge of either circuit by name, and whether it is shared, lost (`before` alone) or new."""
    for kind, old, new in (("node", before.nodes, after.nodes), ("edge", before.edges, after.edges)):
        for each in sorted(old | new):  # type: ignore[type-var]
            name = each if isinstance(each, str) else "->".join(each)
            status = "shared" if each in old and each in new else "lost" if each in old else "new"
            yield {"kind": kind, "name": name, "status": status}
