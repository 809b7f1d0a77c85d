"""Edge scores against the change of the loss when one edge, and no other, starts to deliver the corrupted value."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from knowcirc.circuits.attribution import Targets, interpolation, score_edges
from knowcirc.circuits.circuit_settings import CircuitSettings
from knowcirc.circuits.discovery import Scoring, attribute, choose_partners, discover, n_scored, places_used
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.methods import METHODS
from knowcirc.circuits.patched import record, run_circuit
from knowcirc.facts.prompts import Prompt, tokenise
from knowcirc.models.loading import LanguageModel
from knowcirc.models.transformer import Transformer
from unit.tiny import words

Loader = Callable[..., LanguageModel]
CLEAN = torch.tensor([[0, 5, 17, 4, 33]])
CORRUPTED = torch.tensor([[0, 5, 18, 4, 34]])
PAIR = Targets(torch.tensor([7]), torch.tensor([8]))
ALONE = Targets(torch.tensor([7]), None)
WORDS = words()


def starting_from(network: Transformer, embedded: Tensor) -> tuple[Transformer, Tensor]:
    """A network whose tokens 0, 1, ... are embedded as the given rows, and the prompt of these tokens."""
    table = torch.zeros_like(network.embedding)
    table[: embedded.shape[1]] = embedded[0]
    return replace(network, embedding=table, positions=None, embed_scale=1.0), torch.arange(embedded.shape[1])[None]


def loss_of(targets: Targets, logits: Tensor, whole: Tensor, length: int) -> Tensor:
    """The loss written out once more: of one prompt's logits, with those of the whole model beside them."""
    p, p_whole, answer = logits.softmax(-1), whole.softmax(-1), targets.answers[0]
    metric = targets.metric or ("nll" if targets.others is None else "logit-diff")
    if metric == "logit-diff":
        assert targets.others is not None
        return logits[targets.others[0]] - logits[answer]
    if metric == "kl":
        return (p_whole * (p_whole / p).log()).sum()
    return -p[answer].log() if metric == "nll" else (p_whole[answer] / p[answer]).log() / length


def brute_force(
    network: Transformer, graph: Graph, corrupted: Tensor | None, targets: Targets, steps: int, edge: tuple[int, int]
) -> float:
    """The slope of the loss, by central differences over runs in which one edge delivers a little corruption."""
    present = record(network, graph, CLEAN).outputs
    absent = torch.zeros_like(present) if corrupted is None else record(network, graph, corrupted).outputs
    edges = graph.valid.copy()
    edges[edge] = False
    slopes = []
    for share in interpolation(steps, zero=corrupted is None):
        moved, ids = starting_from(network, absent[0] + share * (present[0] - absent[0]))
        base = record(moved, graph, ids).outputs
        step = 1e-5
        losses = []
        for sign in (1, -1):
            ablated = base + sign * step * (absent - present)
            logits = run_circuit(moved, graph, edges, ids, ablated=ablated)
            losses.append(loss_of(targets, logits[0], network.logits(CLEAN)[0], CLEAN.shape[1]))
        slopes.append(float(losses[0] - losses[1]) / (2 * step))
    return float(np.mean(slopes))


@pytest.mark.many(3)
@pytest.mark.parametrize("kv", ["grouped", "per_head"])
@pytest.mark.parametrize(
    ("corrupted", "targets", "steps"),
    [
        (CORRUPTED, PAIR, 1),
        (CORRUPTED, PAIR, 4),
        (None, ALONE, 1),
        (None, ALONE, 3),
        (None, PAIR, 1),
        (CORRUPTED, ALONE, 1),
        (CORRUPTED, replace(ALONE, metric="kc-nll"), 1),
        (CORRUPTED, replace(ALONE, metric="kl"), 2),
        (None, replace(PAIR, metric="kl"), 2),
    ],
    ids=[
        *("eap", "eap-ig", "eap-zero", "eap-ig-zero", "logit-diff-zero", "nll-patch", "kc-nll-patch", "kl-patch"),
        "kl-zero",
    ],
)
def test_scores_are_the_slopes_of_the_loss(
    model: LanguageModel, kv: str, corrupted: Tensor | None, targets: Targets, steps: int
) -> None:
    network = model.transformer
    graph = Graph.of(network.shape, kv)  # type: ignore[arg-type]
    scores = score_edges(network, graph, CLEAN, corrupted, targets, steps=steps)
    scale = float(np.abs(scores).max())
    edges = list(graph.edges())
    strongest = sorted(edges, key=lambda edge: -abs(scores[edge]))[:6]
    drawn = [edges[i] for i in np.random.default_rng(0).permutation(len(edges))[:12]]
    for edge in (*strongest, *drawn):
        expected = brute_force(network, graph, corrupted, targets, steps, edge)
        assert float(scores[edge]) == pytest.approx(expected, rel=1e-4, abs=1e-6 * scale), graph.edge_name(*edge)


def test_folded_weights_are_scored_in_their_own_graph(load_tiny: Loader) -> None:
    network = load_tiny("gpt2", processing="folded").transformer
    graph = Graph.of(network.shape, "grouped")
    scores = score_edges(network, graph, CLEAN, None, ALONE)
    for edge in sorted(graph.edges(), key=lambda edge: -abs(scores[edge]))[:6]:
        assert float(scores[edge]) == pytest.approx(brute_force(network, graph, None, ALONE, 1, edge), rel=1e-4)


@pytest.mark.parametrize("steps", [1, 5])
def test_scores_are_zero_where_nothing_is_corrupted(model: LanguageModel, steps: int) -> None:
    graph = Graph.of(model.transformer.shape, "grouped")
    assert not score_edges(model.transformer, graph, CLEAN, CLEAN, PAIR, steps=steps).any()


def test_scores_are_zero_outside_the_graph(model: LanguageModel) -> None:
    graph = Graph.of(model.transformer.shape, "per_head")
    scores = score_edges(model.transformer, graph, CLEAN, CORRUPTED, PAIR)
    assert scores.shape == graph.valid.shape
    assert not scores[~graph.valid].any()


def test_a_grouped_inputs_score_is_the_sum_over_its_query_heads(load_tiny: Loader) -> None:
    network = load_tiny("llama").transformer
    grouped, per_head = Graph.of(network.shape, "grouped"), Graph.of(network.shape, "per_head")
    few = score_edges(network, grouped, CLEAN, CORRUPTED, PAIR, steps=3)
    many = score_edges(network, per_head, CLEAN, CORRUPTED, PAIR, steps=3)
    for layer in range(3):
        for kind in ("k", "v"):
            summed = many[:, per_head.reads(layer, kind)].reshape(-1, 2, 2).sum(2)  # type: ignore[arg-type]
            np.testing.assert_allclose(few[:, grouped.reads(layer, kind)], summed, atol=1e-6)  # type: ignore[arg-type]
        np.testing.assert_allclose(few[:, grouped.reads(layer, "q")], many[:, per_head.reads(layer, "q")], atol=1e-6)
    np.testing.assert_allclose(few[:, -1], many[:, -1], atol=1e-6)


def test_scores_of_a_batch_are_the_sum_over_its_prompts(model: LanguageModel) -> None:
    graph, network = Graph.of(model.transformer.shape, "grouped"), model.transformer
    clean, corrupted = torch.cat((CLEAN, CORRUPTED)), torch.cat((CORRUPTED, CLEAN + 1))
    targets = Targets(torch.tensor([7, 20]), torch.tensor([8, 21]))
    together = score_edges(network, graph, clean, corrupted, targets, steps=2)
    alone = [
        score_edges(
            network,
            graph,
            clean[i : i + 1],
            corrupted[i : i + 1],
            Targets(targets.answers[i : i + 1], targets.others[i : i + 1]),  # type: ignore[index]
            steps=2,
        )
        for i in range(2)
    ]
    np.testing.assert_allclose(together, alone[0] + alone[1], atol=1e-5)


def test_prompts_of_other_lengths_are_refused(load_tiny: Loader) -> None:
    network = load_tiny("gpt2").transformer
    graph = Graph.of(network.shape, "grouped")
    with pytest.raises(ValueError, match="needs as many tokens as the clean one"):
        score_edges(network, graph, CLEAN, CORRUPTED[:, :-1], PAIR)


def test_inputs_are_interpolated_as_the_reference_has_it() -> None:
    assert interpolation(5, zero=False) == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8])
    assert interpolation(5, zero=True) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert interpolation(1, zero=True) == [1.0]


def prompts() -> list[Prompt]:
    facts = [
        ("the capital of France is", "Paris"),
        ("the capital of Italy is", "Rome"),
        ("the capital of Peru is", "Lima"),
        ("the capital of New Zealand is", "Wellington"),
        ("the city of France is", "Paris"),
    ]
    return [tokenise(WORDS, *fact) for fact in facts]


def test_a_partner_has_as_many_tokens_and_another_answer() -> None:
    given = prompts()
    for seed in range(20):
        partners = choose_partners(given, seed)
        assert partners[3] is None  # the only prompt of its length
        for index in (0, 1, 2, 4):
            partner = partners[index]
            assert partner is not None
            assert len(given[partner].ids) == len(given[index].ids)
            assert given[partner].answer[0] != given[index].answer[0]


def test_partners_are_a_draw_of_their_seed() -> None:
    assert choose_partners(prompts(), 1) == choose_partners(prompts(), 1)
    assert len({tuple(choose_partners(prompts(), seed)) for seed in range(10)}) > 1


@pytest.mark.parametrize("method", ["eap", "eap-ig"])
def test_a_relations_scores_are_the_mean_over_its_prompts_with_a_partner(
    load_tiny: Loader, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    model, given = load_tiny("gpt2"), prompts()
    graph = Graph.of(model.transformer.shape, "grouped")
    partners = [None if index is None else given[index] for index in choose_partners(given, 0)]
    partners[1] = None
    together = attribute(model, graph, given, partners, method)
    lacking = [prompt.text for prompt, partner in zip(given, partners, strict=True) if partner is None]
    assert f"{len(lacking)} of {len(given)} prompts have no fit partner and are left out: {lacking}" in caplog.text
    paired = [(prompt, partner) for prompt, partner in zip(given, partners, strict=True) if partner is not None]
    alone = [attribute(model, graph, [prompt], [partner], method) for prompt, partner in paired]
    np.testing.assert_allclose(together, np.mean(alone, 0), atol=1e-5 * float(np.abs(together).max()))
    clean, corrupted = model.batch([given[0].ids]), model.batch([partners[0].ids])  # type: ignore[union-attr]
    targets = Targets(torch.tensor(given[0].answer), torch.tensor(partners[0].answer))  # type: ignore[union-attr]
    steps = {"eap": 1, "eap-ig": 5}[method]
    expected = score_edges(model.transformer, graph, clean, corrupted, targets, steps=steps)
    np.testing.assert_allclose(alone[0], expected, atol=1e-6 * np.abs(expected).max())


def test_the_prompts_that_a_method_scores_are_counted() -> None:
    def prompt(length: int, answer: int) -> Prompt:
        return Prompt("text", tuple(range(length)), None, "answer", (answer,))

    mixed, alone = [prompt(3, 1), prompt(3, 2), prompt(4, 3)], [prompt(3, 1), prompt(4, 2)]
    patched, zero = {"tau": 0.1, "ablation": "patch"}, {"tau": 0.1, "ablation": "zero"}
    for settings, expected, of_alone in (
        *((CircuitSettings(method), 2, 2) for method in ("eap", "eap-ig", "relp", "eap-ig-activations", "ugs")),
        *((CircuitSettings(method), 3, 2) for method in ("eap-ig-zero", "information-flow", "standing", "random")),
        (CircuitSettings("ugs", options={"ablation": "zero"}), 3, 2),
        (CircuitSettings("eap-ig-activations", options={"prompts": 1}), 1, 1),
        (CircuitSettings("acdc", zero), 3, 2),
        (CircuitSettings("acdc", zero, prompts=1), 1, 1),
        (CircuitSettings("eap-ig+acdc", patched, prompts=3), 2, 2),
    ):
        assert n_scored(settings, mixed) == expected
        assert n_scored(settings, alone) == of_alone  # where none has a partner, all are scored against nothing
    assert places_used(CircuitSettings("eap-ig+acdc", patched, prompts=2), [False, True, False, True, True]) == [1, 3]


def test_what_is_measured_goes_by_the_prompt_or_as_asked() -> None:
    one, text, answer = prompts()[0], replace(prompts()[0], ids=(0, 1, 2)), replace(prompts()[0], answer=(50,))
    both = replace(text, answer=(50,))
    for partner, expected in (
        (None, ("nll", "zero")),
        (text, ("nll", "patch")),
        (answer, ("logit-diff", "zero")),
        (both, ("logit-diff", "patch")),
    ):
        assert Scoring().read("eap", one, partner) == expected
        assert Scoring().read("eap-ig-zero", one, partner) == ("nll", "zero")
    assert Scoring("kl", "zero").read("eap-ig", one, both) == ("kl", "zero")
    for lacking in (Scoring("logit-diff"), Scoring(None, "patch")):
        with pytest.raises(ValueError, match=f"prompt '{one.text}' has no partner"):
            lacking.read("eap-ig", one, None)


def test_the_zero_baseline_leaves_partners_unread(load_tiny: Loader) -> None:
    model, given = load_tiny("gpt2"), prompts()
    graph = Graph.of(model.transformer.shape, "grouped")
    partners = [None if index is None else given[index] for index in choose_partners(given, 0)]
    alone = attribute(model, graph, given, [None] * 5, "eap-ig")
    np.testing.assert_array_equal(attribute(model, graph, given, partners, "eap-ig-zero"), alone)
    assert np.abs(attribute(model, graph, given, partners, "eap-ig") - alone).max() > 1e-3


def test_a_metric_without_a_slope_is_refused(load_tiny: Loader) -> None:
    model, given = load_tiny("llama"), prompts()
    graph = Graph.of(model.transformer.shape, "grouped")
    with pytest.raises(ValueError, match="metric kl has no slope on the clean prompt"):
        attribute(model, graph, given, [None] * 5, "eap", Scoring("kl"))


@pytest.mark.parametrize("method", [*(name for name, method in METHODS.items() if method.attribution), "random"])
def test_discovery_gives_a_connected_circuit_of_the_size(load_tiny: Loader, method: str) -> None:
    model, given = load_tiny("llama"), prompts()
    graph = Graph.of(model.transformer.shape, "grouped")
    circuit = discover(model, graph, given, [None] * 5, method=method, n_edges=40, seed=0)
    assert circuit.method == method
    assert 1 <= circuit.n_edges <= 40
    assert (circuit.scores is None) == (method == "random")
    assert (graph.connected(circuit.edges) == circuit.edges).all()


def test_an_unknown_method_is_refused(load_tiny: Loader) -> None:
    model, given = load_tiny("llama"), prompts()
    graph = Graph.of(model.transformer.shape, "grouped")
    with pytest.raises(ValueError, match="method 'acdcc' gives no scores; choose one of eap"):
        discover(model, graph, given, [None] * 5, method="acdcc", n_edges=40, seed=0)
