"""Special heads: their roles, who is named, what ablations take away; the answer's rank step by step."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch

from knowcirc.circuits.discovery import Circuit
from knowcirc.circuits.evaluation import circuit_answers
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.patched import run_circuit
from knowcirc.facts.knowledge import answer_prompts
from knowcirc.facts.prompts import Prompt, answer_tokens, fill, tokenise, word_positions
from knowcirc.facts.relations import Fact, Relation
from knowcirc.models.loading import LanguageModel
from knowcirc.reading import special_heads as components
from knowcirc.reading.ablation import answers_without, logits_without, random_heads
from knowcirc.reading.answer_ranks import fact_rows
from knowcirc.reading.heads import Context, HeadReading, Thresholds, find_head, read_heads
from knowcirc.reading.lens import rank_drops, step_contests, step_ranks
from knowcirc.tables.averages import ALL, average_ranks
from unit import reference

Loader = Callable[..., LanguageModel]
LIMITS = Thresholds(0.2, 3)
FACTS = tuple(
    Fact(*pair.split(":")) for pair in ("France:Paris", "Italy:Rome", "Spain:Madrid", "New Zealand:Wellington")
)
RELATION = Relation(
    "capital", "factual", "country", "city", ("the capital of {} is",), None, None, ("capital", "city"), FACTS
)


@pytest.fixture
def prompts(model: LanguageModel) -> list[Prompt]:
    return [fill(model.text, RELATION.templates[0], fact.subject, fact.object) for fact in FACTS]


def reading(**changed: object) -> HeadReading:
    values: dict[str, object] = {
        **{"layer": 0, "head": 0, "attention": (0.5, 0.5), "to_subject": 0.0, "to_relation": 0.0, "top": (1,)},
        **{"rank": 99, "kind_rank": 99, "attribution": 0.0},
    }
    return HeadReading(**(values | changed))  # type: ignore[arg-type]


# Roles


@pytest.mark.parametrize(
    ("changed", "role"),
    [
        ({"to_subject": 0.2, "rank": 2}, "mover"),
        ({"to_subject": 0.19, "rank": 0}, None),
        ({"to_subject": 0.9, "rank": 3}, None),
        ({"to_relation": 0.2, "kind_rank": 2}, "relation"),
        ({"to_relation": 0.9, "kind_rank": 3}, None),
        ({"to_relation": 0.9, "kind_rank": None}, None),
        ({"to_subject": 0.3, "to_relation": 0.3, "rank": 0, "kind_rank": 0}, "mixture"),
        ({"to_subject": 0.3, "to_relation": 0.1, "rank": 0, "kind_rank": 0}, "mover"),
    ],
)
def test_a_role_takes_attention_and_writing_together(changed: dict[str, object], role: str | None) -> None:
    assert reading(**changed).role(LIMITS) == role


def test_words_of_the_relation_are_found_whole_and_outside_the_subject(load_tiny: Loader) -> None:
    text = load_tiny("gpt2").text
    prompt = tokenise(text, "people in city Peru speak the language", "Spanish", "city Peru")
    names = [text.id_to_token(token) for token in prompt.ids]
    found = word_positions(text, prompt, ("city", "Speak", "lang"))
    assert [names[i] for i in found] == ["speak"]
    assert word_positions(text, prompt, ()) == ()


def test_relation_scores_are_those_of_the_words_and_the_type(model: LanguageModel, prompts: list[Prompt]) -> None:
    prompt = prompts[3]
    context = components.context_of(model, RELATION, prompt)
    names = [model.text.id_to_token(token) for token in prompt.ids]
    assert [names[i] for i in context.words] == ["capital"]
    assert context.kind == {answer_tokens(model.text, fact.object)[0] for fact in FACTS}
    plain = read_heads(model, prompt)
    for with_type, without in zip(read_heads(model, prompt, context), plain, strict=True):
        assert with_type.to_relation == pytest.approx(with_type.attention[context.words[0]])
        assert (without.to_relation, without.kind_rank) == (0.0, None)
        assert with_type.kind_rank is not None
        assert with_type.kind_rank <= with_type.rank  # the answer is of the type


def test_the_rank_of_the_type_is_that_of_its_best_token(model: LanguageModel, prompts: list[Prompt]) -> None:
    kind = frozenset({7, 9})
    found = read_heads(model, prompts[0], Context((), kind))
    by_token = [read_heads(model, prompts[0].__class__(*_with_answer(prompts[0], token))) for token in kind]
    for index, one in enumerate(found):
        assert one.kind_rank == min(readings[index].rank for readings in by_token)


def _with_answer(prompt: Prompt, token: int) -> tuple[object, ...]:
    return prompt.text, prompt.ids, prompt.span, prompt.answer_text, (token,)


def test_the_relation_head_is_the_one_whose_type_ranks_first() -> None:
    heads = [
        reading(head=0, to_relation=0.5, kind_rank=2, attribution=9.0),
        reading(head=1, to_relation=0.5, kind_rank=1),
        reading(head=2, to_relation=0.1, kind_rank=0),
    ]
    found, has_role = find_head(heads, "relation", LIMITS)
    assert (found.head, has_role) == (1, True)
    found, has_role = find_head(heads[2:], "relation", LIMITS)
    assert (found.head, has_role) == (2, False)


def test_a_wording_without_relation_words_is_named(load_tiny: Loader, caplog: pytest.LogCaptureFixture) -> None:
    model = load_tiny("gpt2")
    prompt = fill(model.text, RELATION.templates[0], "Peru", "Lima")
    table = components.head_rows(model, RELATION, [prompt], ["Peru"], LIMITS)
    assert len(table) == 12
    assert not caplog.text
    components.head_rows(model, replace(RELATION, relation_words=("tongue",)), [prompt], ["Peru"], LIMITS)
    assert "none of the relation words of capital stands in its wording" in caplog.text


def rows(roles: dict[int, list[str | None]]) -> pd.DataFrame:
    """Facts of one relation; `roles` are those of head 0 of a layer, fact by fact."""
    shared = {"relation": "capital", "category": "factual", "head": 0}
    scores = {"to_subject": 0.5, "to_relation": 0.1, "attribution": 1.0, "writes_answer": True, "writes_type": False}
    return pd.DataFrame(
        {**shared, **scores, "layer": layer, "subject": f"s{fact}", "role": role}
        for layer, by_fact in roles.items()
        for fact, role in enumerate(by_fact)
    )


def test_a_head_is_named_by_its_commonest_role_if_it_has_it_often_enough() -> None:
    table = components.name_heads(
        rows({1: ["mover", "mover", "relation", None], 4: ["relation", None, None, None], 5: [None] * 4}), 0.5
    )
    assert table[["head", "layer", "role", "n"]].to_numpy().tolist() == [["a1.h0", 1, "mover", 4]]
    row = table.iloc[0]
    assert (row["role_share"], row["mover_share"], row["relation_share"]) == (0.5, 0.5, 0.25)
    assert row["facts"] == "s0, s1"
    assert len(components.name_heads(rows({4: ["relation", None, None, None]}), 0.25)) == 1


def test_a_relation_without_special_heads_gives_an_empty_table_with_columns() -> None:
    table = components.name_heads(rows({5: [None] * 4}), 0.25)
    graph = Graph(6, 1, 1, "per_head")
    assert table.empty
    assert components.heads_of(components.in_circuits(table, graph, Circuit("x", graph.valid, None)), "mover") == []


def test_named_heads_are_looked_up_in_the_circuit() -> None:
    graph = Graph(3, 2, 2, "per_head")
    edges = np.zeros_like(graph.valid)
    edges[graph.head(1, 0), graph.final] = edges[0, graph.dst_names.index("a1.h0<v>")] = True
    table = components.name_heads(rows({1: ["mover"] * 2, 2: ["mover"] * 2}), 0.5)
    table = components.in_circuits(table, graph, Circuit("eap", edges, None))
    assert table["in_circuit"].tolist() == [True, False]
    assert components.heads_of(table, "mover") == [(1, 0), (2, 0)]


# Ablations


def test_ablating_heads_is_zeroing_their_slice_of_the_output_matrixs_input(
    model: LanguageModel, prompts: list[Prompt]
) -> None:
    ids = model.batch([prompts[0].ids])
    gone = {0: [1], 2: [0, 3]}
    with contextlib.ExitStack() as stack:
        for layer, heads in gone.items():
            module = reference.layers(reference.network(model))[layer]
            stack.enter_context(reference.heads_silenced(module, heads))
        expected = reference.logits(reference.network(model), ids)[:, -1]
    whole, found = logits_without(model.transformer, ids, [[], [(0, 1), (2, 0), (2, 3)]])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(whole, reference.logits(reference.network(model), ids)[:, -1])
    assert not torch.allclose(whole, found, atol=1e-3)


def test_answers_without_heads_are_those_of_the_graph_without_their_nodes(
    model: LanguageModel, prompts: list[Prompt]
) -> None:
    graph = Graph.of(model.transformer.shape, "grouped")
    edges = graph.valid.copy()
    edges[[graph.head(1, 2), graph.head(2, 0)]] = False
    whole, found = answers_without(model, prompts, [[], [(1, 2), (2, 0)]])
    if model.transformer.blocks[0].post1 is None:
        expected = [one.p for one in circuit_answers(model, graph, edges, prompts)]
    else:  # evaluated, a circuit loses the edges into dead heads, too, and with them these heads' part of the scale
        rows = [run_circuit(model.transformer, graph, edges, model.batch([prompt.ids]))[0] for prompt in prompts]
        expected = [float(row.softmax(-1)[prompt.answer[0]]) for row, prompt in zip(rows, prompts, strict=True)]
    assert [one.p for one in found] == pytest.approx(expected)
    assert [one.p for one in whole] == pytest.approx([one.p for one in answer_prompts(model, prompts)])


def test_random_heads_are_others_of_the_same_layers() -> None:
    chosen = [(1, 0), (1, 2), (3, 3)]
    drawn = {tuple(sorted(random_heads(4, chosen, seed))) for seed in range(20)}
    assert all([layer for layer, _ in one] == [1, 1, 3] for one in drawn)
    assert not any(head in one for one in drawn for head in chosen)
    assert len(drawn) > 1
    assert len(set(random_heads(4, [(0, head) for head in range(3)], seed=0))) == 3  # only one other is left
    avoided = [(1, 1), (1, 2), (3, 0), (3, 1), (3, 2)]
    assert {(1, 3)} == {head for seed in range(9) for head in random_heads(4, [(1, 0)], seed, avoided)}
    assert {head for seed in range(20) for head in random_heads(4, [(3, 3)], seed, avoided)} == set(avoided[2:])


def test_a_roles_row_compares_its_heads_with_random_ones(model: LanguageModel, prompts: list[Prompt]) -> None:
    settings = components.RoleSettings(LIMITS, 0.5, hits=5, seeds=(1, 2))
    heads = [(1, 0), (2, 3)]
    (row,) = components.ablation_rows(model, RELATION, prompts, {"mover": heads, "relation": []}, settings)
    sets = [[], heads, *(random_heads(4, heads, seed) for seed in (1, 2))]
    whole, without, *chance = answers_without(model, prompts, sets)
    assert (row["role"], row["heads"], row["n_heads"], row["n"]) == ("mover", "a1.h0, a2.h3", 2, 4)
    assert row["p_original"] == pytest.approx(np.mean([one.p for one in whole]))
    assert row["p_ablated"] == pytest.approx(np.mean([one.p for one in without]))
    assert row["p_random"] == pytest.approx(np.mean([one.p for each in chance for one in each]))
    assert row["ablated"] == np.mean([one.rank < 5 for one in without])
    assert set(row) == set(components.ABLATED)


def test_the_token_figure_shows_the_likeliest_tokens_with_and_without_heads(
    model: LanguageModel, prompts: list[Prompt]
) -> None:
    context = components.context_of(model, RELATION, prompts[0])
    table = pd.DataFrame(components.token_rows(model, prompts[0], context, Thresholds(0.0, 200)))
    assert table.groupby("run").size().to_dict() == {"original": 10, "mover": 10, "relation": 10}
    p = reference.logits(reference.network(model), model.batch([prompts[0].ids]))[0, -1].softmax(-1)
    original = table[table["run"] == "original"]
    assert original["probability"].tolist() == pytest.approx(p.topk(10).values.tolist())
    assert original["p_answer"].iloc[0] == pytest.approx(float(p[prompts[0].answer[0]]))
    mover, _ = find_head(read_heads(model, prompts[0], context), "mover", Thresholds(0.0, 200))
    (without,) = logits_without(model.transformer, model.batch([prompts[0].ids]), [[(mover.layer, mover.head)]])
    shown = table[table["run"] == "mover"]
    assert set(shown["head"]) == {mover.name}
    assert shown["probability"].tolist() == pytest.approx(without[0].softmax(-1).topk(10).values.tolist())


# The answer, step by step


def test_steps_are_the_stream_after_attention_and_after_the_mlp(model: LanguageModel, prompts: list[Prompt]) -> None:
    network, prompt = model.transformer, prompts[3]
    last, token = len(prompt.ids) - 1, prompt.answer[0]
    (found,) = step_ranks(model, [prompt], [{"answer": token}], [{"last": last, "subject": prompt.subject_last}])
    streams = list(network.stream(model.batch([prompt.ids])))
    for place, position in (("last", last), ("subject", prompt.subject_last)):
        logits = [network.unembed(x[0, position]) for x in streams]
        assert found["answer", place][::2].tolist() == [int((one > one[token]).sum()) + 1 for one in logits]
        middle = network.unembed((streams[1] + network.attend(1, streams[1]))[0, position])
        assert found["answer", place][3] == int((middle > middle[token]).sum()) + 1


def test_contests_count_the_rivals_below_the_answer(model: LanguageModel, prompts: list[Prompt]) -> None:
    rivals = [answer_tokens(model.text, fact.object)[0] for fact in FACTS[1:]]
    places = {"last": len(prompts[0].ids) - 1}
    (found,) = step_contests(model, prompts[:1], [rivals], [places])
    tokens = {"answer": prompts[0].answer[0], **{str(token): token for token in rivals}}
    (ranks,) = step_ranks(model, prompts[:1], [tokens], [places])
    own, below = found["last"]
    assert own.tolist() == ranks["answer", "last"].tolist()
    expected = np.mean([ranks[str(token), "last"] > own for token in rivals], axis=0)
    assert below == pytest.approx(expected)


def test_rank_drops_add_up_to_the_whole_way(model: LanguageModel, prompts: list[Prompt]) -> None:
    table = fact_rows(model, RELATION, prompts, [fact.subject for fact in FACTS], seed=0)
    for _, part in table.groupby(["subject", "position"]):
        total = np.log10(part["rank"].iloc[0]) - np.log10(part["rank"].iloc[-1])
        assert part["rank_drop_attention"].sum() + part["rank_drop_mlp"].sum() == pytest.approx(total)
        for (_, low), (_, high) in pairwise(part.iterrows()):
            step = np.log10(low["rank"]) - np.log10(high["rank"])
            assert high["rank_drop_attention"] + high["rank_drop_mlp"] == pytest.approx(step)
    assert set(table["position"]) == {"subject", "last"}
    assert rank_drops(np.array([10, 1, 100]))["mlp"].tolist() == [-2.0]


def test_a_prompt_that_ends_with_its_subject_is_left_out(load_tiny: Loader) -> None:
    model = load_tiny("gpt2")
    ends = [
        fill(model.text, "the capital of {}", "Peru", "Lima"),
        fill(model.text, "the capital of {} is", "Italy", "Rome"),
    ]
    assert set(fact_rows(model, RELATION, ends, ["Peru", "Italy"], seed=0)["subject"]) == {"Italy"}


def test_averages_weigh_relations_alike_and_ranks_geometrically() -> None:
    ranks = pd.DataFrame(
        [
            {"relation": r, "category": c, "subject": s, "position": "last", "layer": 0, "rank": rank}
            for r, c, s, rank in (("a", "x", "1", 1), ("a", "x", "2", 100), ("b", "y", "3", 1000))
        ]
    ).assign(rank_drop_attention=0.5, rank_drop_mlp=0.0, outranks=[0.0, 1.0, 1.0])
    table = average_ranks(ranks, "tiny").set_index("category")
    assert table.loc[ALL, "rank"] == pytest.approx(100.0)  # orders of magnitude: (1 + 3) / 2
    assert table.loc["x", "rank"] == pytest.approx(10.0)
    assert table.loc[ALL, "outranks"] == pytest.approx(0.75)
    assert table.loc[ALL, ["n", "n_relations"]].tolist() == [3, 2]
    assert table.loc[ALL, "rank_low"] <= 100 <= table.loc[ALL, "rank_high"]
