"""Bad inputs as data (`cases.yaml`): each ends in its line and the right exit code, and nothing is written."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inputs import running
from inputs.table import SECTIONS, page, read_cases

CASES = read_cases()
FACT = ["--prompt", "the language of France is", "--answer", "French"]
LEAST = 120  # cases


def of(kind: str) -> pytest.MarkDecorator:
    """A test for each case of a kind."""
    return pytest.mark.parametrize("case", CASES[kind], ids=[str(number) for number in range(len(CASES[kind]))])


@pytest.fixture
def model(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny model's folder; the test works in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return folders["llama"]


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], None]:
    """Makes reading the weights a failure, unless the case says that they are."""

    def watch(case: dict[str, Any]) -> None:
        if not case.get("loads"):
            monkeypatch.setattr("knowcirc.commands.models.load", lambda *_, **__: pytest.fail("the weights were read"))

    return watch


def check(case: dict[str, Any], said: str, folder: Path, *written: str) -> None:
    """The case's line was said, alone; there is nothing in the folder but what the test wrote."""
    assert case["says"] in said
    assert "\n" not in said
    assert sorted(path.name for path in folder.iterdir()) == sorted(written)


def test_there_are_many_cases_and_none_twice() -> None:
    assert list(CASES) == list(SECTIONS)
    inputs = [(kind, str(case["input"])) for kind, cases in CASES.items() for case in cases]
    assert len(inputs) >= LEAST
    assert len(set(inputs)) == len(inputs)


def test_the_page_lists_the_cases() -> None:
    """`python tests/inputs/table.py > tests/README.md` writes it anew."""
    assert (running.ROOT / "tests/README.md").read_text("utf-8") == page()


@of("settings")
def test_settings(case: dict[str, Any]) -> None:
    assert case["says"] in running.study(case["input"])


@of("typed")
def test_typed_settings(case: dict[str, Any]) -> None:
    assert case["says"] in running.study("", case["input"])


@pytest.mark.parametrize(
    ("name", "case"), [(name, case) for name in ("models.tsv", "editors.tsv") for case in CASES[name]]
)
def test_tables(name: str, case: dict[str, Any], tmp_path: Path) -> None:
    check(case, running.table(name, *case["input"], tmp_path), tmp_path, name)


@of("relation")
def test_relation_files(case: dict[str, Any], tmp_path: Path) -> None:
    check(case, running.relation(case["input"], tmp_path), tmp_path, "capital.yaml")


@of("command")
def test_commands(case: dict[str, Any], model: Path, tmp_path: Path, reading: Callable[..., None]) -> None:
    reading(case)
    check(case, running.command(case["input"], model), tmp_path)


@of("prompts")
def test_files_of_prompts(case: dict[str, Any], model: Path, tmp_path: Path, reading: Callable[..., None]) -> None:
    reading(case)
    given = case["input"]
    data = given.encode() if isinstance(given, str) else given["latin-1"].encode("latin-1")
    (tmp_path / "p.csv").write_bytes(data)
    said = running.command(["lens", running.MODEL, "--prompts", "p.csv", "--out", "t.csv"], model)
    check(case, said, tmp_path, "p.csv")


@of("edits")
def test_files_of_edits(case: dict[str, Any], model: Path, tmp_path: Path, reading: Callable[..., None]) -> None:
    reading(case)
    (tmp_path / "e.csv").write_text(case["input"], "utf-8")
    said = running.command(["edit", running.MODEL, "--edits", "e.csv", "--layer", "0", "--out", "e"], model)
    check(case, said, tmp_path, "e.csv")


@of("folder")
def test_model_folders(case: dict[str, Any], model: Path, tmp_path: Path, reading: Callable[..., None]) -> None:
    reading(case)
    changed = running.changed_model(case["input"], model, tmp_path / "changed")
    check(case, running.command(["lens", running.MODEL, *FACT, "--out", "t.csv"], changed), tmp_path, "changed")


@of("circuit")
def test_circuit_files(case: dict[str, Any], model: Path, tmp_path: Path, reading: Callable[..., None]) -> None:
    reading(case)
    (tmp_path / "c.json").write_text(case["input"], "utf-8")
    check(case, running.command(["evaluate", running.MODEL, "c.json", *FACT], model), tmp_path, "c.json")


@of("snakemake")
def test_snakemake(case: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "twice.yaml").write_text("seed: 1\nseed: 2\n", "utf-8")
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(running.ROOT / "Snakefile"), "--cores", "1"]
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(
        [*command, *case["input"]], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert sum(case["says"] in line for line in said.splitlines()) == 1, said
    assert not (tmp_path / "results").exists()
