"""Where the workflow may lie and where it may be run from; one run at a time in a folder; models of this machine."""

import csv
import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
import yaml

from copies import copy_workflow
from knowcirc import runlock
from knowcirc.places import check_python

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = "results/manifest.json"


def snakemake(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A run of Snakemake that finds no library but the workflow's own."""
    outside = {"PYTHONPATH": "", "HF_HUB_OFFLINE": "1", "https_proxy": "http://127.0.0.1:9"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *arguments]
    environment = {**os.environ, **outside, "PATH": path}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=180, check=False)


def text_of(done: subprocess.CompletedProcess[str], code: int = 0) -> str:
    """What it said; it must have ended with this code."""
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    return said


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the workflow in a folder whose name has a space."""
    copy_workflow(tmp_path / "a clone")
    return tmp_path / "a clone"


def test_a_clone_in_a_folder_with_spaces_runs_jobs_from_elsewhere_too(clone: Path, tmp_path: Path) -> None:
    text_of(snakemake(MANIFEST, cwd=clone))
    assert (clone / MANIFEST).is_file()
    other = tmp_path / "other"
    (other / "config").mkdir(parents=True)
    (other / "config/config.yaml").write_text("circuits: { methods: [standing] }\n", "utf-8")
    from_there = ["--snakefile", str(clone / "Snakefile")]
    text_of(snakemake(*from_there, MANIFEST, cwd=other))
    assert yaml.safe_load((other / MANIFEST).read_text("utf-8"))["methods"] == ["standing"]
    (other / "config/config.yaml").unlink()
    said = text_of(snakemake(*from_there, "--dry-run", "--directory", str(other), cwd=tmp_path))
    assert f"{clone}/config/facts/country_language.yaml" in said


def test_another_workflow_may_have_the_study_as_a_module(tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(
        f"module study:\n    snakefile: {str(ROOT / 'Snakefile')!r}\n"
        '    config: {"outdir": "circuits", "circuits": {"methods": ["standing"]}}\n\n'
        "use rule * from study as study_*\n",
        "utf-8",
    )
    text_of(snakemake("circuits/manifest.json", cwd=tmp_path))
    assert yaml.safe_load((tmp_path / "circuits/manifest.json").read_text("utf-8"))["methods"] == ["standing"]
    said = text_of(snakemake("--dry-run", "study_all", cwd=tmp_path))
    assert "study_trace_facts" in said


@pytest.mark.parametrize("path", ["/a clone/.venv/bin/python", "/it's/python", "/a$b/python"])
def test_a_python_that_snakemake_cannot_call_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="whose path has spaces or the like; put"):
        check_python(path)
    check_python("/usr/bin/python3.11")


def test_one_run_works_in_a_folder_whoever_started_it(clone: Path) -> None:
    lock = clone / runlock.FILE
    lock.parent.mkdir()
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        said = text_of(snakemake(MANIFEST, cwd=clone), code=1)
        assert f"another run is at work in {clone}; wait for it, or stop it" in said
        assert not (clone / MANIFEST).exists()
        text_of(snakemake("--dry-run", MANIFEST, cwd=clone))
    command = [sys.executable, "-m", "knowcirc.runlock", str(runlock.FILE), "snakemake", "--nolock", "--cores", "1"]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([*command, MANIFEST], cwd=clone, env=environment, capture_output=True, text=True, check=False)
    text_of(done)
    assert (clone / MANIFEST).is_file()


def test_a_lock_goes_with_its_process_and_is_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "run.lock"
    ready = "from knowcirc.runlock import take; import sys, time; take(__import__('pathlib').Path(sys.argv[1]))"
    command = [sys.executable, "-c", f"{ready}; print('held', flush=True); time.sleep(60)", str(lock)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match="another run is at work in"):
            runlock.take(lock)
        monkeypatch.setenv(runlock.HOLDER, str(lock))  # as where it was taken for this very process
        runlock.take(lock)
        monkeypatch.delenv(runlock.HOLDER)
        other.kill()
    held: list[IO[str]] = []
    monkeypatch.setattr(runlock, "_held", held)
    runlock.take(lock)
    with lock.open("a") as handle, held[0], pytest.raises(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def add_model(folder: Path, **values: str) -> None:
    """A further row of the table of models: the default model's, changed."""
    path = folder / "config/models.tsv"
    lines = path.read_text("utf-8").splitlines()
    rows = list(csv.DictReader([line for line in lines if not line.startswith("#")], delimiter="\t"))
    new = {**rows[0], "source": "local", "revision": "", "sha256": "", **values}
    path.write_text("\n".join([*lines, "\t".join(new.values())]) + "\n", "utf-8")


def test_a_model_of_this_machine_is_fetched_again_when_its_files_change(clone: Path) -> None:
    add_model(clone, model="mine", location="own/mine")
    source, fetched = clone / "own/mine", clone / "results/models/mine/provenance.json"
    target = ["--dry-run", str(fetched.relative_to(clone)), "--config", "models=[mine]"]
    source.mkdir(parents=True)
    fetched.parent.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "README.md"):
        (source / name).write_text(name, "utf-8")
        os.utime(source / name, (1e9, 1e9))
    fetched.write_text("{}", "utf-8")
    assert "Nothing to be done" in text_of(snakemake(*target, cwd=clone))
    later = fetched.stat().st_mtime + 10
    (source / "config.json").write_text("{}", "utf-8")
    os.utime(source / "config.json", (later, later))
    assert "Updated input files: own/mine/config.json" in text_of(snakemake(*target, cwd=clone))


def test_a_models_folder_that_is_not_there_is_said_before_anything_runs(clone: Path) -> None:
    add_model(clone, model="mine", location="own/mine")
    said = text_of(snakemake("--config", "models=[mine]", cwd=clone), code=1)
    assert "model mine: there is no folder own/mine" in said
    assert not (clone / "results/models").exists()
