"""Circuits as files: JSON in the notation of EAP-IG and MIB, DOT for graphviz, NPZ between rules."""

import json
import math
from collections.abc import Sequence
from operator import index
from pathlib import Path
from typing import get_args

import numpy as np

from knowcirc.circuits.circuit import Circuit
from knowcirc.circuits.graph import Graph
from knowcirc.files import atomic
from knowcirc.models.shape import Shape
from knowcirc.models.table import KvView


def write_circuit(path: Path, graph: Graph, shape: Shape, circuit: Circuit, extra: dict[str, object]) -> None:
    """Write every edge of the graph with its score (null: it has none, or NaN) and whether it is in the circuit.

    `cfg.kv` says which K/V inputs the names mean: query heads' (`per_head`, as EAP-IG and MIB read them) or K/V
    heads' (`grouped`). `extra` (method, prompts, settings) stands beside.
    """
    cfg = {
        "n_layers": graph.n_layers,
        "n_heads": graph.n_heads,
        "n_kv": graph.n_kv,
        "kv": graph.kv,
        "d_model": shape.d_model,
        "parallel_attn_mlp": False,
    }
    alive = graph.nodes(circuit.edges)
    nodes = {name: {"in_graph": bool(alive[i])} for i, name in enumerate(graph.src_names)}
    nodes["logits"] = {"in_graph": bool(circuit.edges[:, graph.final].any())}
    scores = np.full(graph.valid.shape, np.nan) if circuit.scores is None else circuit.scores
    edges = {
        graph.edge_name(src, dst): {
            "score": None if math.isnan(scores[src, dst]) else float(scores[src, dst]),
            "in_graph": bool(circuit.edges[src, dst]),
        }
        for src, dst in graph.edges()
    }
    document = {"cfg": cfg, "method": circuit.method, **extra, "nodes": nodes, "edges": edges}
    with atomic(path) as part:
        part.write_text(json.dumps(document), "utf-8")


def read_circuit(path: Path) -> tuple[Graph, Circuit]:
    """The graph and circuit of a JSON file.

    Raises:
        ValueError: naming the file and what is wrong with it.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
        cfg, listed = document["cfg"], document["edges"]
        entries = {name: (bool(entry["in_graph"]), float(entry["score"] or 0.0)) for name, entry in listed.items()}
        n_heads, kv = index(cfg["n_heads"]), cfg.get("kv", "per_head")
        graph = Graph(index(cfg["n_layers"]), n_heads, index(cfg.get("n_kv", n_heads)), kv)
    except FileNotFoundError:
        raise ValueError(f"circuit file {path} does not exist") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no circuit file ({type(error).__name__}: {error})") from None
    if kv not in get_args(KvView):
        raise ValueError(f"{path}: cfg.kv {kv!r} is none of {', '.join(get_args(KvView))}")
    places = {graph.edge_name(src, dst): (src, dst) for src, dst in graph.edges()}
    if unknown := sorted(set(entries) - set(places)):
        raise ValueError(f"{path}: edge {unknown[0]!r} ({len(unknown)} in all) is not in the graph that cfg describes")
    edges = np.zeros_like(graph.valid)
    scores = np.zeros(graph.valid.shape)
    for name, (in_graph, score) in entries.items():
        edges[places[name]], scores[places[name]] = in_graph, score
    return graph, Circuit(document.get("method", "unknown"), edges, scores)


def expanded(graph: Graph, circuit: Circuit) -> tuple[Graph, Circuit]:
    """The circuit in the per-head view of EAP-IG and MIB: what enters a K/V head enters every query head of its group.

    It computes the same; a circuit of the per-head view is returned as it is.
    """
    wide = Graph(graph.n_layers, graph.n_heads, graph.n_heads, "per_head")
    source = np.zeros(wide.n_dst, dtype=int)
    for layer in range(graph.n_layers):
        for kind in ("q", "k", "v"):
            narrow = np.arange(graph.n_dst)[graph.reads(layer, kind)]  # type: ignore[arg-type]
            source[wide.reads(layer, kind)] = np.repeat(narrow, graph.n_heads // len(narrow))  # type: ignore[arg-type]
        source[wide.mlp_in(layer)] = graph.mlp_in(layer)
    source[wide.final] = graph.final
    scores = None if circuit.scores is None else circuit.scores[:, source]
    return wide, Circuit(circuit.method, circuit.edges[:, source], scores)


def write_dot(path: Path, graph: Graph, circuit: Circuit) -> None:
    """Write the circuit's edges as a graphviz digraph, q/k/v as edge labels."""
    lines = ["digraph circuit {", "  rankdir=BT;", "  node [shape=box, fontname=Helvetica];"]
    for src, dst in graph.edges(circuit.edges):
        receiver, _, kind = graph.dst_names[dst].rstrip(">").partition("<")
        label = f' [label="{kind}"]' if kind else ""
        lines.append(f'  "{graph.src_names[src]}" -> "{receiver}"{label};')
    with atomic(path) as part:
        part.write_text("\n".join([*lines, "}", ""]), "utf-8")


def write_views(paths: Sequence[Path], graph: Graph, shape: Shape, circuit: Circuit, extra: dict[str, object]) -> None:
    """Write the circuit as JSON in its own view, as JSON with K/V inputs of query heads (`expanded`), and as DOT."""
    plain, wide, dot = paths
    write_circuit(plain, graph, shape, circuit, extra)
    wide_graph, same = expanded(graph, circuit)
    write_circuit(wide, wide_graph, shape, same, extra)
    write_dot(dot, graph, circuit)


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
