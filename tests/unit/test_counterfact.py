"""CounterFact's cases as editing records: what is refused, who is drawn, and what a record holds."""

import json
from pathlib import Path
from typing import Any

import pytest

from knowcirc.facts.counterfact import choose_cases, read_counterfact, read_snippets
from knowcirc.facts.records import Record

LANGUAGES = ("French", "English", "Greek")
FIELDS = ("requested_rewrite", "case_id", "paraphrase_prompts", "neighborhood_prompts", "generation_prompts")


def case(number: int) -> dict[str, Any]:
    """A case as the file has it; its new object is the next language."""
    return {
        "case_id": number,
        "pararel_idx": 7 * number,
        "requested_rewrite": {
            "prompt": "The mother tongue of {} is",
            "relation_id": "P103",
            "target_new": {"str": LANGUAGES[(number + 1) % 3], "id": f"Q{(number + 1) % 3}"},
            "target_true": {"str": LANGUAGES[number % 3], "id": f"Q{number % 3}"},
            "subject": f"Person {number}",
        },
        "paraphrase_prompts": [f"Noise. Person {number} spoke", f"Person {number}, a native"],
        "neighborhood_prompts": [f"Neighbour {number}.{i} speaks" for i in range(10)],
        "attribute_prompts": ["unused"],
        "generation_prompts": [f"Person {number} grew up in"],
    }


def save(folder: Path, data: object) -> Path:
    path = folder / "counterfact.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data), "utf-8")
    return path


CASES = [case(number) for number in range(12)]
SNIPPETS = {("P103", "Q2"): ["Plato spoke Greek.", "So did Sappho."], ("P27", "Q2"): ["Another relation."]}
SNIPPETS |= {("P103", "Q0"): ["Hugo"]}


def test_cases_come_back_in_the_files_order(tmp_path: Path) -> None:
    assert read_counterfact(save(tmp_path, CASES)) == CASES


@pytest.mark.parametrize("data", ["", "[{", "{}{}", "3", '["text"]', '{"case": 1}', "[null]"])
def test_a_file_of_another_kind_is_refused_by_its_name(tmp_path: Path, data: str) -> None:
    with pytest.raises(ValueError, match=r"counterfact\.json is no CounterFact file .*; fetch it again"):
        read_counterfact(save(tmp_path, data))


@pytest.mark.parametrize("field", FIELDS)
def test_a_case_that_lacks_a_field_is_refused_by_the_field(tmp_path: Path, field: str) -> None:
    lacking = {key: value for key, value in case(3).items() if key != field}
    with pytest.raises(ValueError, match=rf"no CounterFact file \(KeyError: '{field}'\)"):
        read_counterfact(save(tmp_path, [*CASES, lacking]))


@pytest.mark.parametrize("field", ["prompt", "subject", "target_new", "target_true", "relation_id"])
def test_a_rewrite_that_lacks_a_field_is_refused_by_the_field(tmp_path: Path, field: str) -> None:
    broken = case(3)
    del broken["requested_rewrite"][field]
    with pytest.raises(ValueError, match=rf"KeyError: '{field}'"):
        read_counterfact(save(tmp_path, [broken]))


def test_a_record_holds_its_cases_own_prompts() -> None:
    (record,) = choose_cases([CASES[4]], 1, {}, n_neighbours=3, seed=0)
    assert record.case == "counterfact/4"
    assert record.relation == "P103"
    assert record.prompt == "The mother tongue of Person 4 is"
    assert (record.target_true, record.target_new) == ("English", "Greek")
    assert record.paraphrases == ("Noise. Person 4 spoke", "Person 4, a native")
    assert record.neighbours == tuple(f"Neighbour 4.{i} speaks" for i in range(3))
    assert record.generation == ("Person 4 grew up in",)
    assert record.references == ()  # there is no snippet of the new object


def test_references_are_the_snippets_of_the_relation_with_the_new_object() -> None:
    for record in choose_cases(CASES, 12, SNIPPETS, n_neighbours=1, seed=0):
        assert record.references == {"Greek": ("Plato spoke Greek.", "So did Sappho."), "French": ("Hugo",)}.get(
            record.target_new, ()
        )


def test_snippets_of_one_object_may_stand_in_several_parts(tmp_path: Path) -> None:
    parts = [("P103", "Q2", ["Plato spoke Greek."]), ("P27", "Q2", ["Another relation."]), ("P103", "Q0", ["Hugo"])]
    parts.append(("P103", "Q2", ["So did Sappho."]))
    file = tmp_path / "attribute_snippets.json"
    saved = [
        {"relation_id": r, "target_id": t, "samples": [{"text": text, "name": "unused"} for text in texts]}
        for r, t, texts in parts
    ]
    file.write_text(json.dumps(saved), "utf-8")
    assert read_snippets(file) == SNIPPETS
    for lacking in ("relation_id", "target_id", "samples"):
        file.write_text(json.dumps([{k: v for k, v in saved[0].items() if k != lacking}]), "utf-8")
        with pytest.raises(ValueError, match=rf"no attribute_snippets file \(KeyError: '{lacking}'\); fetch it again"):
            read_snippets(file)


def test_cases_are_drawn_without_repetition_by_their_seed() -> None:
    drawn = choose_cases(CASES, 6, {}, n_neighbours=2, seed=1)
    assert drawn == choose_cases(CASES, 6, {}, n_neighbours=2, seed=1)
    names = [record.case for record in drawn]
    assert len(set(names)) == 6
    assert names != [record.case for record in choose_cases(CASES, 6, {}, n_neighbours=2, seed=2)]
    assert names != [f"counterfact/{number}" for number in range(6)]


def test_records_may_be_the_first_of_the_file_as_romes_code_takes_them() -> None:
    first = choose_cases(CASES, 4, {}, n_neighbours=10, seed=1, order="file")
    assert [record.subject for record in first] == [f"Person {number}" for number in range(4)]
    assert first == choose_cases(CASES, 4, {}, n_neighbours=10, seed=2, order="file")


def test_a_larger_draw_begins_with_the_smaller_one() -> None:
    assert choose_cases(CASES, 8, {}, n_neighbours=2, seed=1)[:3] == choose_cases(CASES, 3, {}, n_neighbours=2, seed=1)


def test_more_cases_than_the_file_holds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"13 asked for, CounterFact holds 12; ask for fewer"):
        choose_cases(CASES, 13, {}, n_neighbours=2, seed=0)


def test_a_record_comes_back_from_json() -> None:
    for record in choose_cases(CASES, 5, {}, n_neighbours=2, seed=3):
        back = Record.from_json(json.loads(json.dumps(record.as_json())))
        assert back == record
        assert hash(back) == hash(record)
