"""What prompts share, computed once, against the same prompts computed apart."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from knowcirc.circuits.acdc import Criterion, acdc
from knowcirc.circuits.attribution import Targets, score_edges
from knowcirc.circuits.choices import METRICS, Ablation, Metric
from knowcirc.circuits.discovery import attribute
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.metrics import make_task
from knowcirc.circuits.patched import record, run_circuit
from knowcirc.circuits.searching import absent_outputs, shared_under
from knowcirc.facts.prompts import Prompt
from knowcirc.models.loading import LanguageModel
from knowcirc.models.token_tree import apart, grow
from sequential import sequential_acdc

Loader = Callable[..., LanguageModel]
MIXED = [[0, 5, 17, 4, 33], [0, 5, 18], [0, 5], [9, 5, 17], [0, 5, 18], [0, 5, 17, 4, 34]]
GROUPS = {
    "a common beginning": [[0, 5, 17, 4], [0, 5, 18, 4], [0, 5, 19, 4]],
    "one the beginning of another, two equal, other lengths": MIXED,
    "nothing in common": [[1, 5, 17], [2, 5, 17], [3, 5]],
    "a single token, and what begins with it": [[6], [6, 8, 9], [6]],
}
OTHERS = {name: [[*row[:-1], row[-1] + 40] for row in rows] for name, rows in GROUPS.items()}
SHARING = list(GROUPS)[:2]


def prompts_of(rows: list[list[int]], shift: int = 0) -> list[Prompt]:
    return [Prompt("", tuple(row), None, "", (20 + number + shift,)) for number, row in enumerate(rows)]


def same_search(model: LanguageModel, name: str, metric: Metric, ablation: Ablation, absolute: bool) -> None:
    """Both searches of a group of prompts, held against each other."""
    network, rows = model.transformer, GROUPS[name]
    graph = Graph.of(network.shape, "grouped")
    prompts, partners = prompts_of(rows), prompts_of(OTHERS[name], 10)
    answers, wrong = [20 + number for number in range(len(rows))], [30 + number for number in range(len(rows))]
    beside = shared_under(ablation, prompts, partners)
    task = make_task(metric, rows, answers, wrong, beside=beside)
    alone = make_task(metric, rows, answers, wrong, beside=apart(rows))
    assert len(alone.tree) == sum(map(len, rows))
    assert (len(task.tree) < len(alone.tree)) == (name != "nothing in common")
    absent = absent_outputs(model, graph, task, partners, ablation)
    row_by_row = None if absent is None else task.tree.along(absent[:, 0])
    rule = Criterion(0.01, absolute)
    shared = acdc(network, graph, task, rule, absent=absent)
    for each, given in ((alone, row_by_row), (task, row_by_row)):
        found = acdc(network, graph, each, rule, absent=given)
        assert [(t.src, t.dst, t.kept) for t in found.tests] == [(t.src, t.dst, t.kept) for t in shared.tests]
        np.testing.assert_allclose([t.score for t in found.tests], [t.score for t in shared.tests], atol=1e-10)
        assert (found.edges == shared.edges).all()
    assert 0 < shared.edges.sum() < graph.n_edges


@pytest.mark.parametrize("ablation", ["zero", "patch"])
@pytest.mark.parametrize("group", GROUPS)
def test_the_search_decides_as_without_sharing(load_tiny: Loader, group: str, ablation: Ablation) -> None:
    same_search(load_tiny("llama"), group, "nll", ablation, absolute=ablation == "patch")


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_is_the_mean_over_all_prompts(load_tiny: Loader, metric: Metric) -> None:
    same_search(load_tiny("gpt2"), SHARING[1], metric, "zero", absolute=False)


def test_means_are_those_of_reference_prompts_of_equal_length(load_tiny: Loader) -> None:
    model = load_tiny("gpt2")
    rows = [[0, 5, 17, 4], [0, 5, 18, 4], [0, 5, 18], [0, 6, 18]]
    references = [[0, 5, 17, 4], [0, 9, 18, 4], [0, 5, 17, 9], [0, 5, 18], [0, 6, 18]]
    graph, prompts = Graph.of(model.transformer.shape, "grouped"), prompts_of(rows)
    task = make_task("nll", rows, [20] * 4, beside=shared_under("mean", prompts, prompts_of(references)))
    found = task.tree.along(absent_outputs(model, graph, task, prompts_of(references), "mean")[:, 0])  # type: ignore[index]
    for row, ids in enumerate(rows):
        alike = [reference for reference in references if len(reference) == len(ids)]
        expected = record(model.transformer, graph, torch.tensor(alike)).outputs.mean(1)
        torch.testing.assert_close(found[:, row, : len(ids)], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("ablation", ["zero", "patch"])
def test_the_shared_search_is_the_one_by_one_search(load_tiny: Loader, ablation: Ablation) -> None:
    model, rows = load_tiny("llama_biased"), MIXED[:3]
    graph = Graph.of(model.transformer.shape, "grouped")
    prompts, partners = prompts_of(rows), prompts_of(OTHERS[SHARING[1]][:3])
    task = make_task("nll", rows, [20, 21, 22], beside=shared_under(ablation, prompts, partners))
    absent = absent_outputs(model, graph, task, partners, ablation)
    found = acdc(model.transformer, graph, task, Criterion(0.02), absent=absent)
    apart_absent = None if absent is None else task.tree.along(absent[:, 0])
    tests, edges, _ = sequential_acdc(model.transformer, graph, task, Criterion(0.02), absent=apart_absent)
    assert [(t.src, t.dst, t.kept) for t in found.tests] == [(t.src, t.dst, t.kept) for t in tests]
    assert (found.edges == edges).all()


def test_absent_outputs_of_another_shape_are_refused(load_tiny: Loader) -> None:
    network = load_tiny("llama").transformer
    graph, task = Graph.of(network.shape, "grouped"), make_task("nll", MIXED, [20] * 6)
    absent = record(network, graph, grow(MIXED, beside=apart(MIXED))).outputs
    with pytest.raises(ValueError, match=r"must have 10 nodes .* or the shape of the prompts, \(6, 5\)"):
        acdc(network, graph, task, Criterion(0.01), absent=absent)


@pytest.mark.parametrize("patched", [False, True])
@pytest.mark.parametrize("group", GROUPS)
def test_a_circuits_logits_are_those_of_each_prompt_alone(model: LanguageModel, group: str, patched: bool) -> None:
    network, rows, others = model.transformer, GROUPS[group], OTHERS[group]
    graph = Graph.of(network.shape, "per_head")
    edges = graph.valid & (np.random.default_rng(0).random(graph.valid.shape) < 0.8)
    tree = grow(rows, beside=others if patched else None)
    absent = record(network, graph, tree.with_tokens(others)).outputs if patched else None
    found = run_circuit(network, graph, edges, tree, ablated=absent)
    for row, other, logits in zip(rows, others, found, strict=True):
        alone = record(network, graph, torch.tensor([other])).outputs if patched else None
        expected = run_circuit(network, graph, edges, torch.tensor([row]), ablated=alone)[0]
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("group", GROUPS)
def test_scores_are_the_sum_over_the_prompts_alone(model: LanguageModel, group: str, paired: bool, steps: int) -> None:
    network, rows, others = model.transformer, GROUPS[group], OTHERS[group]
    graph = Graph.of(network.shape, "grouped")
    tree = grow(rows, beside=others if paired else None)
    answers, wrong = (torch.arange(start, start + len(rows)) for start in (20, 30))
    targets = Targets(answers, wrong if paired else None)
    corrupted = tree.with_tokens(others) if paired else None
    together = score_edges(network, graph, tree, corrupted, targets, steps=steps)
    alone = [
        score_edges(
            network,
            graph,
            torch.tensor([row]),
            torch.tensor([other]) if paired else None,
            Targets(answers[i : i + 1], wrong[i : i + 1] if paired else None),
            steps=steps,
        )
        for i, (row, other) in enumerate(zip(rows, others, strict=True))
    ]
    expected = np.sum(alone, 0)
    np.testing.assert_allclose(together, expected, rtol=0, atol=1e-6 * float(np.abs(expected).max()))


def test_scores_are_the_same_in_trees_of_any_size(load_tiny: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_tiny("gpt2")
    graph, prompts = Graph.of(model.transformer.shape, "grouped"), prompts_of(MIXED)
    partners = [*prompts_of(OTHERS[SHARING[1]], 10)[:4], None, None]
    want = attribute(model, graph, prompts, partners, "eap-ig")
    monkeypatch.setattr("knowcirc.circuits.discovery.BATCH", 1)
    found = attribute(model, graph, prompts, partners, "eap-ig")
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-6 * float(np.abs(want).max()))
