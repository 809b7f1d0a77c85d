"""What an interrupted job has finished is kept only while everything that it reads is the same."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from knowcirc.resume import parts_of


@pytest.fixture
def job(tmp_path: Path) -> Any:
    """A job with two inputs, one of them of two files."""
    for name in ("facts", "one", "two"):
        (tmp_path / name).write_text(name, "utf-8")
    paths = {name: str(tmp_path / name) for name in ("facts", "one", "two")}
    return SimpleNamespace(
        input=SimpleNamespace(facts=paths["facts"], circuits=[paths["one"], paths["two"]]),
        params=SimpleNamespace(generation_records=2, load_options={"dtype": "float32"}, code="abc"),
        wildcards=SimpleNamespace(editor="rome"),
        output=SimpleNamespace(scores=str(tmp_path / "scores.csv")),
    )


def kept(job: Any, **options: Any) -> object | None:
    """What is left of the part `a` when the job begins again."""
    return parts_of(job, job.output.scores, **options).get("a")


def test_a_part_is_found_again_while_nothing_has_changed(job: Any) -> None:
    parts_of(job, job.output.scores).put("a", 1)
    assert kept(job) == 1


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        ("params", "generation_records", 3),
        ("params", "load_options", {"dtype": "bfloat16"}),
        ("params", "code", "abd"),
        ("params", "another", 1),
        ("wildcards", "editor", "memit"),
    ],
)
def test_a_changed_parameter_throws_it_away(job: Any, place: str, name: str, value: object) -> None:
    parts_of(job, job.output.scores).put("a", 1)
    setattr(getattr(job, place), name, value)
    assert kept(job) is None


@pytest.mark.parametrize("name", ["facts", "two"])
def test_a_changed_input_throws_it_away(job: Any, tmp_path: Path, name: str) -> None:
    parts_of(job, job.output.scores).put("a", 1)
    (tmp_path / name).write_text("other", "utf-8")
    assert kept(job) is None


def test_the_order_of_input_files_counts(job: Any) -> None:
    parts_of(job, job.output.scores).put("a", 1)
    job.input.circuits = job.input.circuits[::-1]
    assert kept(job) is None


def test_what_is_apart_does_not_count_but_what_stands_for_it_does(job: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {"apart": ("facts", "generation_records"), "folder": tmp_path / "parts"}
    parts_of(job, job.output.scores, **options, instead=1).put("a", 1)
    (tmp_path / "facts").write_text("other", "utf-8")
    job.params.generation_records = 9
    assert kept(job, **options, instead=1) == 1
    assert kept(job, **options, instead=2) is None
