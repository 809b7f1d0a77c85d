"""Wrong answers beside right ones, facts in two hops, facts both ways."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from torch import Tensor

from knowcirc.behaviours.hops import Chains, Composition, chains, hops_rows, study_chains
from knowcirc.behaviours.reuse import hops_reuse, reused, reverse_reuse
from knowcirc.behaviours.reverse import reverse_rows, reversible, study_both_ways
from knowcirc.behaviours.wrong_answers import Case, _leads_from, case_rows, draw_cases, main_mover
from knowcirc.behaviours.wrong_tables import hallucination_table
from knowcirc.circuits.circuit_settings import CircuitSettings
from knowcirc.circuits.finding import find_circuit
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.kept import KeptCircuits
from knowcirc.circuits.overlap import compare, overlap_columns
from knowcirc.facts.knowledge import answer_prompts
from knowcirc.facts.prompts import Prompt, answer_tokens, fill, tokenise
from knowcirc.facts.relations import Fact, Relation
from knowcirc.files import Parts
from knowcirc.models.loading import LanguageModel
from knowcirc.reading.heads import Thresholds, read_heads
from knowcirc.reading.lens import step_ranks
from knowcirc.statistics import wilson
from unit.tiny import FIRST

Loader = Callable[..., LanguageModel]
LIMITS = Thresholds(0.05, 50)


def relation(name: str, template: str, *pairs: str, reverse: str | None = None) -> Relation:
    facts = tuple(Fact(*pair.split(":")) for pair in pairs)
    return Relation(name, "factual", "thing", "other", (template,), None, reverse, (), facts)


CITIES = relation(
    "city_country",
    "the city of {} lies in",
    "Paris:France",
    "Rome:Italy",
    "Madrid:Spain",
    "Lima:Peru",
    "Santiago:Chile",
)
LANGUAGES = relation(
    "country_language", "people in {} speak", "France:French", "Italy:Italian", "Spain:Spanish", "Peru:Spanish"
)
CAPITALS = relation(
    "capital",
    "the capital of {} is",
    "France:Paris",
    "Italy:Rome",
    "Spain:Madrid",
    "Papua:Paris",
    reverse="{} is the capital of",
)
COMPOSITION = Composition("city_country", "country_language", "the city of {}")


# Wrong answers


def survey(model: LanguageModel) -> pd.DataFrame:
    """Two wrong answers of the right type, one of another type, and three right ones."""
    rows = [
        *(("France", "Paris", 0, ""), ("Italy", "Rome", 0, ""), ("Papua", "Paris", 0, "")),
        *(("Spain", "Madrid", 4, "Rome"), ("Peru", "Lima", 7, "Paris"), ("Chile", "Santiago", 2, "")),
    ]
    frame = pd.DataFrame(rows, columns=["subject", "object", "rank", "wrong"])
    return frame.assign(relation="capital", category="factual", template=0, wording="the capital of {} is")


def test_cases_are_wrong_answers_of_the_right_type_and_as_many_right_ones(model: LanguageModel) -> None:
    cases = draw_cases(model, survey(model), "capital", 9, seed=0)
    assert [case.kind for case in cases] == ["wrong", "wrong", "right", "right"]
    token = {text: answer_tokens(model.text, text)[0] for text in ("Paris", "Rome", "Madrid", "Lima", "Santiago")}
    wrong = {case.subject: (case.right, case.rival) for case in cases if case.kind == "wrong"}
    assert wrong == {"Spain": (token["Madrid"], token["Rome"]), "Peru": (token["Lima"], token["Paris"])}
    for case in cases[2:]:
        assert case.right == case.prompt.answer[0]
        logits = model.transformer.logits(model.batch([case.prompt.ids]))[0]
        assert case.rival == max(
            (one for one in token.values() if one != case.right), key=lambda one: float(logits[one])
        )
    assert len(draw_cases(model, survey(model), "capital", 1, seed=0)) == 2
    right = survey(model).assign(wrong="")
    assert draw_cases(model, right, "capital", 9, seed=0) == []


def test_an_answer_leads_for_good_from_the_layer_after_it_last_was_behind() -> None:
    assert _leads_from(np.array([5, 1, 9, 1, 1]), np.array([2, 3, 4, 5, 6])) == 3
    assert _leads_from(np.array([1, 1]), np.array([2, 2])) == 0
    assert _leads_from(np.array([3, 3, 3]), np.array([1, 1, 1])) == 2  # never: all layers


def test_a_case_is_read_at_the_last_position_and_at_the_mover(model: LanguageModel) -> None:
    prompt = fill(model.text, "the capital of {} is", "Spain", "Madrid")
    rival = answer_tokens(model.text, "Rome")[0]
    cases = [Case("wrong", "Spain", prompt, prompt.answer[0], rival)]
    objects = {answer_tokens(model.text, text)[0] for text in ("Madrid", "Rome", "Lima", "Paris")}
    table = case_rows(model, "capital", "factual", cases, objects, (1, 2), LIMITS)
    place = {"last": len(prompt.ids) - 1}
    (ranks,) = step_ranks(model, [prompt], [{"right": prompt.answer[0], "rival": rival}], [place])
    right, wrong = ranks["right", "last"][::2], ranks["rival", "last"][::2]
    row = table.iloc[0]
    assert row["leads_from"] == pytest.approx(_leads_from(wrong, right) / 3)
    assert (row["ever_on_top"], row["ever_in_first"]) == ((right == 1).any(), (right[:-1] <= 10).any())
    assert np.isnan(row["gathers"])  # no other question
    assert row["ever_led"] == (right < wrong).any()
    mine = next(one for one in read_heads(model, prompt) if one.name == "a1.h2")
    theirs = next(one for one in read_heads(model, replace(prompt, answer=(rival,))) if one.name == "a1.h2")
    assert (row["head"], row["attends"]) == ("a1.h2", mine.to_subject >= LIMITS.attention)
    assert (row["writes_right"], row["writes_rival"]) == (mine.rank < 50, theirs.rank < 50)
    assert row["prefers_rival"] == (theirs.attribution > mine.attribution)
    said = max(read_heads(model, replace(prompt, answer=(rival,))), key=lambda one: one.attribution).name
    own = max(read_heads(model, prompt), key=lambda one: one.attribution).name
    assert (row["said_by"], row["right_by"], row["same_head"]) == (said, own, said == own)
    (plain,) = case_rows(model, "capital", "factual", cases, objects, None, LIMITS).to_dict("records")
    assert plain["said_by"] == said
    assert "head" not in plain
    right = case_rows(model, "capital", "factual", [replace(cases[0], kind="right")], objects, (1, 2), LIMITS).iloc[0]
    assert (right["said_by"], right["right_by"]) == (own, own)


def test_the_main_mover_adds_most() -> None:
    named = pd.DataFrame(
        {
            "relation": ["a", "a", "a", "b"],
            "head": ["a1.h0", "a3.h2", "a2.h2", "a0.h0"],
            "layer": [1, 3, 2, 0],
            "role": ["mover", "mixture", "relation", "relation"],
            "attribution": [1.0, 2.0, 9.0, 9.0],
        }
    )
    assert main_mover(named, "a") == (3, 2)
    assert main_mover(named, "b") is None


def test_what_gathers_is_set_against_right_answers_to_other_questions(model: LanguageModel) -> None:
    facts = (("Spain", "Madrid", "Rome"), ("Peru", "Lima", "Paris"), ("France", "Paris", "Rome"))
    token = {text: answer_tokens(model.text, text)[0] for text in ("Madrid", "Rome", "Lima", "Paris", "Santiago")}
    prompts = [fill(model.text, "the capital of {} is", subject, right) for subject, right, _ in facts]
    drawn = [
        Case("wrong", subject, prompt, token[right], token[rival])
        for prompt, (subject, right, rival) in zip(prompts, facts, strict=True)
    ]
    table = case_rows(model, "capital", "factual", drawn, set(token.values()), None, LIMITS)
    for case, found in zip(drawn, table.to_dict("records"), strict=True):
        at = max(0, round(found["leads_from"] * model.transformer.shape.n_layers) - 1)
        *_, stream = itertools.islice(model.transformer.stream(model.batch([case.prompt.ids])), at + 1)
        logits = model.transformer.unembed(stream[0, -1])

        def led(one: int, case: Case = case, logits: Tensor = logits) -> float:
            others = set(token.values()) - {one, case.rival}
            return sum(float(logits[other] < logits[one]) for other in others) / len(others)

        right = {each.right for each in drawn} - {case.right, case.rival}
        assert found["gathers"] == pytest.approx(led(case.right) - sum(map(led, right)) / len(right))


def cases() -> pd.DataFrame:
    rows = [
        {"relation": relation, "kind": kind, "leads_from": 0.5 + 0.1 * i, "ever_on_top": i == 0, "attends": attends}
        for relation, kind, n, attends in (("a", "wrong", 4, True), ("a", "right", 4, False), ("b", "wrong", 1, None))
        for i in range(n)
    ]
    frame = pd.DataFrame(rows).assign(gathers=0.25, ever_in_first=True, ever_led=False, to_subject=0.3, category="x")
    frame["head"] = np.where(frame["relation"] == "a", "a3.h1", None)
    for name in ("writes_right", "writes_rival", "prefers_rival"):
        frame[name] = frame["attends"]
    frame["said_by"] = ["a2.h0", "a3.h1", "a3.h1", "a2.h0", *["a4.h4"] * 4, "a3.h1"]
    return frame.assign(right_by="a3.h1", same_head=frame["said_by"] == "a3.h1")


def test_the_table_has_a_row_for_each_relation_with_enough_cases_and_one_of_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    table = hallucination_table(cases(), "tiny").set_index("relation")
    assert list(table.index) == ["a", "all"]
    assert "b stands in the row of all alone" in caplog.text
    one = table.loc["a"]
    assert (one["n"], one["n_right"], one["n_mover"], one["head"]) == (4, 4, 4, "a3.h1")
    assert (one["right_ever_on_top"], one["right_ever_on_top_low"]) == (0.25, wilson(1, 4).low)
    assert one["overtaken_from"] == pytest.approx(0.65)
    assert (one["attends_wrong"], one["attends_right"]) == (1.0, 0.0)
    assert (one["said_by_right"], one["said_by_right_share"]) == ("a4.h4", 1.0)
    assert (one["same_head"], one["right_by_wrong"], one["right_by_wrong_share"]) == (0.5, "a3.h1", 1.0)
    every = table.loc["all"]
    assert (every["n"], every["n_mover"], every["n_right"]) == (5, 4, 4)
    assert every["overtaken_from"] == pytest.approx((0.65 + 0.5) / 2)  # relations weigh alike
    assert (every["said_by_wrong"], every["said_by_wrong_share"]) == ("a3.h1", 0.6)


def test_the_table_stands_where_no_relation_has_a_mover() -> None:
    of_movers = ["head", "to_subject", "attends", "writes_right", "writes_rival", "prefers_rival"]
    table = hallucination_table(cases().drop(columns=of_movers), "tiny").set_index("relation")
    assert table.loc["a", "overtaken_from"] == pytest.approx(0.65)
    assert (table.loc["all", "n_mover"], table.loc["all", "head"]) == (0, "")
    assert np.isnan(table.loc["all", "attends_wrong"])


# Hops


def test_chains_join_objects_to_subjects() -> None:
    found = chains(CITIES, LANGUAGES, seed=0)
    assert sorted(found) == [
        ("Lima", "Peru", "Spanish"),
        ("Madrid", "Spain", "Spanish"),
        ("Paris", "France", "French"),
        ("Rome", "Italy", "Italian"),
    ]
    assert found == chains(CITIES, LANGUAGES, seed=0)
    assert len({tuple(chains(CITIES, LANGUAGES, seed=seed)) for seed in range(8)}) > 1


def small_circuits(model: LanguageModel, folder: Path) -> KeptCircuits:
    """What finds circuits of 40 of the model's edges, and keeps them in a folder."""
    graph = Graph.of(model.transformer.shape, "grouped")
    settings = CircuitSettings("eap-ig-zero", share=40 / graph.n_edges)
    return KeptCircuits(model, graph, settings, Parts(folder / "table.csv", "test"))


def known_first(monkeypatch: pytest.MonkeyPatch, module: str, unknown: Sequence[str] = ()) -> None:
    """Let every answer rank first but those to prompts that hold one of the texts."""
    real = answer_prompts

    def answers(model: LanguageModel, prompts: Sequence[Prompt]) -> list[object]:
        return [
            replace(answer, rank=3 if any(text in prompt.text for text in unknown) else 0)
            for prompt, answer in zip(prompts, real(model, prompts), strict=True)
        ]

    monkeypatch.setattr(module, answers)


@pytest.fixture
def chains_study(model: LanguageModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[KeptCircuits, Chains]:
    """Four chains; Lima's first hop is not known, nor is Italy's second."""
    monkeypatch.setattr("knowcirc.behaviours.hops.LEAST", 2)
    known_first(monkeypatch, "knowcirc.behaviours.hops.answer_prompts", ["city of Lima lies", "people in Italy speak"])
    finder = small_circuits(model, tmp_path)
    return finder, study_chains(finder, COMPOSITION, (CITIES, LANGUAGES), most=9, d_val=9, seed=0)


def test_a_composition_is_asked_in_four_ways(chains_study: tuple[KeptCircuits, Chains]) -> None:
    _, study = chains_study
    texts = {one["first"].text: {name: prompt.text for name, prompt in one.items()} for one in study.prompts}
    assert texts["the city of Paris lies in"] == {
        "first": "the city of Paris lies in",
        "second": "people in France speak",
        "integrated": "people in the city of Paris speak",
        "left_out": "people in Paris speak",
    }
    answers = {one["first"].text: {name: prompt.answer_text for name, prompt in one.items()} for one in study.prompts}
    assert answers["the city of Paris lies in"]["first"] == "France"
    assert answers["the city of Paris lies in"]["left_out"] == "French"
    assert {study.prompts[i]["first"].text for i in study.known} == {
        f"the city of {x} lies in" for x in ("Paris", "Madrid")
    }


def test_a_kind_of_question_has_one_circuit_of_all_its_known_chains(
    chains_study: tuple[KeptCircuits, Chains], model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    finder, study = chains_study
    assert list(study.circuits) == ["first", "second", "integrated"]
    for kind, circuit in study.circuits.items():
        prompts = [study.prompts[i][kind] for i in study.known]
        expected, _ = find_circuit(model, finder.graph, prompts, [None, None], finder.settings)
        assert (circuit.edges == expected.edges).all()
    both = relation("city_country", "the city of {} lies in", "Paris:France", "Rome:France", "Lima:Peru")
    known_first(monkeypatch, "knowcirc.behaviours.hops.answer_prompts", ["Lima lies"])
    twice = study_chains(finder, COMPOSITION, (both, LANGUAGES), most=9, d_val=9, seed=0)
    assert twice.together == {"first": 2, "second": 1, "integrated": 2}  # two cities of one country ask it once
    one = study_chains(finder, COMPOSITION, (both, LANGUAGES), most=9, d_val=1, seed=0)
    assert set(one.together.values()) == {1}


def test_overlaps_of_hops_stand_between_a_floor_and_a_ceiling(
    chains_study: tuple[KeptCircuits, Chains], caplog: pytest.LogCaptureFixture
) -> None:
    finder, study = chains_study
    graph, circuits = finder.graph, study.circuits
    swapped = {"first": circuits["second"], "second": circuits["first"], "integrated": circuits["integrated"]}
    other = replace(study, composition=Composition("x", "y", "{}"), circuits=swapped)
    near = replace(study, composition=Composition("x", "city_country", "{}"))
    own = {"city_country": circuits["integrated"]}
    with caplog.at_level("WARNING"):
        row = hops_rows(graph, [study, other, near], own, 1).iloc[0]
    assert "relation country_language has no circuit of its own" in caplog.text
    assert row["hit_first"] == pytest.approx(0.75)
    assert row["known_hit_first"] == 1.0
    overlap = compare(graph, circuits["integrated"].edges, circuits["first"].edges)
    assert (row["edges_integrated_first"], row["edges_first_again"]) == (overlap["jaccard_edges"],) * 2
    apart = compare(graph, circuits["integrated"].edges, circuits["second"].edges)
    assert row["nodes_integrated_unrelated"] == apart["jaccard_nodes"]  # with the composition that shares no relation
    assert np.isnan(row["edges_second_again"])
    assert not [name for name in row.index if name.startswith(("edges", "nodes")) and name.endswith("_low")]
    assert (row["n"], row["n_known"], row["n_prompts"], row["n_prompts_second"]) == (4, 2, 2, 2)
    assert np.isnan(hops_rows(graph, [study], own, 1).iloc[0]["edges_integrated_unrelated"])


@pytest.mark.parametrize("name", [*FIRST, "qwen3", "olmo2", "gemma2"])  # in others the circuit is empty
def test_reuse_is_the_share_of_a_single_hops_circuit(chains_study: tuple[KeptCircuits, Chains]) -> None:
    """Equation 4 of KC: |multi-hop and single-hop| / |single-hop|, counted here by hand."""
    finder, study = chains_study
    graph, circuits = finder.graph, study.circuits
    single, both = circuits["first"].edges, circuits["integrated"].edges
    edges = {pair for pair in graph.edges() if single[pair]}
    held = {pair for pair in edges if both[pair]}
    found = reused(graph, single, both)
    assert found["edges"] == len(held) / len(edges)
    nodes = {name for name, alive in zip(graph.src_names, graph.nodes(single), strict=False) if alive}
    others = {name for name, alive in zip(graph.src_names, graph.nodes(both), strict=False) if alive}
    assert found["nodes"] == len(nodes & others) / len(nodes)
    assert np.isnan(reused(graph, np.zeros_like(single), both)["edges"])

    apart = replace(study, composition=Composition("x", "y", "{}"), circuits={**circuits, "first": circuits["second"]})
    near = replace(study, composition=Composition("x", "city_country", "{}"))
    none = replace(study, composition=Composition("few", "country_language", "{}"), circuits={})
    table = hops_reuse(graph, [study, apart, near, none]).set_index("composition")
    assert len(table) == 3
    row = table.loc[study.composition.name]
    assert row["reused_edges_first"] == found["edges"]
    assert row["reused_nodes_unrelated"] == row["reused_nodes_second"]  # of the composition that shares no relation
    assert np.isnan(hops_reuse(graph, [study]).iloc[0]["reused_nodes_unrelated"])
    assert np.isnan(table["reused_nodes_direct"]).all()
    direct = {study.composition.name: [study.circuits["second"].edges]}
    beside = hops_reuse(graph, [study, apart], direct).set_index("composition")
    row = beside.loc[study.composition.name]
    for of in ("nodes", "edges"):
        assert row[f"reused_{of}_direct"] == row[f"reused_{of}_second"]
    assert np.isnan(beside.loc["x+y", "reused_nodes_direct"])


def test_compositions_of_too_few_known_chains_are_left_out(
    chains_study: tuple[KeptCircuits, Chains], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    finder, study = chains_study
    known_first(monkeypatch, "knowcirc.behaviours.hops.answer_prompts", ["Lima lies", "Italy speak", "Spain speak"])
    named = replace(COMPOSITION, first="few")
    few = study_chains(finder, named, (CITIES, LANGUAGES), most=9, d_val=9, seed=0)
    assert (len(few.known), few.circuits) == (1, {})
    with caplog.at_level("WARNING"):
        assert len(hops_rows(finder.graph, [study, few], {}, 1)) == 1
    assert "few+country_language is left out, both hops of 1 chains are known" in caplog.text
    with pytest.raises(ValueError, match=r"hops\.compositions: the model knows both hops of fewer than 2"):
        hops_rows(finder.graph, [few], {}, 1)


# Both ways


def test_only_objects_of_a_single_subject_are_asked_back() -> None:
    assert {fact.object for fact in reversible(CAPITALS, 9, seed=0)} == {"Rome", "Madrid"}
    assert len(reversible(CAPITALS, 1, seed=0)) == 1


def test_a_relation_is_asked_both_ways(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr("knowcirc.behaviours.reverse.LEAST", 1)
    known_first(
        monkeypatch, "knowcirc.behaviours.reverse.answer_prompts", ["Madrid is the capital", "capital of Italy"]
    )
    finder = small_circuits(model, tmp_path)
    graph = finder.graph
    study = study_both_ways(finder, CAPITALS, most=9, d_val=9, seed=0)
    forward = tokenise(model.text, "the capital of Spain is", "Madrid")
    backward = tokenise(model.text, "Madrid is the capital of", "Spain")
    for way, prompt in (("forward", forward), ("reverse", backward)):  # Italy's capital is not known
        expected, _ = find_circuit(model, graph, [prompt], [None], finder.settings)
        assert (study.circuits[way].edges == expected.edges).all()
    other = replace(study, relation="other", subjects=frozenset({"big"}))
    own = {"capital": study.circuits["reverse"]}
    with caplog.at_level("WARNING"):
        table = reverse_rows(graph, [study, other], own, 1)
    assert "relation other has no circuit of its own" in caplog.text
    row = table.iloc[0]
    assert (row["hit_forward"], row["hit_reverse"]) == (0.5, 0.5)
    shared = compare(graph, *(study.circuits[way].edges for way in ("forward", "reverse")))
    assert (row["edges_both_ways"], row["edges_same_way"]) == (shared["jaccard_edges"],) * 2
    assert row["nodes_unrelated"] == 1.0  # the same circuits under another name
    again = reverse_reuse(graph, [study, other, replace(study, circuits={})])
    forward, backward = (study.circuits[way].edges for way in ("forward", "reverse"))
    assert again.iloc[0]["reused_edges_both_ways"] == (forward & backward).sum() / forward.sum()
    assert len(again) == 2
    assert again["reused_nodes_unrelated"].notna().all()
    assert np.isnan(table["nodes_same_way"].iloc[1])
    assert np.isnan(
        reverse_rows(graph, [study, replace(study)], own, 1)["nodes_unrelated"]
    ).all()  # of the same subjects
    assert (row["n"], row["n_known"], row["n_prompts"]) == (2, 1, 1)
    monkeypatch.setattr("knowcirc.behaviours.reverse.LEAST", 2)
    few = study_both_ways(finder, CAPITALS, most=9, d_val=9, seed=0)
    assert few.circuits == {}
    with pytest.raises(ValueError, match=r"reverse\.relations: the model knows fewer than 2"):
        reverse_rows(graph, [few], own, 1)
    with caplog.at_level("WARNING"):
        assert len(reverse_rows(graph, [replace(study, known=[0, 1]), few], own, 1)) == 1
    assert "capital is left out, 1 of its facts are known" in caplog.text


def test_a_circuit_overlaps_with_others_by_the_mean(load_tiny: Loader) -> None:
    graph = Graph.of(load_tiny("gpt2").transformer.shape, "per_head")
    rng = np.random.default_rng(0)
    one, two, three = ((rng.random(graph.valid.shape) < share) & graph.valid for share in (0.2, 0.4, 0.6))
    row = overlap_columns(graph, {"others": (one, [two, three]), "self": (one, [one]), "none": (one, [])})
    apart = [compare(graph, one, other)["jaccard_edges"] for other in (two, three)]
    assert (row["edges_others"], row["edges_self"]) == (pytest.approx(np.mean(apart)), 1.0)
    assert np.isnan(row["nodes_none"])
    assert len(row) == 6


def test_a_relation_without_a_reverse_wording_is_refused(model: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="country_language has no reverse_template"):
        study_both_ways(small_circuits(model, tmp_path), LANGUAGES, most=3, d_val=1, seed=0)
