"""Causal tracing against plain restored runs of the network, one site and one draw at a time."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from knowcirc.facts.prompts import Prompt, tokenise
from knowcirc.models.loading import LanguageModel, load
from knowcirc.tracing.causal import KINDS, SEVERED, Kind, TraceSettings, embedding_deviation, tabulate, trace_fact
from plain_tracing import PlainTracing
from unit import reference

pytestmark = pytest.mark.many(1, one_in=3)

ALL = (*KINDS, *SEVERED)
SETTINGS = TraceSettings(noise=0.7, draws=2, window=2, seed=1, kinds=ALL)


@pytest.fixture
def prompt(model: LanguageModel) -> Prompt:
    return tokenise(model.text, "the capital of New Zealand is in", "Wellington", "New Zealand")


def assert_plain(model: LanguageModel, prompt: Prompt, settings: TraceSettings) -> None:
    """The trace has the probabilities and effects of plain runs."""
    trace, plain = trace_fact(model, prompt, settings), PlainTracing(model, prompt, settings)
    assert trace.p_clean == pytest.approx(plain.p(), abs=1e-10)
    assert trace.p_corrupted == pytest.approx(np.mean([plain.p(noise) for noise in plain.noise()]), abs=1e-10)
    assert list(trace.effects) == list(settings.kinds)
    for kind in settings.kinds:
        expected = plain.all_effects(kind)
        np.testing.assert_allclose(trace.effects[kind], expected, rtol=0, atol=1e-10)
        assert np.abs(expected).max() > 1e-5


def test_every_kind_is_known() -> None:
    assert get_args(Kind) == ALL


@pytest.mark.parametrize("window", [1, 2, 10])
def test_effects_are_those_of_plain_restored_runs(model: LanguageModel, prompt: Prompt, window: int) -> None:
    assert_plain(model, prompt, replace(SETTINGS, window=window))


@pytest.mark.parametrize("kind", ALL)
def test_a_kind_alone_has_the_effects_it_has_among_others(model: LanguageModel, prompt: Prompt, kind: Kind) -> None:
    alone = trace_fact(model, prompt, replace(SETTINGS, kinds=(kind,)))
    both = trace_fact(model, prompt, SETTINGS)
    assert list(alone.effects) == [kind]
    np.testing.assert_allclose(alone.effects[kind], both.effects[kind], rtol=0, atol=1e-12)


def test_uniform_noise_is_that_of_plain_runs(model: LanguageModel, prompt: Prompt) -> None:
    settings = replace(SETTINGS, distribution="uniform")
    assert_plain(model, prompt, settings)
    assert trace_fact(model, prompt, settings).p_corrupted != trace_fact(model, prompt, SETTINGS).p_corrupted


def test_multivariate_noise_is_that_of_plain_runs(model: LanguageModel, prompt: Prompt) -> None:
    assert_plain(model, prompt, replace(SETTINGS, distribution="multivariate", fitted_to=tuple(range(60)), extra=1))


@pytest.mark.parametrize("extra", [1, 2])
def test_further_corrupted_tokens_are_those_of_plain_runs(model: LanguageModel, prompt: Prompt, extra: int) -> None:
    assert_plain(model, prompt, replace(SETTINGS, extra=extra))


def test_tokens_beyond_the_prompt_cannot_be_corrupted(model: LanguageModel, prompt: Prompt) -> None:
    with pytest.raises(ValueError, match="has 2 tokens after its subject; 3 are to be corrupted"):
        trace_fact(model, prompt, replace(SETTINGS, extra=3))


@pytest.mark.parametrize("fast", [False, True])
def test_float32_effects_stay_within_a_ten_thousandth(folders: dict, name: str, prompt: Prompt, *, fast: bool) -> None:
    single = trace_fact(load(folders[name], device="cpu", fast=fast), prompt, SETTINGS)
    double = trace_fact(load(folders[name], device="cpu", dtype="float64"), prompt, SETTINGS)
    for kind in ALL:
        np.testing.assert_allclose(single.effects[kind], double.effects[kind], rtol=0, atol=1e-4)


def test_half_precision_is_traced(folders: dict, name: str, prompt: Prompt) -> None:
    half = trace_fact(load(folders[name], device="cpu", dtype="bfloat16"), prompt, SETTINGS)
    double = trace_fact(load(folders[name], device="cpu", dtype="float64"), prompt, SETTINGS)
    assert half.p_clean == pytest.approx(double.p_clean, abs=0.05)


@pytest.mark.parametrize("memory", [1, 200_000])
def test_runs_in_parts_are_runs_in_one(model: LanguageModel, prompt: Prompt, memory: int) -> None:
    settings = replace(SETTINGS, draws=5)
    whole, parts = trace_fact(model, prompt, settings), trace_fact(model, prompt, settings, memory=memory)
    assert parts.p_corrupted == pytest.approx(whole.p_corrupted, abs=1e-12)
    for kind in ALL:
        np.testing.assert_allclose(parts.effects[kind], whole.effects[kind], rtol=0, atol=1e-12)


def test_severed_runs_may_be_kept_to_the_subjects_last_token(model: LanguageModel, prompt: Prompt) -> None:
    whole, kept = (trace_fact(model, prompt, replace(SETTINGS, severed_at=at)) for at in ("all", "subject_last"))
    here = prompt.subject_last
    for kind in SEVERED:
        np.testing.assert_allclose(kept.effects[kind][:, here], whole.effects[kind][:, here], rtol=0, atol=1e-12)
        assert np.isnan(np.delete(kept.effects[kind], here, axis=1)).all()
    np.testing.assert_allclose(kept.effects["state"], whole.effects["state"], rtol=0, atol=1e-12)
    rows = [row for row in tabulate(kept, [""] * len(prompt.ids)) if row["kind"] in SEVERED]
    assert [(row["kind"], row["layer"], row["position"]) for row in rows] == [
        (kind, layer, here) for kind in SEVERED for layer in range(3)
    ]


def test_nothing_is_severed_above_the_last_layer(model: LanguageModel, prompt: Prompt) -> None:
    trace = trace_fact(model, prompt, SETTINGS)
    for kind in SEVERED:
        np.testing.assert_allclose(trace.effects[kind][-1], trace.effects["state"][-1], rtol=0, atol=1e-12)


def test_restoring_everything_gives_the_clean_probability(model: LanguageModel) -> None:
    """With one corrupted token as the whole prompt, its embedding's layer restores all."""
    one = Prompt("France", (9,), (0, 1), "French", (16,))
    trace = trace_fact(model, one, SETTINGS)
    np.testing.assert_allclose(trace.effects["state"], trace.total, rtol=0, atol=1e-12)
    assert abs(trace.total) > 1e-5


def test_no_noise_gives_no_effect(model: LanguageModel, prompt: Prompt) -> None:
    trace = trace_fact(model, prompt, replace(SETTINGS, noise=0.0))
    assert abs(trace.total) < 1e-12
    for kind in ALL:
        assert np.abs(trace.effects[kind]).max() < 1e-12


def test_restoring_the_last_state_is_the_whole_effect(model: LanguageModel, prompt: Prompt) -> None:
    trace = trace_fact(model, prompt, SETTINGS)
    assert trace.effects["state"][-1, -1] == pytest.approx(trace.total, abs=1e-12)
    assert np.abs(trace.effects["state"][-1, :-1]).max() < 1e-12


def test_positions_before_the_subject_have_no_effect(model: LanguageModel, prompt: Prompt) -> None:
    trace = trace_fact(model, prompt, SETTINGS)
    assert prompt.span is not None
    for kind in ALL:
        assert not trace.effects[kind][:, : prompt.span[0]].any()
        assert trace.effects[kind][:, prompt.span[0] :].any()


def test_a_subject_at_the_end_of_its_prompt_is_traced(model: LanguageModel) -> None:
    prompt = tokenise(model.text, "the capital of Peru", "Lima", "Peru")
    trace = trace_fact(model, prompt, SETTINGS)
    assert trace.effects["state"][-1, -1] == pytest.approx(trace.total, abs=1e-12)


def test_noise_starts_anew_for_each_fact_and_follows_the_seed(model: LanguageModel, prompt: Prompt) -> None:
    first = trace_fact(model, prompt, SETTINGS)
    other = trace_fact(model, prompt, replace(SETTINGS, seed=2))
    again = trace_fact(model, prompt, SETTINGS)
    assert first.p_corrupted == again.p_corrupted != other.p_corrupted
    np.testing.assert_array_equal(first.effects["mlp"], again.effects["mlp"])


def test_the_deviation_is_one_number_over_all_subject_tokens(model: LanguageModel, prompt: Prompt) -> None:
    other = tokenise(model.text, "people in France speak", "French", "France")
    nameless = tokenise(model.text, "people speak", "French")
    table = reference.embedding(reference.network(model))
    tokens = [*model.text.encode("New Zealand France", add_special_tokens=False).ids]
    expected = float(np.std(table(torch.tensor(tokens)).numpy()))
    assert embedding_deviation(model, [prompt, other, nameless]) == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="no prompt with a subject"):
        embedding_deviation(model, [nameless])


def test_a_prompt_without_a_subject_is_refused(model: LanguageModel) -> None:
    with pytest.raises(ValueError, match="has no subject to corrupt"):
        trace_fact(model, tokenise(model.text, "people speak", "French"), SETTINGS)


@pytest.mark.parametrize("wrong", [{"draws": 0}, {"window": 0}, {"noise": -1.0}, {"extra": -1}])
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="tracing: draws"):
        replace(SETTINGS, **wrong)  # type: ignore[arg-type]


def test_a_table_has_a_row_a_site_and_one_total(model: LanguageModel, prompt: Prompt) -> None:
    trace = trace_fact(model, prompt, SETTINGS)
    tokens = [f"t{position}" for position in range(len(prompt.ids))]
    rows = list(tabulate(trace, tokens))
    assert len(rows) == 1 + 5 * 3 * len(tokens)
    assert [row["effect"] for row in rows if row["kind"] == "total"] == [trace.total]
    found = {(row["kind"], row["layer"], row["position"]): row for row in rows}
    assert found["mlp", 1, 4]["effect"] == trace.effects["mlp"][1, 4]
    assert found["mlp", 1, 4]["token"] == "t4"
