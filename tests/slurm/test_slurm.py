"""A part of the small study on a Slurm cluster: it ends though a job is killed, and gives what a local run gives."""

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from copies import copy_with_tiny_model, copy_workflow
from slurm.cluster import cluster, lacking

ROOT = Path(__file__).resolve().parents[2]
TABLES = ("known_facts", "causal_effects")
TARGETS = [f"results-micro/smollm2-135m/tables/{name}.csv" for name in TABLES]
FILES = ["--configfile", "config/test.yaml", "micro.yaml"]
RELATIONS = ("country_language", "city_country", "country_capital")
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


def run(
    folder: Path, *arguments: str, files: list[str] = FILES, targets: list[str] = TARGETS, **variables: str
) -> subprocess.CompletedProcess[str]:
    paths = f"{Path(sys.executable).parent}{os.pathsep}{variables.pop('PATH', os.environ['PATH'])}"
    environment = {**os.environ, "PATH": paths, "PYTHONPATH": str(folder / "workflow_scripts"), **variables}
    command = [sys.executable, "-m", "snakemake", *files, *arguments, "--", *targets]
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


def asked(variables: dict[str, str]) -> list[dict[str, str]]:
    """What the cluster knows of all jobs so far."""
    command = ["scontrol", "show", "job", "--oneliner"]
    listed = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=True)
    return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in listed.stdout.splitlines()]


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
        traced = [each for each in asked(variables) if "rule_trace_facts" in each["Comment"]]
    assert done.returncode == 0, (done.stdout + done.stderr)[-8000:]
    assert killer.killed, "no job was at work long enough to be killed"
    assert "Trying to restart job" in done.stdout + done.stderr
    # tried again with twice the memory and the time
    assert [each["MinMemoryNode"] for each in traced] == ["6000M", "12000M"]
    assert [each["TimeLimit"] for each in traced] == ["00:20:00", "00:40:00"]
    for target in TARGETS:
        assert (remote / target).read_bytes() == (local / target).read_bytes()


def test_jobs_of_a_rule_can_be_one_array(tmp_path: Path, folders: dict[str, Path]) -> None:
    if missing := lacking():
        pytest.skip(f"Slurm cannot be started here: no {', '.join(missing)}")
    mirror = tmp_path / "mirror"
    shutil.copytree(folders["llama"], mirror / "models/someone/tiny")
    local, remote = tmp_path / "local", tmp_path / "remote"
    for folder in (local, remote):
        copy_with_tiny_model(folder, f"mirror: {mirror}\n")
    targets = [f"results-tiny/tiny/facts/known/{name}.parquet" for name in RELATIONS]
    given = {"files": ["--configfile", "tiny.yaml"], "targets": targets}
    done = run(local, **given)
    assert done.returncode == 0, done.stdout + done.stderr
    arrays = ["--slurm-array-jobs=find_known_facts", "--jobs", "1000"]
    with cluster(tmp_path / "cluster") as variables:
        done = run(
            remote, "--workflow-profile", "profiles/slurm", "--config", "device=cpu", *arrays, **given, **variables
        )
        jobs = asked(variables)
    assert done.returncode == 0, (done.stdout + done.stderr)[-8000:]
    tasks = [each for each in jobs if "ArrayTaskId" in each]
    assert sorted(each["ArrayTaskId"] for each in tasks) == ["1", "2", "3"]
    assert len({each["ArrayJobId"] for each in tasks}) == 1
    assert len(jobs) == 1 + len(tasks)  # the model is fetched by a job of its own
    for target in targets:
        assert (remote / target).read_bytes() == (local / target).read_bytes()
