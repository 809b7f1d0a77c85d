"""Circuits with a head's inputs taken as one: released files, and ours merged to compare with them."""

from pathlib import Path

import numpy as np
import pytest

from knowcirc.circuits.discovery import Circuit
from knowcirc.circuits.export import write_circuit
from knowcirc.circuits.graph import EdgeMatrix, Graph
from knowcirc.circuits.merged import MergedCircuit, compare_merged, merge, merged_differences, read_published
from knowcirc.cli import main
from knowcirc.models.transformer import Shape

MEDIUM = Graph(24, 16, 16, "per_head")
GROUPED = Graph(4, 6, 2, "grouped")


def random_circuit(graph: Graph, n_edges: int, seed: int = 0) -> EdgeMatrix:
    rng = np.random.default_rng(seed)
    edges = np.zeros_like(graph.valid)
    chosen = rng.permutation(np.flatnonzero(graph.valid))[:n_edges]
    edges.flat[chosen] = True
    return edges


def as_released(circuit: MergedCircuit, path: Path) -> Path:
    """The circuit as Knowledge Circuits' code writes it, layout and colours included."""

    def node(name: str) -> str:
        if name == "input":
            return "embed"
        return '"<resid_post>"' if name == "logits" else f'"<{name.replace(".h", ".")}>"'

    lines = ['strict digraph "" {', '\tgraph [bb="0,0,7033.1,1548",', "\t\tlayout=dot", "\t];", '\tnode [label="\\N"];']
    lines += [f'\t{node(name)}\t[color=black,\n\t\tpos="6968.1,378"];' for name in sorted(circuit.nodes)]
    lines += [f'\t{node(src)} -> {node(dst)}\t[color="#cccccc",\n\t\tpos="e,2911.9,18"];' for src, dst in circuit.edges]
    path.write_text("\n".join([*lines, "}"]), "utf-8")
    return path


@pytest.mark.parametrize("graph", [MEDIUM, GROUPED, Graph(4, 6, 6, "per_head")])
def test_a_merged_circuit_has_as_many_edges_as_the_paper_counts(graph: Graph) -> None:
    for seed in range(5):
        edges = random_circuit(graph, 120, seed)
        merged = merge(graph, edges)
        assert len(merged.edges) == graph.merged(edges)
        assert merged.nodes <= {name for name, alive in zip(graph.src_names, graph.nodes(edges), strict=True) if alive}


def test_inputs_of_a_head_are_one_and_kv_heads_are_their_query_heads() -> None:
    edges = np.zeros_like(GROUPED.valid)
    receivers = {name: i for i, name in enumerate(GROUPED.dst_names)}
    for name in ("a1.h0<q>", "a1.h0<k>", "a1.h0<v>"):  # K/V head 0 serves the query heads 0, 1 and 2
        edges[0, receivers[name]] = True
    edges[GROUPED.head(1, 0), GROUPED.final] = edges[GROUPED.head(1, 2), GROUPED.final] = True
    expected = {("input", "a1.h0"), ("input", "a1.h2"), ("a1.h0", "logits"), ("a1.h2", "logits")}
    assert merge(GROUPED, edges).edges == expected


def test_a_released_circuit_is_read_back(tmp_path: Path) -> None:
    circuit = merge(MEDIUM, random_circuit(MEDIUM, 300))
    read = read_published(as_released(circuit, tmp_path / "graph.gv"))
    assert read == circuit
    assert 20 <= read.n_layers <= 24


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('"<a1.2>" -> "<blob>"', r"graph\.gv, line 2: 'blob' is no node"),
        ('"<a1.2_q>" -> "<m3>"', "'a1.2_q' is no node"),
        ("nothing here", "holds no edge"),
    ],
)
def test_another_graph_is_refused_by_file_and_line(tmp_path: Path, line: str, complaint: str) -> None:
    path = tmp_path / "graph.gv"
    path.write_text(f"digraph {{\n{line}\n}}", "utf-8")
    with pytest.raises(ValueError, match=complaint):
        read_published(path)


def test_merged_circuits_are_compared_name_by_name() -> None:
    one = MergedCircuit(frozenset({("input", "a0.h1"), ("a0.h1", "logits"), ("m2", "logits")}))
    two = MergedCircuit(frozenset({("input", "a0.h1"), ("a0.h1", "m2"), ("m2", "logits")}))
    counts = compare_merged(one, two)
    assert [counts[f"{status}_edges"] for status in ("shared", "lost", "new")] == [2, 1, 1]
    assert (counts["jaccard_edges"], counts["jaccard_nodes"]) == (0.5, 1.0)
    status = {row["name"]: row["status"] for row in merged_differences(one, two)}
    assert status["a0.h1->logits"] == "lost"
    assert status["a0.h1->m2"] == "new"
    assert status["input"] == "shared"


def test_the_command_sets_ours_beside_a_released_circuit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edges = random_circuit(MEDIUM, 400)
    shape = Shape(family="gpt2", n_layers=24, n_heads=16, n_kv_heads=16, d_model=64, d_head=4, d_mlp=128, d_vocab=11)
    ours, released = tmp_path / "ours.json", tmp_path / "graph.gv"
    write_circuit(ours, MEDIUM, shape, Circuit("acdc", edges, None), {})
    theirs = merge(MEDIUM, edges)
    as_released(MergedCircuit(frozenset(list(theirs.edges)[:100])), released)
    table, figure = tmp_path / "differences.csv", tmp_path / "differences.png"
    assert main(["compare", str(ours), str(released), "--out", str(table), "--figure", str(figure)]) == 0
    said = capsys.readouterr().out
    assert f"100 shared, {len(theirs.edges) - 100} lost, 0 new" in said
    assert table.read_text().startswith("kind,name,status")
    assert figure.stat().st_size > 1000


def test_circuits_of_models_of_other_sizes_are_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, released = tmp_path / "ours.json", tmp_path / "graph.gv"
    shape = Shape(family="llama", n_layers=4, n_heads=6, n_kv_heads=2, d_model=12, d_head=2, d_mlp=24, d_vocab=11)
    write_circuit(ours, GROUPED, shape, Circuit("acdc", random_circuit(GROUPED, 40), None), {})
    as_released(MergedCircuit(frozenset({("input", "a9.h1"), ("a9.h1", "logits")})), released)
    assert main(["compare", str(ours), str(released)]) == 2
    assert "has a9.h1" in capsys.readouterr().err
