"""What circuits are judged by: faithfulness against its formula, areas by hand, circuits of every size by method."""

import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch

from knowcirc.circuits.ablations import AlignedMeans
from knowcirc.circuits.attribution import top_edges
from knowcirc.circuits.circuit_settings import CircuitSettings
from knowcirc.circuits.discovery import Circuit
from knowcirc.circuits.evaluation import (
    SIZES,
    areas,
    circuit_answers,
    circuit_logits,
    complement,
    faithfulness,
    hits,
    live_part,
    nested_circuits,
    pairs_of,
    patched_measures,
    sized_circuits,
)
from knowcirc.circuits.export import expanded
from knowcirc.circuits.graph import EdgeMatrix, Graph
from knowcirc.circuits.method_scores import HIT_SIZES, Comparison, compared_circuits, measure_circuit
from knowcirc.circuits.patched import record, run_circuit
from knowcirc.circuits.random_circuits import random_circuit
from knowcirc.circuits.readings import read_prompts
from knowcirc.circuits.relation_scores import Questions, kept_share, score_relation
from knowcirc.circuits.relation_table import summaries
from knowcirc.facts.prompts import Prompt, fill, tokenise
from knowcirc.models.loading import LanguageModel
from knowcirc.statistics import wilson

Loader = Callable[..., LanguageModel]
WAYS = {"eap": CircuitSettings("eap"), "acdc": CircuitSettings("acdc", {"tau": 0.1}, prompts=2)}
SMALL = Graph(3, 4, 2, "grouped")
FACTS = (
    ("the capital of France is", "Paris"),
    ("New Zealand is in", "English"),
    ("the capital of Italy is", "Rome"),
    ("Peru is in the city of", "Lima"),  # no other prompt has its length
    ("the capital of Spain is", "Madrid"),
    ("Papua Guinea is in", "Tok"),
    ("the capital of Papua is", "Rome"),
)


@pytest.fixture
def graph(model: LanguageModel) -> Graph:
    return Graph.of(model.transformer.shape, "grouped")


@pytest.fixture
def prompts(model: LanguageModel) -> list[Prompt]:
    return [tokenise(model.text, text, answer) for text, answer in FACTS]


def some_edges(graph: Graph, share: float, seed: int = 0) -> EdgeMatrix:
    chosen: EdgeMatrix = graph.valid & (np.random.default_rng(seed).random(graph.valid.shape) < share)
    return chosen


def some_scores(graph: Graph, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=graph.valid.shape) * graph.valid


def test_the_whole_graph_keeps_all_and_leaves_nothing_and_the_empty_circuit_keeps_nothing(
    model: LanguageModel, graph: Graph, prompts: list[Prompt]
) -> None:
    nothing = np.zeros_like(graph.valid)
    assert (complement(graph, graph.valid) == nothing).all()
    assert (complement(graph, nothing) == graph.valid).all()
    circuits = [graph.valid, nothing, complement(graph, graph.valid)]
    found = faithfulness(model, graph, circuits, prompts, pairs_of(prompts))
    np.testing.assert_allclose(found, np.array([[1.0], [0.0], [0.0]]) * np.ones(6), atol=1e-8)


def test_faithfulness_is_its_formula_prompt_by_prompt(
    model: LanguageModel, graph: Graph, prompts: list[Prompt]
) -> None:
    circuits = [some_edges(graph, 0.7), some_edges(graph, 0.9, 1)]
    pairs = pairs_of(prompts)
    found = faithfulness(model, graph, circuits, prompts, pairs)

    def m(logits: torch.Tensor, clean: Prompt, other: Prompt) -> float:
        return float(logits[0, clean.answer[0]] - logits[0, other.answer[0]])

    for column, (i, j) in enumerate(pairs):
        clean, other = prompts[i], prompts[j]
        ids, partner = model.batch([clean.ids]), model.batch([other.ids])
        whole, empty = (m(model.transformer.logits(x), clean, other) for x in (ids, partner))
        absent = record(model.transformer, graph, partner).outputs
        for row, edges in enumerate(circuits):
            part = m(run_circuit(model.transformer, graph, edges, ids, ablated=absent), clean, other)
            assert found[row, column] == pytest.approx((part - empty) / (whole - empty), abs=1e-9)


def test_pairs_are_of_equal_length_with_other_answers_and_no_more_than_wanted(load_tiny: Loader) -> None:
    model = load_tiny("llama")
    prompts = [tokenise(model.text, text, answer) for text, answer in FACTS]
    pairs = pairs_of(prompts)
    assert [i for i, _ in pairs] == [0, 1, 2, 4, 5, 6]
    for i, j in pairs:
        assert len(prompts[i].ids) == len(prompts[j].ids)
        assert prompts[i].answer[0] != prompts[j].answer[0]
    assert pairs_of(prompts, 6) == pairs_of(prompts, 99) == pairs
    drawn = [pairs_of(prompts, 3, seed) for seed in range(9)]
    assert all(len(some) == 3 and set(some) < set(pairs) and sorted(some) == some for some in drawn)
    assert drawn[0] == pairs_of(prompts, 3, 0)
    assert len({tuple(some) for some in drawn}) > 1
    assert pairs_of(prompts[3:4]) == []


def test_areas_are_those_of_trapezoids_from_the_first_size_as_in_mibs_code() -> None:
    sizes = (0.1, 0.5, 1.0)
    curves = np.array([[0.2, 1.4, 1.0], [1.0, 1.0, 1.0], [0.0, -1.0, 1.0]])
    cpr, cmd = areas(sizes, curves)
    assert cpr.tolist() == pytest.approx([0.32 + 0.6, 0.9, -0.2 + 0.0])
    assert cmd.tolist() == pytest.approx([0.24 + 0.1, 0.0, 0.6 + 0.5])


def test_a_perfect_circuit_of_every_size_has_the_best_areas() -> None:
    cpr, cmd = areas(SIZES, np.ones(len(SIZES)))
    assert (float(cpr), float(cmd)) == pytest.approx((0.999, 0.0))


def test_nested_circuits_hold_the_circuit_first_then_the_strongest_rest() -> None:
    inside = SMALL.connected(some_edges(SMALL, 0.3))
    scores = np.where(inside, 0.001, 1.0) * (1 + np.abs(some_scores(SMALL))) * SMALL.valid  # weaker than all others
    sizes = [share * inside.sum() / SMALL.n_edges for share in (0.3, 0.7, 1.0, 1.5)] + [1.0]
    found = nested_circuits(SMALL, Circuit("acdc", inside, scores), sizes)
    for small, large in itertools.pairwise(found):
        assert not (small & ~large).any()
    assert not (found[1] & ~inside).any()
    assert (found[2] == inside).all()
    assert (found[4] == SMALL.valid).all()
    rest = np.where(inside | ~SMALL.valid, 0.0, scores)
    strongest = rest >= np.sort(rest.ravel())[-(round(1.5 * inside.sum()) - inside.sum())]
    assert (found[3] == SMALL.connected(inside | strongest)).all()


def test_an_edge_that_was_never_tested_ranks_last() -> None:
    inside = SMALL.connected(some_edges(SMALL, 0.2))
    scores = some_scores(SMALL)
    scores[SMALL.valid & ~inside & (scores > 0)] = np.nan
    tested = SMALL.valid & ~np.isnan(scores)
    (found,) = nested_circuits(SMALL, Circuit("acdc", inside, scores), [tested.sum() / SMALL.n_edges])
    assert (found == SMALL.connected(tested)).all()


def test_circuits_of_each_size_are_made_as_the_method_makes_them() -> None:
    scores = some_scores(SMALL)
    scores[0, 0] = np.nan
    own = Circuit("eap-ig", top_edges(SMALL, np.nan_to_num(scores), 20), scores)
    sizes = (0.1, 0.5, 1.0)
    counts = [round(size * SMALL.n_edges) for size in sizes]
    for found, n in zip(sized_circuits(SMALL, own, sizes, 0), counts, strict=True):
        assert (found == top_edges(SMALL, np.nan_to_num(scores), n)).all()
    acdc = Circuit("eap-ig+acdc", own.edges, scores)
    for found, expected in zip(sized_circuits(SMALL, acdc, sizes, 0), nested_circuits(SMALL, acdc, sizes), strict=True):
        assert (found == expected).all()
    chance = Circuit("random", own.edges, None)
    drawn = sized_circuits(SMALL, chance, sizes, 0)
    assert [int(edges.sum()) for edges in drawn] == counts
    assert (drawn[-1] == SMALL.valid).all()
    assert all((a == b).all() for a, b in zip(drawn, sized_circuits(SMALL, chance, sizes, 0), strict=True))
    assert (drawn[0] != sized_circuits(SMALL, chance, sizes, 1)[0]).any()


def test_the_smallest_size_is_one_edge() -> None:
    (found,) = sized_circuits(SMALL, Circuit("random", SMALL.valid, None), [1e-6], 0)
    assert int(found.sum()) == 1


@pytest.mark.parametrize("method", ["eap", "acdc"])
def test_a_circuit_without_scores_has_no_other_sizes(method: str) -> None:
    with pytest.raises(ValueError, match=f"method {method} has no scores"):
        sized_circuits(SMALL, Circuit(method, SMALL.valid, None), SIZES, 0)


def test_the_random_circuit_is_as_large_as_the_first_methods() -> None:
    one, two = (Circuit(method, some_edges(SMALL, share), None) for method, share in (("eap", 0.3), ("acdc", 0.1)))
    chosen = compared_circuits(SMALL, "a", [one, two], 0)
    assert [circuit.method for circuit in chosen] == ["eap", "acdc", "random"]
    assert chosen[2].n_edges == one.n_edges
    other = compared_circuits(SMALL, "b", [one, two], 0)[2]
    assert (other.edges != chosen[2].edges).any()


def test_a_search_gives_the_largest_circuit_that_it_passed_not_above_a_size() -> None:
    scores = some_scores(SMALL)
    small, large = (top_edges(SMALL, scores, n) for n in (60, 120))
    passed = Circuit("standing", small, scores, {0.5: large})
    n = SMALL.n_edges
    expected = [int(small.sum()), int(large.sum()) - 1, int(large.sum()), n - 1, n]
    found = sized_circuits(SMALL, passed, [count / n for count in expected], 0)
    for edges, expected in zip(found, (small, small, large, large, SMALL.valid), strict=True):
        assert (edges == expected).all()
    count = int(small.sum()) - 3
    (fewer,) = sized_circuits(SMALL, passed, [count / n], 0)
    order = np.argsort(np.where(small, -scores, np.inf), axis=None)[:count]  # the highest, negative ones last
    chosen = np.zeros(small.size, dtype=bool)
    chosen[order] = True
    assert (fewer == SMALL.connected(chosen.reshape(small.shape))).all()
    with pytest.raises(ValueError, match="method standing has no scores"):
        sized_circuits(SMALL, Circuit("standing", small, None), [count / n], 0)


def test_a_methods_rows_are_its_measures_prompt_by_prompt(load_tiny: Loader) -> None:
    model = load_tiny("llama")
    graph = Graph.of(model.transformer.shape, "grouped")
    prompts = with_subjects(model)
    means = AlignedMeans.of(model, graph, prompts[:4])
    circuit = Circuit("eap", some_edges(graph, 0.4), some_scores(graph))
    settings = Comparison(hits=50, pairs=4, seed=0)
    rows = measure_circuit(model, graph, "capital", circuit, prompts, means, settings)
    assert {(row["method"], row["relation"]) for row in rows} == {("eap", "capital")}

    def values(ablation: str, measure: str, size: float | None) -> dict[object, object]:
        label = (ablation, measure, size)
        return {r["prompt"]: r["value"] for r in rows if (r["ablation"], r["measure"], r["size"]) == label}

    kept, rest = values("patch", "faithfulness", None), values("patch", "completeness", None)
    pairs = [pair for pair in pairs_of(prompts) if pair[0] in kept]
    assert len(kept) == len(pairs) == 4
    measured = patched_measures(model, graph, [circuit.edges, complement(graph, circuit.edges)], prompts, pairs)
    expected, ranks = measured.faithfulness, measured.ranks
    assert [kept[i] for i, _ in pairs] == pytest.approx(expected[0].tolist())
    assert [rest[i] for i, _ in pairs] == pytest.approx(expected[1].tolist())
    assert [values("patch", "hit_at_50", None)[i] for i, _ in pairs] == (ranks[0] < 50).astype(float).tolist()
    for ablation, absent in (("zero", None), ("mean", means)):
        for size in (None, 0.5):
            edges = circuit.edges if size is None else sized_circuits(graph, circuit, [size], 0)[0]
            answers = hits(circuit_answers(model, graph, edges, prompts, absent=absent), 50)
            assert values(ablation, "hit_at_50", size) == {i: float(hit) for i, hit in enumerate(answers)}
        nothing = np.zeros_like(graph.valid)
        for measure, run, size in (("logit_diff", edges, 0.5), ("logit_diff_empty", nothing, None)):
            logits = circuit_logits(model, graph, [run], prompts, absent)[0]
            m = [float(logits[i, prompts[i].answer[0]] - logits[i, prompts[j].answer[0]]) for i, j in pairs]
            assert [values(ablation, measure, size)[i] for i, _ in pairs] == pytest.approx(m)
        assert values(ablation, "logit_diff_model", None) == values("patch", "logit_diff_model", None)
    assert values("patch", "faithfulness", 1.0) == pytest.approx(dict.fromkeys(kept, 1.0))
    for size in SIZES:
        for measure, signed in (("logit_diff", False), ("logit_diff_signed", True)):
            edges = sized_circuits(graph, circuit, [size], 0, signed=signed)[0]
            m = patched_measures(model, graph, [edges], prompts, pairs).m[0]
            assert [values("patch", measure, size)[i] for i, _ in pairs] == pytest.approx(m.tolist())
    assert values("patch", "logit_diff_model", None) == pytest.approx(values("patch", "logit_diff", 1.0))
    assert [values("patch", "logit_diff_empty", None)[i] for i, _ in pairs] == pytest.approx(measured.empty.tolist())
    sizes = {row["size"]: row["n_edges"] for row in rows if row["measure"] == "faithfulness"}
    assert set(sizes) == {None, *SIZES}
    assert {row["size"] for row in rows if row["measure"] == "hit_at_50"} == {None, *HIT_SIZES}
    assert (sizes[None], sizes[1.0]) == (circuit.n_edges, graph.n_edges)
    assert all(row["edge_share"] == row["n_edges"] / graph.n_edges for row in rows)  # type: ignore[operator]
    signed = sized_circuits(graph, circuit, [0.5], 0, signed=True)[0]
    ranked = np.argsort(np.where(graph.valid, -circuit.scores, np.inf), axis=None)  # type: ignore[operator]
    highest = np.zeros(signed.size, dtype=bool)
    highest[ranked[: round(0.5 * graph.n_edges)]] = True
    assert (signed == graph.connected(highest.reshape(signed.shape))).all()
    dropped = {row["size"]: row["n_dropped"] for row in rows}
    assert dropped == {**dict.fromkeys(SIZES, 0), None: live_part(graph, circuit.edges).dropped}
    again = measure_circuit(model, graph, "capital", circuit, prompts, means, settings)
    assert again == rows


def with_subjects(model: LanguageModel) -> list[Prompt]:
    """Facts in one wording, subjects of one token and of two."""
    facts = (("France", "Paris"), ("Italy", "Rome"), ("New Zealand", "Wellington"), ("Peru", "Lima"))
    facts = (*facts, ("Papua Guinea", "Tok"), ("Spain", "Madrid"), ("Chile", "Santiago"))
    return [fill(model.text, "the capital of {} is", subject, answer) for subject, answer in facts]


def edges_of(graph: Graph, *names: str) -> EdgeMatrix:
    places = {graph.edge_name(src, dst): (src, dst) for src, dst in graph.edges()}
    edges = np.zeros_like(graph.valid)
    for name in names:
        edges[places[name]] = True
    return edges


def test_edges_that_the_input_does_not_reach_or_that_reach_no_output_are_dropped(
    model: LanguageModel, graph: Graph, prompts: list[Prompt], caplog: pytest.LogCaptureFixture
) -> None:
    path = edges_of(graph, "input->m0", "m0->a2.h0<v>", "a2.h0->logits")
    loose = edges_of(graph, "m1->logits", "a1.h0->a2.h0<q>", "input->a0.h1<k>")  # no input; no input; no output
    live = live_part(graph, path | loose)
    assert (live.edges == path).all()
    assert (live.dropped, live.constant) == (3, False)
    caplog.set_level("INFO", "knowcirc.circuits.evaluation")
    assert circuit_answers(model, graph, path | loose, prompts) == circuit_answers(model, graph, path, prompts)
    assert caplog.messages == ["3 of 6 edges lie on no path from the input to the logits and are dropped"]


@pytest.mark.parametrize("names", [(), ("m1->logits", "input->m0", "a1.h0->m2")])
def test_a_circuit_cut_off_from_the_input_hits_nothing_whatever_its_biases_favour(
    model: LanguageModel, graph: Graph, prompts: list[Prompt], names: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    edges, vocab = edges_of(graph, *names), model.transformer.shape.d_vocab
    live = live_part(graph, edges)
    assert (live.dropped, live.constant) == (len(names), True)
    favoured = int(run_circuit(model.transformer, graph, live.edges, model.batch([prompts[0].ids]))[0].argmax())
    questions = [Prompt(one.text, one.ids, None, "favoured", (favoured,)) for one in prompts]
    answers = circuit_answers(model, graph, edges, questions)
    assert not any(any(hits(answers, k)) for k in range(1, vocab + 1))
    assert len({round(one.p, 12) for one in answers}) == 1
    assert f"circuit of {len(names)} edges: its output is constant" in caplog.text


def test_dropping_changes_nothing_under_patching(model: LanguageModel, graph: Graph, prompts: list[Prompt]) -> None:
    """Why faithfulness needs no dropping: what such edges deliver is the partner's run in any case."""
    loose = edges_of(graph, "m1->logits", "a1.h0->a2.h0<q>", "input->m0", "m0->logits", "input->a0.h1<k>")
    pairs = pairs_of(prompts)
    all_of_it, live = faithfulness(model, graph, [loose, live_part(graph, loose).edges], prompts, pairs)
    assert all_of_it == pytest.approx(live, rel=1e-6, abs=1e-9)


def test_a_relations_rows_hold_what_each_method_says_under_each_ablation(load_tiny: Loader) -> None:
    model = load_tiny("gpt2")
    graph = Graph.of(model.transformer.shape, "grouped")
    prompts = with_subjects(model)
    objects = sorted({one.answer[0] for one in prompts})
    questions = Questions(prompts[:3], prompts[3:], objects)
    circuits = {"eap": Circuit("eap", some_edges(graph, 0.4), None), "acdc": Circuit("acdc", graph.valid, None)}
    rows = score_relation(model, graph, circuits, questions, hits=20, seeds=[5, 6], settings=WAYS)
    assert [(row["method"], row["ablation"], row["tau"]) for row in rows] == [
        *(("eap", "zero", None), ("acdc", "zero", 0.1), ("eap", "mean", None), ("acdc", "mean", 0.1)),
    ]
    table = pd.DataFrame(rows)
    chance = [random_circuit(graph, circuits["eap"].n_edges, seed) for seed in (5, 6)]
    pairs = pairs_of(prompts[3:])
    found = faithfulness(model, graph, [circuits["eap"].edges, chance[0]], prompts[3:], pairs)
    assert table["faithfulness"][0] == pytest.approx(found[0].mean())
    assert table["faithfulness_random"][0] == pytest.approx(found[1].mean())
    assert (table["n_val"][0], table["n_test"][0], table["n_pairs"][0]) == (3, 4, len(pairs))
    assert table["n_scored"][1] == 2  # as many as ACDC takes
    means = AlignedMeans.of(model, graph, prompts[:3])
    for row, absent in ((0, None), (2, means)):
        answers = circuit_answers(model, graph, circuits["eap"].edges, prompts[3:], absent=absent)
        assert table["d_test_circuit"][row] == np.mean(hits(answers, 20))
        assert table["d_test_p_circuit"][row] == pytest.approx(np.mean([one.p for one in answers]))
        drawn = [circuit_answers(model, graph, chance[i % 2], [one], absent=absent)[0] for i, one in enumerate(prompts)]
        assert table["d_val_random"][row] == pytest.approx(np.mean(hits(drawn[:3], 20)))
        assert table["d_test_random"][row] == pytest.approx(np.mean(hits(drawn[3:], 20)))
    whole = table[table.method == "acdc"]  # all edges: the model, whatever the ablation
    for name in ("d_test", "d_test_hit_at_1", "d_test_p", "d_test_among", "d_test_others"):
        assert whole[f"{name}_circuit"].tolist() == pytest.approx(whole[f"{name}_original"].tolist())
    assert (whole["n_edges_merged"] == graph.merged(graph.valid)).all()
    assert (whole["constant"] == 0).all()


def test_a_search_that_has_left_nothing_has_a_row_of_nothing(load_tiny: Loader) -> None:
    model = load_tiny("gpt2")
    graph = Graph.of(model.transformer.shape, "grouped")
    prompts = with_subjects(model)
    questions = Questions(prompts[:3], prompts[3:], sorted({one.answer[0] for one in prompts}))
    circuits = {"acdc": Circuit("acdc", edges_of(graph), None)}
    rows = score_relation(model, graph, circuits, questions, hits=20, seeds=[5], settings=WAYS)
    for row in rows:
        assert (row["n_edges"], row["constant"]) == (0, 1)
        assert (row["d_val_circuit"], row["d_test_circuit"], row["d_test_random"]) == (0, 0, 0)
        assert row["faithfulness"] == pytest.approx(0)


def test_readings_are_those_of_logits_by_hand() -> None:
    questions = [Prompt("one", (1,), None, "a", (2,)), Prompt("two", (1,), None, "b", (3,))]
    logits = torch.tensor([[9.0, 0.0, 5.0, 4.0, 6.0], [9.0, 8.0, 7.0, 7.0, 0.0]])
    one, two = read_prompts(logits, questions, [2, 3], 3)
    assert (one.hit, one.first, one.among, one.others) == (True, False, True, 0.0)
    assert (two.hit, two.among, two.others) == (False, False, 0.0)  # tied with the other object
    wide = read_prompts(logits, questions, [2, 3], 4)
    assert [reading.others for reading in wide] == [1.0, 1.0]
    assert all(reading.others == 1.0 for reading in read_prompts(logits, questions, [2, 3], 50))
    for silent in read_prompts(logits, questions, [2, 3], 50, constant=True):
        assert (silent.hit, silent.among, silent.others) == (False, False, 0.0)
    alike = read_prompts(logits, questions, [2, 2, 3], 3)  # another object begins with the first answer's token
    assert np.isnan(alike[0].among)
    assert alike[1].among == 0.0
    assert np.isnan(read_prompts(logits, questions, [2, 2, 3], 3, constant=True)[0].among)
    alone = read_prompts(logits[:1], questions[:1], [2, 4], 3)[0]
    assert np.isnan(alone.others)
    assert not alone.among


def test_merged_edges_count_each_head_once_in_either_view(model: LanguageModel, graph: Graph) -> None:
    circuit = Circuit("eap", graph.connected(some_edges(graph, 0.2)), None)
    wide, same = expanded(graph, circuit)
    pairs = {
        (src, name.partition("<")[0])
        for src, dst in wide.edges(wide.connected(same.edges))
        for name in (wide.dst_names[dst],)
    }
    assert graph.merged(circuit.edges) == wide.merged(wide.connected(same.edges)) == len(pairs)


def test_what_is_kept_is_at_most_one_and_empty_where_the_model_has_nothing() -> None:
    assert kept_share(wilson(8, 10), wilson(4, 10)).value == pytest.approx(0.5)
    assert kept_share(wilson(5, 10), wilson(8, 10)).value == 1.0
    assert np.isnan(kept_share(wilson(0, 10), wilson(8, 10)).value)


def test_summaries_weigh_relations_alike_and_tell_those_of_many_objects_apart() -> None:
    kept = {"d_test_kept": [0.5, 1.0, np.nan], "d_test_kept_low": 0.1, "d_test_kept_high": 1.0}
    table = pd.DataFrame({"category": "own", "relation": ["a", "b", "c"], "method": "eap", "ablation": "zero", **kept})
    table = table.assign(n_objects=[10, 11, 40], n_test=20, n_relations=1, constant=[0, 0, 1])
    whole, many = summaries(table).to_dict("records")
    assert (whole["relation"], whole["category"], whole["n_relations"], whole["n_test"]) == ("all", "all", 3, 60)
    assert (whole["d_test_kept"], many["d_test_kept"]) == (0.75, 1.0)
    assert (whole["d_test_kept_low"], whole["d_test_kept_high"]) == (0.5, 1.0)  # of two relations
    assert (many["relation"], many["n_relations"]) == ("over 10 objects", 2)
    assert list(summaries(table).columns) == list(table.columns)
