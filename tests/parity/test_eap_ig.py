"""Edge scores and circuits of the default model against recorded runs of hannamw/EAP-IG (commit 795f560).

`fixtures/smollm2_france_italy.json` holds the 200 strongest edges of each method, the sums over all 123,211 edges, and
the logit differences of circuits of the N strongest edges with everything else patched from the corrupted prompt.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from knowcirc.circuits.attribution import Scores, Targets, score_edges, top_edges
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.patched import record, run_circuit
from knowcirc.facts.knowledge import answer_prompts
from knowcirc.facts.prompts import fill
from knowcirc.models.loading import LanguageModel, load
from unit import reference

RECORDED = json.loads((Path(__file__).parent / "fixtures" / "smollm2_france_italy.json").read_text("utf-8"))
STEPS = {"EAP": 1, "EAP-IG-inputs": 5}
CLEAN = torch.tensor([RECORDED["clean_ids"]])
CORRUPTED = torch.tensor([RECORDED["corrupted_ids"]])
TARGETS = Targets(*(torch.tensor([label]) for label in RECORDED["labels"]))


@pytest.fixture(scope="module")
def model(real_model_folder: Path) -> LanguageModel:
    return load(real_model_folder, device="cpu")


@pytest.fixture(scope="module")
def graph(model: LanguageModel) -> Graph:
    return Graph.of(model.transformer.shape, "per_head")


@pytest.fixture(scope="module")
def scores(model: LanguageModel, graph: Graph) -> dict[str, Scores]:
    return {
        method: score_edges(model.transformer, graph, CLEAN, CORRUPTED, TARGETS, steps=steps)
        for method, steps in STEPS.items()
    }


def logit_difference(logits: Tensor) -> float:
    return -float(TARGETS.loss(logits)[0])


def test_the_tokenizer_gives_the_recorded_tokens(model: LanguageModel) -> None:
    for kind in ("clean", "corrupted"):
        assert model.text.encode(RECORDED[kind]).ids == RECORDED[f"{kind}_ids"]
    assert [model.text.decode([label]) for label in RECORDED["labels"]] == [" French", " Italian"]


def test_the_model_knows_that_french_is_spoken_in_france(model: LanguageModel) -> None:
    (answer,) = answer_prompts(model, [fill(model.text, "The official language of {} is", "France", "French")])
    assert answer.rank == 0
    assert answer.p >= 0.8


def test_own_logits_are_the_hugging_face_ones(model: LanguageModel) -> None:
    ids = torch.cat((CLEAN, CORRUPTED))
    with torch.no_grad():
        expected = reference.network(model)(ids).logits[:, -1]
    found = model.transformer.logits(ids)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)
    assert torch.equal(found.argmax(-1), expected.argmax(-1))


def test_the_whole_model_tells_the_languages_apart_as_recorded(model: LanguageModel) -> None:
    assert logit_difference(model.transformer.logits(CLEAN)) == pytest.approx(RECORDED["baseline"], abs=1e-3)
    corrupted = logit_difference(model.transformer.logits(CORRUPTED))
    assert corrupted == pytest.approx(RECORDED["corrupted_baseline"], abs=1e-3)


@pytest.mark.parametrize("method", STEPS)
def test_the_strongest_edges_have_their_recorded_scores(graph: Graph, scores: dict[str, Scores], method: str) -> None:
    recorded = RECORDED[method]
    found = {graph.edge_name(*edge): float(scores[method][edge]) for edge in graph.edges()}
    worst = max(abs(found[name] - score) for name, score in recorded.items())
    assert worst <= 0.01 * max(map(abs, recorded.values()))
    strongest = sorted(found, key=lambda name: -abs(found[name]))[:200]
    assert len(set(strongest) & set(recorded)) >= 198  # ties at the end may change places


@pytest.mark.parametrize("method", STEPS)
def test_scores_sum_to_the_recorded_sums(scores: dict[str, Scores], method: str) -> None:
    assert float(scores[method].sum()) == pytest.approx(RECORDED[f"{method}_sum"], rel=0.01)
    assert float(np.abs(scores[method]).sum()) == pytest.approx(RECORDED[f"{method}_abs_sum"], rel=0.01)


def test_circuits_of_the_strongest_edges_score_as_recorded(
    model: LanguageModel, graph: Graph, scores: dict[str, Scores]
) -> None:
    ablated = record(model.transformer, graph, CORRUPTED).outputs
    for size, recorded in RECORDED["eval_topn"].items():
        edges = top_edges(graph, scores["EAP-IG-inputs"], int(size))
        assert abs(int(edges.sum()) - recorded["after_prune"]) <= 0.002 * int(size), size
        value = logit_difference(run_circuit(model.transformer, graph, edges, CLEAN, ablated=ablated))
        assert value == pytest.approx(recorded["value"], abs=0.02), size


@pytest.mark.parametrize("kv", ["grouped", "per_head"])
def test_the_whole_graph_gives_the_models_logits(model: LanguageModel, kv: str) -> None:
    whole = Graph.of(model.transformer.shape, kv)  # type: ignore[arg-type]
    logits = run_circuit(model.transformer, whole, whole.valid, CLEAN)
    torch.testing.assert_close(logits, model.transformer.logits(CLEAN), rtol=0, atol=1e-3)
