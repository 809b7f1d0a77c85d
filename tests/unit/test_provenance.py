"""Where files come from is kept beside them, and a file that was changed since then is refused."""

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from knowcirc import provenance
from knowcirc.files import Parts, read_json
from knowcirc.provenance import check_inputs, record_of, state_of, work_behind, write_records

Change = Callable[[Path], object]


class Named(SimpleNamespace):
    def items(self) -> list[tuple[str, object]]:
        return list(vars(self).items())


def made(folder: Path, *names: str) -> list[str]:
    """Outputs of a job with their records."""
    paths = [folder / name for name in names]
    for path in paths:
        if path.suffix:
            path.write_text(f"what {path.name} holds\n")
        else:
            path.mkdir()
            (path / "layer_0.bin").write_bytes(b"0123")
    files = [str(path) for path in paths]
    settings = Named(code="abc", seed=3, method={"name": "rome", "layers": (1, 2)}, path=Path("x"))
    job = Named(rule="a_rule", wildcards=Named(model="tiny"), params=settings, threads=1, output=files)
    write_records(job, {"in.csv": {"bytes": 4, "sha256": "00"}}, 1.23456)
    return files


def test_a_record_says_what_made_the_file(tmp_path: Path) -> None:
    import torch

    (file,) = made(tmp_path, "table.csv")
    record = read_json(tmp_path / ".provenance/table.csv.json")
    assert record["state"] == state_of(Path(file))
    assert (record["rule"], record["wildcards"], record["seconds"]) == ("a_rule", {"model": "tiny"}, 1.235)
    assert record["parameters"] == {
        **{"code": "abc", "seed": 3, "method": {"name": "rome", "layers": [1, 2]}, "path": "x"}
    }
    assert record["inputs"] == {"in.csv": {"bytes": 4, "sha256": "00"}}
    assert record["versions"]["torch"] == torch.__version__.split("+")[0] or "+" in record["versions"]["torch"]
    assert record["machine"]["processor"]


def test_files_as_they_were_made_pass_and_those_without_a_record_too(tmp_path: Path) -> None:
    files = made(tmp_path, "table.csv", "layers")
    (tmp_path / "own.yaml").write_text("x")
    states = check_inputs([*files, str(tmp_path / "own.yaml"), files[0]])
    assert list(states) == [*files, str(tmp_path / "own.yaml")]
    os.utime(files[0])  # touched, not changed
    check_inputs(files)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[5] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: os.truncate(path, 3), r"3 bytes instead of 21"),
        (lambda path: path.write_text(""), r"0 bytes instead of 21"),
        (flip, r"its sha256 differs"),
    ],
)
def test_a_file_that_was_changed_is_refused_by_name(tmp_path: Path, change: Change, message: str) -> None:
    (file,) = made(tmp_path, "table.csv")
    change(Path(file))
    with pytest.raises(ValueError, match=rf"table\.csv is not as it was made \({message}\); delete it"):
        check_inputs([file])


@pytest.mark.parametrize(
    "change",
    [
        lambda path: os.truncate(path / "layer_0.bin", 1),
        lambda path: (path / "layer_0.bin").unlink(),
        lambda path: (path / "layer_1.bin").write_bytes(b"1"),
    ],
)
def test_a_folder_with_other_files_is_refused(tmp_path: Path, change: Change) -> None:
    (folder,) = made(tmp_path, "layers")
    change(Path(folder))
    with pytest.raises(ValueError, match=r"layers is not as it was made \(layer_[01]\.bin\)"):
        check_inputs([folder])


def test_a_record_that_is_none_is_refused(tmp_path: Path) -> None:
    (file,) = made(tmp_path, "table.csv")
    record_of(Path(file)).write_text("{}")
    with pytest.raises(ValueError, match=r"\.provenance/table\.csv\.json is no record of .*table\.csv"):
        check_inputs([file])


def test_large_files_are_known_by_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "LARGEST", 10)
    (file,) = made(tmp_path, "weights.bin")
    assert state_of(Path(file)) == {"bytes": 23, "sha256": None}


def test_a_kept_part_that_cannot_be_read_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    parts = Parts(tmp_path / "out.csv", "identity")
    parts.put("fact", {"x": 1})
    parts.path("fact").write_text('{"x": ')
    assert parts.get("fact") is None
    assert "cannot be read; what it held is made again" in caplog.text
    parts.put("fact", {"x": 2})
    assert parts.get("fact") == {"x": 2}


def test_the_work_behind_a_file_counts_every_job_once(tmp_path: Path) -> None:
    def job(rule: str, inputs: list[str], outputs: list[str], seconds: float, **wildcards: str) -> None:
        paths = [tmp_path / name for name in outputs]
        for path in paths:
            path.write_text(rule)
        given = {str(tmp_path / name): {} for name in inputs}
        of = Named(rule=rule, wildcards=Named(**wildcards), params=Named(), threads=1, output=list(map(str, paths)))
        write_records(of, given, seconds)

    job("fetch", ["own.yaml"], ["model", "about"], 10.0)
    job("search", ["model", "about"], ["a"], 3.0, relation="a")
    job("search", ["model"], ["b"], 4.0, relation="b")
    job("gather", ["a", "b"], ["table"], 1.0)
    assert work_behind(tmp_path / "table") == (4, 18.0)
    assert work_behind(tmp_path / "a") == (2, 13.0)
    assert work_behind(tmp_path / "own.yaml") == (0, 0.0)
