"""Information-flow routes against routes walked down at one threshold after the other."""

import numpy as np
import pytest
import torch
from torch import Tensor

from knowcirc.circuits import flow
from knowcirc.circuits.attribution import top_edges
from knowcirc.circuits.discovery import attribute
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.patched import Run, record
from knowcirc.facts.prompts import Prompt
from knowcirc.models.loading import LanguageModel
from knowcirc.models.token_tree import grow
from knowcirc.models.transformer import Transformer

IDS = (0, 5, 17, 4, 33)


@pytest.fixture(params=["grouped", "per_head"])
def graph(request: pytest.FixtureRequest, model: LanguageModel) -> Graph:
    return Graph.of(model.transformer.shape, request.param)


def shares(parts: list[Tensor], whole: Tensor) -> list[float]:
    """Importances of vectors for another, one by one."""
    near = [max(0.0, float(whole.abs().sum() - (whole - part).abs().sum())) for part in parts]
    return [one / sum(near) if sum(near) else 0.0 for one in near]


def walk(network: Transformer, graph: Graph, run: Run, threshold: float) -> set[tuple[int, int]]:
    """The edges on the route of one prompt at a threshold, found from the output down."""
    edges: set[tuple[int, int]] = set()
    outputs, last = run.outputs[:, 0], len(IDS) - 1
    todo, seen = [(graph.final, last)], {(graph.final, last)}

    def visit(receiver: int, position: int) -> None:
        if (receiver, position) not in seen:
            seen.add((receiver, position))
            todo.append((receiver, position))

    while todo:
        receiver, position = todo.pop()
        layer = receiver // graph.layer_width
        stream = (
            run.final[0]
            if receiver == graph.final
            else (run.before_mlp if receiver == graph.mlp_in(layer) else run.before_attention)[layer][0]
        )
        senders = np.flatnonzero(graph.valid[:, receiver])
        importance = shares([outputs[sender, position] for sender in senders], stream[position])
        for sender, share in zip(senders.tolist(), importance, strict=True):
            if share < threshold:
                continue
            edges.add((sender, receiver))
            for own in np.flatnonzero(graph.owners[:, sender]).tolist():
                if graph.dst_names[own].endswith(("<k>", "<v>")):
                    for source, part in enumerate(sources(network, graph, run, sender, position)):
                        if part >= threshold:
                            visit(own, source)
                else:
                    visit(own, position)
    return edges


def sources(network: Transformer, graph: Graph, run: Run, sender: int, position: int) -> list[float]:
    """How important the positions up to one are for what a head writes there."""
    layer, head = divmod(sender - 1, graph.n_heads + 1)
    block = network.blocks[layer]
    pattern, _ = network.mix(layer, run.before_attention[layer])
    values = network.expand(block.attention.read_all("v", block.norm1(run.before_attention[layer])))[0, :, head]
    weight = (
        block.attention.w_o[head] if block.post1 is None else block.post1.weight[:, None] * block.attention.w_o[head]
    )
    parts = [pattern[0, head, position, source] * (weight @ values[source]) for source in range(position + 1)]
    return shares(parts, torch.stack(parts).sum(0))


def test_importances_are_those_of_the_formula_and_sum_to_one(model: LanguageModel, graph: Graph) -> None:
    tree = grow([IDS])
    run = record(model.transformer, graph, tree)
    found = flow.measure(model.transformer, graph, tree, run)
    for layer in range(graph.n_layers):
        for importance in (found.attention[layer], found.mlp[layer]):
            torch.testing.assert_close(importance.sum(0), torch.ones(len(IDS), dtype=torch.float64))
        sums = found.sources[layer].sum(-1)  # 0 where parts that point apart bring the sum no nearer
        torch.testing.assert_close(sums, (sums > 0).to(sums))
        assert (sums > 0).double().mean() > 0.9
        assert not found.sources[layer].triu(1).any()
        expected = shares(list(run.outputs[graph.before_mlp(layer), 0, 2]), run.before_mlp[layer, 0, 2])
        assert found.mlp[layer][:, 2].tolist() == pytest.approx(expected)
        sender = graph.head(layer, 3)
        expected = sources(model.transformer, graph, run, sender, 3)
        assert found.sources[layer][3, 3, :4].tolist() == pytest.approx(expected)


def test_an_edge_enters_the_route_at_its_score(model: LanguageModel, graph: Graph) -> None:
    tree = grow([IDS])
    run = record(model.transformer, graph, tree)
    scores = flow.score_edges(model.transformer, graph, tree)
    assert 0 < scores.max() <= 1
    positive = np.unique(scores[scores > 0])
    for threshold in positive[[len(positive) // 3, -2]]:
        at = float(threshold) * (1 - 1e-5)  # scores are kept in single precision
        expected = walk(model.transformer, graph, run, at)
        assert {(int(src), int(dst)) for src, dst in np.argwhere(scores >= at)} == expected


def test_only_what_the_answer_reads_is_on_the_route(model: LanguageModel, graph: Graph) -> None:
    scores = flow.score_edges(model.transformer, graph, grow([IDS]))
    for threshold in np.quantile(scores[scores > 0], [0.3, 0.6, 0.9]):
        route = scores >= threshold
        used = (graph.owners & route.any(1)[None]).any(1)
        used[graph.final] = True
        assert not (route & ~used[None]).any()  # no edge into what has no edge out


def test_rows_are_refused(model: LanguageModel, graph: Graph) -> None:
    with pytest.raises(ValueError, match="on a tree of prompts"):
        flow.score_edges(model.transformer, graph, torch.tensor([IDS]))


def test_the_strongest_edges_of_any_size_are_a_route(model: LanguageModel, graph: Graph) -> None:
    prompts = [Prompt("", (0, 5, i, 4), None, "", (9,)) for i in (17, 33, 40)]
    for given in (prompts[:1], prompts):
        scores = attribute(model, graph, given, [None] * len(given), "information-flow")
        order = np.lexsort((-np.broadcast_to(np.arange(graph.n_dst), scores.shape).ravel(), -scores.ravel()))
        for size in (5, 20, 60):
            edges = np.zeros(scores.size, dtype=bool)
            edges[order[:size]] = True
            edges = edges.reshape(scores.shape)
            on = (graph.owners & edges.any(1)[None]).any(1)
            on[graph.final] = True
            assert not (edges & ~on[None]).any()  # each goes on to the output
            assert (top_edges(graph, scores, size) == graph.connected(edges)).all()


def test_a_mean_of_routes_is_held_to_one(model: LanguageModel, graph: Graph) -> None:
    scores = np.random.default_rng(0).random(graph.valid.shape) * graph.valid
    found = flow.as_route(graph, scores)
    for receiver in range(graph.n_dst):
        on = found[graph.owners[receiver]].max(initial=0.0) if receiver != graph.final else 1.0
        np.testing.assert_array_equal(found[:, receiver], np.minimum(scores[:, receiver], on))
    np.testing.assert_array_equal(flow.as_route(graph, found), found)
