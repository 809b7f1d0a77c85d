"""The script for machines with a GPU, on the CPU: it runs from a bare checkout, and sees a device that is wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from device.agreement import _circuits, _edits, _trace
from device.shapes import SMALL, Model, prompts_of, save
from knowcirc.models.loading import LanguageModel, load

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_script_runs_on_a_cpu(tmp_path: Path) -> None:
    out = tmp_path / "found/device.json"
    command = [sys.executable, ROOT / "tests/device/run.py", "--tiny", "--device", "cpu", "--out", out]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text("utf-8"))
    assert len(found["agreement"]) == 4 * len({each["what"] for each in found["agreement"]})
    for shape in SMALL:
        assert {"EAP-IG", "standing circuit", "causal tracing", "ROME"} < set(found[shape.name])
        search = found[shape.name]["exact ACDC, one prompt"]
        assert search["tests"] > search["kept"] > 0
        assert not search["extrapolated"]
        assert found[shape.name]["exact ACDC, top quarter of the layers"]["extrapolated"]


@pytest.fixture(scope="module", params=SMALL, ids=lambda shape: shape.name)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[LanguageModel, ...]:
    """A model and another whose last MLP is a little off."""
    shape: Model = request.param
    folder = save(shape, tmp_path_factory.mktemp("device") / shape.name)
    here, there = (load(folder, device="cpu") for _ in range(2))
    there.transformer.blocks[-1].mlp.w_out.mul_(1.05)
    return here, there


def test_a_device_that_computes_something_else_does_not_agree(pair: tuple[LanguageModel, LanguageModel]) -> None:
    here, there = pair
    prompts = prompts_of(here, 3)
    for check in (_trace(prompts[0]), _circuits(prompts)["circuit alone"], _edits()["rome"]):
        apart, most = check(here, there)
        assert apart > most
        apart, most = check(here, here)
        assert apart <= most


def test_what_the_script_needs_is_pinned_as_everywhere() -> None:
    def pins(name: str) -> set[str]:
        lines = (ROOT / name).read_text("utf-8").splitlines()
        return {line for line in lines if "==" in line}

    assert len(pins("tests/device/packages.txt")) > 10
    assert pins("tests/device/packages.txt") <= pins("requirements.txt")
