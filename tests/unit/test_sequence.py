"""Edits one after the other on one model: what each edit sees, what is judged, and going on after a stop."""

import contextlib
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from knowcirc.editing.edits import Edit, Material, Matrix, Request, applied, request
from knowcirc.editing.evaluation import judge
from knowcirc.editing.making import make_edit, make_edits
from knowcirc.editing.moments import sampled_corpus
from knowcirc.editing.perplexity import choose_text, perplexity
from knowcirc.editing.sampling import greedy, special_tokens
from knowcirc.editing.sequence import Done, edit_in_sequence, judge_again, moved, sequential_edits, shuffled
from knowcirc.facts.records import Record, unedited_neighbours
from knowcirc.models.loading import LanguageModel

Loader = Callable[..., LanguageModel]


def record(subject: str, new: str, *neighbours: str) -> Record:
    return Record(
        case=f"capital/{subject}",
        relation="capital",
        subject=subject,
        template="the capital of {} is",
        target_true="Lima",
        target_new=new,
        paraphrases=(f"the city of {subject} is",),
        neighbours=tuple(f"the capital of {name} is" for name in neighbours),
        generation=(),
        references=(),
    )


RECORDS = [record("Peru", "Rome", "Chile", "Italy"), record("Chile", "Paris", "Spain"), record("Spain", "Wellington")]
TEXT = [(0, 5, 6, 7, 30), (0, 8, 9)]
SETTINGS: dict[str, dict[str, object]] = {
    "rome": {"layer": 1, "steps": 4, "learning_rate": 0.3},
    "memit": {"layer": 1, "span": 2, "steps": 3, "learning_rate": 0.3},
    "ft-m": {"layer": 1, "steps": 3, "learning_rate": 0.01},
    "attn-edit": {"layer": 2, "steps": 2},
    "kn": {"steps": 2},
}


def material(model: LanguageModel) -> Material:
    size = model.transformer.shape.d_mlp
    return Material(lambda _: torch.eye(size, dtype=torch.float64), lambda: [(40, 41)])


def maker(editor: str) -> Callable[[LanguageModel, Request, Material], Edit]:
    def make(model: LanguageModel, requested: Request, given: Material) -> Edit:
        return make_edit(editor, model, requested, SETTINGS[editor], given)

    return make


def run(model: LanguageModel, editor: str | None, kept: Path, at: tuple[int, ...] = (1, 3)) -> pd.DataFrame:
    make = maker(editor) if editor else None
    rows = edit_in_sequence(model, RECORDS, make, material(model), text=TEXT, at=at, kept=kept)
    return pd.DataFrame(rows)


def efficacy(model: LanguageModel, one: Record) -> float:
    (pair,) = judge(model, one)["request"]
    return float(pair.new > pair.true)


def own_weights(model: LanguageModel) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in model.weights.items()}


@pytest.mark.parametrize("editor", SETTINGS)
def test_each_edit_is_made_on_what_those_before_it_left_and_all_are_judged(
    editable: LanguageModel, editor: str, tmp_path: Path
) -> None:
    model, before = editable, own_weights(editable)
    rows = run(model, editor, tmp_path / "done.safetensors")
    asked = [request(model, one.template, one.subject, one.target_new) for one in RECORDS]
    weights: dict[Matrix, torch.Tensor] = {}
    given = material(model)
    for one in asked:  # by hand: on the present weights, nothing undone
        with applied(model, Edit(weights, {})) as current:
            edit = make_edit(editor, current, one, SETTINGS[editor], given)
        weights, given = weights | edit.weights, given.after(edit)
    assert rows["edits"].tolist() == [1, 3, 3, 3]
    with applied(model, Edit(weights, {})) as edited:
        expected = [efficacy(edited, one) for one in RECORDS]
        reading = perplexity(edited, TEXT)
    last = rows[rows["edits"] == 3]
    assert last["ES"].tolist() == expected
    assert last["perplexity"].tolist() == pytest.approx([reading] * 3)
    old = {matrix: matrix.view(model.own) for matrix in weights}
    change = torch.cat([(weights[matrix] - old[matrix]).flatten() for matrix in weights]).norm()
    size = torch.cat([old[matrix].flatten() for matrix in weights]).norm()
    assert last["change"].iloc[0] == pytest.approx(float(change / size))
    assert last["change"].iloc[0] > rows["change"].iloc[0] > 0
    assert all(torch.equal(weight, before[name]) for name, weight in model.weights.items())


def test_a_sequence_is_what_an_editor_that_takes_one_request_makes_of_many(
    editable: LanguageModel, tmp_path: Path
) -> None:
    model, kept = editable, tmp_path / "done.safetensors"
    run(model, "rome", kept)
    asked = [request(model, one.template, one.subject, one.target_new) for one in RECORDS]
    together = make_edits("rome", model, asked, SETTINGS["rome"], material(model)).weights
    done = Done.load(kept, model).weights
    assert done.keys() == together.keys()
    assert all(torch.equal(done[matrix], together[matrix]) for matrix in done)


def test_an_editor_is_told_what_was_edited_before(load_tiny: Loader, tmp_path: Path) -> None:
    model, kept = load_tiny("gpt2"), tmp_path / "done.safetensors"
    seen: list[tuple[str, dict[int, list[float]]]] = []

    def make(current: LanguageModel, requested: Request, given: Material) -> Edit:
        seen.append((requested.subject, {layer: rows[:, 0].tolist() for layer, rows in given.past.items()}))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return Edit({}, {}, {1: torch.full((1, 2), float(len(seen)))})

    for _ in range(2):  # the second goes on where the first was stopped
        with contextlib.suppress(KeyboardInterrupt):
            edit_in_sequence(model, RECORDS, make, material(model), text=TEXT, at=[3], kept=kept)
    assert seen == [*(("Peru", {}), ("Chile", {1: [1.0]}), ("Spain", {1: [1.0, 2.0]}), ("Spain", {1: [1.0, 2.0]}))]


def test_a_stopped_sequence_goes_on_after_its_last_edit_and_ends_the_same(
    editable: LanguageModel, tmp_path: Path
) -> None:
    model, kept = editable, tmp_path / "cut.safetensors"
    whole = run(model, "rome", tmp_path / "whole.safetensors", (2, 3))
    made = [0]
    real = maker("rome")

    def stops(current: LanguageModel, requested: Request, given: Material) -> Edit:
        made[0] += 1
        if made[0] == 3:
            raise KeyboardInterrupt
        return real(current, requested, given)

    with pytest.raises(KeyboardInterrupt):
        edit_in_sequence(model, RECORDS, stops, material(model), text=TEXT, at=(2, 3), kept=kept)
    again = edit_in_sequence(model, RECORDS, stops, material(model), text=TEXT, at=(2, 3), kept=kept)
    assert made[0] == 4  # the third, a second time
    timed = ["seconds"]
    pd.testing.assert_frame_equal(pd.DataFrame(again).drop(columns=timed), whole.drop(columns=timed), check_exact=True)


def test_what_cannot_be_read_is_done_again_and_said(
    load_tiny: Loader, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = tmp_path / "done.safetensors"
    kept.write_bytes(b"half a file")
    assert Done.load(kept, load_tiny("gpt2")).made == []
    assert "its edits are made again" in caplog.text


def test_without_an_editor_the_model_is_judged_as_it_is(load_tiny: Loader, tmp_path: Path) -> None:
    model = load_tiny("llama")
    rows = run(model, None, tmp_path / "done.safetensors")
    assert (rows["perplexity"] == perplexity(model, TEXT)).all()
    assert (rows["change"] == 0).all()
    assert rows["ES"].tolist() == [efficacy(model, one) for one in (RECORDS[0], *RECORDS)]
    assert rows["seconds"].tolist() == [0.0] * 4


def test_a_neighbour_that_was_edited_is_not_asked(load_tiny: Loader) -> None:
    model = load_tiny("gpt2")
    alone = judge_again(model, RECORDS[0], RECORDS[:1])
    pairs = judge(model, RECORDS[0])["neighbourhood"]
    assert alone["NS"] == np.mean([pair.true > pair.new for pair in pairs])
    with_chile = judge_again(model, RECORDS[0], RECORDS[:2])
    assert with_chile["NS"] == float(pairs[1].true > pairs[1].new)  # Italy's alone
    assert judge_again(model, RECORDS[1], RECORDS)["NS"] is None  # Spain has been edited
    assert judge_again(model, RECORDS[2], RECORDS)["NS"] is None  # none to begin with


def test_a_neighbour_in_other_words_that_names_an_edited_subject_is_not_asked(load_tiny: Loader) -> None:
    model = load_tiny("gpt2")
    texts = ("people in Chile live in", "Chilean people speak", "the city of Italy is", "New Spain is")
    one = replace(RECORDS[0], neighbours=texts)  # as CounterFact words them
    others = [RECORDS[1], record("Spain", "Paris"), replace(record("Italy", "Rome"), relation="language")]
    assert unedited_neighbours(one, [one]) == texts
    assert unedited_neighbours(one, others[:1]) == texts[1:]
    assert unedited_neighbours(one, [one, *others]) == texts[1:3]  # a part of a longer name, too
    pairs = judge(model, one)["neighbourhood"][1:3]
    assert judge_again(model, one, [one, *others])["NS"] == np.mean([pair.true > pair.new for pair in pairs])
    same = record("Peru", "Rome", "Chile", "New Spain")  # in the request's own words the text decides
    assert unedited_neighbours(same, others) == ("the capital of New Spain is",)


def test_an_order_goes_by_the_seed_and_too_few_records_are_refused() -> None:
    many = [record(f"w{number}", "Rome") for number in range(40)]
    one, again = (shuffled(many, 30, seed=3) for _ in range(2))
    assert one == again
    assert sorted(one, key=lambda each: each.case) == sorted(many[:30], key=lambda each: each.case)
    assert one != many[:30]
    assert shuffled(many, 30, seed=4) != one
    with pytest.raises(ValueError, match=r"editing\.sequential\.edits: 41 asked for, there are 40 records"):
        shuffled(many, 41, seed=0)


def test_no_change_is_none(load_tiny: Loader) -> None:
    model = load_tiny("gpt2")
    assert moved(model, {}) == 0.0
    matrix = Matrix(1)
    assert moved(model, {matrix: 1.5 * matrix.view(model.own)}) == pytest.approx(0.5)


def test_the_table_takes_the_last_edit_and_means_over_all() -> None:
    row = {"ES": 1.0, "PS": 0.5, "perplexity": 8.0, "change": 0.25, "p_new": 0.5, "seconds": 2.0}
    rows = [{**row, "edits": 1, "took": 1.0, "NS": np.nan}]
    rows += [
        {**row, "edits": 2, "took": 1.0, "NS": 1.0},
        {**row, "edits": 2, "took": 0.0, "NS": 0.5, "ES": 0.0, "p_new": 0.1},
    ]
    unedited = [{**each, "seconds": 0.0} for each in rows]
    table = sequential_edits({"none": pd.DataFrame(unedited), "rome": pd.DataFrame(rows)}, "tiny")
    assert table[["editor", "edits", "n"]].to_numpy().tolist() == [
        *(["none", 1, 1], ["none", 2, 2], ["rome", 1, 1], ["rome", 2, 2])
    ]
    first, second = table.iloc[2], table.iloc[3]
    assert np.isnan(first["NS"])
    assert np.isnan(first["S"])
    assert (second["last"], second["p_last"], second["made"], second["ES"], second["NS"]) == (0.0, 0.1, 0.5, 0.5, 0.75)
    assert second["S"] == pytest.approx(3 / (2 + 2 + 1 / 0.75))
    assert (second["seconds_per_edit"], second["perplexity"], second["change"]) == (2.0, 8.0, 0.25)
    assert np.isnan(float(table.iloc[0]["seconds_per_edit"]))


def test_perplexity_is_that_of_the_models_own_logits(model: LanguageModel) -> None:
    total, count = 0.0, 0
    for row in TEXT:
        for end in range(1, len(row)):
            logits = model.transformer.logits(model.batch([row[:end]]))[0]
            total -= float(logits.log_softmax(-1)[row[end]])
            count += 1
    assert perplexity(model, TEXT) == pytest.approx(math.exp(total / count), rel=1e-5)
    with pytest.raises(ValueError, match="no token behind its start token"):
        perplexity(model, [(0,)])


def test_the_text_is_sampled_by_a_seed_of_its_own_or_a_files_first_tokens(load_tiny: Loader, tmp_path: Path) -> None:
    model = load_tiny("llama")
    rows = choose_text(model, None, 10, length=4, seed=0)
    assert [len(row) for row in rows] == [5, 5, 3]
    assert {row[0] for row in rows} == {0}
    assert rows == choose_text(model, None, 10, length=4, seed=0)
    assert rows != choose_text(model, None, 10, length=4, seed=1)
    moments = next(sampled_corpus(model, 10, length=4, batch=3, seed=0))
    assert [tuple(row) for row in moments.tolist()][:2] != rows[:2]
    (tmp_path / "text.txt").write_text("people in France speak French and people in Peru speak Spanish", "utf-8")
    words = model.text.encode("people in France speak French", add_special_tokens=False).ids
    assert choose_text(model, tmp_path / "text.txt", 5, length=3, seed=0) == [(0, *words[:3]), (0, *words[3:])]
    with pytest.raises(ValueError, match=r"text\.txt holds 11 tokens, 12 are asked for"):
        choose_text(model, tmp_path / "text.txt", 12, length=3, seed=0)


def test_the_likeliest_tokens_of_prompts_of_any_length_are_those_one_by_one(model: LanguageModel) -> None:
    rows = [(0, 5, 6, 7, 8, 9), (0, 30), (0, 8, 9, 31), (0, 40)]
    banned = sorted(special_tokens(model))
    expected = []
    for row in rows:
        ids = list(row)
        for _ in range(5):
            logits = model.transformer.logits(model.batch([tuple(ids)]))[0].clone()
            logits[banned] = -torch.inf
            ids.append(int(logits.argmax()))
        expected.append(ids[len(row) :])
    assert greedy(model, rows, 5) == expected
    assert greedy(model, rows[:1], 1) == [expected[0][:1]]
    with pytest.raises(ValueError, match="is too long"):
        greedy(model, [(0,) * 60], 6)
