"""A study of a few jobs, run as `make` runs one, in a session of its own that can be killed."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from copies import copy_workflow

ROOT = Path(__file__).resolve().parents[2]
RESULTS = "results-micro"
TABLES = [f"{RESULTS}/smollm2-135m/tables/{name}.csv" for name in ("known_facts", "causal_effects")]
MODEL = f"{RESULTS}/models/smollm2-135m"
PATIENCE = 1200.0  # seconds that a run may take


def project(folder: Path) -> Path:
    """A copy of the workflow, with the model where the small study has fetched it."""
    held = ROOT / "results-test/models/smollm2-135m"
    if not (held / "provenance.json").is_file():
        pytest.skip("the small study's model is not there (make quick)")
    copy_workflow(folder)
    shutil.copy2(ROOT / "tests/slurm/micro.yaml", folder)
    shutil.copytree(held, folder / MODEL)
    return folder


def start(folder: Path) -> subprocess.Popen[bytes]:
    """A run of the study that goes on from what is there, its output in `run.log`."""
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": paths, "PYTHONPATH": str(folder / "workflow_scripts")}
    command = [sys.executable, "-m", "knowcirc.runlock", ".snakemake/run.lock", sys.executable, "-m", "snakemake"]
    command += ["--nolock", "--configfile", "config/test.yaml", "micro.yaml", "--", *TABLES]
    with (folder / "run.log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=heed_interrupts,
        )


def heed_interrupts() -> None:
    """Undo what a shell does for what it runs in the background: Ctrl-C is ignored there."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def finish(folder: Path) -> tuple[int, str]:
    """Run the study to its end: the exit status, and what it said."""
    (folder / "run.log").unlink(missing_ok=True)
    status = start(folder).wait(PATIENCE)
    return status, (folder / "run.log").read_text("utf-8", "replace")


def tables(folder: Path) -> dict[str, bytes]:
    """The tables that the study is for."""
    return {name: (folder / name).read_bytes() for name in TABLES}


def jobs_of(run: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The processes that a run has started and that are at work."""
    try:
        return [each for each in psutil.Process(run.pid).children(recursive=True) if each.is_running()]
    except psutil.NoSuchProcess:
        return []


def left_of(folder: Path) -> list[psutil.Process]:
    """Processes of this machine that work in the study's folder."""
    found = []
    for process in psutil.process_iter(["cwd", "status"]):
        ended = process.info["status"] == psutil.STATUS_ZOMBIE
        if not ended and process.info["cwd"] == str(folder):
            found.append(process)
    return found


def kill(process: psutil.Process | subprocess.Popen[bytes]) -> bool:
    """SIGKILL a process; False if it had ended."""
    try:
        process.send_signal(signal.SIGKILL)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return False
    return True
