"""Search by groups of edges: ACDC where groups have one edge, what it claims elsewhere, and how it goes on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from knowcirc.circuits.acdc import PROJECTION, Criterion, Progress, Search, acdc, begin
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.group_search import GroupSettings, _GroupRun, group_search
from knowcirc.circuits.metrics import make_task
from knowcirc.circuits.patched import record
from knowcirc.circuits.random_circuits import random_circuit
from knowcirc.circuits.searching import load_search, save_search
from knowcirc.models.loading import LanguageModel
from knowcirc.models.table import KvView
from sequential import measure

Loader = Callable[..., LanguageModel]
ROWS = [[0, 1, 2, 3, 4, 5], [0, 1, 9]]
PRICE = 0.01
TASK = make_task("nll", ROWS, [9, 8])
PER = ["receiver", "kind"]


def graph_of(model: LanguageModel, kv: KvView = "grouped") -> Graph:
    return Graph.of(model.transformer.shape, kv)


@pytest.mark.parametrize("patched", [False, True])
@pytest.mark.parametrize("kv", ["grouped", "per_head"])
def test_groups_of_one_edge_are_acdc(load_tiny: Loader, name: str, kv: KvView, patched: bool) -> None:
    model = load_tiny(name)
    network, graph = model.transformer, graph_of(model, kv)
    absent = record(network, graph, (TASK.ids * 7 + 3) % network.shape.d_vocab).outputs if patched else None
    found = group_search(network, graph, TASK, GroupSettings(PRICE, "edge"), absent=absent)
    want = acdc(network, graph, TASK, Criterion(PRICE), absent=absent)
    assert [(t.src, t.dst, t.kept) for t in found.tests] == [(t.src, t.dst, t.kept) for t in want.tests]
    np.testing.assert_allclose([t.score for t in found.tests], [t.score for t in want.tests], rtol=0, atol=1e-10)
    assert (found.edges == want.edges).all()
    assert (found.projections == want.projections).all()
    assert found.metric_circuit == pytest.approx(want.metric_circuit, abs=1e-10)


@pytest.mark.parametrize("per", PER)
@pytest.mark.parametrize("kv", ["grouped", "per_head"])
def test_the_metric_is_the_circuits_and_the_price_is_paid_back(
    load_tiny: Loader, name: str, kv: KvView, per: str
) -> None:
    model = load_tiny(name)
    graph = graph_of(model, kv)
    found = group_search(model.transformer, graph, TASK, GroupSettings(PRICE, per))  # type: ignore[arg-type]
    start, end = (measure(model.transformer, graph, TASK, edges) for edges in (graph.valid, found.edges))
    assert (found.metric_start, found.metric_circuit) == pytest.approx((start, end), abs=1e-10)
    assert end + PRICE * found.edges.sum() < start + PRICE * graph.n_edges
    assert found.edges.sum() < graph.n_edges
    assert found.edges.any() or end < start  # some are more certain without any edge
    decided = [(t.src, t.dst) for t in found.tests]
    assert len(set(decided)) == len(decided)
    kept = {(t.src, t.dst) for t in found.tests if t.kept}
    assert kept == set(graph.edges(found.edges))
    assert found.rows < len(found.tests)


def test_each_group_loses_its_best_prefix(load_tiny: Loader) -> None:
    """Against all prefixes, each with a pass of its own, where a pass is as wide as the largest group."""
    model = load_tiny("llama")
    graph, rng = graph_of(model), np.random.default_rng(0)
    scores = rng.random(graph.valid.shape)
    settings = GroupSettings(PRICE, width=graph.n_src)
    found = group_search(model.transformer, graph, TASK, settings, scores=scores)
    edges = graph.valid.copy()
    decided = iter(found.tests)
    total = len(found.tests)
    while total:
        first = next(decided)
        group = [first, *(next(decided) for _ in range(int(edges[:, first.dst].sum()) - 1))]
        total -= len(group)
        assert [t.dst for t in group] == [first.dst] * len(group)
        assert [t.src for t in group] == sorted((t.src for t in group), key=lambda src: scores[src, first.dst])
        trial, costs = edges.copy(), [measure(model.transformer, graph, TASK, edges)]
        for test in group:
            trial[test.src, test.dst] = False
            costs.append(measure(model.transformer, graph, TASK, trial))
        np.testing.assert_allclose(np.diff(costs), [t.score for t in group], atol=1e-10)
        best = int(np.argmin(np.array(costs) - PRICE * np.arange(len(costs))))
        assert [t.kept for t in group] == [i >= best for i in range(len(group))]
        for test in group[:best]:
            edges[test.src, test.dst] = False
    assert measure(model.transformer, graph, TASK, edges) == pytest.approx(found.metric_circuit, abs=1e-10)


@pytest.mark.parametrize("kv", ["grouped", "per_head"])
def test_a_group_is_a_receiver_or_a_kind_of_a_layer(
    load_tiny: Loader, kv: KvView, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, seen = load_tiny("llama"), []
    graph = graph_of(model, kv)
    plain = _GroupRun._decide_group

    def spy(run: _GroupRun, layer: int, group: list[tuple[int, int]]) -> None:
        seen.append({dst for _, dst in group})
        plain(run, layer, group)

    monkeypatch.setattr(_GroupRun, "_decide_group", spy)
    group_search(model.transformer, graph, TASK, GroupSettings(-1e9, "kind"))  # a price that no edge is worth: all stay
    of_layers = [
        places
        for layer in range(graph.n_layers - 1, -1, -1)
        for places in ({graph.mlp_in(layer)}, *(set(range(graph.n_dst)[graph.reads(layer, kind)]) for kind in "vkq"))
    ]
    assert sorted(map(sorted, seen)) == sorted(map(sorted, [{graph.final}, *of_layers]))
    seen.clear()
    group_search(model.transformer, graph, TASK, GroupSettings(-1e9, "receiver"))
    assert sorted(seen, key=min) == [{receiver} for receiver in range(graph.n_dst)]


def test_a_search_of_some_edges_leaves_the_others_absent(load_tiny: Loader) -> None:
    model = load_tiny("gpt2")
    graph = graph_of(model)
    some = random_circuit(graph, graph.n_edges // 2, 3)
    found = group_search(model.transformer, graph, TASK, GroupSettings(PRICE), search=begin(graph, some))
    assert not (found.edges & ~some).any()
    assert {(t.src, t.dst) for t in found.tests} <= set(graph.edges(some))
    assert found.metric_circuit == pytest.approx(measure(model.transformer, graph, TASK, found.edges), abs=1e-10)


class KilledError(Exception):
    """Stands for a kill between two layers."""


@pytest.mark.parametrize("stop", [2, 0])
@pytest.mark.parametrize("per", PER)
def test_a_killed_search_goes_on_from_its_last_layer(load_tiny: Loader, per: str, stop: int, tmp_path: Path) -> None:
    model = load_tiny("gpt2")
    graph, settings = graph_of(model, "per_head"), GroupSettings(PRICE, per)  # type: ignore[arg-type]
    want = group_search(model.transformer, graph, TASK, settings)

    def keep(search: Search) -> None:
        save_search(tmp_path / "search.npz", search)
        if search.next_layer == stop:
            raise KilledError

    with pytest.raises(KilledError):
        group_search(model.transformer, graph, TASK, settings, after_layer=keep)
    got = group_search(model.transformer, graph, TASK, settings, search=load_search(tmp_path / "search.npz"))
    assert got.tests == want.tests
    assert (got.edges == want.edges).all()
    assert (got.passes, got.rows) == (want.passes, want.rows)


def test_progress_ends_with_every_edge_decided(load_tiny: Loader) -> None:
    model = load_tiny("llama")
    graph, seen = graph_of(model), list[Progress]()
    found = group_search(model.transformer, graph, TASK, GroupSettings(PRICE), report=seen.append)
    assert seen[-1].decided == seen[-1].total == graph.n_edges
    assert seen[-1].kept == found.edges.sum()
    assert seen[-1].work == pytest.approx(1.0)
    assert not [test for test in found.tests if test.src == PROJECTION]


def test_a_width_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="width 0: a pass measures at least one prefix"):
        GroupSettings(PRICE, width=0)
