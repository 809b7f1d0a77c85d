"""What circuits are read with: the logit lens, heads, comparisons, drawings, demonstrations, edited views, cases."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy import ndarray
from torch import Tensor

from knowcirc.behaviours import in_context as in_context_study
from knowcirc.behaviours.demonstrations import choose_demonstrations, demonstrate, new_heads
from knowcirc.behaviours.hallucination import describe_case, pick_cases
from knowcirc.behaviours.in_context import IclSettings, attention_of, enough, shown_relation, study_relation
from knowcirc.circuits import kept
from knowcirc.circuits.attribution import top_edges
from knowcirc.circuits.circuit_settings import CircuitSettings
from knowcirc.circuits.discovery import Circuit, discover
from knowcirc.circuits.drawing import draw, flows, strongest
from knowcirc.circuits.finding import finder
from knowcirc.circuits.graph import EdgeMatrix, Graph
from knowcirc.circuits.kept import KeptCircuits
from knowcirc.circuits.overlap import compare, component_rows, differences
from knowcirc.edited.views import EditedView, read_view, view_rows
from knowcirc.editing.edits import Edit, Matrix, applied
from knowcirc.facts.knowledge import Answer
from knowcirc.facts.prompts import Prompt, fill, tokenise
from knowcirc.facts.relations import Fact, Relation
from knowcirc.files import Parts
from knowcirc.models.loading import LanguageModel
from knowcirc.reading.ablation import Head
from knowcirc.reading.heads import HeadReading, Thresholds, find_head, read_heads
from knowcirc.reading.lens import curve_rows, token_curve
from unit import reference
from unit.tiny import FIRST

Loader = Callable[..., LanguageModel]
Keep = Callable[[LanguageModel], KeptCircuits]
SMALL = Graph(2, 2, 2, "per_head")
GROUPED = Graph(3, 4, 2, "grouped")
TEMPLATE = "the capital of {} is"
FACTS = tuple(
    Fact(*pair.split(":"))
    for pair in (
        "France:Paris",
        "Italy:Rome",
        "Spain:Madrid",
        "Peru:Lima",
        "Chile:Santiago",
        "New Zealand:Wellington",
        "Papua:Lima",
        "Guinea:Rome",
    )
)
RELATION = Relation("capital", "factual", "country", "city", (TEMPLATE, "{} a", "{} the"), None, None, (), FACTS)


@pytest.fixture
def prompt(model: LanguageModel) -> Prompt:
    return tokenise(model.text, "the capital of New Zealand is in", "Wellington", "New Zealand")


def last_p(model: LanguageModel, prompt: Prompt) -> Tensor:
    """The network's own probabilities of the next token."""
    return reference.logits(reference.network(model), model.batch([prompt.ids]))[0, -1].softmax(-1)


def matrix(graph: Graph, *names: str) -> EdgeMatrix:
    """The set of the named edges."""
    edges = np.zeros_like(graph.valid)
    for name in names:
        sender, receiver = name.split("->")
        edges[graph.src_names.index(sender), graph.dst_names.index(receiver)] = True
    return edges & graph.valid


def named(graph: Graph, nodes: ndarray) -> set[str]:
    return {graph.src_names[i] for i in np.flatnonzero(nodes)}


# The logit lens


@pytest.mark.parametrize("at", [2, -1])
def test_a_curve_reads_every_layers_stream_through_the_norm_and_the_vocabulary(
    model: LanguageModel, prompt: Prompt, at: int
) -> None:
    position, token = at % len(prompt.ids), prompt.answer[0]
    layers = {f"l{i}": layer for i, layer in enumerate(reference.layers(reference.network(model)))}
    seen = reference.watch(reference.network(model), model.batch([prompt.ids]), **layers)
    streams = [seen["l0"][0], *(seen[name][1] for name in layers)]
    curve = token_curve(model, prompt, token, position)
    assert len(curve) == len(streams) == 4
    for (rank, p), stream in zip(curve, streams, strict=True):
        with torch.no_grad():
            normed = reference.final_norm(reference.network(model))(stream[0, position])
            expected = model.transformer.cap(reference.network(model).get_output_embeddings()(normed)).softmax(-1)
        assert p == pytest.approx(float(expected[token]), rel=1e-9)
        assert rank == 1 + int((expected > expected[token]).sum())


def test_a_curve_ends_with_the_models_own_answer(model: LanguageModel, prompt: Prompt) -> None:
    p = last_p(model, prompt)
    top, last = int(p.argmax()), len(prompt.ids) - 1
    assert token_curve(model, prompt, top, last)[-1] == (1, pytest.approx(float(p.max()), rel=1e-9))


def test_a_curves_rows_count_layers_from_the_embedding() -> None:
    rows = curve_rows([(7, 0.1), (1, 0.9)], case="x")
    assert rows == [
        {"case": "x", "layer": 0, "rank": 7, "probability": 0.1},
        {"case": "x", "layer": 1, "rank": 1, "probability": 0.9},
    ]


# Heads


def written(model: LanguageModel, prompt: Prompt) -> dict[tuple[int, int], Tensor]:
    """What each head writes at the last position: its slice of the output matrix's input, by a hook."""
    found = {}
    for layer, module in enumerate(reference.layers(reference.network(model))):
        out, added = reference.heads_out(module), reference.added(module)[0]
        seen = reference.watch(reference.network(model), model.batch([prompt.ids]), out=out, added=added)
        scale = 1.0 if added is out else (seen["added"][1] / seen["added"][0])[0, -1]
        for head, part in enumerate(seen["out"][0][0, -1].view(4, 8)):
            found[layer, head] = reference.rows_out(out)[:, 8 * head : 8 * head + 8] @ part * scale
    return found


def test_attention_is_the_networks_and_sums_to_one(model: LanguageModel, prompt: Prompt) -> None:
    with torch.no_grad():
        patterns = reference.network(model)(
            model.batch([prompt.ids]), output_attentions=True, use_cache=False
        ).attentions
    readings = read_heads(model, prompt)
    assert [(r.layer, r.head) for r in readings] == [(layer, head) for layer in range(3) for head in range(4)]
    assert prompt.span == (4, 6)
    for reading in readings:
        row = patterns[reading.layer][0, reading.head, -1]
        assert reading.attention == pytest.approx(row.tolist(), abs=1e-12)
        assert sum(reading.attention) == pytest.approx(1.0)
        assert reading.to_subject == pytest.approx(float(row[4] + row[5]))
        assert reading.name == f"a{reading.layer}.h{reading.head}"


def test_what_a_head_writes_is_read_by_the_logit_lens(model: LanguageModel, prompt: Prompt) -> None:
    answer, parts = prompt.answer[0], written(model, prompt)
    for reading in read_heads(model, prompt):
        with torch.no_grad():
            normed = reference.final_norm(reference.network(model))(parts[reading.layer, reading.head])
            logits = reference.network(model).get_output_embeddings()(normed)
        assert reading.top == tuple(logits.topk(10).indices.tolist())
        assert reading.rank == int((logits > logits[answer]).sum())


def test_attribution_is_what_a_head_adds_to_the_answers_logit_under_the_final_norms_scale(
    model: LanguageModel, prompt: Prompt
) -> None:
    """With the scale held, the parts of all writers add up to the logit less the vocabulary's mean."""
    norm, table = model.transformer.final_norm, model.transformer.unembedding
    last = reference.layers(reference.network(model))[-1]
    final = reference.watch(reference.network(model), model.batch([prompt.ids]), last=last)["last"][1][0, -1]

    def centred(x: Tensor) -> Tensor:
        return x - x.mean(-1, keepdim=True) if norm.centred else x

    scale = (centred(final).pow(2).mean() + norm.eps).rsqrt()
    direction = norm.weight * (table[prompt.answer[0]] - table.mean(0))
    logits = reference.logits(reference.network(model), model.batch([prompt.ids]))[0, -1]
    if (cap := model.transformer.logit_cap) is not None:
        logits = cap * torch.atanh(logits / cap)
    whole = float(centred(final) * scale @ direction)
    if norm.bias is not None:
        whole += float(norm.bias @ (table[prompt.answer[0]] - table.mean(0)))
    assert whole == pytest.approx(float(logits[prompt.answer[0]] - logits.mean()))
    parts = written(model, prompt)
    expected = [float(centred(parts[r.layer, r.head]) * scale @ direction) for r in read_heads(model, prompt)]
    assert [reading.attribution for reading in read_heads(model, prompt)] == pytest.approx(expected)


def test_heads_of_a_prompt_without_subject_are_refused(load_tiny: Loader) -> None:
    model = load_tiny("gpt2")
    with pytest.raises(ValueError, match="prompt 'the city of' has no subject"):
        read_heads(model, tokenise(model.text, "the city of", "Lima"))


def reading(head: int, to_subject: float, rank: int, attribution: float) -> HeadReading:
    return HeadReading(0, head, (1.0 - to_subject, to_subject), to_subject, 0.0, (5,), rank, None, attribution)


def test_the_mover_is_the_strongest_head_that_meets_both_thresholds() -> None:
    heads = [
        reading(0, to_subject=0.9, rank=0, attribution=1.0),
        reading(1, to_subject=0.3, rank=9, attribution=2.0),  # just meets both
        reading(2, to_subject=0.29, rank=0, attribution=7.0),
        reading(3, to_subject=0.9, rank=10, attribution=8.0),
    ]
    mover, found = find_head(heads, "mover", Thresholds(0.3, 10))
    assert (mover.head, found) == (1, True)


def test_without_a_mover_the_best_ranking_head_on_the_subject_is_given_and_the_flag_says_so() -> None:
    heads = [reading(0, 0.1, 0, 3.0), reading(1, 0.9, 40, -2.0), reading(2, 0.4, 50, -1.0)]
    mover, found = find_head(heads, "mover", Thresholds(0.3, 10))
    assert (mover.head, found) == (1, False)


def test_where_no_head_attends_to_the_subject_the_best_ranking_of_all_is_given() -> None:
    mover, found = find_head([reading(0, 0.2, 50, -1.0), reading(1, 0.1, 0, -3.0)], "mover", Thresholds(0.3, 10))
    assert (mover.head, found) == (1, False)


# Comparisons


def test_edges_and_nodes_are_counted_as_shared_lost_and_new() -> None:
    before = matrix(SMALL, "input->m0", "m0->logits", "input->a1.h0<q>", "a1.h0->logits")
    after = matrix(SMALL, "input->m0", "m0->logits", "input->a1.h1<v>", "a1.h1->m1", "m1->logits")
    found = compare(SMALL, before, after)
    assert {key: found[f"{key}_edges"] for key in ("shared", "lost", "new")} == {"shared": 2, "lost": 2, "new": 3}
    assert {key: found[f"{key}_nodes"] for key in ("shared", "lost", "new")} == {"shared": 2, "lost": 1, "new": 2}
    assert found["jaccard_edges"] == pytest.approx(2 / 7)
    assert found["jaccard_nodes"] == pytest.approx(2 / 5)
    assert compare(SMALL, before, before)["jaccard_edges"] == 1.0
    nothing = np.zeros_like(before)
    assert compare(SMALL, nothing, nothing)["jaccard_nodes"] == 1.0
    assert compare(SMALL, before, nothing)["jaccard_nodes"] == 0.0


def test_differences_name_every_node_and_edge_of_either_circuit() -> None:
    before = matrix(SMALL, "input->m0", "m0->logits", "input->a1.h0<q>", "a1.h0->logits")
    after = matrix(SMALL, "input->m0", "m0->logits", "input->a1.h1<v>", "a1.h1->m1", "m1->logits")
    named = {(row["kind"], row["name"]): row["status"] for row in differences(SMALL, before, after)}
    assert named == {
        **dict.fromkeys([("node", "input"), ("node", "m0"), ("edge", "input->m0"), ("edge", "m0->logits")], "shared"),
        **dict.fromkeys([("node", "a1.h0"), ("edge", "input->a1.h0<q>"), ("edge", "a1.h0->logits")], "lost"),
        **dict.fromkeys([("node", "a1.h1"), ("node", "m1")], "new"),
        **dict.fromkeys([("edge", "input->a1.h1<v>"), ("edge", "a1.h1->m1"), ("edge", "m1->logits")], "new"),
    }


def test_frequencies_are_shares_of_a_layers_heads_and_of_its_mlp() -> None:
    circuit = matrix(SMALL, "input->m0", "m0->logits", "a0.h1->m1")
    rows = {(row["component"], row["layer"]): row for row in component_rows(SMALL, "capital", circuit)}
    shares = {place: row["frequency"] for place, row in rows.items()}
    assert shares == {("head", 0): 0.5, ("mlp", 0): 1.0, ("head", 1): 0.0, ("mlp", 1): 0.0}
    assert all(row["relation"] == "capital" for row in rows.values())


def test_edge_shares_are_of_the_edges_that_could_leave_the_layer() -> None:
    circuit = matrix(SMALL, "m0->logits", "a0.h0->logits", "a0.h1->m1", "a1.h0->m1")
    rows = {(row["component"], row["layer"]): row["edge_share"] for row in component_rows(SMALL, "capital", circuit)}
    late = 2 * 3 + 1 + 1  # q, k, v of two heads, the next MLP, the logits
    shares = {("head", 0): 2 / (2 * (late + 1)), ("mlp", 0): 1 / late, ("head", 1): 1 / 4, ("mlp", 1): 0.0}
    assert rows == pytest.approx(shares)


# Drawings


def some_circuit(graph: Graph, n_edges: int, seed: int = 0) -> Circuit:
    scores = np.random.default_rng(seed).standard_normal(graph.valid.shape).astype(np.float32) * graph.valid
    return Circuit("eap", top_edges(graph, scores, n_edges), scores)


@pytest.mark.parametrize("n_edges", [10, 25, 60])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_strongest_edges_form_a_small_circuit_of_their_own(n_edges: int, seed: int) -> None:
    circuit = some_circuit(GROUPED, 150, seed)
    small = strongest(GROUPED, circuit, n_edges)
    assert 0 < small.n_edges <= n_edges
    assert not (small.edges & ~circuit.edges).any()
    assert (GROUPED.connected(small.edges) == small.edges).all()
    passed = flows(GROUPED, circuit)
    ranked = np.sort(passed[circuit.edges])[::-1]
    whole = [int(GROUPED.connected(circuit.edges & (passed >= least)).sum()) for least in ranked[4::5]]
    assert small.n_edges == max(size for size in whole if size <= n_edges)  # edges are taken as long as they fit
    weakest = passed[small.edges].min()
    stronger = circuit.edges & (passed > weakest)
    assert (GROUPED.connected(stronger | small.edges) == small.edges).all()  # none that is stronger was passed over


def test_flow_is_kept_from_the_logits_to_the_input() -> None:
    circuit = some_circuit(GROUPED, 150)
    passed = flows(GROUPED, circuit)
    assert ((passed > 0) == circuit.edges).all()
    assert passed[:, GROUPED.final].sum() == pytest.approx(1)
    assert passed[0].sum() == pytest.approx(1)
    for layer in range(GROUPED.n_layers):
        inner = GROUPED.mlp(layer)
        assert passed[:, GROUPED.mlp_in(layer)].sum() == pytest.approx(passed[inner].sum())


def test_flow_is_split_by_scores_and_added_where_a_group_shares_an_input() -> None:
    edges = matrix(GROUPED, "input->a0.h0<k>", "input->a0.h0<q>", "input->a0.h1<q>", "a0.h0->logits", "a0.h1->logits")
    scores = np.zeros(edges.shape)
    scores[:, GROUPED.final] = -3.0 * edges[:, GROUPED.final]
    scores[0] = edges[0]
    passed = flows(GROUPED, Circuit("acdc", edges, scores))
    key = GROUPED.reads(0, "k").start
    reads = GROUPED.reads(0, "q").start
    assert passed[0, [key, reads, reads + 1]].tolist() == pytest.approx([1 / 2, 1 / 4, 1 / 4])


def test_all_edges_are_drawn_where_there_are_few() -> None:
    circuit = some_circuit(GROUPED, 150)
    assert (strongest(GROUPED, circuit, 1000).edges == circuit.edges).all()


def test_a_circuit_without_scores_has_no_strongest_edges() -> None:
    with pytest.raises(ValueError, match="without scores"):
        strongest(GROUPED, Circuit("random", GROUPED.valid, None), 10)


def test_a_drawing_names_nodes_that_exist_and_counts_the_whole() -> None:
    circuit = some_circuit(GROUPED, 180)
    drawing: dict[str, Any] = draw(GROUPED, circuit, 40)
    nodes = {node["name"]: node for node in drawing["nodes"]}
    assert set(nodes) <= {*GROUPED.src_names, "logits"}
    assert {"input", "logits"} <= set(nodes)
    assert len(nodes) == len(drawing["nodes"])
    for edge in drawing["edges"]:
        assert edge["src"] in nodes
        assert edge["dst"] in nodes
        assert (edge["kind"] in ("q", "k", "v")) == (nodes[edge["dst"]]["kind"] == "head")
        assert nodes[edge["src"]]["layer"] <= nodes[edge["dst"]]["layer"]
    assert {name for edge in drawing["edges"] for name in (edge["src"], edge["dst"])} == set(nodes)
    assert sum(pair["count"] for pair in drawing["whole"]["layer_edges"]) == circuit.n_edges
    json.dumps(drawing, allow_nan=False)


def test_a_shared_input_is_drawn_at_each_head_of_its_group_that_lives() -> None:
    edges = matrix(
        GROUPED,
        *("input->a0.h0<k>", "input->a0.h1<v>", "input->a0.h3<q>", "a0.h0->m0", "a0.h1->logits", "a0.h3->m2"),
        *("m0->logits", "m2->logits"),
    )
    rng = np.random.default_rng(0)
    circuit = Circuit("eap", edges, (1 + rng.random(edges.shape)).astype(np.float32))
    drawing: dict[str, Any] = draw(GROUPED, circuit, 100)
    drawn = {(edge["src"], edge["dst"], edge["kind"]) for edge in drawing["edges"]}
    assert drawn == {
        ("input", "a0.h0", "k"),
        ("input", "a0.h1", "k"),
        ("input", "a0.h3", "v"),  # its K/V head also serves head 2, which is not drawn
        ("input", "a0.h3", "q"),
        ("a0.h0", "m0", None),
        ("a0.h1", "logits", None),
        ("a0.h3", "m2", None),
        ("m0", "logits", None),
        ("m2", "logits", None),
    }
    layers = {(pair["src_layer"], pair["dst_layer"]): pair["count"] for pair in drawing["whole"]["layer_edges"]}
    assert layers == {(-1, 0): 3, (0, 0): 1, (0, 2): 1, (0, 3): 2, (2, 3): 1}


# Demonstrations


def test_the_demonstrations_tokens_are_exactly_those_before_the_query(load_tiny: Loader) -> None:
    text = load_tiny("llama").text
    shown = demonstrate(text, TEMPLATE, FACTS[:2], FACTS[5])
    assert shown.prompt.text == (
        "the capital of France is Paris. the capital of Italy is Rome. the capital of New Zealand is"
    )
    assert shown.demonstration == (1, 13)  # <s>, then two sentences of six words
    assert shown.prompt.span == (16, 18)
    assert shown.prompt.ids[18:] == tuple(text.encode("is", add_special_tokens=False).ids)
    assert shown.prompt.ids[13:] == fill(text, TEMPLATE, "New Zealand", "Wellington").ids[1:]
    assert shown.prompt.answer_text == "Wellington"


def test_the_subject_is_the_querys_though_a_demonstration_names_it(load_tiny: Loader) -> None:
    text = load_tiny("llama").text
    shown = demonstrate(text, "{} and", [Fact("Peru", "Chile and Peru"), Fact("Chile", "Peru")], Fact("Peru", "Lima"))
    assert shown.prompt.text == "Peru and Chile and Peru. Chile and Peru. Peru and"
    assert shown.demonstration == (1, 9)
    assert shown.prompt.span == (9, 10)
    after = demonstrate(text, "{} and Peru", [Fact("Chile", "Lima")], Fact("Peru", "Lima"))
    assert after.prompt.span == (5, 6)  # its place in the template, not its last occurrence


def test_a_prompt_without_demonstrations_is_the_plain_one(load_tiny: Loader) -> None:
    """A relation of which the model knows nothing has none to give."""
    text = load_tiny("llama").text
    shown = demonstrate(text, TEMPLATE, [], FACTS[5])
    assert shown.prompt == fill(text, TEMPLATE, "New Zealand", "Wellington")
    assert shown.demonstration[0] == shown.demonstration[1]


def test_demonstrations_are_known_and_have_other_answers() -> None:
    known = {"France", "Italy", "Peru", "Papua", "Guinea"}
    for query in FACTS:
        chosen = choose_demonstrations(RELATION, query, known, 2, seed=0)
        assert chosen == choose_demonstrations(RELATION, query, known, 2, seed=0)
        assert len(set(chosen)) == 2
        assert {fact.subject for fact in chosen} <= known - {query.subject}
        assert query.object not in {fact.object for fact in chosen}
    everything = choose_demonstrations(RELATION, FACTS[3], known, 99, seed=0)
    assert {fact.subject for fact in everything} == {"France", "Italy", "Guinea"}
    drawn = choose_demonstrations(RELATION, FACTS[3], known, 3, seed=0)
    assert choose_demonstrations(RELATION, FACTS[3], known, 3, seed=0, order="reversed") == drawn[::-1]
    draws = {tuple(choose_demonstrations(RELATION, FACTS[0], known, 3, seed=seed)) for seed in range(9)}
    assert len(draws) > 3


def test_new_heads_are_heads_of_the_second_circuit_alone() -> None:
    zero = matrix(SMALL, "input->m0", "m0->logits", "a0.h0->m0", "a1.h1->logits")
    shown = matrix(SMALL, "a0.h0->m1", "a0.h1->logits", "m1->logits", "a1.h0->m1", "input->a1.h1<q>")
    assert new_heads(SMALL, zero, shown) == [(0, 1), (1, 0)]
    assert new_heads(SMALL, shown, shown) == []


SETTINGS = IclSettings(
    demonstrations=2,
    order="drawn",
    d_val=2,
    d_test=3,
    seeds=3,
    hits=30,
    seed=4,
)


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    """What finds small circuits of a model, and keeps them in a folder of the test."""
    settings = CircuitSettings("eap", share=28 / GROUPED.n_edges)

    def finder(model: LanguageModel) -> KeptCircuits:
        graph = Graph.of(model.transformer.shape, "grouped")
        return KeptCircuits(
            model, graph, settings, Parts(tmp_path / "icl.csv", reference.network(model).config.model_type)
        )

    return finder


def survey(known: Sequence[int]) -> pd.DataFrame:
    """Survey rows of the relation's first wording; the facts in `known` rank first."""
    rows = [(index, fact.subject, 0 if index in known else 5) for index, fact in enumerate(FACTS)]
    return pd.DataFrame(rows, columns=["fact", "subject", "rank"])


class Spied:
    """Prompts and ablated heads that the study asks for, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.queried: list[list[Prompt]] = []
        self.sets: list[list[list[Head]]] = []
        self.tested: list[list[Prompt]] = []
        answer, without = in_context_study.answer_prompts, in_context_study.answers_without

        def answer_prompts(model: LanguageModel, prompts: Sequence[Prompt]) -> list[Answer]:
            self.queried.append(list(prompts))
            return answer(model, prompts)

        def answers_without(
            model: LanguageModel, prompts: Sequence[Prompt], sets: Sequence[Sequence[Head]]
        ) -> list[list[Answer]]:
            self.sets.append([list(heads) for heads in sets])
            self.tested.append(list(prompts))
            return without(model, prompts, sets)

        monkeypatch.setattr(in_context_study, "answer_prompts", answer_prompts)
        monkeypatch.setattr(in_context_study, "answers_without", answers_without)


@pytest.mark.parametrize("name", [*FIRST, "qwen3", "olmo2", "gemma2"])  # in others no head is new
def test_a_relations_study_ablates_its_new_heads_and_as_many_others(
    model: LanguageModel, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    finder, spied = keep(model), Spied(monkeypatch)
    graph, n_edges = finder.graph, finder.settings.n_edges(finder.graph.n_edges)
    own = Circuit("eap", graph.valid, None)
    study = study_relation(finder, RELATION, survey([0, 1, 2, 3]), own, SETTINGS)
    tried, zero, shown = spied.queried[:3]
    assert sorted(prompt.text.rsplit(". ", 1)[1] for prompt in tried) == sorted(
        TEMPLATE.format(fact.subject) for fact in FACTS[4:]
    )  # whether demonstrations mend them decides which come first
    assert len(zero) == len(shown) == 5
    unknown = {TEMPLATE.format(fact.subject) for fact in FACTS[4:]}
    assert unknown < {prompt.text for prompt in zero}  # facts to mend come first
    for plain, full in zip(zero, shown, strict=True):
        assert full.text.endswith(f". {plain.text}")
        assert full.answer == plain.answer
        assert full.text.count(". ") == 2
    row, others = study.row, [random for _, _, random in spied.sets]
    none, fresh, _ = spied.sets[0]
    assert all((one, two) == (none, fresh) for one, two, _ in spied.sets)
    assert none == []
    assert (row["relation"], row["method"], row["n"]) == ("capital", "eap", 3)
    assert spied.tested[0] == shown[2:]  # not those that the circuits were found on
    queries = [[prompt.text.rsplit(". ", 1)[1] for prompt in prompts] for prompts in spied.tested]
    assert queries == [[prompt.text for prompt in zero[2:]]] * 3  # the same facts
    assert len({tuple(prompt.text for prompt in prompts) for prompts in spied.tested}) == 3  # demonstrated otherwise
    circuits = [
        discover(model, graph, prompts[:2], [None, None], method="eap", n_edges=n_edges, seed=0)
        for prompts in (zero, shown)
    ]
    assert fresh == new_heads(graph, circuits[0].edges, circuits[1].edges)
    used = new_heads(graph, np.zeros_like(graph.valid), circuits[0].edges)
    assert used
    assert row["n_heads"] == len(fresh) > 0
    assert (study.heads, study.n_edges) == (fresh, circuits[1].n_edges)
    assert row["n_heads_again"] == len(new_heads(graph, circuits[0].edges, own.edges)) > 0
    assert len(others) == 3
    for picked in others:
        assert sorted(layer for layer, _ in picked) == [layer for layer, _ in fresh]
        for layer in {layer for layer, _ in fresh}:
            free = {(layer, head) for head in range(graph.n_heads)} - {*fresh, *used}
            here = [head for head in picked if head[0] == layer]
            assert len(free & set(here)) == min(len(free), len(here))  # first those that neither circuit holds
    _check_attention(model, row, fresh, used, shown[:2], zero[:2])
    queried = [prompt for prompts in spied.tested for prompt in prompts]
    ranks = [int((p > p[prompt.answer[0]]).sum()) for prompt in queried for p in [last_p(model, prompt)]]
    assert row["original"] == pytest.approx(np.mean([rank < 30 for rank in ranks]))
    said = [float(last_p(model, prompt)[prompt.answer[0]]) for prompt in queried]
    assert row["p_original"] == pytest.approx(np.mean(said))
    assert row["p_zero_shot"] == pytest.approx(
        np.mean([float(last_p(model, prompt)[prompt.answer[0]]) for prompt in zero[2:]])
    )
    gains = [
        float(last_p(model, b)[b.answer[0]] - last_p(model, a)[a.answer[0]]) for a, b in zip(zero, shown, strict=True)
    ]
    assert study.p_demonstrated - study.p_zero == pytest.approx(gains[zero.index(study.zero_shot)], abs=1e-9)
    if not row["n_mended"]:
        assert study.p_demonstrated - study.p_zero == pytest.approx(max(gains), abs=1e-9)


def _check_attention(
    model: LanguageModel,
    row: dict[str, object],
    fresh: list[Head],
    used: list[Head],
    shown: list[Prompt],
    zero: list[Prompt],
) -> None:
    """The new heads' attention on what stands before the query, against that of the others of their layers."""
    new, rest = [], []
    for full, plain in zip(shown, zero, strict=True):
        span = range(1, 1 + len(full.ids) - len(plain.ids))  # after <s>
        readings = {(one.layer, one.head): one.attention for one in read_heads(model, full)}
        share = {head: sum(values[i] for i in span) for head, values in readings.items()}
        layers = {layer for layer, _ in fresh}
        new.append(np.mean([share[head] for head in fresh]))
        rivals = [head for head in share if head[0] in layers and head not in fresh]
        others = [share[head] for head in [head for head in rivals if head not in used] or rivals]
        rest += [np.mean(others)] if others else []
    assert row["attention_new"] == pytest.approx(np.mean(new))
    if rest:
        assert row["attention_others"] == pytest.approx(np.mean(rest))


def test_the_showcase_shows_the_new_heads_that_attend_to_the_demonstration(model: LanguageModel, keep: Keep) -> None:
    study = study_relation(keep(model), RELATION, survey([0, 1, 2, 3]), None, SETTINGS)
    fresh = [(layer, head) for layer in range(3) for head in range(4) if (layer, head) != (1, 2)]
    study = replace(study, heads=fresh)
    frame, meta = attention_of(model, study)
    assert (meta["method"], meta["n_edges"]) == ("eap", study.n_edges)
    assert (meta["relation"], meta["prompt_icl"]) == ("capital", study.demonstrated.prompt.text)
    assert (meta["p_zero"], meta["p_icl"]) == (study.p_zero, study.p_demonstrated)
    heads = list(dict.fromkeys(frame["head"]))
    assert (meta["n_new_heads"], len(heads)) == (11, 10)
    readings = {one.name: one for one in read_heads(model, study.demonstrated.prompt)}
    low, high = study.demonstrated.demonstration
    shares = []
    for head in heads:
        rows = frame[frame["head"] == head]
        assert rows["attention"].tolist() == pytest.approx(readings[head].attention, abs=1e-12)
        assert rows["position"].tolist() == list(range(len(study.demonstrated.prompt.ids)))
        assert rows.loc[rows.in_demonstration, "position"].tolist() == list(range(low, high))
        share = rows.loc[rows.in_demonstration, "attention"].sum()
        assert rows["share_on_demonstration"].tolist() == pytest.approx([share] * len(rows))
        shares.append(share)
    assert shares == sorted(shares, reverse=True)
    assert "a1.h2" not in heads
    (left_out,) = set(readings) - {*heads, "a1.h2"}
    assert sum(readings[left_out].attention[low:high]) <= shares[-1]


def test_facts_that_demonstrations_mend_come_first(
    model: LanguageModel, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong without and right behind demonstrations, as the paper has it; others fill up where these are too few."""
    real, mended = in_context_study.answer_prompts, {FACTS[5].subject, FACTS[6].subject}

    def answer_prompts(model: LanguageModel, prompts: Sequence[Prompt]) -> list[Answer]:
        return [
            replace(answer, rank=0 if any(prompt.text.endswith(TEMPLATE.format(name)) for name in mended) else 9)
            for prompt, answer in zip(prompts, real(model, prompts), strict=True)
        ]

    monkeypatch.setattr(in_context_study, "answer_prompts", answer_prompts)
    few = replace(SETTINGS, d_val=1, d_test=1)
    drawn = in_context_study._draw(model, survey([0, 1, 2, 3]), RELATION, {f.subject for f in FACTS[:4]}, few)
    assert {fact.subject for fact in drawn} == mended
    more = in_context_study._draw(
        model, survey([0, 1, 2, 3]), RELATION, {f.subject for f in FACTS[:4]}, replace(few, d_test=len(FACTS) - 5)
    )
    assert {fact.subject for fact in more} == {fact.subject for fact in FACTS[4:]}


def test_the_relation_shown_is_the_chosen_facts_or_that_of_the_answer_that_rose_most() -> None:
    metas = [{"p_zero": p, "p_icl": q, "chosen": False} for p, q in ((0.5, 0.9), (0.1, 0.6), (0.9, 0.95))]
    assert shown_relation(metas) == 1
    assert shown_relation([*metas, {"p_zero": 0.9, "p_icl": 0.1, "chosen": True}]) == 3


def test_the_fact_shown_may_be_chosen_with_its_wording_and_its_demonstrations(model: LanguageModel, keep: Keep) -> None:
    shown = {"template": "people of {} speak", "subject": FACTS[0].subject, "demonstrations": [FACTS[2].subject]}
    settings = replace(SETTINGS, shown=shown)
    study = study_relation(keep(model), RELATION, survey([0, 1, 2, 3]), None, settings)
    asked = f"people of {FACTS[0].subject} speak"
    assert study.zero_shot.text == asked
    assert study.demonstrated.prompt.text == f"people of {FACTS[2].subject} speak {FACTS[2].object}. {asked}"
    assert study.demonstrated.prompt.answer_text == FACTS[0].object
    said = in_context_study.answer_prompts(model, [study.zero_shot, study.demonstrated.prompt])
    assert [study.p_zero, study.p_demonstrated] == pytest.approx([answer.p for answer in said])
    assert attention_of(model, study)[1]["chosen"] is True
    plain = study_relation(keep(model), RELATION, survey([0, 1, 2, 3]), None, SETTINGS)
    assert plain.row == study.row
    assert attention_of(model, plain)[1]["chosen"] is False
    with pytest.raises(ValueError, match=f"icl.shown: relation {RELATION.name} has no subject 'Atlantis'"):
        study_relation(
            keep(model), RELATION, survey([0, 1, 2, 3]), None, replace(SETTINGS, shown=shown | {"subject": "Atlantis"})
        )


def test_a_relation_is_studied_where_more_objects_are_known_than_a_prompt_demonstrates() -> None:
    rows = pd.DataFrame({"rank": [0, 0, 0, 3], "object": ["Lima", "Oslo", "Oslo", "Rome"]})
    assert [enough(rows, n) for n in (1, 2, 3)] == [True, False, False]


def test_circuits_of_a_study_that_was_cut_short_are_not_searched_again(
    load_tiny: Loader,
    keep: Keep,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = load_tiny("gpt2")
    first = study_relation(keep(model), RELATION, survey([0, 1, 2, 3]), None, SETTINGS)
    assert np.isnan(first.row["n_heads_again"])
    assert "capital has no circuit of its own" in caplog.text
    monkeypatch.setattr(kept, "find_circuit", None)
    again = study_relation(keep(model), RELATION, survey([0, 1, 2, 3]), None, SETTINGS)
    assert (again.heads, again.n_edges) == (first.heads, first.n_edges)
    assert {**again.row, "n_heads_again": 0} == {**first.row, "n_heads_again": 0}


def test_a_showcase_without_new_heads_has_its_columns_all_the_same(
    load_tiny: Loader, keep: Keep, exact_networks: None
) -> None:
    model = load_tiny("llama")
    study = study_relation(keep(model), RELATION, survey([0, 1, 2, 3]), None, SETTINGS)
    frame, meta = attention_of(model, replace(study, heads=[]))
    assert meta["n_new_heads"] == len(frame) == 0
    assert {"head", "position", "token", "in_demonstration", "attention", "share_on_demonstration"} == set(frame)


# Edits seen in circuits


def test_views_are_read_under_the_weights_in_place_and_compared_with_the_original(editable: LanguageModel) -> None:
    model, graph = editable, Graph.of(editable.transformer.shape, "grouped")
    text = model.text
    prompts = {
        "edited": fill(text, TEMPLATE, "Peru", "Lima"),
        "unrelated": fill(text, TEMPLATE, "New Zealand", "Wellington"),
    }
    new = int(text.encode("Paris", add_special_tokens=False).ids[0])
    generator = torch.Generator().manual_seed(0)
    old = model.transformer.blocks[0].mlp.w_out
    noise = torch.randn(old.shape, generator=generator, dtype=old.dtype)
    edit = Edit({Matrix(0): old + noise * old.std()}, {})
    find, limits = finder(graph, CircuitSettings("eap", share=50 / graph.n_edges)), Thresholds(0.2, 20)

    def views(weights: str) -> list[EditedView]:
        found = []
        for name, prompt in prompts.items():
            p = last_p(model, prompt)
            view = read_view(model, find, name, weights, prompt, new)
            assert (view.prompt, view.weights) == (name, weights)
            assert (view.old.p, view.new.p) == pytest.approx((float(p[prompt.answer[0]]), float(p[new])))
            assert view.old.top == int(p.argmax())
            said = replace(prompt, answer=(int(p.argmax()),))
            circuit = discover(model, graph, [said], [None], method="eap", n_edges=50, seed=0)
            assert (view.circuit.edges == circuit.edges).all()
            assert list(view.heads.values()) == read_heads(model, prompt)
            found.append(view)
        return found

    before = views("none")
    with applied(model, edit):
        after = views("noise")
    heads, overlaps = view_rows(model, graph, [*before, *after], prompts, new, limits)
    assert [(row["prompt"], row["weights"]) for row in heads] == [
        (name, weights) for weights in ("none", "noise") for name in prompts
    ]
    for row, view in zip(heads, [*before, *after], strict=True):
        original = before[0] if row["prompt"] == "edited" else before[1]
        mover, found = find_head(original.heads.values(), "mover", limits)
        assert (row["head"], row["is_mover"]) == (mover.name, found)
        assert json.loads(str(row["attention"])) == pytest.approx(view.heads[mover.name].attention)
        assert json.loads(str(row["top_tokens"])) == [
            text.decode([t], skip_special_tokens=False) for t in view.heads[mover.name].top[:8]
        ]
        assert json.loads(str(row["tokens"]))[0] == "<s>"
        assert (row["p_old"], row["p_new"], row["new_token"]) == (view.old.p, view.new.p, "Paris")
        assert row["answer_top"] == text.decode([view.old.top])
    assert [row["old_token"] for row in heads] == ["Lima", "Wellington"] * 2
    for row, view, original in zip(overlaps, [*before, *after], [*before, *before], strict=True):
        shared = int((view.circuit.edges & original.circuit.edges).sum())
        assert row["shared_edges"] == shared
        assert row["n_edges"] == view.circuit.n_edges == shared + row["new_edges"]
        assert row["jaccard"] == pytest.approx(shared / (view.circuit.edges | original.circuit.edges).sum())
    assert [row["jaccard"] for row in overlaps[:2]] == [1.0, 1.0]
    assert all(row["jaccard"] < 1.0 for row in overlaps[2:])  # type: ignore[operator]


# Hallucination

CASES = (
    # relation, template, object, rank, p_top, wrong
    ("capital", 0, "Lima", 0, 0.90, ""),
    ("capital", 0, "Rome", 0, 0.50, ""),
    ("capital", 0, "Paris", 0, 0.61, ""),
    ("capital", 0, "Madrid", 3, 0.60, "Paris"),
    ("capital", 0, "Santiago", 1, 0.40, "Rome"),
    ("capital", 0, "Wellington", 2, 0.95, ""),  # wrong, but of no right type
    ("capital", 1, "Madrid", 5, 0.99, "Lima"),  # another wording
    ("language", 0, "Greek", 4, 0.98, "French"),  # a relation without right answers
)


def cases(rows: Sequence[tuple[str, int, str, int, float, str]] = CASES) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["relation", "template", "object", "rank", "p_top", "wrong"])
    return frame.assign(category=np.where(frame["relation"] == "age", "linguistic", "factual"))


@pytest.mark.parametrize("empty", ["", None])
def test_the_most_confident_wrong_answer_stands_beside_the_nearest_right_one(empty: str | None) -> None:
    frame = cases()
    frame["wrong"] = frame["wrong"].where(frame["wrong"] != "", empty)
    chosen = pick_cases(frame)
    assert chosen["wrong"]["object"] == "Madrid"
    assert chosen["right"]["object"] == "Rome"  # Paris is nearer, but is the wrong case's own answer


def test_a_relation_with_a_mover_comes_first() -> None:
    rows = [*CASES, ("age", 0, "old", 0, 0.5, ""), ("age", 0, "young", 2, 0.3, "old")]
    assert pick_cases(cases(rows), ["age"])["wrong"]["object"] == "young"
    assert pick_cases(cases(rows), ["capital", "age"])["wrong"]["object"] == "Madrid"
    assert pick_cases(cases(rows), ["language"])["wrong"]["object"] == "Madrid"  # nothing right there
    rows[-1] = ("age", 0, "young", 2, 0.7, "old")
    assert pick_cases(cases(rows), ["capital", "age"])["wrong"]["object"] == "Madrid"  # a fact, though less confident
    assert pick_cases(cases(rows))["wrong"]["object"] == "Madrid"


def test_the_right_case_may_share_the_wrong_answer_where_there_is_no_other() -> None:
    chosen = pick_cases(cases([CASES[2], CASES[3]]))
    assert (chosen["wrong"]["object"], chosen["right"]["object"]) == ("Madrid", "Paris")


@pytest.mark.parametrize("rows", [CASES[:3], CASES[3:5], CASES[5:], CASES[:1] + CASES[7:]])
def test_a_survey_without_a_wrong_beside_a_right_answer_is_refused(
    rows: Sequence[tuple[str, int, str, int, float, str]],
) -> None:
    with pytest.raises(ValueError, match="no wrong answer of the right type; add relations"):
        pick_cases(cases(rows))


@pytest.mark.parametrize("name", ["wrong", "right"])
def test_a_case_is_described_by_both_answers_and_the_head_that_moves_what_is_said(
    load_tiny: Loader, exact_networks: None, name: str
) -> None:
    model = load_tiny("llama")
    row = pd.Series(
        {"wording": TEMPLATE, "subject": "Peru", "object": "Lima", "wrong": "Tok Pisin", "relation": "capital"}
    )
    prompt = fill(model.text, TEMPLATE, "Peru", "Lima")
    p = last_p(model, prompt)
    tok, *others = (model.text.encode(text, add_special_tokens=False).ids[0] for text in ("Tok", "Rome", "Paris"))
    objects = {prompt.answer[0], *others}
    other = tok if name == "wrong" else max(others, key=lambda token: float(p[token]))
    case = describe_case(model, name, row, objects, None, Thresholds(0.2, 20))
    frame = pd.DataFrame(case.ranks)
    assert frame.groupby("token")["layer"].apply(list).to_dict() == {
        "right_answer": [0, 1, 2, 3],
        "wrong_answer": [0, 1, 2, 3],
    }
    last = frame[frame["layer"] == 3].set_index("token")["probability"]
    expected = (float(p[prompt.answer[0]]), float(p[other]))
    assert (last["right_answer"], last["wrong_answer"]) == pytest.approx(expected)
    assert (case.meta["p_right"], case.meta["p_wrong"]) == pytest.approx(expected)
    assert (case.meta["right_token"], case.meta["wrong_token"]) == ("Lima", model.text.decode([other]))
    said = prompt.answer[0] if name == "right" else other
    mover, found = find_head(read_heads(model, replace(prompt, answer=(said,))), "mover", Thresholds(0.2, 20))
    assert (case.head["name"], case.head["is_mover"]) == (mover.name, found)
    assert case.head["right_rank" if name == "right" else "wrong_rank"] == mover.rank + 1
    given = describe_case(model, name, row, objects, (1, 2), Thresholds(0.2, 20)).head
    readings = {one.name: one for one in read_heads(model, replace(prompt, answer=(said,)))}
    assert (given["name"], given["of_relation"], case.head["of_relation"]) == ("a1.h2", True, False)
    assert given["is_mover"] == readings["a1.h2"].moves(Thresholds(0.2, 20))
    assert given["attention"] == pytest.approx(list(readings["a1.h2"].attention))
