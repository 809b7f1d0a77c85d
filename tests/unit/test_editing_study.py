"""Editing many records: a row of scores each, weights left as they were, and the table over all editors."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor

from knowcirc.editing.editors import UNEDITED, OfModel, settings_before_sweep
from knowcirc.editing.edits import Material, applied, request
from knowcirc.editing.evaluation import fit_vectorizer, fluency_and_consistency, judge, question_scores, scores
from knowcirc.editing.making import make_edit
from knowcirc.editing.moments import moment_path, save_moment
from knowcirc.editing.scoring import (
    edit_question,
    edit_record,
    editing_scores,
    placed,
    question_table,
    read_material,
    read_records,
)
from knowcirc.facts.records import Record
from knowcirc.files import write_json
from knowcirc.models.loading import LanguageModel
from unit import reference

Loader = Callable[..., LanguageModel]
RECORD = Record(
    case="capital/Peru",
    relation="capital",
    subject="New Zealand",
    template="the capital of {} is",
    target_true="Wellington",
    target_new="Tok Pisin",
    paraphrases=("people in Peru. the capital of New Zealand is", "the city of New Zealand is"),
    neighbours=("the capital of Chile is", "the capital of Peru is"),
    generation=("New Zealand is", "people in New Zealand"),
    references=("the capital of Papua is Tok Pisin.", "people in Papua speak Tok Pisin."),
)
GENERATION = {"continuations": 2, "length": 6, "seed": 0}
SETTINGS: dict[str, dict[str, object]] = {
    "none": {},
    "rome": {"layer": 1, "steps": 15, "learning_rate": 0.3},
    "ft-m": {"layer": 1, "steps": 15, "learning_rate": 5e-3},
}


def material(model: LanguageModel) -> Material:
    size = model.transformer.shape.d_mlp
    draw = torch.randn(size, 2 * size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Material(lambda _: draw @ draw.T / size, lambda: [(40, 41, 42)])


def edited(
    model: LanguageModel, editor: str, *, record: Record = RECORD, generation: dict[str, int] | None = None
) -> dict[str, object]:
    vectorizer: TfidfVectorizer = fit_vectorizer([RECORD])
    given = material(model)
    return edit_record(model, record, editor, SETTINGS[editor], given, generation=generation, vectorizer=vectorizer)


def snapshot(model: LanguageModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in reference.network(model).state_dict().items()}


@pytest.mark.parametrize("editor", ["none", "rome", "ft-m"])
def test_a_record_is_judged_and_the_weights_are_as_before_to_the_bit(model: LanguageModel, editor: str) -> None:
    before = snapshot(model)
    row = edited(model, editor, generation=GENERATION)
    assert all(torch.equal(value, before[name]) for name, value in reference.network(model).state_dict().items())
    assert (row["case"], row["relation"]) == ("capital/Peru", "capital")
    assert (row["target_true"], row["target_new"]) == ("Wellington", "Tok Pisin")
    assert {"ES", "EM", "PS", "PM", "NS", "NM", "GE", "RS", "p_new", "p_true", "p_neighbour"} <= set(row)
    assert (row["seconds"] is None) == (editor == UNEDITED)


def test_the_unedited_row_is_the_model_as_it_is(model: LanguageModel) -> None:
    row, pairs = edited(model, UNEDITED), judge(model, RECORD)
    assert {name: row[name] for name in ("ES", "EM", "PS", "PM", "NS", "NM")} == pytest.approx(scores(pairs))
    assert row["p_new"] == pairs["request"][0].new
    assert row["p_true"] == pairs["request"][0].true
    assert row["p_neighbour"] == pytest.approx(np.mean([pair.true for pair in pairs["neighbourhood"]]))
    assert not [name for name in row if name.startswith("report_")]
    assert {"GE", "RS"}.isdisjoint(row)


@pytest.mark.parametrize("editor", ["rome", "ft-m"])
def test_an_edited_row_is_judged_under_the_edit(model: LanguageModel, editor: str) -> None:
    before, row = (edited(model, name, generation=GENERATION) for name in (UNEDITED, editor))
    requested = request(model, RECORD.template, RECORD.subject, RECORD.target_new)
    edit = make_edit(editor, model, requested, SETTINGS[editor], material(model))
    with applied(model, edit):
        pairs = judge(model, RECORD)
        text = fluency_and_consistency(model, RECORD, fit_vectorizer([RECORD]), **GENERATION)
    expected = {**scores(pairs), **text, **{f"report_{key}": value for key, value in edit.report.items()}}
    assert {name: row[name] for name in expected} == pytest.approx(expected)
    assert row["p_new"] == pytest.approx(pairs["request"][0].new)
    assert row["p_new"] > before["p_new"]  # type: ignore[operator]
    assert {name for name in ("EM", "PM", "NM", "p_true", "p_neighbour") if row[name] == before[name]} == set()
    assert float(str(row["seconds"])) > 0


@pytest.mark.parametrize("editor", ["none", "rome"])
def test_a_question_is_judged_under_its_own_edit(model: LanguageModel, editor: str) -> None:
    asked = replace(RECORD, target_true="", paraphrases=(), neighbours=(), question="people in New Zealand speak")
    asked = replace(asked, unrelated=(("the capital of Chile is?", "Lima"),))
    row = edit_question(model, asked, editor, SETTINGS.get(editor, {}), material(model))
    requested = request(model, RECORD.template, RECORD.subject, RECORD.target_new)
    edit = None if editor == UNEDITED else make_edit(editor, model, requested, SETTINGS[editor], material(model))
    with applied(model, edit):
        expected = question_scores(model, asked)
    assert row == {"case": "capital/Peru", "target_new": "Tok Pisin", **expected}


def test_a_record_without_references_has_no_consistency(load_tiny: Loader) -> None:
    row = edited(load_tiny("llama"), UNEDITED, record=replace(RECORD, references=()), generation=GENERATION)
    assert row["RS"] is None
    assert float(str(row["GE"])) > 0


def test_an_unknown_editor_is_refused(load_tiny: Loader) -> None:
    model = load_tiny("gpt2")
    with pytest.raises(ValueError, match="editor 'magic' is none of rome, rome-easyedit, r-rome"):
        edit_record(model, RECORD, "magic", {}, material(model), generation=None, vectorizer=fit_vectorizer([RECORD]))


def test_records_and_prefixes_come_back_from_their_file(tmp_path: Path) -> None:
    write_json(tmp_path / "records.json", {"records": [RECORD.as_json()] * 2, "prefixes": [[5, 6], [7]]})
    assert read_records(tmp_path / "records.json") == ([RECORD, RECORD], [(5, 6), (7,)])


def test_the_sweeps_records_stand_beside_the_others(tmp_path: Path) -> None:
    other = replace(RECORD, case="capital/Chile", unrelated=(("Peru is", "Lima"),))
    listed = {"records": [RECORD.as_json()], "sweep_records": [other.as_json()], "prefixes": []}
    write_json(tmp_path / "records.json", listed)
    assert read_records(tmp_path / "records.json", "sweep_records") == ([other], [])


def test_editors_are_placed_at_romes_layer_but_for_attention() -> None:
    chosen = {"layer": 3, "clamp": 2.0, "from": "sweep"}
    assert placed("rome", {"steps": 2}, chosen, 30) == {"steps": 2, "clamp": 2.0, "layer": 3}
    table = {**chosen, "from": "editors.tsv"}
    assert placed("r-rome", {}, chosen, 30)["clamp"] == 2.0  # what the sweep of ROME found
    assert placed("r-rome", {"clamp": 3.0}, chosen, 30)["clamp"] == 3.0  # given
    assert placed("r-rome", {"clamp": 3.0}, table, 30) == {"clamp": 3.0, "layer": 3}
    assert placed("memit", {"clamp": 0.75}, chosen, 30) == {"clamp": 0.75, "layer": 3}
    assert placed("attn-edit", {}, chosen, 30) == {"layer": 20}
    assert placed("ft-l", {"layer": 0}, chosen, 30) == {"layer": 0}  # the model's own
    assert placed(UNEDITED, {}, chosen, 30) == {}


@pytest.mark.parametrize("editor", ["rome", "r-rome", "rome-easyedit", "memit"])
def test_a_given_clamp_goes_before_the_sweeps_and_that_before_the_table_and_the_defaults(editor: str) -> None:
    swept, chosen = editor != "memit", {"layer": 3, "clamp": 2.0, "from": "sweep"}

    def clamp(of_model: OfModel, given: float | None, chosen: dict[str, object]) -> object:
        return placed(editor, settings_before_sweep(editor, of_model, {"clamp": given}), chosen, 30)["clamp"]

    own: OfModel = {editor: {"clamp": 1.5}}
    assert clamp({}, 3.0, chosen) == clamp(own, 3.0, chosen) == 3.0
    assert clamp({}, None, chosen) == (2.0 if swept else 0.75)
    assert clamp(own, None, chosen) == (2.0 if swept else 1.5)
    table: OfModel = {**own, "rome": {"layer": 3, **own.get("rome", {})}}
    found: dict[str, object] = {"layer": 3, "clamp": 4.0, "from": "editors.tsv"}
    assert clamp(table, None, found) == 1.5
    assert clamp(table, 3.0, found) == 3.0
    default = {"rome": {"layer": 3}}
    assert clamp(default, None, found) == (4.0 if swept else 0.75)


def test_scores_on_questions_are_means_of_records_that_have_one() -> None:
    frame = pd.DataFrame(
        {"question_efficacy": [1.0, 0.5], "question_paraphrase": [0.0, 1.0], "question_specificity": [np.nan, 0.5]}
    )
    row = question_table({"rome": frame}, "tiny").iloc[0]
    assert (row["efficacy"], row["paraphrase"], row["specificity"], row["n"]) == (0.75, 0.5, 0.5, 2)
    assert row["efficacy_low"] <= 0.75 <= row["efficacy_high"]


def test_editors_draw_on_the_moments_of_their_layer(load_tiny: Loader, tmp_path: Path) -> None:
    model = load_tiny("gpt2")
    size = model.transformer.shape.d_mlp
    for layer in (0, 1):
        save_moment(moment_path(tmp_path, layer), (layer + 1.0) * torch.eye(size), {})
    found = read_material(model, tmp_path, [(3, 4)])
    assert float(found.moment(1)[0, 0]) == 2.0
    assert found.prefixes() == [(3, 4)]
    with pytest.raises(ValueError, match="do not exist"):
        found.moment(2)


def frames() -> dict[str, pd.DataFrame]:
    """Four records: the unedited model, one editor whose first two records were generated from, one without text."""
    base = pd.DataFrame({"EM": [0.1, 0.2, 0.3, 0.4], "PM": 0.0, "NM": 0.5, "seconds": [np.nan] * 4})
    unedited = base.assign(ES=0.0, PS=0.25, NS=1.0)
    rome = base.assign(ES=[1.0, 1.0, 1.0, 0.0], PS=[1.0, 0.5, 0.5, 0.0], NS=[1.0, 1.0, 0.5, 0.5])
    rome = rome.assign(seconds=[4.0, 2.0, 9.0, 3.0], GE=[5.0, 4.0, np.nan, np.nan], RS=[0.3, np.nan, np.nan, np.nan])
    tuned = rome.drop(columns=["GE", "RS"]).assign(layer=3)
    return {UNEDITED: unedited.assign(layer=None), "rome": rome.assign(layer=5), "ft-m": tuned}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return editing_scores(frames(), "tiny")


def test_the_table_has_a_row_an_editor_in_the_order_given(table: pd.DataFrame) -> None:
    assert table["editor"].tolist() == [UNEDITED, "rome", "ft-m"]
    assert table["layer"].isna().tolist() == [True, False, False]
    assert table["layer"].dropna().tolist() == [5, 3]
    assert table["layer"].dtype == "Int64"
    assert set(table["model"]) == {"tiny"}


def test_scores_are_means_over_records_and_s_is_their_harmonic_mean(table: pd.DataFrame) -> None:
    rome = table.iloc[1]
    assert (rome["ES"], rome["PS"], rome["NS"]) == pytest.approx((0.75, 0.5, 0.75))
    assert rome["S"] == pytest.approx(3 / (1 / 0.75 + 1 / 0.5 + 1 / 0.75))
    assert rome["EM"] == pytest.approx(0.25)
    assert table.iloc[0]["S"] == 0.0  # no edit, no score


def test_every_score_lies_in_its_interval(table: pd.DataFrame) -> None:
    for name in ("S", "ES", "EM", "PS", "PM", "NS", "NM"):
        assert (table[f"{name}_low"] <= table[name]).all(), name
        assert (table[name] <= table[f"{name}_high"]).all(), name
    rome = table.iloc[1]
    assert rome["S_low"] < rome["S"] < rome["S_high"]
    assert rome["ES_low"] < rome["ES"] < rome["ES_high"]
    assert table.iloc[0]["NS_low"] == table.iloc[0]["NS_high"] == 1.0


def test_fluency_and_consistency_count_the_records_with_text(table: pd.DataFrame) -> None:
    assert table["n"].tolist() == [4, 4, 4]
    assert table["n_generation"].tolist() == [0, 2, 0]
    assert table.iloc[1]["GE"] == pytest.approx(4.5)
    assert table.iloc[1]["RS"] == pytest.approx(0.3)  # of the one record with references
    assert table.iloc[[0, 2]][["GE", "RS", "GE_low", "RS_high"]].isna().all(axis=None)


def test_seconds_are_the_median_of_the_edits(table: pd.DataFrame) -> None:
    assert table["seconds_per_edit"].tolist()[1:] == [3.5, 3.5]
    assert np.isnan(table["seconds_per_edit"].iloc[0])


def test_the_table_is_the_same_each_time(table: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(table, editing_scores(frames(), "tiny"))
