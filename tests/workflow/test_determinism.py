"""A study gives the same numbers: in another run, cut into other jobs, and, within rounding, on other threads."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from copies import copy_workflow
from knowcirc.files import read_table

ROOT = Path(__file__).resolve().parents[2]
STUDY = "results-test/smollm2-135m"
QUICK = [
    "facts/known/country_language.parquet",
    "circuits/eap-ig/country_language.npz",
    "circuits/scores/country_language.csv",
    "components/ranks/country_language.parquet",
]
MADE = [
    *QUICK,
    "circuits/standing/country_language.npz",
    "circuits/eap-ig+acdc/country_language.npz",
    "traces/facts.parquet",
    "edits/rome.csv",
    "edits/ft.csv",
]
"""What is made again: a file of each heavy stage."""
PARTS = ["traces/parts", "traces/facts", "edits/rome", "edits/ft"]
"""What the jobs of such files leave for the next ones."""
TIMES = ["seconds"]
ROUNDING = 1e-3
"""Of numbers on another number of threads, which add up in another order: of the largest of their column."""


@pytest.fixture
def again(tmp_path: Path) -> Callable[..., Path]:
    """Makes files of the finished small study again in a copy of it, and gives the copy."""
    if not (ROOT / "results-test/checks.json").is_file():
        pytest.skip("the small study has not been run (make quick)")

    def run(files: list[str], *options: str, jobs: dict[str, int] | None = None) -> Path:
        folder = tmp_path / "again"
        copy_workflow(folder)
        shutil.copytree(ROOT / "results-test", folder / "results-test")
        shutil.copytree(ROOT / ".snakemake/metadata", folder / ".snakemake/metadata")
        for name, number in (jobs or {}).items():
            path = folder / "rules/common.smk"
            text, found = re.subn(rf"^{name} = \d+$", f"{name} = {number}", path.read_text("utf-8"), flags=re.MULTILINE)
            assert found == 1
            path.write_text(text, "utf-8")
        for name in files:
            (folder / STUDY / name).unlink()
        for name in PARTS:
            shutil.rmtree(folder / STUDY / name)
        command = [sys.executable, "-m", "snakemake", "--configfile", "config/test.yaml", "--cores", "2", *options]
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(folder / "workflow_scripts"),
        }
        targets = [f"{STUDY}/{name}" for name in files]
        done = subprocess.run(
            [*command, "--", *targets], cwd=folder, env=environment, capture_output=True, text=True, timeout=1800
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
        return folder

    return run


def columns(path: Path) -> dict[str, np.ndarray]:
    """What a file holds by name: the columns of a table, or arrays."""
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return {name: arrays[name] for name in arrays.files}
    table: pd.DataFrame = read_table(path)
    return {name: table[name].to_numpy() for name in table.columns if name not in TIMES}


@pytest.mark.slow
def test_another_run_of_other_jobs_gives_the_same_bytes(again: Callable[..., Path]) -> None:
    folder = again(MADE, jobs={"FACTS_PER_JOB": 1, "RECORDS_PER_JOB": 1})
    assert len(list((folder / STUDY / "traces/parts").glob("*.parquet"))) > 1  # they were cut otherwise
    assert len(list((folder / STUDY / "edits/rome").glob("*.csv"))) > 1
    for name in MADE:
        first, second = columns(ROOT / STUDY / name), columns(folder / STUDY / name)
        assert list(first) == list(second), name
        for column, values in first.items():
            assert values.dtype == second[column].dtype, (name, column)
            if values.dtype == object:
                assert values.tolist() == second[column].tolist(), (name, column)
            else:
                assert values.tobytes() == second[column].tobytes(), (name, column)


@pytest.mark.slow
def test_two_threads_give_the_same_numbers_but_for_rounding(again: Callable[..., Path]) -> None:
    rules = ("find_known_facts", "discover_circuits", "evaluate_circuits", "rank_answers")
    folder = again(QUICK, "--set-threads", *(f"{rule}=2" for rule in rules))
    for name in QUICK:
        first, second = columns(ROOT / STUDY / name), columns(folder / STUDY / name)
        assert list(first) == list(second), name
        for column, values in first.items():
            if values.dtype.kind == "f":
                size = np.nanmax(np.abs(values), initial=0)
                what = f"{name} {column}"
                np.testing.assert_allclose(second[column], values, rtol=0, atol=ROUNDING * size, err_msg=what)
            elif values.dtype.kind == "b":  # edges whose scores are next to equal may change places
                assert (values != second[column]).mean() <= ROUNDING, (name, column)
            else:
                assert values.tolist() == second[column].tolist(), (name, column)
