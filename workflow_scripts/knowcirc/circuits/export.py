"""Circuits as files: JSON in the notation of EAP-IG and MIB, DOT for graphviz, NPZ between rules."""

import json
import math
from collections.abc import Mapping
from operator import index
from pathlib import Path
from typing import get_args

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from knowcirc.circuits.circuit import Circuit, Scores
from knowcirc.circuits.graph import EdgeMatrix, Graph
from knowcirc.files import atomic
from knowcirc.models.shape import Shape
from knowcirc.models.table import KvView

LARGEST = 4096  # layers or heads of a model


def document_of(graph: Graph, d_model: int, circuit: Circuit, extra: dict[str, object]) -> dict[str, object]:
    """A circuit as its JSON file holds it: what EAP-IG's `Graph.from_json` and MIB's evaluation read, and more beside.

    Every edge has a score, whether it is in the circuit, and whether it was tested; one that was not has the score 0.
    K/V inputs have the names of query heads. Where `cfg.kv` is `grouped`, the inputs of the query heads that share a
    K/V head are one: their edges are alike. `extra` (prompts, settings) stands beside.
    """
    cfg = {
        "n_layers": graph.n_layers,
        "n_heads": graph.n_heads,
        "n_kv": graph.n_kv,
        "kv": graph.kv,
        "d_model": d_model,
        "parallel_attn_mlp": graph.parallel,
    }
    wide, same = expanded(graph, circuit)
    alive = wide.nodes(same.edges)
    nodes = {name: {"in_graph": bool(alive[i])} for i, name in enumerate(wide.src_names)}
    nodes["logits"] = {"in_graph": bool(same.edges[:, wide.final].any())}
    scores = np.full(wide.valid.shape, np.nan) if same.scores is None else same.scores
    tested = np.isfinite(scores)
    edges = {
        wide.edge_name(src, dst): {
            "score": float(scores[src, dst]) if tested[src, dst] else 0.0,
            "in_graph": bool(same.edges[src, dst]),
            "tested": bool(tested[src, dst]),
        }
        for src, dst in wide.edges()
    }
    return {"cfg": cfg, "method": circuit.method, **extra, "nodes": nodes, "edges": edges}


def write_circuit(path: Path, graph: Graph, shape: Shape, circuit: Circuit, extra: dict[str, object]) -> None:
    """Write a circuit as JSON (`document_of`)."""
    write_document(path, document_of(graph, shape.d_model, circuit, extra))


def write_document(path: Path, document: dict[str, object]) -> None:
    """Write a circuit file in one line: it lists every edge of the model."""
    with atomic(path) as part:
        part.write_text(json.dumps(document, allow_nan=False), "utf-8")


def read_circuit(path: Path) -> tuple[Graph, Circuit]:
    """The graph and circuit of a JSON file: of `write_circuit`, or of EAP-IG. Edges that were not tested score NaN.

    Raises:
        ValueError: naming the file and what is wrong with it.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
        cfg, listed = document["cfg"], document["edges"]
        entries = {name: _entry(name, entry) for name, entry in listed.items()}
        n_heads, kv = index(cfg["n_heads"]), cfg.get("kv", "per_head")
        sizes = index(cfg["n_layers"]), n_heads, index(cfg.get("n_kv", n_heads))
        if not all(1 <= size <= LARGEST for size in sizes) or n_heads % sizes[2]:
            raise ValueError(f"cfg has {sizes[0]} layers, {n_heads} heads and {sizes[2]} K/V heads")
        method, parallel = document.get("method", "unknown"), bool(cfg.get("parallel_attn_mlp", False))
    except FileNotFoundError:
        raise ValueError(f"circuit file {path} does not exist") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is no circuit file ({type(error).__name__}: {error})") from None
    if kv not in get_args(KvView):
        raise ValueError(f"{path}: cfg.kv {kv!r} is none of {', '.join(get_args(KvView))}")
    graph = Graph(*sizes, kv, parallel)
    if graph.n_kv < 1 or n_heads % graph.n_kv or (kv == "per_head" and graph.n_kv != n_heads):
        raise ValueError(f"{path}: cfg.n_kv {graph.n_kv} does not fit {n_heads} heads ({kv})")
    wide, source = _per_head(graph)
    places = {wide.edge_name(src, dst): (src, dst) for src, dst in wide.edges()}
    if unknown := sorted(set(entries) - set(places)):
        raise ValueError(f"{path}: edge {unknown[0]!r} ({len(unknown)} in all) is not in the graph that cfg describes")
    edges = np.zeros_like(wide.valid)
    scores = np.where(wide.valid, np.nan, 0.0)
    for name, (in_graph, score) in entries.items():
        edges[places[name]], scores[places[name]] = in_graph, score
    first = np.unique(source, return_index=True)[1]
    alike = (edges == edges[:, first][:, source]) & _same(scores, scores[:, first][:, source])
    if not alike.all():
        src, dst = np.argwhere(~alike)[0]
        raise ValueError(
            f"{path}: edge {wide.edge_name(int(src), int(dst))!r} differs from that of another query head of its K/V "
            "head, and cfg.kv grouped says that they are one; take cfg.kv and cfg.n_kv out to read query heads"
        )
    found = scores[:, first] if np.isfinite(scores[wide.valid]).any() else None
    return graph, Circuit(method, edges[:, first], found)


def _entry(name: str, entry: Mapping[str, object]) -> tuple[bool, float]:
    """An edge's place in the circuit, and its score; NaN where it was not tested (null, in files of other programs)."""
    in_graph, score = entry["in_graph"], entry["score"]
    if not isinstance(in_graph, bool):
        raise TypeError(f"edge {name}: in_graph {in_graph!r} is neither true nor false")
    if score is None or not entry.get("tested", True):
        return in_graph, math.nan
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        raise TypeError(f"edge {name}: score {score!r} is no finite number")
    return in_graph, float(score)


def _same(one: Scores, other: Scores) -> EdgeMatrix:
    return np.asarray((one == other) | (np.isnan(one) & np.isnan(other)))


def _per_head(graph: Graph) -> tuple[Graph, Int[ndarray, " dst"]]:
    """The per-head view of a graph, and for each of its receivers that of `graph`."""
    wide = Graph(graph.n_layers, graph.n_heads, graph.n_heads, "per_head", graph.parallel)
    source = np.zeros(wide.n_dst, dtype=int)
    for layer in range(graph.n_layers):
        for kind in ("q", "k", "v"):
            narrow = np.arange(graph.n_dst)[graph.reads(layer, kind)]  # type: ignore[arg-type]
            source[wide.reads(layer, kind)] = np.repeat(narrow, graph.n_heads // len(narrow))  # type: ignore[arg-type]
        source[wide.mlp_in(layer)] = graph.mlp_in(layer)
    source[wide.final] = graph.final
    return wide, source


def expanded(graph: Graph, circuit: Circuit) -> tuple[Graph, Circuit]:
    """The circuit in the per-head view of EAP-IG and MIB: what enters a K/V head enters every query head of its group.

    It computes the same; a circuit of the per-head view is returned as it is.
    """
    wide, source = _per_head(graph)
    scores = None if circuit.scores is None else circuit.scores[:, source]
    return wide, Circuit(circuit.method, circuit.edges[:, source], scores)


def write_dot(path: Path, graph: Graph, circuit: Circuit) -> None:
    """Write the circuit's edges as a graphviz digraph, q/k/v as edge labels; K/V inputs are those of query heads."""
    graph, circuit = expanded(graph, circuit)
    lines = ["digraph circuit {", "  rankdir=BT;", "  node [shape=box, fontname=Helvetica];"]
    for src, dst in graph.edges(circuit.edges):
        receiver, _, kind = graph.dst_names[dst].rstrip(">").partition("<")
        label = f' [label="{kind}"]' if kind else ""
        lines.append(f'  "{graph.src_names[src]}" -> "{receiver}"{label};')
    with atomic(path) as part:
        part.write_text("\n".join([*lines, "}", ""]), "utf-8")


def save_circuits(path: Path, circuits: dict[str, Circuit]) -> None:
    """Keep circuits of one graph by name: edges, scores where there are any, and circuits that the search passed."""
    arrays: dict[str, np.ndarray] = {}
    for name, circuit in circuits.items():
        arrays[f"{name}/edges"] = circuit.edges
        if circuit.scores is not None:
            arrays[f"{name}/scores"] = circuit.scores.astype(np.float32)
        if circuit.path:
            arrays[f"{name}/sizes"] = np.array([*circuit.path], dtype=np.float64)
            arrays[f"{name}/path"] = np.stack([*circuit.path.values()])
    with atomic(path) as part, part.open("wb") as handle:
        np.savez_compressed(handle, allow_pickle=False, **arrays)


def load_circuits(path: Path, method: str) -> dict[str, Circuit]:
    """The circuits of `save_circuits`."""
    with np.load(path, allow_pickle=False) as arrays:
        names = [key.removesuffix("/edges") for key in arrays.files if key.endswith("/edges")]
        circuits = {}
        for name in names:
            sizes = arrays[f"{name}/sizes"].tolist() if f"{name}/sizes" in arrays.files else []
            passed = dict(zip(sizes, arrays[f"{name}/path"], strict=True)) if sizes else {}
            circuits[name] = Circuit(method, arrays[f"{name}/edges"], arrays.get(f"{name}/scores"), passed)
        return circuits
