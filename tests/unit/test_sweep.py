"""The sweep over layers and tokens: its cells, its measures by hand, and the layer it chooses."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

import choose_edit_layer
from knowcirc.editing.edits import Material, applied, request
from knowcirc.editing.evaluation import SCORES, Pair, judge, scores
from knowcirc.editing.making import make_edit
from knowcirc.editing.sweep import Cell, best, cells, measures, summarise, sweep_record
from knowcirc.facts.records import Record
from knowcirc.files import read_json, write_table
from knowcirc.models.loading import LanguageModel

Loader = Callable[..., LanguageModel]
RECORD = Record(
    case="capital/Peru",
    relation="capital",
    subject="Peru",
    template="the capital of {} is",
    target_true="Lima",
    target_new="Tok Pisin",
    paraphrases=("people in Peru speak", "the city of Peru is"),
    neighbours=("the capital of Chile is",),
    generation=(),
    references=(),
)
SETTINGS: dict[str, object] = {"steps": 8, "learning_rate": 0.3}


def material(model: LanguageModel) -> Material:
    size = model.transformer.shape.d_mlp
    return Material(lambda _: torch.eye(size, dtype=torch.float64), lambda: [(40, 41)])


def test_cells_are_finer_at_the_subjects_last_token() -> None:
    found = cells(30, 2, 10, ["subject_first", "last"], 4.0)
    assert [cell.layer for cell in found if cell.token == "subject_last"] == list(range(0, 30, 2))
    assert [cell for cell in found if cell.token == "last"] == [Cell("last", layer, 4.0) for layer in (0, 10, 20)]
    assert len(found) == 15 + 3 + 3


def test_measures_are_means_of_probabilities_and_of_what_neighbours_keep() -> None:
    pairs = {
        "request": [Pair(0.8, 0.1)],
        "paraphrase": [Pair(0.2, 0.0), Pair(0.4, 0.0)],
        "neighbourhood": [Pair(0.0, 0.1), Pair(0.0, 0.9)],
    }
    found = measures(pairs, [Pair(0.0, 0.4), Pair(0.0, 0.6)])
    assert found == pytest.approx({"efficacy": 0.8, "paraphrase": 0.3, "specificity": (0.25 + 1.0) / 2})


def test_a_cell_is_the_edit_at_its_layer_and_token(load_tiny: Loader) -> None:
    model = load_tiny("llama")
    rows = sweep_record(model, RECORD, [Cell("subject_last", 1, 4.0), Cell("last", 0, 0.5)], SETTINGS, material(model))
    requested = request(model, RECORD.template, RECORD.subject, RECORD.target_new)
    before = judge(model, RECORD)["neighbourhood"]
    places = ((1, "subject_last", 4.0), (0, "last", 0.5))
    for row, (layer, token, clamp) in zip(rows, places, strict=True):
        chosen = {**SETTINGS, "layer": layer, "token": token, "clamp": clamp}
        edit = make_edit("rome", model, requested, chosen, material(model))
        with applied(model, edit) as edited:
            pairs = judge(edited, RECORD)
        expected = {**measures(pairs, before), **scores(pairs)}
        assert {name: row[name] for name in expected} == pytest.approx(expected)
        assert (row["layer"], row["token"]) == (layer, token)


def test_a_token_that_a_request_lacks_is_left_out(load_tiny: Loader) -> None:
    model = load_tiny("gpt2")
    bare = Record(**{**RECORD.as_json(), "template": "the capital of {}"})  # type: ignore[arg-type]
    rows = sweep_record(
        model, bare, [Cell("first_subsequent", 0, 4.0), Cell("subject_first", 0, 4.0)], SETTINGS, material(model)
    )
    assert [row["token"] for row in rows] == ["subject_first"]


def test_the_layer_with_the_best_harmonic_mean_is_chosen() -> None:
    rows = [
        {"case": case, "token": token, "layer": layer, "clamp": 4.0, "efficacy": e, "paraphrase": p, "specificity": s}
        | {**dict.fromkeys(SCORES, 0.1), "ES": 1.0, "PS": 0.5, "NS": s}
        for case in ("a", "b")
        for token, layer, e, p, s in (
            ("subject_last", 0, 1.0, 1.0, 0.1),
            ("subject_last", 2, 0.9, 0.6, 0.7),
            ("subject_last", 4, 0.9, 0.1, 1.0),
            ("last", 2, 1.0, 1.0, 1.0),
        )
    ]
    summary = summarise(pd.DataFrame(rows), "tiny")
    assert best(summary) == Cell("subject_last", 2, 4.0)
    row = summary[(summary.token == "subject_last") & (summary.layer == 2)].iloc[0]
    assert row["score"] == pytest.approx(3 / (1 / 0.9 + 1 / 0.6 + 1 / 0.7))
    assert row["S"] == pytest.approx(3 / (1 + 2 + 1 / 0.7))  # ROME's, beside
    assert (row["n"], row["model"]) == (2, "tiny")
    assert row["efficacy_low"] <= row["efficacy"] <= row["efficacy_high"]


@pytest.mark.parametrize(
    ("layer", "clamp", "expected"),
    [
        (7, 3.0, (7, 3.0, "editors.tsv")),
        (0, 3.0, (0, 3.0, "editors.tsv")),
        (None, None, (2, 1.0, "sweep")),
        (None, 3.0, (2, 3.0, "sweep")),  # a clamp that is given is kept
    ],
)
def test_the_study_edits_where_the_table_says_or_else_where_the_sweep_is_best(
    layer: int | None, clamp: float | None, expected: tuple[object, ...], tmp_path: Path
) -> None:
    rows = {"token": "subject_last", "layer": [0, 2, 2], "clamp": [4.0, 4.0, 1.0], "score": [0.5, 0.6, 0.7]}
    write_table(tmp_path / "sweep.csv", pd.DataFrame(rows))
    sweep = [] if layer is not None else [str(tmp_path / "sweep.csv")]
    choose_edit_layer.main(
        SimpleNamespace(
            input=SimpleNamespace(sweep=sweep),
            output=SimpleNamespace(edit_layer=tmp_path / "edit_layer.json"),
            params=SimpleNamespace(layer=layer, clamp=clamp),
        )
    )
    chosen = read_json(tmp_path / "edit_layer.json")
    assert (chosen["layer"], chosen["clamp"], chosen["from"]) == expected
