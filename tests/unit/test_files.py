"""Files that are whole or absent, tables whose texts stay texts, and parts that belong to one identity."""

from pathlib import Path

import pandas as pd
import pytest

from knowcirc.files import (
    Parts,
    atomic,
    fingerprint,
    read_json,
    read_table,
    write_json,
    write_latex,
    write_table,
)


def test_a_file_takes_its_place_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    with atomic(path) as part:
        part.write_text("new", "utf-8")
        assert not path.exists()
        assert part.parent == path.parent  # on the same file system, so that replacing is one step
    assert path.read_text("utf-8") == "new"
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]


def test_an_exception_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old", "utf-8")

    def write() -> None:
        with atomic(path) as part:
            part.write_text("half", "utf-8")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert path.read_text("utf-8") == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["file.txt"]


def test_json_comes_back_and_refuses_what_is_no_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "Zoë", "values": [1, 2.5, None]})
    assert read_json(tmp_path / "a.json") == {"name": "Zoë", "values": [1, 2.5, None]}
    assert "Zoë" in (tmp_path / "a.json").read_text("utf-8")
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"value": float("nan")})
    assert read_json(tmp_path / "a.json")["name"] == "Zoë"


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_tables_keep_every_digit_and_texts_that_look_like_nothing(tmp_path: Path, ending: str) -> None:
    frame = pd.DataFrame(
        {"editor": ["none", "None", "nan", "NA"], "p": [0.1 + 0.2, 1 / 3, 1e-17, 2 / 3], "n": range(4)}
    )
    write_table(tmp_path / f"t.{ending}", frame)
    pd.testing.assert_frame_equal(read_table(tmp_path / f"t.{ending}"), frame, check_exact=True, check_dtype=False)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_number_that_does_not_apply_comes_back_as_nan(tmp_path: Path, ending: str) -> None:
    write_table(tmp_path / f"t.{ending}", pd.DataFrame({"p": [0.5, float("nan")]}))
    assert read_table(tmp_path / f"t.{ending}")["p"].isna().tolist() == [False, True]


def test_latex_escapes_and_rounds(tmp_path: Path) -> None:
    write_latex(tmp_path / "t.tex", pd.DataFrame({"name": ["d_val 5%"], "ES": [2 / 3]}))
    text = (tmp_path / "t.tex").read_text("utf-8")
    assert r"d\_val 5\%" in text
    assert "0.667" in text


def test_parts_come_back_under_the_same_identity(tmp_path: Path) -> None:
    Parts(tmp_path / "out.csv", "a").put("country/France", {"score": 0.1 + 0.2})
    parts = Parts(tmp_path / "out.csv", "a")
    assert parts.get("country/France") == {"score": 0.1 + 0.2}
    assert parts.get("country/Italy") is None


def test_parts_of_another_identity_are_forgotten(tmp_path: Path) -> None:
    Parts(tmp_path / "out.csv", "a").put("x", 1)
    assert Parts(tmp_path / "out.csv", "b").get("x") is None
    assert Parts(tmp_path / "out.csv", "a").get("x") is None


def test_parts_of_two_outputs_do_not_mix(tmp_path: Path) -> None:
    first, second = Parts(tmp_path / "one.csv", "a"), Parts(tmp_path / "two.csv", "a")
    first.put("x", 1)
    assert second.get("x") is None
    second.clear()
    assert first.get("x") == 1


def test_parts_in_a_folder_of_their_own_serve_jobs_of_the_same_identity(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    Parts(tmp_path / "one.csv", "a", folder=kept).put("x", 1)
    assert Parts(tmp_path / "two.csv", "a", folder=kept).get("x") == 1
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["kept"]
    assert Parts(tmp_path / "one.csv", "b", folder=kept).get("x") is None


def test_cleared_parts_leave_nothing_beside_the_output(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "out.csv", "a")
    parts.put("x", 1)
    parts.clear()
    assert list(tmp_path.iterdir()) == []


def test_a_fingerprint_sees_values_and_not_the_order_of_keys() -> None:
    assert fingerprint({"a": 1, "b": [2]}, "x") == fingerprint({"b": [2], "a": 1}, "x")
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert fingerprint("a", "b") != fingerprint("ab")
