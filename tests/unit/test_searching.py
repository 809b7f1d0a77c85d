"""`eap-ig+acdc` on prompts and partners: which edges are searched, which prompts, and how a killed search goes on."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from knowcirc.circuits.attribution import top_edges
from knowcirc.circuits.circuit_settings import CircuitSettings
from knowcirc.circuits.discovery import attribute
from knowcirc.circuits.finding import find_circuit
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.searching import AcdcSettings, candidates, refine, search_circuit
from knowcirc.facts.prompts import Prompt
from knowcirc.models.loading import LanguageModel

N_EDGES = 90


def prompt(ids: tuple[int, ...], answer: int) -> Prompt:
    return Prompt("", ids, None, "", (answer,))


PROMPTS = [prompt((0, 5, 17, 4), 7), prompt((0, 5, 18, 4), 8), prompt((0, 6, 9), 9)]
PARTNERS = [PROMPTS[1], PROMPTS[0], None]


@pytest.fixture
def llama(load_tiny: Callable[..., LanguageModel]) -> LanguageModel:
    return load_tiny("llama")


@pytest.fixture
def graph(llama: LanguageModel) -> Graph:
    return Graph.of(llama.transformer.shape, "grouped")


def test_edges_are_set_against_what_takes_their_place(llama: LanguageModel, graph: Graph) -> None:
    for ablation, partners in (("zero", [None] * 3), ("patch", PARTNERS)):
        scores = attribute(llama, graph, PROMPTS, partners, "eap-ig")
        chosen = candidates(llama, graph, PROMPTS, PARTNERS, ablation, N_EDGES)
        assert (chosen == top_edges(graph, scores, N_EDGES)).all()
    assert (candidates(llama, graph, PROMPTS, PARTNERS, "zero", N_EDGES) != chosen).any()
    with pytest.raises(ValueError, match="the 1 strongest edges form no path"):
        candidates(llama, graph, PROMPTS, PARTNERS, "zero", 1)


def test_the_refined_circuit_is_what_acdc_leaves_of_the_candidates(
    llama: LanguageModel, graph: Graph, tmp_path: Path
) -> None:
    settings = AcdcSettings(tau=0.01)
    found, _ = refine(llama, graph, PROMPTS, PARTNERS, settings, n_edges=N_EDGES, state=tmp_path / "search.npz")
    edges = candidates(llama, graph, PROMPTS, PARTNERS, "zero", N_EDGES)
    search, _ = search_circuit(llama, graph, PROMPTS, PARTNERS, settings, edges=edges)
    assert found.method == "eap-ig+acdc"
    assert 0 < found.n_edges < edges.sum()
    assert (found.edges == search.edges).all()
    np.testing.assert_array_equal(found.scores, search.scores(graph))


def test_a_search_that_is_kept_is_not_ranked_again(
    llama: LanguageModel, graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (llama, graph, PROMPTS, PARTNERS, AcdcSettings(tau=0.01))
    found, _ = refine(*arguments, n_edges=N_EDGES, state=tmp_path / "search.npz")
    monkeypatch.setattr("knowcirc.circuits.searching.attribute", lambda *_: pytest.fail("ranked again"))
    again, _ = refine(*arguments, n_edges=N_EDGES, state=tmp_path / "search.npz")
    assert (again.edges == found.edges).all()


@pytest.mark.parametrize("method", ["acdc", "eap-ig+acdc"])
def test_patching_leaves_out_prompts_without_a_partner_and_says_so(
    method: str, llama: LanguageModel, graph: Graph, caplog: pytest.LogCaptureFixture
) -> None:
    criterion = {"tau": 0.01, "ablation": "patch"}
    settings = CircuitSettings(method, criterion, N_EDGES / graph.n_edges, prompts=2)
    prompts, partners = PROMPTS[::-1], PARTNERS[::-1]  # the first has no partner
    with caplog.at_level(logging.WARNING):
        found, about = find_circuit(llama, graph, prompts, partners, settings)
    assert "1 of 3 prompts have no partner and are left out" in caplog.text
    paired, alone = find_circuit(llama, graph, prompts[1:], partners[1:], settings)
    assert (found.edges == paired.edges).all()
    assert about["prompt_passes"] == pytest.approx(float(str(alone["prompt_passes"])) * 2 / 3)  # of all three
    with pytest.raises(ValueError, match="no prompt has a partner"):
        find_circuit(llama, graph, prompts, [None] * 3, settings)


def test_passes_are_of_all_prompts_in_the_mean(llama: LanguageModel, graph: Graph) -> None:
    settings = CircuitSettings("acdc", {"tau": 0.01, "metric": "kl"}, prompts=1)
    _, about = find_circuit(llama, graph, PROMPTS, [None] * 3, settings)
    assert about["prompt_passes"] == pytest.approx((float(str(about["rows"])) + 1) / 3)  # and the whole model
    _, about = find_circuit(llama, graph, PROMPTS, PARTNERS, CircuitSettings("eap", share=0.5))
    assert about["prompt_passes"] == pytest.approx(4 * 2 / 3)
    settings = CircuitSettings("eap-ig-activations", share=0.5, options={"prompts": 1, "steps": 1})
    _, about = find_circuit(llama, graph, PROMPTS, PARTNERS, settings)
    assert about["prompt_passes"] == pytest.approx((2 + 2 * 7) / 3)
