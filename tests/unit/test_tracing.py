"""Causal tracing against plain restored runs of the network, one site and one draw at a time."""

import contextlib

import numpy as np
import pytest
import torch
from torch import Tensor

from knowcirc.facts.prompts import Prompt, tokenise
from knowcirc.models.loading import LanguageModel
from knowcirc.tracing.causal import KINDS, Kind, TraceSettings, embedding_deviation, tabulate, trace_fact
from unit import reference

SETTINGS = TraceSettings(noise=0.7, draws=2, window=2, seed=1)


@pytest.fixture
def prompt(model: LanguageModel) -> Prompt:
    return tokenise(model.text, "the capital of New Zealand is in", "Wellington", "New Zealand")


def noise(prompt: Prompt, settings: TraceSettings) -> Tensor:
    """ROME's draw: RandomState(seed), draws x subject tokens x d_model."""
    assert prompt.span is not None
    low, high = prompt.span
    draws = np.random.RandomState(settings.seed).randn(settings.draws, high - low, 32)
    return torch.from_numpy(draws * settings.noise)


def plain_p(
    model: LanguageModel, prompt: Prompt, added: Tensor | None, *restored: tuple[str, int, int, Tensor]
) -> float:
    """The answer's probability in one forward pass with noise `added` and sites (kind, layer, position) restored."""
    modules = reference.layers(model.network)
    with contextlib.ExitStack() as stack:
        if added is not None:
            assert prompt.span is not None
            low, high = prompt.span

            def corrupt(x: Tensor) -> Tensor:
                x[0, low:high] += added
                return x

            stack.enter_context(reference.outputs_changed(reference.embedding(model.network), corrupt))
        for kind, layer, position, value in restored:
            module = modules[layer]
            site = {"state": module, "mlp": module.mlp, "attention": reference.attention(module)}[kind]

            def restore(x: Tensor, position: int = position, value: Tensor = value) -> Tensor:
                x[0, position] = value
                return x

            stack.enter_context(reference.outputs_changed(site, restore))
        logits = reference.logits(model.network, model.batch([prompt.ids]))
    return float(logits[0, -1].softmax(-1)[prompt.answer[0]])


def clean_outputs(model: LanguageModel, prompt: Prompt) -> dict[str, list[Tensor]]:
    """What each layer, MLP and attention gives in the clean run, by kind and layer."""
    modules = reference.layers(model.network)
    sites = {f"state{i}": layer for i, layer in enumerate(modules)}
    sites |= {f"mlp{i}": layer.mlp for i, layer in enumerate(modules)}
    sites |= {f"attention{i}": reference.attention(layer) for i, layer in enumerate(modules)}
    seen = reference.watch(model.network, model.batch([prompt.ids]), **sites)
    return {kind: [seen[f"{kind}{i}"][1][0] for i in range(len(modules))] for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("window", [1, 2, 10])
def test_effects_are_those_of_plain_restored_runs(
    model: LanguageModel, prompt: Prompt, kind: Kind, window: int
) -> None:
    settings = TraceSettings(noise=0.7, draws=2, window=window, seed=1, kinds=(kind,))
    trace = trace_fact(model, prompt, settings)
    clean = clean_outputs(model, prompt)[kind]
    rows = noise(prompt, settings)
    corrupted = np.mean([plain_p(model, prompt, row) for row in rows])
    assert trace.p_clean == pytest.approx(plain_p(model, prompt, None), abs=1e-9)
    assert trace.p_corrupted == pytest.approx(corrupted, abs=1e-9)
    n_layers, expected = 3, np.zeros((3, len(prompt.ids)))
    for layer in range(n_layers):
        span = range(max(0, layer - window // 2), min(n_layers, layer - (-window // 2)))
        for position in range(len(prompt.ids)):
            layers = [layer] if kind == "state" else span
            sites = [(kind, one, position, clean[one][position]) for one in layers]
            expected[layer, position] = np.mean([plain_p(model, prompt, row, *sites) for row in rows]) - corrupted
    assert set(trace.effects) == {kind}
    np.testing.assert_allclose(trace.effects[kind], expected, atol=1e-9)
    assert np.abs(expected).max() > 1e-5


def test_float32_effects_stay_within_a_ten_thousandth(folders: dict, name: str, prompt: Prompt) -> None:
    from knowcirc.models.loading import load

    single = trace_fact(load(folders[name], device="cpu"), prompt, SETTINGS)
    double = trace_fact(load(folders[name], device="cpu", dtype="float64"), prompt, SETTINGS)
    for kind in KINDS:
        np.testing.assert_allclose(single.effects[kind], double.effects[kind], atol=1e-4)


def test_no_noise_gives_no_effect(model: LanguageModel, prompt: Prompt) -> None:
    trace = trace_fact(model, prompt, TraceSettings(noise=0.0, draws=2, window=2, seed=1))
    assert abs(trace.total) < 1e-12
    for kind in KINDS:
        assert np.abs(trace.effects[kind]).max() < 1e-12


def test_restoring_the_last_state_is_the_whole_effect(model: LanguageModel, prompt: Prompt) -> None:
    trace = trace_fact(model, prompt, SETTINGS)
    assert trace.effects["state"][-1, -1] == pytest.approx(trace.total, abs=1e-12)
    assert np.abs(trace.effects["state"][-1, :-1]).max() < 1e-12


def test_positions_before_the_subject_have_no_effect(model: LanguageModel, prompt: Prompt) -> None:
    trace = trace_fact(model, prompt, SETTINGS)
    assert prompt.span is not None
    for kind in KINDS:
        assert not trace.effects[kind][:, : prompt.span[0]].any()
        assert trace.effects[kind][:, prompt.span[0] :].any()


def test_a_subject_at_the_end_of_its_prompt_is_traced(model: LanguageModel) -> None:
    prompt = tokenise(model.text, "the capital of Peru", "Lima", "Peru")
    trace = trace_fact(model, prompt, SETTINGS)
    assert trace.effects["state"][-1, -1] == pytest.approx(trace.total, abs=1e-12)


def test_noise_starts_anew_for_each_fact_and_follows_the_seed(model: LanguageModel, prompt: Prompt) -> None:
    first = trace_fact(model, prompt, SETTINGS)
    other = trace_fact(model, prompt, TraceSettings(noise=0.7, draws=2, window=2, seed=2))
    again = trace_fact(model, prompt, SETTINGS)
    assert first.p_corrupted == again.p_corrupted != other.p_corrupted
    np.testing.assert_array_equal(first.effects["mlp"], again.effects["mlp"])


def test_the_deviation_is_one_number_over_all_subject_tokens(model: LanguageModel, prompt: Prompt) -> None:
    other = tokenise(model.text, "people in France speak", "French", "France")
    nameless = tokenise(model.text, "people speak", "French")
    table = reference.embedding(model.network).weight
    tokens = [*model.text("New Zealand France", add_special_tokens=False)["input_ids"]]
    expected = float(np.std(table[tokens].numpy()))
    assert embedding_deviation(model, [prompt, other, nameless]) == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="no prompt with a subject"):
        embedding_deviation(model, [nameless])


def test_a_prompt_without_a_subject_is_refused(model: LanguageModel) -> None:
    with pytest.raises(ValueError, match="has no subject to corrupt"):
        trace_fact(model, tokenise(model.text, "people speak", "French"), SETTINGS)


@pytest.mark.parametrize("wrong", [{"draws": 0}, {"window": 0}, {"noise": -1.0}])
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    settings: dict[str, object] = {"noise": 0.5, "draws": 2, "window": 2, "seed": 1}
    with pytest.raises(ValueError, match="tracing: draws"):
        TraceSettings(**(settings | wrong))  # type: ignore[arg-type]


def test_a_table_has_a_row_a_site_and_one_total(model: LanguageModel, prompt: Prompt) -> None:
    trace = trace_fact(model, prompt, SETTINGS)
    tokens = [f"t{position}" for position in range(len(prompt.ids))]
    rows = list(tabulate(trace, tokens))
    assert len(rows) == 1 + 3 * 3 * len(tokens)
    assert [row["effect"] for row in rows if row["kind"] == "total"] == [trace.total]
    found = {(row["kind"], row["layer"], row["position"]): row for row in rows}
    assert found["mlp", 1, 4]["effect"] == trace.effects["mlp"][1, 4]
    assert found["mlp", 1, 4]["token"] == "t4"
