"""Circuits as files: what is written comes back, and what is no circuit is refused by name."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from knowcirc.circuits.discovery import Circuit
from knowcirc.circuits.export import expanded, load_circuits, read_circuit, save_circuits, write_circuit, write_dot
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.patched import run_circuit
from knowcirc.circuits.random_circuits import random_circuit
from knowcirc.models import llama
from knowcirc.models.transformer import Shape
from unit.tiny import random_network

SHAPE = Shape("llama", 2, 4, 2, 32, 8, 48, 101)
GRAPHS = [Graph.of(SHAPE, "grouped"), Graph.of(SHAPE, "per_head")]


def circuit(graph: Graph, *, scored: bool = True) -> Circuit:
    draw = np.random.default_rng(0)
    scores = draw.standard_normal(graph.valid.shape) * graph.valid
    edges = graph.connected(graph.valid & (np.abs(scores) > 1.0))
    return Circuit("eap-ig" if scored else "random", edges, scores if scored else None)


@pytest.mark.parametrize("graph", GRAPHS, ids=["grouped", "per_head"])
def test_a_circuit_file_lists_every_edge_and_comes_back(tmp_path: Path, graph: Graph) -> None:
    written = circuit(graph)
    write_circuit(tmp_path / "c.json", graph, SHAPE, written, {"prompts": ["France is"]})
    document = json.loads((tmp_path / "c.json").read_text("utf-8"))
    assert len(document["edges"]) == graph.n_edges
    assert document["prompts"] == ["France is"]
    assert set(document["nodes"]) == {*graph.src_names, "logits"}
    cfg = {"n_layers": 2, "n_heads": 4, "kv": graph.kv, "d_model": 32, "parallel_attn_mlp": False}
    assert cfg.items() <= document["cfg"].items()
    found_graph, found = read_circuit(tmp_path / "c.json")
    assert found_graph == graph
    assert found.method == "eap-ig"
    assert (found.edges == written.edges).all()
    np.testing.assert_array_equal(found.scores, written.scores)


def test_expanded_a_key_input_is_that_of_every_head_of_the_group() -> None:
    narrow, wide = GRAPHS
    found = circuit(narrow)
    graph, same = expanded(narrow, found)
    assert graph == wide
    assert found.scores is not None
    assert same.scores is not None
    for src, dst in wide.edges():
        node, _, kind = wide.dst_names[dst].rstrip(">").partition("<")
        name = wide.dst_names[dst]
        if kind in ("k", "v"):
            layer, head = node.removeprefix("a").split(".h")
            name = f"a{layer}.h{int(head) // 2}<{kind}>"
        source = narrow.dst_names.index(name)
        assert same.edges[src, dst] == found.edges[src, source]
        assert same.scores[src, dst] == found.scores[src, source]
    assert (wide.nodes(same.edges) == narrow.nodes(found.edges)).all()
    assert (expanded(wide, same)[1].edges == same.edges).all()


def test_an_expanded_circuit_computes_the_same() -> None:
    network = random_network("llama").double()
    model = llama.adapt(network.config, network.state_dict())
    graph = Graph.of(model.shape, "grouped")
    edges = random_circuit(graph, graph.n_edges // 3, 0)
    wide, same = expanded(graph, Circuit("random", edges, None))
    ids = torch.tensor([[1, 5, 9, 20]])
    logits = [run_circuit(model, *one, ids) for one in ((graph, edges), (wide, same.edges))]
    torch.testing.assert_close(*logits)


def test_nodes_in_the_file_are_those_with_an_edge(tmp_path: Path) -> None:
    graph = GRAPHS[0]
    edges = np.zeros_like(graph.valid)
    edges[0, graph.dst_names.index("m1")] = edges[graph.mlp(1), graph.final] = True
    write_circuit(tmp_path / "c.json", graph, SHAPE, Circuit("eap", edges, None), {})
    nodes = json.loads((tmp_path / "c.json").read_text("utf-8"))["nodes"]
    assert {name for name, entry in nodes.items() if entry["in_graph"]} == {"input", "m1", "logits"}


def test_a_circuit_without_scores_says_null(tmp_path: Path) -> None:
    written = circuit(GRAPHS[0], scored=False)
    write_circuit(tmp_path / "c.json", GRAPHS[0], SHAPE, written, {})
    entries = json.loads((tmp_path / "c.json").read_text("utf-8"))["edges"].values()
    assert all(entry["score"] is None for entry in entries)
    assert (read_circuit(tmp_path / "c.json")[1].edges == written.edges).all()


def test_a_file_of_eap_ig_is_read_in_the_per_head_view(tmp_path: Path) -> None:
    cfg = {"n_layers": 1, "n_heads": 2, "parallel_attn_mlp": False, "d_model": 8}
    listed = {
        "input->a0.h1<q>": {"score": 0.5, "in_graph": True},
        "a0.h1->logits": {"score": -2.0, "in_graph": True},
        "input->logits": {"score": 0.1, "in_graph": False},
    }
    (tmp_path / "c.json").write_text(json.dumps({"cfg": cfg, "nodes": {}, "edges": listed}), "utf-8")
    graph, found = read_circuit(tmp_path / "c.json")
    assert graph == Graph(1, 2, 2, "per_head")
    assert {graph.edge_name(*edge) for edge in graph.edges(found.edges)} == {"input->a0.h1<q>", "a0.h1->logits"}


CFG = {"n_layers": 1, "n_heads": 2}
EDGE = {"score": 0.5, "in_graph": True}


BAD = {
    "text": ("no json", "is no circuit file"),
    "list": ("[1, 2]", "is no circuit file"),
    "no-cfg": (json.dumps({"edges": {}}), "is no circuit file .*cfg"),
    "no-heads": (json.dumps({"cfg": {"n_layers": 1}, "edges": {}}), "is no circuit file .*n_heads"),
    "unknown-edge": (json.dumps({"cfg": CFG, "edges": {"m0->m9": EDGE}}), r"edge 'm0->m9' \(1 in all\) is not in"),
    "no-in_graph": (json.dumps({"cfg": CFG, "edges": {"input->m0": {"score": 0.5}}}), "in_graph"),
    "no-score": (json.dumps({"cfg": CFG, "edges": {"input->m0": {"in_graph": True}}}), "score"),
    "bad-kv": (json.dumps({"cfg": CFG | {"kv": "shared"}, "edges": {}}), "shared"),
    "bad-layers": (json.dumps({"cfg": CFG | {"n_layers": "one"}, "edges": {}}), "is no circuit file"),
    "edge-list": (json.dumps({"cfg": CFG, "edges": ["input->m0"]}), "is no circuit file"),
}


@pytest.mark.parametrize(("text", "complaint"), BAD.values(), ids=BAD)
def test_a_file_that_is_no_circuit_is_refused_by_name(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "c.json").write_text(text, "utf-8")
    with pytest.raises(ValueError, match=complaint) as error:
        read_circuit(tmp_path / "c.json")
    assert "c.json" in str(error.value)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"circuit file .*none\.json does not exist"):
        read_circuit(tmp_path / "none.json")


@pytest.mark.parametrize("graph", GRAPHS, ids=["grouped", "per_head"])
def test_arrays_of_circuits_come_back_by_name(tmp_path: Path, graph: Graph) -> None:
    circuits = {"country/capital": circuit(graph), "language": circuit(graph, scored=False)}
    save_circuits(tmp_path / "c.npz", circuits)
    found = load_circuits(tmp_path / "c.npz", "eap-ig")
    assert list(found) == ["country/capital", "language"]
    for name, written in circuits.items():
        assert found[name].method == "eap-ig"
        assert (found[name].edges == written.edges).all()
    assert found["language"].scores is None
    np.testing.assert_allclose(found["country/capital"].scores, circuits["country/capital"].scores, rtol=1e-6)


@pytest.mark.parametrize("graph", GRAPHS, ids=["grouped", "per_head"])
def test_a_dot_file_holds_each_edge_once_with_its_kind(tmp_path: Path, graph: Graph) -> None:
    written = circuit(graph)
    write_dot(tmp_path / "c.dot", graph, written)
    first, *lines, last = (tmp_path / "c.dot").read_text("utf-8").splitlines()
    assert (first, last) == ("digraph circuit {", "}")
    statements = [line for line in lines if "->" in line]
    found = set()
    for line in statements:
        match = re.fullmatch(r'  "([\w.]+)" -> "([\w.]+)"(?: \[label="([qkv])"\])?;', line)
        assert match, line
        sender, receiver, kind = match.groups()
        found.add(f"{sender}->{receiver}" + (f"<{kind}>" if kind else ""))
    assert found == {graph.edge_name(*edge) for edge in graph.edges(written.edges)}
    assert len(statements) == written.n_edges
