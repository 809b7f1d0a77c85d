"""The graph: its published sizes, its names, and what counts as connected; random circuits on it."""

import itertools

import numpy as np
import pytest

from knowcirc.circuits.attribution import top_edges
from knowcirc.circuits.graph import EdgeMatrix, Graph, KvView
from knowcirc.circuits.random_circuits import random_circuit

SMALL = Graph(2, 2, 2, "per_head")
GROUPED = Graph(2, 4, 2, "grouped")


def matrix(graph: Graph, *names: str) -> EdgeMatrix:
    """The set of the named edges."""
    edges = np.zeros_like(graph.valid)
    for name in names:
        sender, receiver = name.split("->")
        edges[graph.src_names.index(sender), graph.dst_names.index(receiver)] = True
    return edges


def names(graph: Graph, edges: EdgeMatrix) -> set[str]:
    return {graph.edge_name(src, dst) for src, dst in graph.edges(edges)}


@pytest.mark.parametrize(
    ("graph", "n_edges"),
    [
        (Graph(24, 16, 16, "per_head"), 231_877),
        (Graph(30, 9, 9, "per_head"), 123_211),
        (Graph(30, 9, 3, "grouped"), 70_651),
    ],
    ids=["gpt2-medium", "smollm2-per-head", "smollm2-grouped"],
)
def test_the_graph_has_its_published_size(graph: Graph, n_edges: int) -> None:
    assert graph.n_edges == n_edges == len(list(graph.edges()))
    assert graph.valid.shape == (len(graph.src_names), len(graph.dst_names)) == (graph.n_src, graph.n_dst)
    assert len(set(graph.src_names)) == graph.n_src
    assert len(set(graph.dst_names)) == graph.n_dst


@pytest.mark.parametrize("graph", [SMALL, GROUPED, Graph(3, 2, 1, "grouped"), Graph(3, 4, 2, "grouped", parallel=True)])
def test_an_edge_runs_from_every_sender_to_every_later_receiver(graph: Graph) -> None:
    def time(name: str) -> float:
        """When a node acts: within a layer the MLP follows the heads, or runs beside them."""
        if name in ("input", "logits"):
            return -1.0 if name == "input" else 1e9
        layer = int(name.lstrip("am").split(".")[0])
        return layer + (0.5 if name.startswith("m") and not graph.parallel else 0.0)

    expected = {
        f"{sender}->{receiver}"
        for sender, receiver in itertools.product(graph.src_names, graph.dst_names)
        if time(sender) < time(receiver)
    }
    assert names(graph, graph.valid) == expected


def test_names_are_those_of_eap_ig() -> None:
    graph = Graph(30, 9, 3, "grouped")
    listed = names(graph, graph.valid)
    assert {"input->a0.h0<q>", "a5.h3->m7", "m2->a4.h1<q>", "a29.h8->m29", "m29->logits", "m0->a29.h2<k>"} <= listed
    assert not {"m0->a29.h3<k>", "a5.h3->a5.h4<q>", "m29->m29"} & listed
    assert "a29.h8<v>" in Graph(30, 9, 9, "per_head").dst_names


def test_index_arithmetic_agrees_with_the_names() -> None:
    for graph in (SMALL, GROUPED):
        for layer in range(graph.n_layers):
            assert graph.src_names[graph.heads(layer)] == [f"a{layer}.h{head}" for head in range(graph.n_heads)]
            assert graph.src_names[graph.mlp(layer)] == f"m{layer}" == graph.dst_names[graph.mlp_in(layer)]
            for kind, count in (("q", graph.n_heads), ("k", graph.n_kv), ("v", graph.n_kv)):
                expected = [f"a{layer}.h{head}<{kind}>" for head in range(count)]
                assert graph.dst_names[graph.reads(layer, kind)] == expected  # type: ignore[arg-type]
        assert graph.dst_names[graph.final] == "logits"


def test_each_input_belongs_to_the_heads_that_read_it() -> None:
    owners = {
        receiver: {GROUPED.src_names[src] for src in np.flatnonzero(GROUPED.owners[dst])}
        for dst, receiver in enumerate(GROUPED.dst_names)
    }
    assert owners["a1.h0<k>"] == {"a1.h0", "a1.h1"}
    assert owners["a1.h1<v>"] == {"a1.h2", "a1.h3"}
    assert owners["a1.h3<q>"] == {"a1.h3"}
    assert owners["m0"] == {"m0"}
    assert owners["logits"] == set()


@pytest.mark.parametrize(
    ("graph", "given", "kept"),
    [
        (SMALL, "input->m0 m0->logits", "input->m0 m0->logits"),
        (SMALL, "input->logits m1->logits", "input->logits"),
        (SMALL, "input->m0 m0->m1", ""),
        (SMALL, "input->m0 m0->m1 m1->logits input->a0.h0<q>", "input->m0 m0->m1 m1->logits"),
        (SMALL, "input->a0.h1<k> a0.h1->a1.h0<v> a1.h0->logits", "input->a0.h1<k> a0.h1->a1.h0<v> a1.h0->logits"),
        (SMALL, "input->a0.h1<k> a0.h0->logits", ""),
        (GROUPED, "input->a0.h0<k> a0.h1->logits", "input->a0.h0<k> a0.h1->logits"),
        (GROUPED, "input->a0.h0<k> a0.h2->logits", ""),
        (SMALL, "", ""),
    ],
)
def test_only_edges_on_a_path_from_input_to_logits_are_connected(graph: Graph, given: str, kept: str) -> None:
    assert names(graph, graph.connected(matrix(graph, *given.split()))) == set(kept.split())


@pytest.mark.parametrize("graph", [SMALL, GROUPED])
@pytest.mark.parametrize("seed", range(6))
def test_connected_finds_what_a_search_of_all_paths_finds(graph: Graph, seed: int) -> None:
    draw = np.random.default_rng(seed)
    edges = graph.valid & (draw.random(graph.valid.shape) < draw.uniform(0.05, 0.3))
    on_path: set[tuple[int, int]] = set()

    def walk(src: int, path: list[tuple[int, int]]) -> None:
        for dst in np.flatnonzero(edges[src]):
            step = [*path, (src, int(dst))]
            if dst == graph.final:
                on_path.update(step)
            for owner in np.flatnonzero(graph.owners[dst]):
                walk(int(owner), step)

    walk(0, [])
    assert set(graph.edges(graph.connected(edges))) == on_path


def test_edges_outside_the_graph_are_never_connected() -> None:
    assert (GROUPED.connected(np.ones_like(GROUPED.valid)) == GROUPED.valid).all()


@pytest.mark.parametrize("kv", ["grouped", "per_head"])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 20, 60])
def test_a_random_circuit_has_exactly_its_size_and_is_connected(kv: KvView, size: int) -> None:
    graph = Graph(4, 4, 2 if kv == "grouped" else 4, kv)
    for seed in range(5):
        edges = random_circuit(graph, size, seed)
        assert edges.sum() == size
        assert (graph.connected(edges) == edges).all()


def test_a_random_circuit_may_be_the_whole_graph() -> None:
    assert (random_circuit(SMALL, SMALL.n_edges, 0) == SMALL.valid).all()


def test_random_circuits_are_draws_of_their_seed() -> None:
    graph = Graph(4, 4, 2, "grouped")
    assert (random_circuit(graph, 40, 3) == random_circuit(graph, 40, 3)).all()
    assert (random_circuit(graph, 40, 3) != random_circuit(graph, 40, 4)).any()


def test_the_strongest_edges_are_chosen_by_absolute_score() -> None:
    scores = np.zeros(SMALL.valid.shape)
    for name, score in (("input->logits", 1.0), ("input->m0", -5.0), ("m0->logits", 3.0), ("input->m1", 4.0)):
        scores[matrix(SMALL, name)] = score
    assert names(SMALL, top_edges(SMALL, scores, 3)) == {"input->m0", "m0->logits"}
    assert names(SMALL, top_edges(SMALL, scores, 4)) == {"input->m0", "m0->logits", "input->logits"}


def test_scores_outside_the_graph_are_not_chosen() -> None:
    scores = np.where(SMALL.valid, 0.0, 100.0)
    scores[matrix(SMALL, "input->logits")] = 1.0
    assert names(SMALL, top_edges(SMALL, scores, 1)) == {"input->logits"}


@pytest.mark.parametrize("size", [-1, 0, SMALL.n_edges + 1])
def test_an_impossible_size_is_refused(size: int) -> None:
    message = r"edges: {} is outside {} \.\.\. {}"
    with pytest.raises(ValueError, match=message.format(size, 1, SMALL.n_edges)):
        top_edges(SMALL, np.zeros(SMALL.valid.shape), size)
    if size == 0:  # as large as a circuit of which a search has left nothing
        assert not random_circuit(SMALL, size, 0).any()
        return
    with pytest.raises(ValueError, match=message.format(size, 0, SMALL.n_edges)):
        random_circuit(SMALL, size, 0)


def test_all_edges_may_be_chosen() -> None:
    assert (top_edges(SMALL, np.zeros(SMALL.valid.shape), SMALL.n_edges) == SMALL.valid).all()
