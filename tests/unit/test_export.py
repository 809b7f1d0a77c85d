"""Circuits as files: what is written comes back, and what is no circuit is refused by name."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch

from knowcirc.circuits.discovery import Circuit
from knowcirc.circuits.export import expanded, load_circuits, read_circuit, save_circuits, write_circuit, write_dot
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.patched import run_circuit
from knowcirc.circuits.random_circuits import random_circuit
from knowcirc.cli import main
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
    assert len(document["edges"]) == GRAPHS[1].n_edges
    assert document["prompts"] == ["France is"]
    assert set(document["nodes"]) == {*graph.src_names, "logits"}
    cfg = {"n_layers": 2, "n_heads": 4, "kv": graph.kv, "d_model": 32, "parallel_attn_mlp": False}
    assert cfg.items() <= document["cfg"].items()
    found_graph, found = read_circuit(tmp_path / "c.json")
    assert found_graph == graph
    assert found.method == "eap-ig"
    assert (found.edges == written.edges).all()
    assert found.scores is not None
    np.testing.assert_array_equal(found.scores[graph.valid], written.scores[graph.valid])


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


def test_an_edge_that_was_not_tested_has_the_score_zero_and_says_so(tmp_path: Path) -> None:
    graph = GRAPHS[0]
    written = circuit(graph)
    assert written.scores is not None
    untested = graph.dst_names.index("a1.h1<k>")
    written.scores[0, untested] = np.nan
    write_circuit(tmp_path / "c.json", graph, SHAPE, written, {})
    listed = json.loads((tmp_path / "c.json").read_text("utf-8"))["edges"]
    without = [name for name, entry in listed.items() if not entry["tested"]]
    assert without == ["input->a1.h2<k>", "input->a1.h3<k>"]
    assert all(listed[name]["score"] == 0 for name in without)
    scores = read_circuit(tmp_path / "c.json")[1].scores
    assert scores is not None
    assert np.isnan(scores[0, untested])
    assert np.isfinite(scores[graph.valid]).sum() == graph.n_edges - 1


def test_a_circuit_without_scores_comes_back_without(tmp_path: Path) -> None:
    written = circuit(GRAPHS[0], scored=False)
    write_circuit(tmp_path / "c.json", GRAPHS[0], SHAPE, written, {})
    entries = json.loads((tmp_path / "c.json").read_text("utf-8"))["edges"].values()
    assert {(entry["score"], entry["tested"]) for entry in entries} == {(0.0, False)}
    found = read_circuit(tmp_path / "c.json")[1]
    assert found.scores is None
    assert (found.edges == written.edges).all()


def as_eap_ig_reads(document: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What EAP-IG's `Graph.from_json` asks of a file and makes of it: nodes, edges and scores by its indices.

    Written from its documentation and index rules (version 2.0.0), since it is in no package index. A name that is not
    of its graph is a KeyError there, and a score that is no number a TypeError.
    """
    cfg = document["cfg"]
    n_layers, n_heads = cfg["n_layers"], cfg["n_heads"]
    assert isinstance(cfg["d_model"], int)
    assert isinstance(cfg["parallel_attn_mlp"], bool)
    sources = {"input": 0}
    targets = {}
    for layer in range(n_layers):
        first, reads = len(sources), layer * (3 * n_heads + 1)
        sources |= {f"a{layer}.h{head}": first + head for head in range(n_heads)} | {f"m{layer}": first + n_heads}
        for place, kind in enumerate("qkv"):
            targets |= {f"a{layer}.h{head}<{kind}>": reads + place * n_heads + head for head in range(n_heads)}
        targets[f"m{layer}"] = reads + 3 * n_heads
    targets["logits"] = n_layers * (3 * n_heads + 1)
    nodes = np.zeros(len(sources), dtype=bool)
    for name, entry in document["nodes"].items():
        if name != "logits":
            nodes[sources[name]] = entry["in_graph"]
    edges, scores = np.zeros((len(sources), len(targets)), dtype=bool), np.zeros((len(sources), len(targets)))
    for name, entry in document["edges"].items():
        source, target = name.split("->")
        place = (sources[source], targets[target])
        assert isinstance(entry["score"], float)
        edges[place], scores[place] = entry["in_graph"], entry["score"]
    return nodes, edges, scores


def test_a_model_that_runs_attention_and_mlp_side_by_side_says_so(tmp_path: Path) -> None:
    graph = Graph(2, 4, 2, "grouped", parallel=True)
    written = circuit(graph)
    write_circuit(tmp_path / "c.json", graph, SHAPE, written, {"prompts": []})
    document = json.loads((tmp_path / "c.json").read_text("utf-8"))
    assert document["cfg"]["parallel_attn_mlp"] is True
    assert not {f"a{layer}.h{head}->m{layer}" for layer in range(2) for head in range(4)} & set(document["edges"])
    assert len(document["edges"]) == GRAPHS[1].n_edges - 8
    found_graph, found = read_circuit(tmp_path / "c.json")
    assert found_graph == graph
    assert (found.edges == written.edges).all()
    nodes, edges, _ = as_eap_ig_reads(document)
    wide, same = expanded(graph, written)
    np.testing.assert_array_equal(edges, same.edges)
    np.testing.assert_array_equal(nodes, wide.nodes(same.edges))
    exported = json.loads(run_export(tmp_path, "mib", "mib.json").read_text("utf-8"))
    assert exported["cfg"]["parallel_attn_mlp"] is True


@pytest.mark.parametrize("graph", GRAPHS, ids=["grouped", "per_head"])
@pytest.mark.parametrize("scored", [True, False])
def test_eap_ig_reads_the_same_circuit(tmp_path: Path, graph: Graph, *, scored: bool) -> None:
    written = circuit(graph, scored=scored)
    write_circuit(tmp_path / "c.json", graph, SHAPE, written, {"prompts": []})
    nodes, edges, scores = as_eap_ig_reads(json.loads((tmp_path / "c.json").read_text("utf-8")))
    wide, same = expanded(graph, written)
    np.testing.assert_array_equal(edges, same.edges)
    np.testing.assert_array_equal(nodes, wide.nodes(same.edges))
    np.testing.assert_array_equal(scores, np.zeros(edges.shape) if same.scores is None else same.scores)


def run_export(tmp_path: Path, to: str, out: str) -> Path:
    path = tmp_path / out
    assert main(["export", str(tmp_path / "c.json"), "--to", to, "-o", str(path)]) == 0
    return path


@pytest.mark.parametrize("graph", GRAPHS, ids=["grouped", "per_head"])
def test_the_export_for_mib_has_what_mib_reads_and_nothing_else(tmp_path: Path, graph: Graph) -> None:
    written = circuit(graph)
    write_circuit(tmp_path / "c.json", graph, SHAPE, written, {"prompts": []})
    document = json.loads(run_export(tmp_path, "mib", "m.json").read_text("utf-8"))
    assert set(document) == {"cfg", "nodes", "edges"}
    assert document["cfg"] == {"n_layers": 2, "n_heads": 4, "d_model": 32, "parallel_attn_mlp": False}
    assert {frozenset(entry) for entry in document["edges"].values()} == {frozenset({"score", "in_graph"})}
    found_graph, found = read_circuit(tmp_path / "m.json")
    wide, same = expanded(graph, written)
    assert found_graph == wide
    np.testing.assert_array_equal(found.edges, same.edges)
    np.testing.assert_array_equal(as_eap_ig_reads(document)[1], same.edges)


@pytest.mark.parametrize("scored", [True, False])
def test_exported_as_it_is_a_circuit_file_stays_the_same(tmp_path: Path, *, scored: bool) -> None:
    write_circuit(tmp_path / "c.json", GRAPHS[0], SHAPE, circuit(GRAPHS[0], scored=scored), {"prompts": ["one"]})
    again = run_export(tmp_path, "json", "again.json")
    assert json.loads(again.read_text("utf-8")) == json.loads((tmp_path / "c.json").read_text("utf-8"))


def test_the_export_for_graphviz_is_the_dot_file(tmp_path: Path) -> None:
    write_circuit(tmp_path / "c.json", GRAPHS[0], SHAPE, circuit(GRAPHS[0]), {})
    write_dot(tmp_path / "expected.dot", GRAPHS[0], circuit(GRAPHS[0]))
    assert run_export(tmp_path, "dot", "c.dot").read_text() == (tmp_path / "expected.dot").read_text()


TEXT = {"type": "string"}
NODE: dict[str, object] = {
    "node_id": TEXT,
    "feature": {"type": ["integer", "null"]},
    "layer": {"type": ["string", "integer"]},
    "ctx_idx": {"type": "integer"},
    "feature_type": TEXT,
    "jsNodeId": TEXT,
    "clerp": TEXT,
}
METADATA: dict[str, object] = {
    "slug": TEXT,
    "scan": TEXT,
    "prompt": TEXT,
    "prompt_tokens": {"type": "array", "items": TEXT},
}
LINK: dict[str, object] = {"source": TEXT, "target": TEXT, "weight": {"type": "number"}}


def complete(properties: dict[str, object]) -> dict[str, object]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def test_the_graph_for_neuronpedia_has_what_its_schema_asks_for(tmp_path: Path) -> None:
    graph, written = GRAPHS[0], circuit(GRAPHS[0])
    about = {"model": "tiny", "prompts": [{"prompt": "France is", "answer": "French"}]}
    write_circuit(tmp_path / "c.json", graph, SHAPE, written, about)
    document = json.loads(run_export(tmp_path, "neuronpedia", "My graph.json").read_text("utf-8"))
    parts = {
        "metadata": complete(METADATA),
        "qParams": {"type": "object"},
        "nodes": {"type": "array", "items": complete(NODE)},
        "links": {"type": "array", "items": complete(LINK)},
    }
    jsonschema.validate(document, complete(parts))
    assert (document["metadata"]["slug"], document["metadata"]["scan"]) == ("my-graph", "tiny")
    nodes = {node["node_id"]: node for node in document["nodes"]}
    assert len(nodes) == len(document["nodes"])
    kinds = {node["clerp"]: node["feature_type"] for node in nodes.values()}
    assert kinds.pop("embedding") == "embedding"
    assert kinds.pop('Output " French" (p=?)') == "logit"  # the viewers read a probability from the brackets
    wide, same = expanded(graph, written)
    ends = {end.partition("<")[0] for edge in wide.edges(same.edges) for end in wide.edge_name(*edge).split("->")}
    assert set(kinds) == ends - {"input", "logits"}
    assert all(kind == ("mlp" if name.startswith("m") else "attention head") for name, kind in kinds.items())
    assert {end for link in document["links"] for end in (link["source"], link["target"])} == set(nodes)
    assert len(document["metadata"]["prompt_tokens"]) > max(node["ctx_idx"] for node in nodes.values())


def test_a_link_for_neuronpedia_sums_up_the_inputs_of_a_head(tmp_path: Path) -> None:
    graph = Graph(1, 2, 1, "grouped")
    edges, scores = np.zeros_like(graph.valid), np.full(graph.valid.shape, np.nan)
    for name, score in (("a0.h1<q>", 0.5), ("a0.h0<k>", -2.0), ("a0.h0<v>", np.nan)):
        edges[0, graph.dst_names.index(name)] = True
        scores[0, graph.dst_names.index(name)] = score
    edges[graph.head(0, 1), graph.final], scores[graph.head(0, 1), graph.final] = True, 3.0
    shape = Shape("llama", 1, 2, 1, 32, 8, 48, 101)
    write_circuit(tmp_path / "c.json", graph, shape, Circuit("acdc", edges, scores), {})
    document = json.loads(run_export(tmp_path, "neuronpedia", "g.json").read_text("utf-8"))
    links = {(link["source"], link["target"]): link for link in document["links"]}
    weights = {pair: link["weight"] for pair, link in links.items()}
    assert weights == {("E_0_1", "0_1_1"): -1.5, ("E_0_1", "0_0_1"): -2.0, ("0_1_1", "1_0_1"): 3.0}
    assert links["E_0_1", "0_1_1"]["inputs"] == {"q": 0.5, "k": -2.0, "v": None}


def test_a_circuit_without_edges_cannot_be_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = GRAPHS[0]
    write_circuit(tmp_path / "c.json", graph, SHAPE, Circuit("eap", np.zeros_like(graph.valid), None), {})
    assert main(["export", str(tmp_path / "c.json"), "--to", "neuronpedia", "-o", str(tmp_path / "g.json")]) == 2
    assert "no edge" in capsys.readouterr().err
    assert not (tmp_path / "g.json").exists()


def test_a_grouped_file_whose_query_heads_differ_is_refused(tmp_path: Path) -> None:
    write_circuit(tmp_path / "c.json", GRAPHS[0], SHAPE, circuit(GRAPHS[0]), {})
    document = json.loads((tmp_path / "c.json").read_text("utf-8"))
    entry = document["edges"]["input->a1.h3<v>"]
    entry["in_graph"] = not entry["in_graph"]
    (tmp_path / "c.json").write_text(json.dumps(document), "utf-8")
    with pytest.raises(ValueError, match=r"edge 'input->a1.h3<v>' differs from that of another query head"):
        read_circuit(tmp_path / "c.json")


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
    "bad-n_kv": (json.dumps({"cfg": CFG | {"n_kv": 0, "kv": "grouped"}, "edges": {}}), "2 heads and 0 K/V heads"),
    "parallel": (
        json.dumps({"cfg": CFG | {"parallel_attn_mlp": True}, "edges": {"a0.h1->m0": EDGE}}),
        r"edge 'a0.h1->m0' \(1 in all\) is not in the graph",
    ),
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
    wide, same = expanded(graph, written)
    assert found == {wide.edge_name(*edge) for edge in wide.edges(same.edges)}
    assert len(statements) == same.n_edges
