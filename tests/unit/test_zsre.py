"""zsRE's questions as editing records: what is refused, who is left out, and what a record holds."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from knowcirc.facts.zsre import choose_questions, read_questions


def case(number: int, **changes: Any) -> dict[str, Any]:
    """A case as ROME's file has it."""
    return {
        "subject": f"Person {number}",
        "src": f"What university did Person {number} attend?",
        "pred": "Yale",
        "rephrase": f"Which university was it that Person {number} went to?",
        "alt": "Oxford University",
        "answers": ["Harvard University", "Harvard"],
        "loc": "nq question: who sings the song",
        "loc_ans": "Reba McEntire",
        "cond": "unused",
        **changes,
    }


CASES = [case(number) for number in range(4)]


def save(folder: Path, data: object) -> Path:
    path = folder / "zsre_mend_eval.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data), "utf-8")
    return path


def test_cases_come_back_in_the_files_order(tmp_path: Path) -> None:
    assert read_questions(save(tmp_path, CASES)) == CASES


@pytest.mark.parametrize(
    "data",
    [
        *("", "[{", "3", '["text"]', "[null]"),
        *([{key: value for key, value in CASES[0].items() if key != lacks}] for lacks in ("src", "loc", "answers")),
        *([case(0, answers="Yale", src=None)], [case(0, answers=[1])], [case(0, loc_ans=3)]),
    ],
)
def test_another_file_is_refused_by_its_name(tmp_path: Path, data: object) -> None:
    with pytest.raises(ValueError, match=r"zsre_mend_eval\.json is no zsRE file .*; fetch it again"):
        read_questions(save(tmp_path, data))


def test_a_record_asks_what_rome_asks() -> None:
    record = choose_questions(CASES, 2)[1]
    assert (record.case, record.subject, record.target_new) == ("zsre/1", "Person 1", "Harvard University")
    assert record.template == "What university did {} attend?"
    assert record.prompt == CASES[1]["src"]
    assert record.question == CASES[1]["rephrase"]
    assert record.unrelated == (("nq question: who sings the song?", "Reba McEntire"),)


@pytest.mark.parametrize(
    "changes",
    [
        *({"src": src} for src in ("What university did he attend?", "Is Person 0 {}?", "Is { Person 0?", "")),
        *({"src": "Is Person 0 Person 0?"}, {"subject": "Person 0 ", "src": "Is Person 0 here?"}, {"subject": ""}),
        *({"answers": []}, {"answers": [" "]}, {"loc_ans": ""}, {"rephrase": " "}),
    ],
)
def test_a_case_that_cannot_be_edited_or_judged_is_left_out_by_name(
    changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "knowcirc"):
        records = choose_questions([case(0, **changes), *CASES[1:]], 2)
    assert [record.case for record in records] == ["zsre/1", "zsre/2"]
    assert "zsre/0 is left out" in caplog.text


def test_more_records_than_the_file_holds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"editing\.zsre_records: 5 asked for, the file holds 4"):
        choose_questions(CASES, 5)
