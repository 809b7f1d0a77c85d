"""Trained masks of edges: the draws, their gradients, and what training on a tiny model finds."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from knowcirc.circuits import learned
from knowcirc.circuits.attribution import top_edges
from knowcirc.circuits.circuit import Circuit
from knowcirc.circuits.circuit_settings import CircuitSettings
from knowcirc.circuits.discovery import Scoring, attribute
from knowcirc.circuits.finding import find_circuit
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.learned import HardConcrete, Mask, Training, UniformGradient, begin_with_ranks, slope_of_mask
from knowcirc.circuits.masked import MaskedModel
from knowcirc.circuits.patched import run_circuit
from knowcirc.circuits.searching import absent_outputs, task_of
from knowcirc.circuits.settings import PruningSection, SamplingSection
from knowcirc.facts.prompts import Prompt
from knowcirc.models.loading import LanguageModel

Loader = Callable[..., LanguageModel]
PROMPTS = [Prompt(f"prompt {i}", (0, 5, i, 7), None, f" {i}", (i + 1,)) for i in (3, 4, 9, 12)]
PARTNERS = [PROMPTS[i] for i in (1, 0, 3, 2)]
KINDS = {"edge-pruning": PruningSection, "ugs": SamplingSection}


def mask_of(method: str, n_edges: int, size: float = 0.3) -> Mask:
    """A mask of the default settings."""
    if method == "ugs":
        return UniformGradient(n_edges, SamplingSection())
    return HardConcrete(n_edges, PruningSection(), size)


@pytest.mark.parametrize("kv", ["grouped", "per_head"])
@pytest.mark.parametrize("ablation", ["zero", "patch"])
def test_the_slope_of_the_loss_with_a_mask_is_that_of_differences(model: LanguageModel, kv: str, ablation: str) -> None:
    graph = Graph.of(model.transformer.shape, kv)  # type: ignore[arg-type]
    task = task_of(model, PROMPTS, PARTNERS, "kl", ablation)  # type: ignore[arg-type]
    absent = absent_outputs(model, graph, task, PARTNERS, ablation)  # type: ignore[arg-type]
    masked, task = MaskedModel(model.transformer, graph, task.tree, absent), task.anchored(model.transformer)
    rng = np.random.default_rng(0)
    mask = rng.uniform(0.05, 0.95, graph.n_edges)
    chosen = [0, 2]
    part = masked.part(chosen)
    _, slope = slope_of_mask(masked, task, mask, chosen, part)
    scale = float(np.abs(slope).max())
    for edge in (*np.argsort(-np.abs(slope))[:8], *rng.permutation(graph.n_edges)[:12]):
        losses = []
        for sign in (1, -1):
            moved = mask.copy()
            moved[edge] += sign * 1e-5
            losses.append(slope_of_mask(masked, task, moved, chosen, part)[0])
        assert slope[edge] == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-4, abs=1e-6 * scale)


def test_a_mask_of_ones_and_zeros_is_the_circuit(load_tiny: Loader) -> None:
    model = load_tiny("llama")
    graph = Graph.of(model.transformer.shape, "grouped")
    task = task_of(model, PROMPTS, PARTNERS, "nll", "patch")
    absent = absent_outputs(model, graph, task, PARTNERS, "patch")
    edges = top_edges(graph, attribute(model, graph, PROMPTS, PARTNERS, "eap"), 60)
    masked = MaskedModel(model.transformer, graph, task.tree, absent)
    everything = list(range(len(PROMPTS)))
    loss, _ = slope_of_mask(masked, task, edges[graph.valid].astype(float), everything, masked.part(everything))
    logits = run_circuit(model.transformer, graph, edges, task.tree, ablated=absent)
    assert loss == pytest.approx(float(task.measure(logits)))


@pytest.mark.parametrize("method", KINDS)
def test_a_draw_is_as_likely_to_keep_an_edge_as_is_said(method: str) -> None:
    mask = mask_of(method, 5)
    mask.log_odds[:] = (-3.0, -1.0, 0.0, 1.0, 3.0)
    drawn = np.array([mask.draw(np.random.default_rng(i)).mask for i in range(8000)])
    assert drawn.min() == 0
    assert drawn.max() == 1
    found = (drawn > 0).mean(0) if method == "edge-pruning" else drawn.mean(0)
    np.testing.assert_allclose(found, mask.kept, atol=0.02)
    inside = ((drawn > 0) & (drawn < 1)).mean(0)
    if method == "ugs":
        np.testing.assert_allclose(inside, mask.kept * (1 - mask.kept), atol=0.02)
        middle = drawn[:, 2][(drawn[:, 2] > 0) & (drawn[:, 2] < 1)]
        np.testing.assert_allclose(np.quantile(middle, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.06)


def test_hard_concrete_draws_change_with_the_log_odds_as_they_say() -> None:
    mask = mask_of("edge-pruning", 400)
    mask.log_odds[:] = np.linspace(-4, 4, 400)
    slope = mask.draw(np.random.default_rng(1)).slope
    moved = []
    for sign in (1, -1):
        other = mask_of("edge-pruning", 400)
        other.log_odds[:] = mask.log_odds + sign * 1e-6
        moved.append(other.draw(np.random.default_rng(1)).mask)
    np.testing.assert_allclose(slope, (moved[0] - moved[1]) / 2e-6, atol=1e-5)


def test_uniform_gradients_follow_what_masks_of_ones_and_zeros_lose() -> None:
    """The mean of (slope of the loss) x (slope of the draw) is d E[loss] / d log-odds, of a loss that is not linear."""
    mask = mask_of("ugs", 1)
    mask.log_odds[:] = 0.7
    kept = float(mask.kept[0])
    draws = [mask.draw(np.random.default_rng(i)) for i in range(15000)]
    found = np.mean([4 * draw.mask[0] ** 3 * draw.slope[0] for draw in draws])  # loss = mask^4, which rises by 1
    assert found == pytest.approx(kept * (1 - kept), rel=0.08)


@pytest.mark.parametrize("method", KINDS)
def test_log_odds_by_rank_keep_as_many_edges_as_asked_for(method: str) -> None:
    strength = np.random.default_rng(0).random(50)
    mask = mask_of(method, 50)
    for n_edges in (1, 20, 49):
        begin_with_ranks(mask, strength, n_edges)
        assert np.argsort(mask.log_odds).tolist() == np.argsort(strength).tolist()
        assert mask.kept.sum() == pytest.approx(n_edges)


def test_training_begins_with_the_ranks_of_eap_ig_unless_told_otherwise(load_tiny: Loader) -> None:
    model = load_tiny("llama")
    graph = Graph.of(model.transformer.shape, "grouped")
    settings = CircuitSettings("ugs", share=0.25, options={"steps": 1, "rate": 1e-9, "prompts": 4})
    found, about = find_circuit(model, graph, PROMPTS, PARTNERS, settings, seed=1)
    scores = attribute(model, graph, PROMPTS, PARTNERS, "eap-ig", Scoring("kl", "patch"))
    np.testing.assert_array_equal(found.edges, top_edges(graph, scores, settings.n_edges(graph.n_edges)))
    assert about["prompt_passes"] == 12 + 2 + 2  # and the partner's run, and the whole model's
    even = replace(settings, options={**settings.options, "first": "even"})
    found, about = find_circuit(model, graph, PROMPTS, PARTNERS, even, seed=1)
    assert found.scores is not None
    np.testing.assert_allclose(found.scores[graph.valid], 1 / (1 + np.exp(-1)))
    assert about["prompt_passes"] == 2 + 2


def test_the_multipliers_hold_the_target() -> None:
    mask = HardConcrete(1000, PruningSection(steps=60, start=3.0, first="even"), 0.1)
    assert mask.target(0) == pytest.approx(1 - 0.9 / 45)
    assert mask.target(44) == mask.target(59) == pytest.approx(0.1)
    worth = np.zeros(1000)
    worth[:100] = -1.0  # what these edges are worth, no other is
    for step in range(60):
        mask.log_odds -= mask.adam.move(worth + mask.cost(step), step)
    assert mask.kept[:100].min() > 0.9
    assert mask.kept[100:].max() < 0.5
    small = HardConcrete(10, PruningSection(first="even"), 0.5)
    before = small.cost(0)
    assert not before.any()  # no multiplier yet
    assert (small.cost(1) > 0).all()  # above the target, edges cost


@pytest.mark.parametrize("method", KINDS)
def test_training_serves_its_prompts_as_well_as_eap(load_tiny: Loader, method: str) -> None:
    model = load_tiny("llama")
    graph = Graph.of(model.transformer.shape, "grouped")
    steps = {"edge-pruning": {"steps": 300, "rate": 0.1, "start": 3.0}, "ugs": {"steps": 300, "rate": 0.1}}[method]
    settings = CircuitSettings(method, share=0.25, options={**steps, "prompts": 4, "first": "even"})
    circuit, about = find_circuit(model, graph, PROMPTS, PARTNERS, settings, seed=1)
    task = task_of(model, PROMPTS, PARTNERS, "kl", "patch").anchored(model.transformer)
    absent = absent_outputs(model, graph, task, PARTNERS, "patch")

    def divergence(found: Circuit) -> float:
        return float(task.measure(run_circuit(model.transformer, graph, found.edges, task.tree, ablated=absent)))

    count = settings.n_edges(graph.n_edges)
    scores = attribute(model, graph, PROMPTS, PARTNERS, "eap")
    other = Circuit("eap", top_edges(graph, scores, count), scores)
    assert circuit.n_edges <= count
    assert divergence(circuit) <= divergence(other)
    assert (about["metric"], about["ablation"]) == ("kl", "patch")
    assert about["prompt_passes"] == 2 + 2 * steps["steps"]


@pytest.mark.parametrize("method", KINDS)
def test_a_training_that_was_cut_short_goes_on(
    load_tiny: Loader, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_tiny("gpt2")
    graph = Graph.of(model.transformer.shape, "grouped")
    settings = CircuitSettings(method, share=0.25, options={"steps": 6, "prompts": 2})
    whole, _ = find_circuit(model, graph, PROMPTS, PARTNERS, settings, seed=2)
    state = tmp_path / "search.npz"
    monkeypatch.setattr(learned, "KEPT", 0.0)
    step = Training.step

    def fails(training: Training) -> float:
        if training.done == 4:
            raise KeyboardInterrupt
        return step(training)

    with monkeypatch.context() as broken:
        broken.setattr(Training, "step", fails)
        with pytest.raises(KeyboardInterrupt):
            find_circuit(model, graph, PROMPTS, PARTNERS, settings, seed=2, state=state)
    again, _ = find_circuit(model, graph, PROMPTS, PARTNERS, settings, seed=2, state=state)
    np.testing.assert_array_equal(again.scores, whole.scores)
    state.write_bytes(b"no archive")
    with pytest.raises(ValueError, match="holds no training that could go on"):
        find_circuit(model, graph, PROMPTS, PARTNERS, settings, seed=2, state=state)


def test_prompts_without_a_partner_are_left_out_and_zero_where_none_has_one(load_tiny: Loader) -> None:
    model = load_tiny("llama")
    graph = Graph.of(model.transformer.shape, "grouped")
    settings = CircuitSettings("ugs", share=0.25, options={"steps": 2})
    some, about = find_circuit(model, graph, PROMPTS, [PARTNERS[0], None, None, None], settings, seed=2)
    one, _ = find_circuit(model, graph, PROMPTS[:1], PARTNERS[:1], settings, seed=2)
    np.testing.assert_array_equal(some.scores, one.scores)
    assert about["ablation"] == "patch"
    _, about = find_circuit(model, graph, PROMPTS, [None] * 4, settings, seed=2)
    assert about["ablation"] == "zero"
    asked = replace(settings, options={"steps": 2, "ablation": "zero", "metric": "nll"})
    _, about = find_circuit(model, graph, PROMPTS, PARTNERS, asked, seed=2)
    assert (about["ablation"], about["metric"]) == ("zero", "nll")


def test_a_gradient_that_is_not_finite_is_told(load_tiny: Loader) -> None:
    model = load_tiny("llama")
    graph = Graph.of(model.transformer.shape, "grouped")
    broken = replace(model.transformer, unembedding=torch.full_like(model.transformer.unembedding, float("nan")))
    task = task_of(model, PROMPTS, PARTNERS, "nll", "zero")
    mask = UniformGradient(graph.n_edges, SamplingSection())
    training = Training(MaskedModel(broken, graph, task.tree), task, mask, SamplingSection(), 0)
    with pytest.raises(ValueError, match="gradient is not finite in step 0"):
        training.step()
