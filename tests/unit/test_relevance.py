"""RelP and EAP-IG over activations against a plain pass head by head, edge by edge."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from knowcirc.circuits import activations, attribution, relevance
from knowcirc.circuits.activations import places
from knowcirc.circuits.attribution import Targets
from knowcirc.circuits.discovery import Scoring, attribute, passes_of
from knowcirc.circuits.flow import as_route
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.patched import record
from knowcirc.facts.prompts import Prompt
from knowcirc.models.loading import LanguageModel
from knowcirc.models.token_tree import grow
from unit.plain_gradients import Plain

Loader = Callable[..., LanguageModel]
CLEAN = torch.tensor([[0, 5, 17, 4, 33]])
CORRUPTED = torch.tensor([[0, 5, 18, 4, 34]])
PAIR = Targets(torch.tensor([7]), torch.tensor([8]))


@pytest.fixture(params=["gpt2", "llama", "llama_biased"])
def name(request: pytest.FixtureRequest) -> str:
    """The tiny models whose arithmetic the plain pass writes out."""
    return str(request.param)


@pytest.fixture(params=["grouped", "per_head"])
def graph(request: pytest.FixtureRequest, model: LanguageModel) -> Graph:
    return Graph.of(model.transformer.shape, request.param)


def difference(model: LanguageModel, graph: Graph, corrupted: Tensor | None) -> Tensor:
    """What senders would deliver in place of their outputs, less these."""
    clean = record(model.transformer, graph, CLEAN).outputs[:, 0]
    return -clean if corrupted is None else record(model.transformer, graph, corrupted).outputs[:, 0] - clean


def close(found: np.ndarray, expected: Tensor) -> None:
    scale = float(expected.abs().max())
    assert scale > 1e-4
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-6 * scale)


@pytest.mark.parametrize("corrupted", [CORRUPTED, None], ids=["patch", "zero"])
@pytest.mark.parametrize("attention", ["gradient", "frozen", "half"])
def test_relp_passes_back_by_the_rules(
    model: LanguageModel, graph: Graph, attention: relevance.Rule, corrupted: Tensor | None
) -> None:
    plain = Plain(model.transformer, graph, CLEAN, attention)
    expected = plain.scores(PAIR.loss(plain.logits()).sum(), difference(model, graph, corrupted))
    found = relevance.score_edges(model.transformer, graph, CLEAN, corrupted, PAIR, attention=attention)
    close(found, expected)
    reads = [column for column, name in enumerate(graph.dst_names) if name.endswith(("<q>", "<k>"))]
    assert found[:, reads].any() == (attention != "frozen")


def test_the_plain_pass_is_the_networks_own(model: LanguageModel, graph: Graph) -> None:
    plain = Plain(model.transformer, graph, CLEAN)
    torch.testing.assert_close(plain.logits(), model.transformer.logits(CLEAN))
    expected = plain.scores(PAIR.loss(plain.logits()).sum(), difference(model, graph, CORRUPTED))
    close(attribution.score_edges(model.transformer, graph, CLEAN, CORRUPTED, PAIR), expected)


def test_the_rules_leave_the_values_as_they_are(model: LanguageModel) -> None:
    ruled = relevance.relevant(model.transformer)
    torch.testing.assert_close(ruled.logits(CLEAN), model.transformer.logits(CLEAN))
    x = torch.linspace(-3, 3, 32, dtype=torch.float64).repeat(2, 1).requires_grad_()
    norm, weights = ruled.blocks[0].norm1, torch.linspace(-1, 2, 32, dtype=torch.float64)
    (passed,) = torch.autograd.grad((norm(x) * weights).sum(), [x])
    torch.testing.assert_close(norm.vjp(x.detach(), weights.expand(2, -1)), passed)


@pytest.mark.parametrize("name", ["qwen3", "olmo2", "gemma2"])
@pytest.mark.parametrize("kind", ["q", "k"])
def test_norms_of_queries_and_keys_pass_back_by_the_rule(load_tiny: Loader, name: str, kind: Any) -> None:
    attention = relevance.relevant(load_tiny(name).transformer).blocks[1].attention
    heads = range(len(attention.w_q if kind == "q" else attention.w_k))
    rng = torch.Generator().manual_seed(0)
    grad = torch.randn(5, len(heads), attention.w_q.shape[1], generator=rng, dtype=torch.float64)
    x = torch.randn(5, 32, generator=rng, dtype=torch.float64)
    found = attention.back(kind, heads, x, grad)
    for head in heads:
        own = x.clone().requires_grad_()
        read = attention.read_all(kind, own)[:, head]
        (expected,) = torch.autograd.grad((read * grad[:, head]).sum(), [own])
        torch.testing.assert_close(found[head], expected)


def test_relevance_is_conserved_from_the_logits_down(load_tiny: Loader) -> None:
    """By the half rule a gated network without biases hands down all it gets: AttnLRP's property."""
    network = load_tiny("llama").transformer
    graph = Graph.of(network.shape, "grouped")
    total = -relevance.score_edges(network, graph, CLEAN, None, PAIR, attention="frozen")
    loss = float(PAIR.loss(network.logits(CLEAN)).detach())
    assert total[:, graph.final].sum() == pytest.approx(loss, rel=1e-5)
    whole = Plain(network, graph, CLEAN, "frozen")
    logits = whole.logits()
    embedded = whole.outputs[0]
    (passed,) = torch.autograd.grad(PAIR.loss(logits).sum(), [embedded])
    assert float((passed * embedded.detach()).sum()) == pytest.approx(loss, rel=1e-6)


@pytest.mark.parametrize("corrupted", [CORRUPTED, None], ids=["patch", "zero"])
@pytest.mark.parametrize("steps", [1, 3])
def test_activations_are_moved_place_by_place(
    model: LanguageModel, graph: Graph, corrupted: Tensor | None, steps: int
) -> None:
    clean = record(model.transformer, graph, CLEAN).outputs[:, 0]
    moved = difference(model, graph, corrupted)
    total = torch.zeros(graph.n_src, graph.n_dst, dtype=torch.float64)
    for senders in places(graph):
        for step in range(1, steps + 1):
            between = clean + (1 - step / steps) * moved
            held = {sender: between[sender] for sender in range(senders.start, senders.stop)}
            plain = Plain(model.transformer, graph, CLEAN, held=held)
            total += plain.scores(PAIR.loss(plain.logits()).sum(), moved)
    found = activations.score_edges(model.transformer, graph, CLEAN, corrupted, PAIR, steps=steps)
    close(found, total / (steps * len(places(graph))))


@pytest.mark.parametrize("method", ["relp", "eap-ig-activations", "information-flow"])
def test_a_tree_gives_the_sum_over_its_prompts(load_tiny: Loader, method: str) -> None:
    model = load_tiny("llama")
    graph = Graph.of(model.transformer.shape, "grouped")
    prompts = [Prompt(f"{i}", (0, 5, i, 7), None, f"{i}", (i + 1,)) for i in (3, 4, 9)]
    partners = [replace(prompts[i]) for i in (1, 0, 1)]
    together = attribute(model, graph, prompts, partners, method)
    alone = [attribute(model, graph, [one], [other], method) for one, other in zip(prompts, partners, strict=True)]
    mean = np.mean(alone, 0)
    expected = as_route(graph, mean) if method == "information-flow" else mean
    np.testing.assert_allclose(together, expected, atol=1e-6 * float(np.abs(together).max()))


def test_options_are_read(load_tiny: Loader) -> None:
    model = load_tiny("llama")
    graph = Graph.of(model.transformer.shape, "grouped")
    prompts = [Prompt(f"{i}", (0, 5, i, 7), None, f"{i}", (i + 1,)) for i in (3, 4)]
    tree = grow([prompts[0].ids])
    expected = activations.score_edges(
        model.transformer, graph, tree, None, Targets(torch.tensor([4]), None, "nll"), steps=2
    )
    options = {"steps": 2, "prompts": 1}
    found = attribute(model, graph, prompts, [None] * 2, "eap-ig-activations", options=options)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert passes_of(graph, [None], method="eap-ig-activations", options=options) == 1 + 2 * 2 * 7
    assert passes_of(graph, [prompts[0]], method="relp") == 4
    assert passes_of(graph, [prompts[0]], method="eap-ig") == 12
    assert passes_of(graph, [prompts[0]], method="information-flow") == 1
    with pytest.raises(ValueError, match="rules"):
        attribute(model, graph, prompts, [None] * 2, "relp", options={"rules": "all"})
    with pytest.raises(ValueError, match="metric kl has no slope on the clean prompt, where relp takes"):
        attribute(model, graph, prompts, [None] * 2, "relp", Scoring("kl"))


def test_prompts_of_other_lengths_are_refused(load_tiny: Loader) -> None:
    model = load_tiny("gpt2")
    graph = Graph.of(model.transformer.shape, "grouped")
    with pytest.raises(ValueError, match="needs as many tokens as the clean one"):
        activations.score_edges(model.transformer, graph, CLEAN, CORRUPTED[:, :-1], PAIR)
