"""Ranks: ties count against the token, whoever asks; logits that cannot be compared stop with the prompt's name."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from knowcirc.circuits.discovery import Circuit, attribute
from knowcirc.circuits.evaluation import circuit_answers, hits, patched_measures
from knowcirc.circuits.graph import Graph
from knowcirc.commands.editing import read_target
from knowcirc.edited.views import read_view
from knowcirc.editing.edits import Material, Request
from knowcirc.editing.evaluation import read_said
from knowcirc.editing.making import make_edit
from knowcirc.editing.sampling import sample
from knowcirc.facts.knowledge import Answer, answer_prompts, read_answers
from knowcirc.facts.prompts import Prompt, tokenise
from knowcirc.facts.ranking import check_finite, token_ranks
from knowcirc.models.loading import LanguageModel
from knowcirc.reading.ablation import answers_without, next_tokens
from knowcirc.reading.heads import Context, read_heads
from knowcirc.reading.lens import step_contests, step_ranks, token_curve
from knowcirc.tracing.causal import TraceSettings, trace_fact
from knowcirc.tracing.saliency import saliency
from unit.tiny import VOCAB

NOTHING = Material(lambda _: pytest.fail("no moments"), list)
TEXT = "the capital of Peru is"


@pytest.fixture
def prompt(editable: LanguageModel) -> Prompt:
    """A prompt with a subject and an answer."""
    return tokenise(editable.text, TEXT, "Lima", "Peru")


def silence(model: LanguageModel) -> LanguageModel:
    """Make the model say nothing: every token has the same logit at every layer."""
    for name, parameter in model.weights.items():
        if "lm_head" in name or "wte" in name or "embed" in name:
            parameter.zero_()
    return model


def _ask(answer: int) -> Prompt:
    return Prompt("a prompt", (1, 2), None, "x", (answer,))


def test_other_tokens_with_the_same_logit_come_first() -> None:
    logits = torch.tensor([[2.0, 1.0, 2.0, 0.0, 1.0]])
    assert [int(token_ranks(logits, token, "")) for token in range(5)] == [1, 3, 1, 4, 3]


def test_ranks_are_asked_row_by_row_or_of_one_token_for_all() -> None:
    logits = torch.tensor([[[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]]])
    assert token_ranks(logits, torch.tensor([[0, 0]]), "").tolist() == [[0, 2]]
    assert token_ranks(logits, 1, "").tolist() == [[1, 1]]


def test_logits_far_below_are_told_apart_where_their_probabilities_are_both_zero() -> None:
    logits = torch.tensor([[0.0, -2000.0, -3000.0]])
    assert logits.double().softmax(-1)[0, 1:].tolist() == [0.0, 0.0]
    assert [read_answers(logits, [_ask(token)])[0].rank for token in range(3)] == [0, 1, 2]


def test_the_answer_is_on_top_exactly_where_its_rank_is_zero() -> None:
    logits = torch.tensor([[5.0, 5.0, 1.0]])
    first, second, last = (read_answers(logits, [_ask(token)])[0] for token in range(3))
    assert (first.rank, first.top, second.rank, second.top) == (1, 1, 1, 0)
    assert (last.rank, last.top) == (2, 0)
    assert first.p_top == pytest.approx(first.p)
    alone = read_answers(torch.tensor([[1.0, 5.0, 3.0]]), [_ask(1)])[0]
    assert (alone.rank, alone.top, alone.p_top) == (0, 1, alone.p)


def test_a_model_that_says_nothing_hits_nothing_by_any_measure(editable: LanguageModel, prompt: Prompt) -> None:
    model, worst = silence(editable), VOCAB - 1
    graph = Graph.of(model.transformer.shape, "grouped")
    last = {"last": len(prompt.ids) - 1}
    answers: list[Answer] = [
        *answer_prompts(model, [prompt]),
        *circuit_answers(model, graph, graph.valid, [prompt]),
        *answers_without(model, [prompt], [[(0, 0)]])[0],
    ]
    assert [one.rank for one in answers] == [worst] * 3
    assert hits(answers, VOCAB - 1) == [False] * 3
    (ranks,) = step_ranks(model, [prompt], [{"answer": prompt.answer[0]}], [last])
    assert set(ranks["answer", "last"].tolist()) == {VOCAB}
    (contest,) = step_contests(model, [prompt], [(1, 2, 3)], [last])
    assert set(contest["last"][0].tolist()) == {VOCAB}
    assert set(contest["last"][1].tolist()) == {0.0}
    assert {rank for rank, _ in token_curve(model, prompt, prompt.answer[0], last["last"])} == {VOCAB}
    for reading in read_heads(model, prompt, Context((), frozenset({2, 3}))):
        assert (reading.rank, reading.kind_rank) == (worst, worst)
    found = read_view(model, lambda *_: Circuit("random", graph.valid, None), "request", "none", prompt, 3)
    assert (found.old.rank, found.new.rank, set(found.new_ranks.values())) == (worst, worst, {worst})
    assert [said.share for said in read_said(model, [(TEXT, "Lima"), (TEXT, "is")])] == [0.0, 0.0]
    assert read_target(model, Request(prompt, None, prompt.answer)) == (pytest.approx(1 / VOCAB), False)


@pytest.mark.parametrize(
    "ask",
    [
        lambda model, prompt: answer_prompts(model, [prompt]),
        lambda model, prompt: circuit_answers(
            model, graph := Graph.of(model.transformer.shape, "grouped"), graph.valid, [prompt]
        ),
        lambda model, prompt: answers_without(model, [prompt], [[]]),
        lambda model, prompt: next_tokens(model, prompt, [[]]),
        lambda model, prompt: step_ranks(model, [prompt], [{"answer": 3}], [{"last": 1}]),
        lambda model, prompt: step_contests(model, [prompt], [(1,)], [{"last": 1}]),
        lambda model, prompt: token_curve(model, prompt, 3, 1),
        lambda model, prompt: read_heads(model, prompt),
        lambda model, prompt: read_said(model, [(TEXT, "Lima")]),
        lambda model, prompt: read_target(model, Request(prompt, None, prompt.answer)),
        lambda model, prompt: patched_measures(
            model, graph := Graph.of(model.transformer.shape, "grouped"), [graph.valid], [prompt] * 2, [(0, 1)]
        ),
    ],
)
def test_whoever_ranks_stops_at_what_is_not_finite_and_names_the_prompt(
    editable: LanguageModel, prompt: Prompt, ask: Callable[[LanguageModel, Prompt], object]
) -> None:
    editable.transformer.unembedding[7, 0] = torch.nan
    with pytest.raises(ValueError, match=rf"prompt '{TEXT}': .* not finite .*; compute in float32 or float64"):
        ask(editable, prompt)


@pytest.mark.parametrize(
    "ask",
    [
        lambda model, prompt: trace_fact(model, prompt, TraceSettings(0.1, 1, 1, 0)),
        lambda model, prompt: list(saliency(model, prompt, "zero", TraceSettings(0.1, 1, 1, 0), steps=2)),
        lambda model, prompt: make_edit("kn", model, Request(prompt, None, prompt.answer), {}, NOTHING),
        lambda model, prompt: sample(model, torch.tensor([prompt.ids]), 2, seed=0),
        lambda model, prompt: attribute(model, Graph.of(model.transformer.shape, "grouped"), [prompt], [None], "eap"),
    ],
)
def test_other_readings_stop_there_too(
    editable: LanguageModel, prompt: Prompt, ask: Callable[[LanguageModel, Prompt], object]
) -> None:
    editable.transformer.unembedding[7, 0] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        ask(editable, prompt)


@pytest.mark.parametrize("editor", ["ft", "ft-m"])
def test_an_edit_that_is_not_finite_is_refused(editable: LanguageModel, prompt: Prompt, editor: str) -> None:
    settings: dict[str, object] = {"layer": 1, "learning_rate": 1e308, "steps": 3, "stop_loss": 0.0}
    with pytest.raises(ValueError, match=f"{editor} gave weights that are not finite; lower its learning rate"):
        make_edit(editor, editable, Request(prompt, None, (7,)), settings, NOTHING)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_was_found_is_said(value: float) -> None:
    logits = torch.zeros(2, 3, dtype=torch.float16)
    check_finite(logits, "a prompt")
    logits[1, 2] = value
    with pytest.raises(
        ValueError, match=rf"'a prompt': 1 of 6 logits .* \(the first is {value}\), computed in float16"
    ):
        check_finite(logits, "a prompt")


def test_prompts_of_a_batch_are_told_apart() -> None:
    logits = torch.tensor([[1.0, 2.0], [1.0, float("nan")]])
    with pytest.raises(ValueError, match="prompt 'the second'"):
        read_answers(logits, [_ask(0), replace(_ask(0), text="the second")])
