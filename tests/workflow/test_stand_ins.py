"""The papers' study, every stage of it, on models of their architectures: few layers, drawn weights, no network."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from stand_ins.project import make

MODELS = ("gpt2-medium", "tinyllama-1.1b-3t")  # a family each
FILES = [f"config/{name}.yaml" for name in ("lre", "paper", "stand-ins")]


@pytest.mark.slow
def test_the_papers_study_runs_to_its_end(tmp_path: Path) -> None:
    make(tmp_path, MODELS)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(tmp_path / "workflow_scripts"),
        "https_proxy": "http://127.0.0.1:9",
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-m", "snakemake", "--configfile", *FILES]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1800, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    assert json.loads((tmp_path / "results/checks.json").read_text("utf-8"))["failed"] == 0
    shutil.rmtree(tmp_path / "models")
    for model in MODELS:
        tables = {path.stem: pd.read_csv(path) for path in (tmp_path / f"results/{model}/tables").glob("*.csv")}
        assert set(tables["zsre_scores"]["editor"]) == set(tables["editing_scores"]["editor"])
        efficacy = tables["editing_scores"].set_index("editor")["EM"]
        assert efficacy["rome"] > efficacy["none"]
        asked = tables["zsre_scores"].set_index("editor")
        assert asked.loc["rome", "efficacy"] > asked.loc["none", "efficacy"]
        own = tables["paper_comparison"].query("comparison == 'same model'")
        assert own["verdict"].isin(["within", "outside"]).any()
        circuits = tables["circuit_hit_at_10"]
        assert set(circuits["method"]) >= {"acdc", "standing", "eap-ig"}
        assert (circuits["n_edges"] > 0).all()
