"""Means by class of position, held to a sum over prompts one by one; what absent edges deliver on a token tree."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from knowcirc.circuits.ablations import AlignedMeans, PartnerRuns
from knowcirc.circuits.evaluation import circuit_answers, circuit_logits
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.patched import record, run_circuit
from knowcirc.facts.prompts import Prompt, fill, tokenise
from knowcirc.models.loading import LanguageModel
from knowcirc.models.token_tree import grow

TEMPLATE = "the capital of {} is in"
SUBJECTS = ("France", "Italy", "New Zealand", "Papua New Guinea")


@pytest.fixture
def graph(model: LanguageModel) -> Graph:
    return Graph.of(model.transformer.shape, "grouped")


@pytest.fixture
def prompts(model: LanguageModel) -> list[Prompt]:
    return [fill(model.text, TEMPLATE, subject, "Paris") for subject in SUBJECTS]


def outputs_on(model: LanguageModel, graph: Graph, means: AlignedMeans, prompts: Sequence[Prompt]) -> torch.Tensor:
    """What absent edges deliver at each position of equally long prompts: [src, prompt, pos, d_model]."""
    tree = grow([one.ids for one in prompts], beside=[means.beside(one) for one in prompts])
    return tree.along(means.at(tree, prompts)[:, 0])


def test_the_means_of_one_prompt_are_its_own_outputs(model: LanguageModel, graph: Graph, prompts: list[Prompt]) -> None:
    for prompt in prompts:
        own = record(model.transformer, graph, torch.tensor([prompt.ids])).outputs
        given = outputs_on(model, graph, AlignedMeans.of(model, graph, [prompt]), [prompt])
        torch.testing.assert_close(given, own, rtol=0, atol=1e-10)


def test_a_class_is_the_mean_of_the_prompts_that_have_it(
    model: LanguageModel, graph: Graph, prompts: list[Prompt]
) -> None:
    means = AlignedMeans.of(model, graph, prompts)
    runs = [record(model.transformer, graph, torch.tensor([one.ids])).outputs[:, 0] for one in prompts]
    n_before = 4 + 3  # <s> the capital of, and three tokens of the longest subject
    assert (means.n_before, means.means.shape[1]) == (n_before, n_before + 2)
    for distance in range(n_before):
        there = [
            run[:, one.subject_last - distance]
            for run, one in zip(runs, prompts, strict=True)
            if distance <= one.subject_last
        ]
        assert len(there) == {5: 2, 6: 1}.get(distance, 4)
        torch.testing.assert_close(means.means[:, distance], torch.stack(there).mean(0), rtol=0, atol=1e-10)
    for distance in range(2):
        there = [run[:, -1 - distance] for run in runs]
        torch.testing.assert_close(means.means[:, n_before + distance], torch.stack(there).mean(0), rtol=0, atol=1e-10)


def test_positions_that_no_averaged_prompt_has_take_the_nearest_of_their_side(
    model: LanguageModel, graph: Graph, prompts: list[Prompt]
) -> None:
    means = AlignedMeans.of(model, graph, prompts[:1])  # four tokens before a subject of one, two behind
    assert means.beside(prompts[0]) == [4, 3, 2, 1, 0, 6, 5]
    assert means.beside(prompts[3]) == [4, 4, 4, 3, 2, 1, 0, 6, 5]
    longer = fill(model.text, "the capital of {} is in the", "France", "Paris")
    assert means.beside(longer) == [4, 3, 2, 1, 0, 6, 6, 5]


def test_prompts_share_a_position_only_where_its_class_agrees(
    model: LanguageModel, graph: Graph, prompts: list[Prompt]
) -> None:
    """<s> and the words before the subject stand at other distances before longer subjects."""
    means = AlignedMeans.of(model, graph, prompts)
    edges = graph.valid & (np.random.default_rng(0).random(graph.valid.shape) < 0.5)
    together = circuit_logits(model, graph, [edges], prompts, means)[0]
    for prompt, logits in zip(prompts, together, strict=True):
        alone = means.means[:, None, torch.tensor(means.beside(prompt))]
        expected = run_circuit(model.transformer, graph, edges, torch.tensor([prompt.ids]), ablated=alone)[0]
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-9)


def test_what_is_evaluated_does_not_change_the_means(model: LanguageModel, graph: Graph, prompts: list[Prompt]) -> None:
    val, test = prompts[:2], prompts[2:]
    means = AlignedMeans.of(model, graph, val)
    before = means.means.clone()
    edges = graph.valid & (np.random.default_rng(1).random(graph.valid.shape) < 0.5)
    one_by_one = [circuit_answers(model, graph, edges, [prompt], absent=means)[0] for prompt in test]
    together = circuit_answers(model, graph, edges, test, absent=means)
    assert [one.rank for one in together] == [one.rank for one in one_by_one]
    assert [one.p for one in together] == pytest.approx([one.p for one in one_by_one])
    assert (means.means == before).all()


def test_a_circuit_of_all_edges_is_the_model_whatever_is_absent(
    model: LanguageModel, graph: Graph, prompts: list[Prompt]
) -> None:
    means = AlignedMeans.of(model, graph, prompts[:2])
    whole = circuit_logits(model, graph, [graph.valid], prompts, means)[0]
    expected = torch.stack([model.transformer.logits(torch.tensor([one.ids]))[0] for one in prompts])
    torch.testing.assert_close(whole, expected, rtol=0, atol=1e-9)


def test_an_empty_circuit_under_patching_is_the_partners_run(
    model: LanguageModel, graph: Graph, prompts: list[Prompt]
) -> None:
    partners = {prompts[0]: prompts[1], prompts[1]: prompts[0]}
    runs = PartnerRuns(model, graph, partners)
    nothing = np.zeros_like(graph.valid)
    found = circuit_logits(model, graph, [nothing], prompts[:2], runs)[0]
    expected = torch.stack([model.transformer.logits(torch.tensor([one.ids]))[0] for one in prompts[:2]])
    torch.testing.assert_close(found, expected.flip(0), rtol=0, atol=1e-9)


def test_prompts_without_a_subject_and_means_of_nothing_are_refused(
    model: LanguageModel, graph: Graph, prompts: list[Prompt]
) -> None:
    plain = tokenise(model.text, "the capital of France is", "Paris")
    with pytest.raises(ValueError, match="has no subject; name it"):
        AlignedMeans.of(model, graph, [*prompts, plain])
    with pytest.raises(ValueError, match="has no subject; name it"):
        AlignedMeans.of(model, graph, prompts).beside(plain)
    with pytest.raises(ValueError, match="at least one prompt"):
        AlignedMeans.of(model, graph, [])
    ending = [fill(model.text, "the capital of {}", "France", "Paris")]
    with pytest.raises(ValueError, match="goes on behind its subject"):
        AlignedMeans.of(model, graph, ending).beside(prompts[0])
