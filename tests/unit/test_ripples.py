"""What follows from an edit as data sets have it: files in the form of MQuAKE's and RippleEdits', written by hand."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from knowcirc.facts import mquake, rippleedits
from knowcirc.facts.benchmarks import BENCHMARKS
from knowcirc.facts.ripples import FIRST_HOP, SPECIFIC, Check, Query, Wanted, says
from knowcirc.facts.sources import DatasetRow
from knowcirc.fields import read_rows
from knowcirc.functions import function_of

ROOT = Path(__file__).parents[2]


def save(folder: Path, data: object) -> Path:
    path = folder / "cases.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data), "utf-8")
    return path


def multi_hop(number: int, **changes: Any) -> dict[str, Any]:
    """A case in the form of MQuAKE's files."""
    rewrite = {
        "prompt": "{} plays the sport of",
        "relation_id": "P641",
        "target_new": {"str": "cricket", "id": "Q1"},
        "target_true": {"str": "football", "id": "Q2"},
        "subject": f"Club {number}",
        "question": f"Which sport does Club {number} play?",
    }
    return {
        "case_id": number,
        "requested_rewrite": [rewrite, {**rewrite, "prompt": "{} was made in", "subject": "cricket"}],
        "questions": [f"Where was Club {number}'s sport made?", f"Which land made the sport of Club {number}?"],
        "answer": "England",
        "answer_alias": ["UK"],
        "new_answer": "India",
        "new_answer_alias": ["Bharat", "IN"],
        "single_hops": [],
        "new_single_hops": [],
        "orig": {},
        **changes,
    }


def test_a_case_of_mquake_is_its_edits_and_a_question_in_any_wording(tmp_path: Path) -> None:
    cases = mquake.read_cases(save(tmp_path, [multi_hop(number) for number in range(3)]), 2, "mquake-t")
    assert [case.name for case in cases] == ["mquake-t/0", "mquake-t/1"]
    assert cases[1].edits == (
        Wanted("{} plays the sport of", "Club 1", "cricket"),
        Wanted("{} was made in", "cricket", "cricket"),
    )
    (check,) = cases[1].checks
    assert (check.criterion, check.relation, check.old, check.every) == (FIRST_HOP, "mquake-t", "England", False)
    assert check.ranked == {"old": "England", "follows": "India"}
    assert [query.text for query in check.queries] == multi_hop(1)["questions"]
    assert check.passed([" nobody knows", " it was bharat."])
    assert not check.passed([" England", " Indiana"])


@pytest.mark.parametrize(
    "changes",
    [
        *({"requested_rewrite": []}, {"questions": []}, {"new_answer": ""}, {"answer": " England"}),
        {"requested_rewrite": [{**multi_hop(0)["requested_rewrite"][0], "prompt": "it plays"}]},
    ],
)
def test_a_case_that_cannot_be_edited_or_judged_is_left_out_by_name(
    tmp_path: Path, changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    path = save(tmp_path, [multi_hop(0, **changes), multi_hop(1)])
    with caplog.at_level(logging.INFO, "knowcirc"):
        assert [case.name for case in mquake.read_cases(path, 1, "m")] == ["m/1"]
    assert "m/0 is left out" in caplog.text
    with pytest.raises(ValueError, match=r"editing\.portability\.cases: 2 asked for, .* holds 1"):
        mquake.read_cases(path, 2, "m")


NAMES = {"Q1": "Ann Bell", "Q2": "Carl Dee", "Q3": "Eve Fox", "Q4": "Peru", "Q5": "Chile", "Q6": "Gus Hay"}


def query(subject: str, relation: str, *targets: str, phrase: str | None = None, **more: Any) -> dict[str, Any]:
    """A query in the form of RippleEdits' files."""
    words = {"MOTHER": "The name of the mother of {} is", "LAND": "The land of {} is"}
    answers = [{"value": NAMES[each], "aliases": [f"{NAMES[each]} I", "x"]} for each in targets]
    return {
        "prompt": phrase or words[relation].format(NAMES[subject]),
        "answers": answers,
        "query_type": "regular",
        "subject_id": subject,
        "relation": relation,
        "target_ids": list(targets),
        "phrase": phrase,
        **more,
    }


def a_test(
    *queries: dict[str, Any], conditions: tuple[dict[str, Any], ...] = (), condition: str = "OR"
) -> dict[str, Any]:
    return {"test_queries": list(queries), "test_condition": condition, "condition_queries": list(conditions)}


def entry(subject: str = "Q1", target: str = "Q4", **changes: Any) -> dict[str, Any]:
    """An edit of where a subject lives, with tests in the form of RippleEdits' files."""
    known = query(subject, "MOTHER", "Q2")
    second = query(subject, "LAND", target, phrase="The chief of the land is", query_type="two_hop")
    second |= {"second_relation": "MOTHER", "second_hop_target_ids": ["Q6"]}
    second["answers"] = [{"value": NAMES["Q6"], "aliases": []}]
    return {
        "example_type": "popular",
        "edit": {
            "prompt": f"The land of {NAMES[subject]} is {NAMES[target]}.",
            "subject_id": subject,
            "relation": "LAND",
            "target_id": target,
        },
        "Relation_Specificity": [a_test(known, conditions=(known,))],
        "Logical_Generalization": [a_test(query("Q2", "LAND", target), query("Q3", "LAND", target), condition="AND")],
        "Subject_Aliasing": [a_test(query(subject, "LAND", target, phrase="The land of Annie is"))],
        "Compositionality_I": [a_test(second)],
        "Compositionality_II": [],
        "Forgetfulness": [],
        **changes,
    }


def test_an_entry_of_rippleedits_gets_the_names_that_stand_in_the_file(tmp_path: Path) -> None:
    (case,) = rippleedits.read_cases(save(tmp_path, [entry("Q2")]), 1, "ripple-popular")
    assert case.edits == (Wanted("The land of {} is", "Carl Dee", "Peru"),)  # both stand beside their ids
    by_criterion = {check.criterion: check for check in case.checks}
    assert list(by_criterion) == [
        *("logical generalization", "compositionality I", "subject aliasing", "relation specificity")
    ]
    logical, other = by_criterion["logical generalization"], by_criterion[SPECIFIC]
    assert logical.every
    assert not logical.passed([" Peru", " Chile"])
    assert logical.passed([" peru i", " Peru"])
    assert (
        other.conditions
        == other.queries
        == (Query("The name of the mother of Carl Dee is", (("Carl Dee", "Carl Dee I"),)),)
    )
    assert by_criterion["compositionality I"].queries[0].answers == (("Gus Hay",),)


def test_a_subject_that_is_no_answer_is_what_its_relations_words_leave(tmp_path: Path) -> None:
    third = entry("Q1", Forgetfulness=[a_test(query("Q6", "LAND", "Q5"))])
    (case,) = rippleedits.read_cases(save(tmp_path, [third]), 1, "r")
    assert case.edits == (Wanted("The land of {} is", "Ann Bell", "Peru"),)


def test_what_has_no_name_is_left_out_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    unnamed = entry("Q2")
    unnamed["edit"]["target_id"] = "Q999"
    lonely = entry("Q1")  # two other sentences of the relation: not enough to tell its words
    untested = {key: [] if isinstance(value, list) else value for key, value in entry("Q2").items()}
    with caplog.at_level(logging.INFO, "knowcirc"):
        found = rippleedits.read_cases(save(tmp_path, [unnamed, untested, entry("Q2")]), 1, "r")
        assert [case.name for case in found] == ["r/2"]
        with pytest.raises(ValueError, match=r"editing\.portability\.cases: 1 asked for, .* holds 0"):
            rippleedits.read_cases(save(tmp_path, [lonely]), 1, "r")
    assert "r/0 is left out: the new object's name is not in the file" in caplog.text
    assert "r/1 is left out: it has no test" in caplog.text
    assert "r/0 is left out: the subject's name cannot be told" in caplog.text


def test_a_misspelt_criterion_is_read_too(tmp_path: Path) -> None:
    other = entry("Q2")
    other["Relation_Specifity"] = other.pop("Relation_Specificity")
    (case,) = rippleedits.read_cases(save(tmp_path, [other]), 1, "r")
    assert SPECIFIC in {check.criterion for check in case.checks}


@pytest.mark.parametrize("name", BENCHMARKS)
@pytest.mark.parametrize("data", ["", "[{", "3", '["text"]', "[null]", [{"case_id": 1, "edit": {}}]])
def test_another_file_is_refused_by_its_name(tmp_path: Path, name: str, data: object) -> None:
    with pytest.raises(ValueError, match=r"cases\.json is no (MQuAKE|RippleEdits) file .*; fetch it again"):
        function_of(BENCHMARKS[name].read)(save(tmp_path, data), 1, name)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_data_set_has_its_row_and_gives_cases(tmp_path: Path, name: str) -> None:
    rows = {row.dataset: row for row in read_rows(ROOT / "config/datasets.tsv", DatasetRow)}
    assert rows[BENCHMARKS[name].dataset].revision in rows[BENCHMARKS[name].dataset].url
    data = [multi_hop(0)] if name.startswith("mquake") else [entry("Q2")]
    (case,) = function_of(BENCHMARKS[name].read)(save(tmp_path, data), 1, name)
    assert case.name == f"{name}/0"
    assert {check.relation for check in case.checks} == {name}


@pytest.mark.parametrize(
    ("text", "name", "found"),
    [
        *((" It is SPANISH.", "Spanish", True), (" Spanishes", "Spanish", False), (" New  York", "New York", False)),
        *(("the U.S. is", "U.S.", True), ("a+b", "a.b", False), ("São Paulo", "são paulo", True)),
    ],
)
def test_a_name_is_said_as_a_whole_word_in_any_case(text: str, name: str, found: bool) -> None:
    assert says(text, name) is found


def test_of_several_answers_each_must_be_named() -> None:
    both = Query("q", (("Ann", "Annie"), ("Bob",)))
    assert both.answered(" Bob and annie")
    assert not both.answered(" Ann")
    one = Check("q", "c", (both,), "r", object="x")
    assert one.ranked == {"follows": "Ann", "object": "x"}
