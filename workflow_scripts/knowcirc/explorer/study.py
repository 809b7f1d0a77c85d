"""The circuits of a study, in the order of the page: the showcase's, those of edited weights, those of relations."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from knowcirc.circuits.export import load_circuits, read_circuit
from knowcirc.circuits.graph import Graph
from knowcirc.explorer.packing import Shown
from knowcirc.files import read_json

ORIGINAL = "original weights"


def showcase_circuit(path: Path, relation: str) -> Shown:
    """The circuit of the study's showcase fact."""
    graph, circuit = read_circuit(path)
    document = read_json(path)
    about = (("prompt", str(document.get("prompt", ""))), ("answer", str(document.get("answer", ""))))
    return Shown("showcase", f"{about[0][1]} → {about[1][1].strip()}", "Showcase fact", graph, circuit, relation, about)


def relation_circuits(graph: Graph, path: Path, method: str) -> list[Shown]:
    """The circuits of all relations that a method finds.

    Raises:
        ValueError: if they are of another graph.
    """
    return [
        Shown(f"{method}/{name}", name, f"Relations, by {method}", graph, circuit, name)
        for name, circuit in fitting(graph, path, method).items()
    ]


def edited_circuits(
    graph: Graph, paths: Mapping[str, Path], meta: Mapping[str, Any], relation: str, labels: Mapping[str, str]
) -> list[Shown]:
    """The circuits of an edited fact and of an unrelated one, by weights: the model's own (`none`) and each editor's.

    `meta` is that of figure edited_circuits: edit, prompts and method; `labels` are the editors' names.
    """
    edit, found = meta["edit"], []
    change = f"{edit['subject']}: {str(edit['old']).strip()} → {str(edit['new']).strip()}"
    for prompt, text in meta["prompts"].items():
        for weights, path in paths.items():
            circuit = fitting(graph, path, str(meta["method"][prompt]))[prompt]
            name = labels.get(weights, ORIGINAL)
            about = (("prompt", str(text)), ("weights", name), ("edit", change))
            group = f"Edited weights: {prompt} fact ({text})"
            found.append(
                Shown(f"edits/{weights}/{prompt}", f"{prompt} fact, {name}", group, graph, circuit, relation, about)
            )
    return found


def fitting(graph: Graph, path: Path, method: str) -> dict[str, Any]:
    """The circuits of a file, each held against the graph.

    Raises:
        ValueError: naming the file whose circuits are of another graph, or that holds none.
    """
    circuits = load_circuits(path, method)
    if not circuits:
        raise ValueError(f"{path} holds no circuits; give a file of a study's folder circuits/")
    for name, circuit in circuits.items():
        if circuit.edges.shape != graph.valid.shape:
            raise ValueError(
                f"{path}: circuit {name} has {circuit.edges.shape[0]} senders and {circuit.edges.shape[1]} receivers, "
                f"the model {graph.n_src} and {graph.n_dst}; give circuits of one model and one view of K/V inputs"
            )
    return circuits


def graph_of_array(shape: Sequence[int], graphs: Sequence[Graph]) -> Graph | None:
    """The first of the graphs whose edges are a matrix of this shape, if any is."""
    return next((graph for graph in graphs if graph.valid.shape == tuple(shape)), None)
