"""The controls of ROME's appendix B: what noise is drawn, from which embeddings, and how token roles are pooled.

What the reference code does is computed here from its formulas.
"""

import logging
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from knowcirc.facts.known1000 import usable_table
from knowcirc.facts.prompts import Prompt, token_roles, tokenise
from knowcirc.models.loading import LanguageModel
from knowcirc.tracing.averages import causal_effects, settings_of
from knowcirc.tracing.causal import TraceSettings, corrupt
from knowcirc.tracing.noise import Sample, noise_like_embeddings, sample_of
from knowcirc.tracing.selection import facts_to_trace, subjects_of
from knowcirc.tracing.settings import DISTRIBUTIONS

TRACING = {
    **{"draws": 3, "window": 2, "noise_seed": 1, "severed": [], "extra": 0, "noise_from": "prompts"},
    **{"distribution": "gaussian", "noise_multiplier": 3.0, "facts": 4},
}
SHOWN = ("France", "Italy")
LEFT_OUT = ("New Zealand", "Papua New Guinea")


@pytest.fixture
def prompt(model: LanguageModel) -> Prompt:
    return tokenise(model.text, "the capital of New Zealand is in", "Wellington", "New Zealand")


def of_code(distribution: str, seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """The numbers that the reference draws before it scales them."""
    random = np.random.RandomState(seed)
    return random.uniform(-1, 1, shape) if distribution == "uniform" else random.randn(*shape)


@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("seed", [1, 5])
def test_noise_of_each_kind_is_that_of_its_formula(
    model: LanguageModel, prompt: Prompt, distribution: Any, seed: int, extra: int
) -> None:
    fitted_to, level = tuple(range(50)), 2.5
    settings = TraceSettings(level, 4, 1, seed, distribution=distribution, extra=extra, fitted_to=fitted_to)
    embedded = model.transformer.embed(model.batch([prompt.ids]))
    low, high = 4, 6 + extra
    added = corrupt(model.transformer, embedded, (low, high), settings) - embedded
    unit = of_code(distribution, seed, (4, high - low, embedded.shape[-1]))
    if distribution == "multivariate":
        known = model.transformer.tokens(torch.arange(50)).numpy()
        values, vectors = np.linalg.eigh(np.cov(known, rowvar=False))
        scaled = known.mean(0) + level * unit @ (vectors @ np.diag(np.sqrt(values.clip(0))) @ vectors.T)
    else:
        scaled = level * unit
    np.testing.assert_allclose(added[:, low:high].numpy(), scaled, rtol=0, atol=1e-8)
    assert not added[:, :low].any()
    assert not added[:, high:].any()


def test_multivariate_noise_has_the_mean_and_covariance_that_the_codes_transform_has(model: LanguageModel) -> None:
    """ROME's map is V sqrt(S) of the covariance V S V', another root: its draws share the distribution alone."""
    known = model.transformer.tokens(torch.arange(60))
    zero = noise_like_embeddings(known, np.zeros((1, 1, known.shape[1])), 1.0)
    np.testing.assert_allclose(zero[0, 0], known.mean(0).numpy(), rtol=0, atol=1e-12)
    root = noise_like_embeddings(known, np.eye(known.shape[1])[None], 1.0)[0] - zero[0]
    _, s, v = torch.from_numpy(np.cov(known.numpy(), rowvar=False)).svd()
    of_rome = (s.sqrt()[None] * v).numpy()
    np.testing.assert_allclose(root.T @ root, of_rome @ of_rome.T, rtol=0, atol=1e-10)
    twice = noise_like_embeddings(known, np.eye(known.shape[1])[None], 2.0)[0] - zero[0]
    np.testing.assert_allclose(twice, 2 * root, rtol=0, atol=1e-12)


def test_few_tokens_span_what_noise_is_fitted_to_them(model: LanguageModel) -> None:
    known = model.transformer.tokens(torch.tensor([7, 9, 11]))
    drawn = noise_like_embeddings(known, np.random.RandomState(0).randn(1, 6, known.shape[1]), 1.0)[0]
    assert np.linalg.matrix_rank(drawn - known.mean(0).numpy(), tol=1e-8) == 2
    for tokens in ((), (7,)):
        with pytest.raises(ValueError, match=f"2 tokens or more, not of {len(tokens)}"):
            TraceSettings(1.0, 1, 1, 1, distribution="multivariate", fitted_to=tokens)


@pytest.mark.parametrize("multiplier", [1.0, 2.0, 3.0, 4.0, 5.0])
def test_noise_is_a_multiple_of_the_deviation_or_of_the_covariances_root(multiplier: float) -> None:
    sample = Sample((1, 2, 3), 0.125)
    for distribution in DISTRIBUTIONS:
        found = settings_of({**TRACING, "noise_multiplier": multiplier, "distribution": distribution}, sample)
        fitted = distribution == "multivariate"
        assert found.noise == multiplier * (1 if fitted else 0.125)
        assert found.fitted_to == (sample.tokens if fitted else ())
        assert found.distribution == distribution


def usable(model: LanguageModel) -> pd.DataFrame:
    """A table of facts that can be traced."""
    rows = [(i, "P0", name, f"the capital of {name} is in", "Paris", 0.5) for i, name in enumerate(SHOWN)]
    return pd.DataFrame(rows, columns=list(usable_table([])))


def test_the_level_of_all_subjects_is_the_codes_and_the_level_of_prompts_is_not(model: LanguageModel) -> None:
    """The code embeds every subject of the file by itself, and takes `std` of all entries, divided by n - 1."""
    tracing = {**TRACING, "source": "known_1000"}
    table = model.transformer.tokens(torch.arange(101))

    def level(names: tuple[str, ...], correction: int) -> float:
        rows = [table[model.text.encode(name, add_special_tokens=False).ids] for name in names]
        return float(torch.cat(rows).std(correction=correction))

    of_code = facts_to_trace(model, usable(model), {**tracing, "noise_from": "subjects"}, 0, LEFT_OUT).sample
    assert of_code.deviation == pytest.approx(level((*SHOWN, *LEFT_OUT), 1), rel=1e-12)
    ours = facts_to_trace(model, usable(model), tracing, 0, LEFT_OUT).sample
    assert ours.deviation == pytest.approx(level(SHOWN, 0), rel=1e-12)
    assert len(of_code.tokens) == len(ours.tokens) + 5
    with pytest.raises(ValueError, match=r"tracing\.noise_from: subjects: 1 tokens; 2 or more"):
        sample_of(model, [], ("France",), "subjects")


def test_subjects_that_were_left_out_are_read_from_their_tables(tmp_path: Any) -> None:
    pd.DataFrame({"subject": ["None", "nan"], "reason": ["x", "y"]}).to_csv(tmp_path / "left_out.csv", index=False)
    assert subjects_of([str(tmp_path / "left_out.csv")]) == ["None", "nan"]
    assert subjects_of([]) == []


def test_facts_without_tokens_to_corrupt_behind_their_subject_are_not_drawn(
    model: LanguageModel, caplog: pytest.LogCaptureFixture
) -> None:
    facts = usable(model)
    facts.loc[0, "prompt"] = "the capital of France"
    tracing = {**TRACING, "source": "known_1000", "facts": 2}
    whole = facts_to_trace(model, facts, tracing, 0)
    assert len(whole.rows) == 2
    with caplog.at_level(logging.WARNING):
        fitting = facts_to_trace(model, facts, {**tracing, "extra": 1}, 0)
    assert fitting.rows["subject"].tolist() == ["Italy"]
    assert fitting.sample == whole.sample
    assert "left out, with fewer than 1 tokens after the subject: France" in caplog.text
    with pytest.raises(ValueError, match=r"tracing\.extra: no known fact has 3 tokens after its subject"):
        facts_to_trace(model, facts, {**tracing, "extra": 3}, 0)


LAYERS = 3
FACTS = {  # length, subject, in tokens
    "ordinary": (9, (1, 5)),
    "one token": (6, (2, 3)),
    "one behind": (5, (1, 4)),
    "long": (12, (0, 2)),
}


def scores() -> dict[str, tuple[np.ndarray, float, float]]:
    """Made-up probabilities of each fact: restored (layer x position), corrupted, clean."""
    random = np.random.RandomState(3)
    return {name: (random.rand(LAYERS, length), random.rand() / 2, 0.9) for name, (length, _) in FACTS.items()}


def as_traces() -> pd.DataFrame:
    """The same as rows of traces."""
    rows: list[dict[str, object]] = []
    for case, (name, (restored, corrupted, clean)) in enumerate(scores().items()):
        length, span = FACTS[name]
        roles = token_roles(length, span)
        shared = {"case": case, "p_corrupted": corrupted, "p_clean": clean}
        total = {"kind": "total", "layer": -1, "position": -1, "effect": clean - corrupted, "in_subject": False}
        rows.append({**shared, **total, "role": None})
        for layer, position in np.ndindex(*restored.shape):
            effect = restored[layer, position] - corrupted
            place = {"kind": "state", "layer": layer, "position": position, "effect": effect}
            rows.append({**shared, **place, "role": roles[position], "in_subject": span[0] <= position < span[1]})
    return pd.DataFrame(rows)


def pooled_by_the_code() -> dict[str, np.ndarray]:
    """Effects of each role by layer, as the notebook of average effects pools the tokens of all facts."""
    found: dict[str, list[np.ndarray]] = {}
    for name, (restored, _, _) in scores().items():
        length, (first, end) = FACTS[name]
        last_of_subject, last = end - 1, length - 1
        found.setdefault("subject_first", []).append(restored[:, first])
        found.setdefault("subject_middle", []).extend(restored[:, at] for at in range(first + 1, last_of_subject))
        found.setdefault("subject_last", []).append(restored[:, last_of_subject])
        found.setdefault("first_subsequent", []).append(restored[:, end])
        found.setdefault("further", []).extend(restored[:, at] for at in range(end + 1, last))
        found.setdefault("last", []).append(restored[:, last])
    low = np.mean([corrupted for _, corrupted, _ in scores().values()])
    return {role: np.mean(values, 0) - low for role, values in found.items()}


def by_role(table: pd.DataFrame) -> dict[str, np.ndarray]:
    sites = table[table["kind"] == "state"]
    return {str(role): part.sort_values("layer")["effect"].to_numpy() for role, part in sites.groupby("role")}


def test_pooled_tokens_are_averaged_as_in_the_codes_notebook() -> None:
    table = causal_effects(as_traces(), "tiny", "tokens")
    expected = pooled_by_the_code()
    found = by_role(table)
    assert set(found) == set(expected)
    for role, effects in expected.items():
        np.testing.assert_allclose(found[role], effects, rtol=0, atol=1e-12, err_msg=role)
    counts = table.drop_duplicates("role").set_index("role")["n"]
    everywhere = ["subject_first", "subject_last", "first_subsequent", "last"]
    assert counts[everywhere].tolist() == [4, 4, 4, 4]  # the one-token subject is first and last
    assert counts[["subject_middle", "further"]].tolist() == [2, 3]
    assert table["effect"].between(table["effect_low"], table["effect_high"]).all()
    sites = table[table["kind"] == "state"]
    assert (sites["effect_high"] - sites["effect_low"]).min() > 0


def test_facts_weigh_alike_by_default() -> None:
    table, plain = causal_effects(as_traces(), "tiny", "facts"), scores()
    pd.testing.assert_frame_equal(table, causal_effects(as_traces(), "tiny"))
    found = by_role(table)
    middle = [restored[:, 2:4].mean(1) - low for restored, low, _ in [plain["ordinary"]]]
    middle += [restored[:, 2:3].mean(1) - low for restored, low, _ in [plain["one behind"]]]
    np.testing.assert_allclose(found["subject_middle"], np.mean(middle, 0), rtol=0, atol=1e-12)
    first = [restored[:, FACTS[name][1][0]] - low for name, (restored, low, _) in plain.items() if name != "one token"]
    np.testing.assert_allclose(found["subject_first"], np.mean(first, 0), rtol=0, atol=1e-12)
    tokens = causal_effects(as_traces(), "tiny", "tokens")
    assert not np.allclose(found["further"], by_role(tokens)["further"])
    totals = [one.loc[one["kind"] == "total", ["effect", "effect_low", "effect_high", "n"]] for one in (table, tokens)]
    np.testing.assert_array_equal(*(total.to_numpy(dtype=float) for total in totals))
