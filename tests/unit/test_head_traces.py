"""Single heads restored, and another subject in place of noise, against plain runs with hooks."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import trace_counterfactuals
import trace_heads as trace_heads_script
from knowcirc.facts.prompts import Prompt, tokenise
from knowcirc.files import read_table, write_json, write_table
from knowcirc.models.loading import LanguageModel, weights_digest
from knowcirc.plots.counterfactual import counterfactual_trace
from knowcirc.plots.head_traces import head_trace
from knowcirc.tracing.averages import counterfactual_effects, trace_rows
from knowcirc.tracing.causal import KINDS, TraceSettings, check_other, trace_fact
from knowcirc.tracing.heads import MOST, head_averages, head_effects, head_rows, shown_heads, trace_heads
from knowcirc.tracing.other_subjects import other_subjects, replaced
from plain_tracing import PlainTracing

SETTINGS = TraceSettings(noise=0.7, draws=2, window=2, seed=1)
LAYERS, HEADS = 3, 4


@pytest.fixture
def prompt(model: LanguageModel) -> Prompt:
    return tokenise(model.text, "people in New Zealand speak", "English", "New Zealand")


@pytest.fixture
def other(model: LanguageModel) -> Prompt:
    return tokenise(model.text, "people in Papua Guinea speak", "Tok", "Papua Guinea")


def test_heads_are_those_of_plain_runs_under_noise(model: LanguageModel, prompt: Prompt) -> None:
    found, plain = trace_heads(model, prompt, SETTINGS), PlainTracing(model, prompt, SETTINGS)
    expected = plain.head_effects()
    np.testing.assert_allclose(found.effects, expected, rtol=0, atol=1e-10)
    assert np.abs(expected).max() > 1e-5
    assert found.total == pytest.approx(trace_fact(model, prompt, SETTINGS).total, abs=1e-12)


def test_heads_are_those_of_plain_runs_with_another_subject(
    model: LanguageModel, prompt: Prompt, other: Prompt
) -> None:
    plain = PlainTracing(model, prompt, SETTINGS, other)
    found = trace_heads(model, prompt, SETTINGS, other=other)
    expected = plain.head_effects()
    np.testing.assert_allclose(found.effects, expected, rtol=0, atol=1e-10)
    assert found.p_corrupted == pytest.approx(plain.p(other), abs=1e-12)
    part = trace_heads(model, prompt, SETTINGS, other=other, layers=(1, 2))
    assert part.layers == range(1, 2)
    np.testing.assert_allclose(part.effects, expected[1:2], rtol=0, atol=1e-10)
    with pytest.raises(ValueError, match=r"layers 1:4: the model has 0:3"):
        trace_heads(model, prompt, SETTINGS, layers=(1, 4))


@pytest.mark.parametrize("kind", ["state", "mlp", "attention", "severed_mlp", "severed_attention"])
def test_another_subject_has_the_effects_of_plain_runs(
    model: LanguageModel, prompt: Prompt, other: Prompt, kind: Any
) -> None:
    settings = TraceSettings(noise=0.7, draws=2, window=2, seed=1, kinds=(kind,))
    found, plain = trace_fact(model, prompt, settings, other=other), PlainTracing(model, prompt, settings, other)
    expected = plain.all_effects(kind)
    np.testing.assert_allclose(found.effects[kind], expected, rtol=0, atol=1e-10)
    assert np.abs(expected).max() > 1e-5
    assert found.p_corrupted == pytest.approx(plain.p(other), abs=1e-12)
    assert found.p_corrupted != pytest.approx(trace_fact(model, prompt, settings).p_corrupted, abs=1e-9)


def test_heads_in_parts_are_heads_in_one(model: LanguageModel, prompt: Prompt) -> None:
    whole, parts = trace_heads(model, prompt, SETTINGS), trace_heads(model, prompt, SETTINGS, memory=1)
    np.testing.assert_allclose(parts.effects, whole.effects, rtol=0, atol=1e-12)


def test_prompts_that_differ_elsewhere_are_refused(model: LanguageModel, prompt: Prompt) -> None:
    for text, said in (
        ("people in Spain speak", "take another subject, of as many tokens"),
        ("city in Papua Guinea speak", "differ outside the subject, at position 1"),
        (prompt.text, "has the same subject"),
    ):
        with pytest.raises(ValueError, match=said):
            check_other(prompt, tokenise(model.text, text, "Tok"))


def test_tokens_after_the_subject_are_asked_for_under_noise_alone(
    model: LanguageModel, prompt: Prompt, other: Prompt
) -> None:
    settings = replace(SETTINGS, extra=5)
    found, expected = (trace_heads(model, prompt, each, other=other) for each in (settings, SETTINGS))
    np.testing.assert_array_equal(found.effects, expected.effects)
    with pytest.raises(ValueError, match="has 1 tokens after its subject; 5 are to be corrupted"):
        trace_heads(model, prompt, settings)


def test_the_subject_alone_gives_way_where_it_stands(model: LanguageModel) -> None:
    twice = tokenise(model.text, "France and France speak", "French", "France", 0)
    found = replaced(model.text, twice, "France", "Italy", "Italian")
    assert found is not None
    assert (found.text, found.span) == ("Italy and France speak", twice.span)
    assert replaced(model.text, twice, "France", "New Zealand", "English") is None
    with pytest.raises(ValueError, match="its subject is not 'Spain'"):
        replaced(model.text, twice, "Spain", "Italy", "Italian")


def test_partners_have_another_answer_and_facts_without_one_are_named(
    model: LanguageModel, caplog: pytest.LogCaptureFixture
) -> None:
    names = {"Peru": "Spanish", "Chile": "Spanish", "Italy": "Italian", "New Zealand": "English"}
    facts = pd.DataFrame([{"relation": "r", "subject": name, "answer": text} for name, text in names.items()])
    facts.loc[len(facts)] = {"relation": "elsewhere", "subject": "France", "answer": "French"}
    prompts = [tokenise(model.text, f"people in {name} speak", text, name) for name, text in names.items()]
    with caplog.at_level(logging.WARNING):
        found = other_subjects(model.text, facts.head(4), prompts, facts, 5)
    assert {one.text: other.text for one, other in list(found.items())[:2]} == {
        "people in Peru speak": "people in Italy speak",
        "people in Chile speak": "people in Italy speak",
    }
    assert found[prompts[2]].text in ("people in Peru speak", "people in Chile speak")
    assert "as many tokens and another answer: New Zealand" in caplog.text
    assert found == other_subjects(model.text, facts.head(4), prompts, facts, 5)
    drawn = {other_subjects(model.text, facts.head(4), prompts, facts, seed)[prompts[2]].text for seed in range(20)}
    assert len(drawn) == 2


def traces(model: LanguageModel, prompt: Prompt, other: Prompt | None) -> pd.DataFrame:
    tokens = [str(token) for token in prompt.ids]
    return pd.DataFrame(trace_rows(trace_fact(model, prompt, SETTINGS, other=other), prompt, tokens))


def test_the_table_has_both_corruptions_of_the_same_facts(model: LanguageModel, prompt: Prompt, other: Prompt) -> None:
    noisy = pd.concat([traces(model, one, None).assign(case=case) for case, one in enumerate((other, prompt))])
    table = counterfactual_effects(traces(model, prompt, other).assign(case=1), noisy, "tiny")
    assert len(table) == 1 + 3 * LAYERS * 3  # roles: first and last of the subject, and the last token
    row = table[(table.kind == "mlp") & (table.role == "subject_last") & (table.layer == 1)].iloc[0]
    at = prompt.subject_last
    assert row["effect"] == pytest.approx(trace_fact(model, prompt, SETTINGS, other=other).effects["mlp"][1, at])
    assert row["noise"] == pytest.approx(trace_fact(model, prompt, SETTINGS).effects["mlp"][1, at])
    assert row["n"] == 1
    total = table[table.kind == "total"].iloc[0]
    assert total["effect"] == pytest.approx(trace_fact(model, prompt, SETTINGS, other=other).total)
    assert counterfactual_trace(table, "tiny", 2).axes


def test_heads_are_averaged_within_roles_first(model: LanguageModel, prompt: Prompt, other: Prompt) -> None:
    tokens = [f"t{position}" for position in range(len(prompt.ids))]
    found = [trace_heads(model, one, SETTINGS) for one in (prompt, other)]
    pairs = zip(found, (prompt, other), strict=True)
    frames = [pd.DataFrame(head_rows(trace, one, tokens)).assign(case=i) for i, (trace, one) in enumerate(pairs)]
    rows = pd.concat(frames)
    averages = head_averages(rows)
    chosen = (averages["layer"] == 1) & (averages["head"] == 2) & (averages["role"] == "subject_last")
    row = averages[chosen].iloc[0]
    assert row["effect"] == pytest.approx(np.mean([trace.effects[1, 2, prompt.subject_last] for trace in found]))
    assert row["n"] == 2
    assert len(averages) == 1 + 3 * LAYERS * HEADS
    table = head_effects(pd.concat([rows, rows.assign(layer=rows["layer"] + LAYERS, effect=9.0)]), "tiny")
    total = table[table["head"].isna()].iloc[0]
    assert total["n"] == 4
    assert table.groupby("role").size().tolist() == [MOST] * 3
    assert table["head"].tolist()[:2] == ["a3.h0", "a3.h1"]
    shown = shown_heads(rows, 1)
    assert set(shown["case"]) == {-1, 0}
    figure = head_trace(shown, "tiny", "noise")
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    best = averages[averages["kind"] == "head"].nlargest(1, "effect").iloc[0]
    assert f"a{best['layer']}.h{best['head']} {100 * best['effect']:.2g} pp" in titles[0]


def job(folders: dict[str, Path], folder: Path, name: str, **changes: object) -> Any:
    """A job of either rule on the facts of one relation."""
    held = folder / "model"
    shutil.copytree(folders["llama"], held, dirs_exist_ok=True)
    provenance = held / "provenance.json"
    write_json(provenance, {"weights_sha256": weights_digest(held)})
    about = {"relation": "language", "wording": "the language of {} is", "template": 1, "rank": 0}
    facts = {"France": "French", "New Zealand": "English", "Italy": "Italian"}
    rows = [{**about, "subject": subject, "object": text} for subject, text in facts.items()]
    write_table(folder / "known.parquet", pd.DataFrame(rows))
    tracing = {
        **{"source": "builtin", "template": 1, "relations": ["language"], "facts": 3, "draws": 2, "window": 2},
        **{"distribution": "gaussian", "noise_multiplier": 3.0, "noise_from": "prompts", "extra": 0, "noise_seed": 1},
        **{"severed": ["mlp"], "counterfactual": 2, "heads": {"facts": 2, "layers": [0, 1], "corruption": "noise"}},
        **changes,
    }
    return SimpleNamespace(
        input=SimpleNamespace(model=str(provenance), facts=[str(folder / "known.parquet")], left_out=[]),
        output=SimpleNamespace(traces=str(folder / f"{name}/parts/0.parquet")),
        params=SimpleNamespace(
            load_options={"dtype": "float32", "processing": "none"}, tracing=tracing, share=5, seed=0, code="code"
        ),
        wildcards=SimpleNamespace(part="0"),
    )


def test_jobs_trace_the_facts_that_they_are_asked_for(folders: dict[str, Path], tmp_path: Path) -> None:
    one = job(folders, tmp_path, "counterfactual")
    trace_counterfactuals.main(one)
    found = read_table(one.output.traces)
    assert set(found["subject"]) == {"France", "Italy"}  # none is as long as New Zealand
    assert set(found["kind"]) == {*KINDS, "total"}
    assert set(found.loc[found["subject"] == "Italy", "other"]) == {"the language of France is"}
    two = job(folders, tmp_path, "heads")
    trace_heads_script.main(two)
    heads = read_table(two.output.traces)
    assert heads["case"].nunique() == 2
    assert set(heads["layer"]) == {-1, 0, 1}
    assert (heads.groupby("case")["position"].max() == heads.groupby("case")["position"].nunique() - 2).all()
    changed = {"facts": 2, "layers": None, "corruption": "subject"}
    three = job(folders, tmp_path, "others", heads=changed)
    trace_heads_script.main(three)
    again = read_table(three.output.traces)
    assert set(again["subject"]) == {"France", "Italy"}
    assert len(again) == 2 * (1 + LAYERS * HEADS * 6)
