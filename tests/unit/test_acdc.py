"""The fast search against the one that tests one edge at a time, each with a whole forward pass of its own."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from knowcirc.circuits.acdc import PROJECTION, Criterion, EdgeTest, Progress, Search, acdc, begin
from knowcirc.circuits.choices import METRICS
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.metrics import Task, make_task
from knowcirc.circuits.patched import record
from knowcirc.circuits.random_circuits import random_circuit
from knowcirc.circuits.searching import load_search, save_search
from knowcirc.models import llama
from knowcirc.models.families import FAMILIES
from knowcirc.models.folding import fold
from knowcirc.models.loading import load
from knowcirc.models.packing import packed
from knowcirc.models.table import KvView
from knowcirc.models.transformer import Transformer
from sequential import measure, sequential_acdc
from unit.tiny import FIRST, MODELS, family_of, random_network

GROUPED, PER_HEAD = ("grouped", False, False), ("per_head", True, True)
PROMPTS = {
    "one": [[0, 1, 2, 3, 4]],
    "two of different lengths": [[0, 1, 2, 3, 4, 5], [0, 8, 9]],
    "single token beside another": [[6], [0, 8, 9]],
}


def exact(name: str) -> Transformer:
    """A tiny model in float64."""
    network = random_network(name).double().requires_grad_(False)
    adapted: Transformer = FAMILIES[family_of(name)].module.adapt(network.config, network.state_dict())
    return adapted


def task_of(metric: str, prompts: list[list[int]]) -> Task:
    answers, others = [9, 8, 7][: len(prompts)], [11, 12, 13][: len(prompts)]
    return make_task(metric, prompts, answers, others)  # type: ignore[arg-type]


def decisions(tests: list[EdgeTest]) -> list[tuple[int, int, bool]]:
    return [(test.src, test.dst, test.kept) for test in tests]


def agree(model: Transformer, graph: Graph, task: Task, rule: Criterion, **settings: object) -> Search:
    """The fast search, once it has been held against the sequential one."""
    edges = settings.pop("edges", None)
    absent = settings.pop("absent", None)
    found = acdc(model, graph, task, rule, absent=absent, search=begin(graph, edges))  # type: ignore[arg-type]
    tests, left, projections = sequential_acdc(model, graph, task, rule, absent=absent, edges=edges)  # type: ignore[arg-type]
    assert decisions(found.tests) == decisions(tests)
    np.testing.assert_allclose([t.score for t in found.tests], [t.score for t in tests], rtol=0, atol=1e-10)
    assert (found.edges == left).all()
    assert (found.projections == projections).all()
    return found


def cut(model: Transformer, n_layers: int) -> Transformer:
    """The lowest layers of a model."""
    return replace(model, shape=replace(model.shape, n_layers=n_layers), blocks=model.blocks[:n_layers])


CASES = [
    *itertools.product(FIRST, (3,), ("grouped", "per_head"), (False, True), (False, True)),
    *((name, 2, *rest) for name in sorted(set(MODELS) - set(FIRST)) for rest in (GROUPED, PER_HEAD)),
]
"""Model, layers, view, whether absent edges are patched, whether scores are absolute."""


@pytest.mark.parametrize(("name", "layers", "kv", "patched", "absolute"), CASES)
def test_decisions_are_those_of_the_sequential_search(
    name: str, layers: int, kv: KvView, patched: bool, absolute: bool
) -> None:
    model = cut(exact(name), layers)
    graph = Graph.of(model.shape, kv)
    task = task_of("nll", PROMPTS["two of different lengths"])
    absent = record(model, graph, (task.ids * 7 + 3) % model.shape.d_vocab).outputs if patched else None
    found = agree(model, graph, task, Criterion(0.01, absolute), absent=absent)
    assert 0 < found.edges.sum() < graph.n_edges


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("prompts", PROMPTS)
def test_every_metric_and_prompts_of_any_length(metric: str, prompts: str) -> None:
    model = exact("llama")
    agree(model, Graph.of(model.shape, "grouped"), task_of(metric, PROMPTS[prompts]), Criterion(0.02))


# at 0 itself, what nothing reads (the queries of a lone token) scores 0 but for rounding: a tie
@pytest.mark.parametrize("tau", [1e-9, 0.1, 1.0])
@pytest.mark.parametrize(
    ("layers", "heads", "kv_heads", "length"), [(1, 2, 1, 3), (2, 6, 3, 7), (5, 2, 2, 4), (2, 3, 1, 1), (3, 4, 4, 2)]
)
def test_other_shapes_lengths_and_thresholds(layers: int, heads: int, kv_heads: int, length: int, tau: float) -> None:
    torch.manual_seed(layers * 10 + heads)
    config = LlamaConfig(
        vocab_size=61,
        hidden_size=8 * heads,
        intermediate_size=20,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        initializer_range=0.3,
    )
    network = LlamaForCausalLM(config).double()
    model = llama.adapt(config, network.state_dict())
    task = make_task("kc-nll", [list(range(length))], [17])
    agree(model, Graph.of(model.shape, "grouped"), task, Criterion(tau))
    agree(model, Graph.of(model.shape, "per_head"), task, Criterion(tau, absolute=True))


def test_folded_weights_change_the_circuit_of_gpt2() -> None:
    model = exact("gpt2")
    graph, task = Graph.of(model.shape, "per_head"), task_of("nll", PROMPTS["one"])
    plain, folded = (agree(each, graph, task, Criterion(0.01)) for each in (model, fold(model)))
    assert plain.metric_start == pytest.approx(folded.metric_start, abs=1e-9)
    assert (plain.edges != folded.edges).any()


@pytest.mark.parametrize("kv", ["grouped", "per_head"])
def test_a_search_of_some_edges_leaves_the_others_absent(kv: KvView) -> None:
    model = exact("llama")
    graph = Graph.of(model.shape, kv)
    some = random_circuit(graph, graph.n_edges // 2, 3)
    found = agree(model, graph, task_of("nll", PROMPTS["one"]), Criterion(0.01), edges=some)
    assert not (found.edges & ~some).any()
    assert {(test.src, test.dst) for test in found.tests if test.src != PROJECTION} <= set(graph.edges(some))


@pytest.mark.parametrize("width", [1, 3, 64])
def test_the_width_of_batches_changes_nothing(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = exact("gpt2")
    graph, task = Graph.of(model.shape, "per_head"), task_of("nll", PROMPTS["one"])
    want = acdc(model, graph, task, Criterion(0.01))
    for name in ("FIRST_WIDTH", "NARROWEST", "WIDEST", "FEWEST"):
        monkeypatch.setattr(f"knowcirc.circuits.acdc.{name}", width)
    got = acdc(model, graph, task, Criterion(0.01))
    assert decisions(got.tests) == decisions(want.tests)


@pytest.mark.parametrize("name", MODELS)
def test_the_metric_of_what_is_left_is_that_of_the_circuit(name: str) -> None:
    model = exact(name)
    graph, task = Graph.of(model.shape, "grouped"), task_of("nll", PROMPTS["one"])
    found = acdc(model, graph, task, Criterion(0.05))
    assert found.metric_start == pytest.approx(measure(model, graph, task, graph.valid), abs=1e-10)
    assert found.metric_circuit == pytest.approx(measure(model, graph, task, found.edges), abs=1e-10)
    assert found.closest == min(abs(test.score - 0.05) for test in found.tests)


class KilledError(Exception):
    """Stands for a kill between two layers."""


@pytest.mark.parametrize("stop", [2, 1, 0, -1])
def test_a_killed_search_goes_on_from_its_last_layer(stop: int, tmp_path: Path) -> None:
    model = exact("gpt2")
    graph, task = Graph.of(model.shape, "per_head"), task_of("nll", PROMPTS["one"])
    want = acdc(model, graph, task, Criterion(0.01))

    def keep(search: Search) -> None:
        save_search(tmp_path / "search.npz", search)
        if search.next_layer == stop:
            raise KilledError

    with pytest.raises(KilledError):
        acdc(model, graph, task, Criterion(0.01), after_layer=keep)
    kept = load_search(tmp_path / "search.npz")
    assert len(kept.tests) <= len(want.tests)
    got = acdc(model, graph, task, Criterion(0.01), search=kept)
    assert got.tests == want.tests
    assert (got.edges == want.edges).all()
    assert (got.projections == want.projections).all()
    assert (got.metric_start, got.passes, got.rows) == (want.metric_start, want.passes, want.rows)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04cut", b"no archive"])
def test_a_broken_search_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "search.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="delete it to begin anew"):
        load_search(path)


def test_scores_are_those_of_the_edges_that_were_tested() -> None:
    model = exact("gpt2")
    graph = Graph.of(model.shape, "per_head")
    found = acdc(model, graph, task_of("nll", PROMPTS["one"]), Criterion(0.05))
    edges = [test for test in found.tests if test.src != PROJECTION]
    assert 0 < len(edges) < len(found.tests)
    expected = np.full(graph.valid.shape, np.nan)
    for test in edges:
        expected[test.src, test.dst] = test.score
    np.testing.assert_array_equal(found.scores(graph), expected)
    assert len(edges) == np.isfinite(expected).sum() <= graph.n_edges  # each edge once


def test_progress_ends_with_every_edge_decided() -> None:
    model = exact("llama")
    graph = Graph.of(model.shape, "grouped")
    seen: list[Progress] = []
    found = acdc(model, graph, task_of("nll", PROMPTS["one"]), Criterion(0.05), report=seen.append)
    decided = [progress.decided for progress in seen]
    assert decided == sorted(decided)
    assert decided[-1] == seen[-1].total == graph.n_edges
    assert seen[-1].kept == found.edges.sum()


def test_a_metric_that_overflows_ends_the_search() -> None:
    model = exact("llama")
    broken = replace(model, unembedding=model.unembedding * torch.inf)
    with pytest.raises(ValueError, match="the metric is nan"):
        acdc(broken, Graph.of(model.shape, "grouped"), task_of("nll", PROMPTS["one"]), Criterion(0.05))


def test_the_real_model_agrees_on_its_last_layers(real_model_folder: Path) -> None:
    """Edges into the last two layers; scores within what float32 leaves of them."""
    model = load(real_model_folder, device="cpu")
    graph = Graph.of(model.transformer.shape, "grouped")
    ids = model.text.encode("The official language of France is").ids
    task = make_task("nll", [ids], [model.text.encode(" French", add_special_tokens=False).ids[0]])

    def stop(search: Search) -> None:
        if search.next_layer < graph.n_layers - 2:
            kept.append(search)
            raise KilledError

    kept: list[Search] = []
    with pytest.raises(KilledError):
        acdc(packed(model.transformer), graph, task, Criterion(0.05), after_layer=stop)
    chosen = np.random.default_rng(0).permutation(len(kept[0].tests))[:40]
    edges, metric, worst = graph.valid.copy(), measure(model.transformer, graph, task, graph.valid), 0.0
    for index, test in enumerate(kept[0].tests):
        trial = edges.copy()
        trial[test.src, test.dst] = False
        if index in chosen:
            before = measure(model.transformer, graph, task, edges)
            worst = max(worst, abs(measure(model.transformer, graph, task, trial) - before - test.score))
        if not test.kept:
            edges = trial
    assert metric == pytest.approx(kept[0].metric_start, abs=1e-5)
    assert worst < 3e-5  # float32: 1.0e-5 to 1.3e-5 by how norms and heads are summed, 2.5e-6 on average
