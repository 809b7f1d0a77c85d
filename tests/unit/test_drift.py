"""A run's tables against a reference run's: what its columns allow passes, and each value beyond is named."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from knowcirc.cli import main
from knowcirc.drift import compare_results, compare_tables
from knowcirc.files import read_table, write_table
from knowcirc.items.contract import EQUAL, Table, Tolerance, count, number, share, word

TABLE = Table(
    "known_facts",
    "",
    "",
    "",
    {},
    columns=(
        word("relation", ""),
        word("text", "", steady=False),
        word("wording", ""),
        count("n", ""),
        share("hit", "", empty=True),
        number("bits", "", "bits", interval=False),
        number("seconds", "", "seconds", interval=False, drift=None),
    ),
    one_row_for=("relation",),
    chapter="facts",
)
PLAIN: dict[str, object] = {"text": "a", "wording": "{} is", "n": 10, "hit": 0.5, "hit_low": 0.2, "hit_high": 0.8}


def frame(**values: object) -> pd.DataFrame:
    return pd.DataFrame({"relation": ["capital", "language"], **PLAIN, "bits": 4.0, "seconds": 1.0, **values})


@pytest.mark.parametrize(
    ("tolerance", "reference", "n", "limit"),
    [
        (EQUAL, 5.0, 10.0, 0.0),
        (Tolerance(absolute=0.05, cases=2.0), 0.5, 10.0, 0.25),
        (Tolerance(absolute=1.0, relative=0.1), -20.0, np.inf, 3.0),
    ],
)
def test_the_parts_of_a_tolerance_add_up(tolerance: Tolerance, reference: float, n: float, limit: float) -> None:
    assert tolerance.limit(reference, n) == pytest.approx(limit)


WITHIN = {
    "two of ten cases": {"hit": [0.7, 0.5]},
    "a text": {"text": ["a", "b"]},
    "seconds": {"seconds": 90.0},
    "a tenth more": {"bits": 4.4},
    "a bound by twice as much": {"hit_low": [0.2, 0.65]},
    "two more": {"n": [10, 12]},
}
BEYOND = {
    "three of ten cases": ({"hit": [0.8, 0.5]}, "relation=capital: hit is 0.8, the reference has 0.5 (0.3 apart, 0.25"),
    "a word": ({"wording": ["{} is", "{}?"]}, "relation=language: wording is {}?, the reference has {} is"),
    "a third more": ({"bits": [4.0, 5.4]}, "relation=language: bits is 5.4, the reference has 4 (1.4 apart, 0.65"),
    "a bound": ({"hit_low": [0.2, 0.75]}, "relation=language: hit_low is 0.75"),
    "no value": ({"hit": [np.nan, 0.5]}, "relation=capital: hit is empty, the reference has 0.5"),
    "another row": ({"relation": ["capital", "food"]}, "relation=language: this run lacks the row"),
    "many more": ({"n": [10, 14]}, "relation=language: n is 14"),
}


@pytest.mark.parametrize("values", WITHIN.values(), ids=WITHIN)
def test_what_another_processor_may_change_is_no_drift(values: dict[str, object]) -> None:
    found = compare_tables(frame(**values), frame(), TABLE)
    assert (found.drifted, found.unknown) == ([], [])
    assert found.values == 2 * 6  # of two rows all columns but the key, the text and the seconds


@pytest.mark.parametrize(("values", "said"), BEYOND.values(), ids=BEYOND)
def test_what_lies_further_apart_is_named(values: dict[str, object], said: str) -> None:
    drifted = compare_tables(frame(**values), frame(), TABLE).drifted
    assert any(each.line.startswith(said) for each in drifted), drifted


def test_few_cases_allow_more_than_many() -> None:
    few = compare_tables(frame(n=4, hit=1.0), frame(n=4), TABLE)
    many = compare_tables(frame(n=400, hit=0.6), frame(n=400), TABLE)
    assert not [each for each in few.drifted if "hit is" in each.line]
    assert len([each for each in many.drifted if "hit is" in each.line]) == 2


def test_where_a_threshold_decides_some_rows_may_differ() -> None:
    loose = Table(
        TABLE.name, "", "", "", {}, columns=TABLE.columns, one_row_for=("relation",), other_rows=0.5, chapter="facts"
    )
    assert not compare_tables(frame(relation=["capital", "food"]), frame(), loose).drifted
    assert len(compare_tables(frame(relation=["sport", "food"]), frame(), loose).drifted) == 4


def test_columns_that_one_side_lacks_are_told_apart() -> None:
    found = compare_tables(frame().drop(columns="bits"), frame().drop(columns="wording"), TABLE)
    assert found.drifted == [("bits", "bits: this run lacks the column")]
    assert found.unknown == [("wording", "the reference does not have it")]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A run and a reference with the same two tables of the study."""
    effects = {"model": "tiny", "kind": ["mlp", "total"], "role": ["last", None], "effect": 0.1, "n": 20}
    bounds = {"effect_low": 0.0, "effect_high": 0.2}
    table = pd.DataFrame({**effects, **bounds, "layer": pd.array([3, pd.NA], dtype="Int64")})
    for folder in ("run", "reference"):
        write_table(tmp_path / folder / "tiny/tables/causal_effects.csv", table)
        write_table(tmp_path / folder / "tiny/tables/saliency.csv", table[["model", "kind", "role", "layer"]])
    return tmp_path / "run", tmp_path / "reference"


def test_a_table_of_the_reference_that_is_missing_is_drift(folders: tuple[Path, Path]) -> None:
    run, reference = folders
    assert compare_results(run, reference).drifted == []
    (run / "tiny/tables/saliency.csv").unlink()
    assert [each.line for each in compare_results(run, reference).drifted] == ["tiny/tables/saliency.csv: missing"]
    (reference / "tiny/tables/saliency.csv").unlink()
    write_table(run / "tiny/tables/hops.csv", pd.DataFrame({"composition": ["a"]}))
    assert compare_results(run, reference).unknown == [("tiny/tables/hops.csv", "the reference does not have it")]


def test_a_total_in_a_row_without_a_layer_is_compared_with_its_own(folders: tuple[Path, Path]) -> None:
    run, reference = folders
    path = run / "tiny/tables/causal_effects.csv"
    table = read_table(path)
    table.loc[1, "effect"] = 0.9
    write_table(path, table)
    ((column, line),) = compare_results(run, reference).drifted
    assert column == "tiny/tables/causal_effects.csv, effect"
    assert line.startswith("tiny/tables/causal_effects.csv: kind=total, role=, layer=: effect is 0.9, the reference")


def test_the_command_names_what_drifted_and_ends_with_1(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, reference = folders
    monkeypatch.setattr("knowcirc.checks.check_results", lambda _: [{"name": "all", "ok": True, "reason": ""}])
    assert main(["check", str(run), "--against", str(reference)]) == 0
    assert "0 drifted" in capsys.readouterr().out
    path = run / "tiny/tables/causal_effects.csv"
    write_table(path, read_table(path).assign(effect=0.8))
    assert main(["check", str(run), "--against", str(reference)]) == 1
    said = capsys.readouterr().out
    assert said.count("DRIFTED tiny/tables/causal_effects.csv: kind=") == 2
    assert "2 drifted" in said


def test_a_reference_without_tables_is_refused(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, reference = folders
    monkeypatch.setattr("knowcirc.checks.check_results", lambda _: [{"name": "all", "ok": True, "reason": ""}])
    shutil.rmtree(reference / "tiny")
    assert main(["check", str(run), "--against", str(reference)]) == 2
    assert "holds no tables" in capsys.readouterr().err
    assert main(["check", str(run), "--against", str(reference / "none")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_the_command_names_three_values_of_a_column_and_counts_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("knowcirc.checks.check_results", lambda _: [{"name": "all", "ok": True, "reason": ""}])
    table = pd.DataFrame({"model": "tiny", "kind": "mlp", "role": list("abcde"), "layer": 0, "effect": 0.1})
    write_table(tmp_path / "reference/tiny/tables/causal_effects.csv", table)
    write_table(tmp_path / "run/tiny/tables/causal_effects.csv", table.assign(effect=0.8, old=1, older=2))
    assert main(["check", str(tmp_path / "run"), "--against", str(tmp_path / "reference")]) == 1
    lines = capsys.readouterr().out.splitlines()
    named = [line for line in lines if "the reference has 0.1" in line]
    assert len(named) == 3
    assert "DRIFTED tiny/tables/causal_effects.csv, effect: 2 more" in lines
    (unknown,) = [line for line in lines if line.startswith("not compared")]
    assert unknown.startswith("not compared, the reference does not have it: 'tiny/tables/causal_effects.csv, old', ")
    assert lines[-1].endswith("5 drifted")
