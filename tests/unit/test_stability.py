"""Circuits found again: what is drawn, what they share, what chance would give, their consensus and its scores."""

import itertools
import logging
import math
import shutil
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import compare_resamples
import resample_circuits
from knowcirc.circuits.circuit import Circuit
from knowcirc.circuits.circuit_settings import CircuitSettings
from knowcirc.circuits.evaluation import circuit_answers, faithfulness, pairs_of
from knowcirc.circuits.export import load_circuits, save_circuits
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.random_circuits import random_circuit
from knowcirc.circuits.resampling import draw, resampled_runs, reworded_runs
from knowcirc.circuits.stability import (
    agreement,
    all_pairs,
    consensus,
    curve,
    expected_counts,
    expected_jaccard,
    frequencies,
    sized_consensus,
)
from knowcirc.circuits.stability_scores import circuit_stability, frequency_curves, groups_of, score
from knowcirc.facts.prompts import Prompt, fill
from knowcirc.files import read_table, write_json, write_table
from knowcirc.models.loading import LanguageModel, weights_digest
from knowcirc.plots.stability import edge_frequencies

TEMPLATES = ("people in {} speak", "the language of {} is", "mostly people in {} speak")
FACTS = {
    **{"France": "French", "Italy": "Italian", "Spain": "Spanish", "Peru": "Spanish", "Chile": "Spanish"},
    **{"New Zealand": "English", "Papua Guinea": "Tok"},
}
GRAPH = Graph(2, 2, 2, "per_head")


def ask(model: LanguageModel, names: list[str]) -> list[Prompt]:
    return [fill(model.text, TEMPLATES[0], name, FACTS[name]) for name in names]


def test_a_bootstrap_draws_with_replacement_and_halves_are_disjoint() -> None:
    found = draw(9, 6, "bootstrap", 3)
    assert [len(places) for places in found] == [9] * 6
    assert all(len(set(places)) < 9 for places in found)
    assert len({tuple(places) for places in found}) == 6
    halves = draw(9, 5, "halves", 3)
    assert [len(places) for places in halves] == [4] * 6
    for one, other in zip(halves[::2], halves[1::2], strict=True):
        assert not set(one) & set(other)
    assert draw(9, 6, "bootstrap", 3) == found != draw(9, 6, "bootstrap", 4)
    for how in ("bootstrap", "halves"):  # the first three, which some methods take, are drawn as well
        firsts = [place for places in draw(20, 400, how, 0) for place in places[:3]]
        assert np.mean(firsts) == pytest.approx(9.5, abs=0.6)


def test_runs_keep_each_prompts_partner_and_draw_from_those_that_have_one(model: LanguageModel) -> None:
    prompts = ask(model, ["France", "Italy", "Peru", "New Zealand"])  # none is as long as the last
    runs = resampled_runs(prompts, CircuitSettings("eap-ig"), "language", 4, "bootstrap", 0)
    assert [len(run.prompts) for run in runs] == [3] * 4
    partner = {}
    for run in runs:
        for prompt, other in zip(run.prompts, run.partners, strict=True):
            assert other is not None
            assert other.answer[0] != prompt.answer[0]
            assert partner.setdefault(prompt.text, other.text) == other.text
    everything = resampled_runs(prompts, CircuitSettings("eap-ig-zero"), "language", 2, "bootstrap", 0)
    assert [len(run.prompts) for run in everything] == [4, 4]
    for settings, expected in (
        (CircuitSettings("edge-pruning"), 3),
        (CircuitSettings("ugs", options={"ablation": "zero"}), 4),
        (CircuitSettings("eap-ig+acdc", {"ablation": "patch"}), 3),
        (CircuitSettings("acdc", {"ablation": "zero"}), 4),
    ):
        assert {len(run.prompts) for run in resampled_runs(prompts, settings, "language", 2, "bootstrap", 0)} == {
            expected
        }


def test_halves_have_partners_of_their_own_and_one_without_any_is_named(
    model: LanguageModel, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["France", "Italy", "Peru", "Chile"]
    with caplog.at_level(logging.WARNING):
        runs = resampled_runs(ask(model, names), CircuitSettings("eap-ig"), "language", 12, "halves", 1)
    for run in runs:
        texts = {prompt.text for prompt in run.prompts}
        assert len(texts) == 2
        assert {other.text for other in run.partners if other} <= texts
    assert len(runs) < 12  # Peru and Chile together have no partner
    assert "no prompt has a partner that eap-ig could score it by" in caplog.text
    one = Circuit("eap-ig", random_circuit(GRAPH, 9, 0), None)
    edges = {run.name: random_circuit(GRAPH, 9, place) for place, run in enumerate(runs)}
    numbers = [int(run.name.split()[1]) for run in runs]
    (group,) = groups_of(GRAPH, one, edges, "halves", 0.5)
    assert [(numbers[i], numbers[j]) for i, j in group.pairs] == [
        (number, number + 1) for number in range(0, 12, 2) if {number, number + 1} <= set(numbers)
    ]


def test_other_wordings_ask_the_same_facts(model: LanguageModel) -> None:
    names = ["France", "Italy", "New Zealand"]
    val = pd.DataFrame(
        [{"relation": "language", "subject": name, "object": FACTS[name], "wording": TEMPLATES[0]} for name in names]
    )
    runs = reworded_runs(model, val, TEMPLATES, CircuitSettings("eap-ig"), 3, 0)
    assert [run.name for run in runs] == ["reworded 1", "reworded 2"]
    assert [prompt.text for prompt in runs[0].prompts] == [f"the language of {name} is" for name in names]
    assert len(reworded_runs(model, val, TEMPLATES, CircuitSettings("eap-ig"), 1, 0)) == 1


@pytest.mark.parametrize(("total", "one", "other"), [(7, 3, 4), (6, 6, 2), (5, 0, 3), (8, 5, 5)])
def test_chance_is_that_of_all_pairs_of_subsets(total: int, one: int, other: int) -> None:
    values = [
        Fraction(len(set(a) & set(b)), len(set(a) | set(b)))
        for a in itertools.combinations(range(total), one)
        for b in itertools.combinations(range(total), other)
    ]
    assert expected_jaccard(total, one, other) == pytest.approx(float(sum(values) / len(values)), rel=1e-12)


def test_expected_counts_are_binomial_and_add_up() -> None:
    found = expected_counts(100, [30, 30, 30])
    assert found.tolist() == pytest.approx([100 * math.comb(3, k) * 0.3**k * 0.7 ** (3 - k) for k in range(4)])
    mixed = expected_counts(100, [10, 20, 60])
    assert mixed.sum() == pytest.approx(100)
    assert (mixed * np.arange(4)).sum() == pytest.approx(90)  # each circuit's edges are counted once


def test_agreement_is_the_mean_of_pairs_beside_chance() -> None:
    own = random_circuit(GRAPH, 12, 0)
    circuits = [own, random_circuit(GRAPH, 12, 1), random_circuit(GRAPH, 14, 2)]
    row = agreement(GRAPH, circuits, all_pairs(3), own)
    values = [(a & b).sum() / (a | b).sum() for a, b in itertools.combinations(circuits, 2)]
    assert row["jaccard_edges"] == pytest.approx(np.mean(values))
    assert (row["least_edges"], row["most_edges"]) == (pytest.approx(min(values)), pytest.approx(max(values)))
    assert row["own_edges"] == pytest.approx(np.mean(values[:2]))
    sizes = [(12, 12), (12, 14), (12, 14)]
    assert row["chance_edges"] == pytest.approx(np.mean([expected_jaccard(GRAPH.n_edges, *pair) for pair in sizes]))
    alone = agreement(GRAPH, [own], [], own)
    assert math.isnan(alone["jaccard_edges"])


def test_the_consensus_holds_what_enough_circuits_hold() -> None:
    circuits = [random_circuit(GRAPH, 16, seed) for seed in range(4)]
    counts = frequencies(circuits)
    half = consensus(GRAPH, circuits, 0.5)
    assert (half == GRAPH.connected(counts >= 2)).all()
    assert (consensus(GRAPH, circuits, 0.51) == GRAPH.connected(counts >= 3)).all()
    assert (consensus(GRAPH, circuits[:1] * 3, 1.0) == circuits[0]).all()
    points = list(curve(GRAPH, circuits))
    assert [point["n_edges"] for point in points] == [int((counts >= k).sum()) for k in (1, 2, 3, 4)]
    assert sum(point["n_edges"] for point in points) == 64
    assert sum(point["chance"] for point in points) == pytest.approx(64)


def test_the_sized_consensus_breaks_ties_by_score() -> None:
    circuits = [GRAPH.valid.copy(), random_circuit(GRAPH, 10, 0)]
    scores = np.random.default_rng(0).normal(size=GRAPH.valid.shape)
    found = sized_consensus(GRAPH, circuits, 10, scores)
    assert (found == circuits[1]).all()
    more = sized_consensus(GRAPH, circuits, 14, scores)
    rest = np.where(GRAPH.valid & ~circuits[1], np.abs(scores), -1)
    best = np.argsort(-rest, axis=None)[:4]
    expected = circuits[1].copy()
    expected.flat[best] = True
    assert (more == GRAPH.connected(expected)).all()


def test_scores_are_those_of_each_circuit_alone(model: LanguageModel) -> None:
    graph = Graph.of(model.transformer.shape, "grouped")
    prompts = ask(model, [*FACTS])
    pairs = pairs_of(prompts)
    circuits = [random_circuit(graph, 40, 0), random_circuit(graph, 60, 1), np.zeros_like(graph.valid)]
    found = score(model, graph, [*circuits, circuits[0]], prompts, pairs, 20)
    for edges in circuits:
        answers = circuit_answers(model, graph, edges, prompts)
        assert found.hits[edges.tobytes()].tolist() == [answer.rank < 20 for answer in answers]
        alone = faithfulness(model, graph, [edges], prompts, pairs)[0]
        np.testing.assert_allclose(found.faithfulness[edges.tobytes()], alone, rtol=0, atol=1e-9)


def survey() -> pd.DataFrame:
    about = {"relation": "language", "category": "factual", "template": 0, "wording": TEMPLATES[0], "rank": 0}
    rows = [
        {**about, "subject": name, "object": text, "split": "val" if number < 5 else "test"}
        for number, (name, text) in enumerate([*FACTS.items(), ("people", "French"), ("city", "Italian")])
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def jobs(folders: dict[str, Path], tmp_path: Path) -> tuple[Any, Any]:
    """The jobs of both rules on a relation of the tiny Llama, whose own circuit is there."""
    shutil.copytree(folders["llama"], tmp_path / "model")
    provenance = tmp_path / "model/provenance.json"
    write_json(provenance, {"weights_sha256": weights_digest(tmp_path / "model")})
    write_table(tmp_path / "known.parquet", survey())
    relation = {
        **{"name": "language", "category": "factual", "subject_type": "country", "answer_type": "language"},
        **{"templates": list(TEMPLATES), "question_template": None, "facts": [[*pair] for pair in FACTS.items()]},
    }
    (tmp_path / "language.yaml").write_text(yaml.safe_dump(relation), "utf-8")
    graph = Graph(3, 4, 2, "grouped")
    own = random_circuit(graph, 50, 7)
    scores = np.random.default_rng(1).normal(size=own.shape)
    save_circuits(tmp_path / "own.npz", {"language": Circuit("eap-ig", own, scores)})
    shared = {"load_options": {"dtype": "float64", "processing": "none"}, "kv": "grouped", "seed": 0, "code": "code"}
    inputs = {"model": str(provenance), "facts": str(tmp_path / "known.parquet")}
    wildcards = SimpleNamespace(relation="language", method="eap-ig")
    stability = {"resamples": 3, "resampling": "bootstrap", "wordings": 2, "share": 0.5, "prompts": 4}
    search = SimpleNamespace(
        input=SimpleNamespace(**inputs, relation=str(tmp_path / "language.yaml")),
        output=SimpleNamespace(circuits=str(tmp_path / "again.npz")),
        params=SimpleNamespace(
            **shared, circuits={"method": "eap-ig", "share": 0.2}, source="builtin", stability=stability
        ),
        wildcards=wildcards,
    )
    compared = SimpleNamespace(
        input=SimpleNamespace(**inputs, circuits=str(tmp_path / "own.npz"), resamples=str(tmp_path / "again.npz")),
        output=SimpleNamespace(
            rows=str(tmp_path / "rows.csv"),
            frequencies=str(tmp_path / "frequencies.csv"),
            consensus=str(tmp_path / "consensus.npz"),
        ),
        params=SimpleNamespace(**shared, stability=stability, hits=10),
        wildcards=wildcards,
    )
    return search, compared


def test_the_jobs_find_circuits_again_and_compare_them(jobs: tuple[Any, Any]) -> None:
    search, compared = jobs
    resample_circuits.main(search)
    again = load_circuits(Path(search.output.circuits), "eap-ig")
    assert list(again) == ["resampled 0", "resampled 1", "resampled 2", "reworded 1", "reworded 2"]
    compare_resamples.main(compared)
    rows, points = read_table(compared.output.rows), read_table(compared.output.frequencies)
    assert rows["runs"].tolist() == ["resampled", "reworded"]
    assert rows["n_runs"].tolist() == [3, 3]
    own = load_circuits(Path(compared.input.circuits), "eap-ig")["language"].edges
    other = [one.edges for name, one in again.items() if name.startswith("reworded")]
    values = [(a & b).sum() / (a | b).sum() for a, b in itertools.combinations([own, *other], 2)]
    assert rows["jaccard_edges"][1] == pytest.approx(np.mean(values))
    assert rows["own_edges"][1] == pytest.approx(np.mean(values[:2]))
    assert rows["n_own"].tolist() == [50, 50]
    kept = load_circuits(Path(compared.output.consensus), "eap-ig")
    assert [one.n_edges for one in kept.values()] == rows["n_sized"].tolist()
    table = circuit_stability(pd.concat([rows, rows.assign(relation="other")], ignore_index=True), "tiny")
    means = table[table["relation"] == "all"]
    assert means["jaccard_edges"].tolist() == pytest.approx(rows["jaccard_edges"].tolist())
    assert means["n_relations"].tolist() == [2, 2]
    figure = edge_frequencies(frequency_curves(points), "tiny")
    assert [axis.get_title(loc="left").split(":")[0] for axis in figure.axes] == [
        "prompts drawn anew",
        "other wordings",
    ]
    thick = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    first = points[points["runs"] == "resampled"]
    assert thick[0].get_ydata().tolist() == pytest.approx((100 * first["n_edges"] / first["size"]).tolist())
