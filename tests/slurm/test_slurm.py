"""A part of the small study on a Slurm cluster: it ends though a job is killed, and gives what a local run gives."""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from copies import copy_workflow
from slurm.cluster import cluster, lacking

ROOT = Path(__file__).resolve().parents[2]
TABLES = ("known_facts", "causal_effects")
TARGETS = [f"results-micro/smollm2-135m/tables/{name}.csv" for name in TABLES]
FILES = ["--configfile", "config/test.yaml", "micro.yaml"]
pytestmark = pytest.mark.slurm


def project(folder: Path) -> Path:
    """A copy of the workflow, with the model where the small study has fetched it."""
    held = ROOT / "results-test/models/smollm2-135m"
    if not (held / "provenance.json").is_file():
        pytest.skip("the small study's model is not there (make quick)")
    copy_workflow(folder)
    shutil.copy2(Path(__file__).with_name("micro.yaml"), folder)
    shutil.copytree(held, folder / "results-micro/models/smollm2-135m")
    return folder


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    paths = f"{Path(sys.executable).parent}{os.pathsep}{variables.pop('PATH', os.environ['PATH'])}"
    environment = {**os.environ, "PATH": paths, "PYTHONPATH": str(folder / "workflow_scripts"), **variables}
    command = [sys.executable, "-m", "snakemake", *FILES, *arguments, "--", *TARGETS]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1200)


class Killer(threading.Thread):
    """Cancels the first job of a rule that it sees at work."""

    def __init__(self, rule: str, variables: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self.rule, self.environment, self.killed = rule, {**os.environ, **variables}, ""

    def run(self) -> None:
        while not self.killed:
            time.sleep(0.3)
            form = ["squeue", "-h", "-t", "R", "-o", "%i %k"]
            listed = subprocess.run(form, env=self.environment, capture_output=True, text=True).stdout
            for line in listed.splitlines():
                number, _, comment = line.partition(" ")
                if self.rule in comment:
                    subprocess.run(["scancel", number], env=self.environment, check=True)
                    self.killed = number
                    return


def test_a_study_on_a_cluster_is_the_local_one_though_a_job_is_killed(tmp_path: Path) -> None:
    if missing := lacking():
        pytest.skip(f"Slurm cannot be started here: no {', '.join(missing)}")
    local, remote = project(tmp_path / "local"), project(tmp_path / "remote")
    done = run(local)
    assert done.returncode == 0, done.stdout + done.stderr
    with cluster(tmp_path / "cluster") as variables:
        killer = Killer("trace_facts", variables)
        killer.start()
        done = run(remote, "--workflow-profile", "profiles/slurm", "--config", "device=cpu", **variables)
    assert done.returncode == 0, (done.stdout + done.stderr)[-8000:]
    assert killer.killed, "no job was at work long enough to be killed"
    assert "Trying to restart job" in done.stdout + done.stderr
    for target in TARGETS:
        assert (remote / target).read_bytes() == (local / target).read_bytes()
