"""`knowcirc discover` with methods that score edges without a search, on a tiny model of every family."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from knowcirc import cli
from knowcirc.circuits.circuit_settings import CircuitSettings
from knowcirc.circuits.export import read_circuit
from knowcirc.circuits.finding import find_circuit
from knowcirc.circuits.methods import METHODS
from knowcirc.circuits.settings import PruningSection, SamplingSection
from knowcirc.facts.prompts import Prompt
from knowcirc.models.loading import load
from unit.tiny import MODELS

NEW = [name for name, method in METHODS.items() if method.options or name == "information-flow"]
FILE = "ids,answer_id,corrupted_ids,wrong_answer_id\n5 6 7 8,9,5 6 11 8,12\n5 6 11 8,12,5 6 7 8,9\n"
PROMPTS = [Prompt("", (5, 6, 7, 8), None, "", (9,)), Prompt("", (5, 6, 11, 8), None, "", (12,))]


class FewPruning(PruningSection):
    """Few steps, which are enough to see that it trains."""

    steps: int = 4


class FewSampling(SamplingSection):
    """The same."""

    steps: int = 4


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, kind in (("edge-pruning", FewPruning), ("ugs", FewSampling)):
        monkeypatch.setitem(METHODS, name, replace(METHODS[name], options=kind))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("method", NEW)
def test_the_command_finds_what_the_library_does(
    method: str, name: str, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("pairs.csv").write_text(FILE)
    ways = [([], "grouped", [PROMPTS[1], PROMPTS[0]]), (["--kv", "per_head"], "per_head", None)]
    for options, kv, partners in ways[: 2 if name == "llama" else 1]:
        given = ["--prompts", "pairs.csv"] if partners else ["--ids", "5,6,7,8", "--answer-id", "9"]
        command = ["discover", str(folders[name]), *given, *options, "--method", method, "--edges", "90"]
        assert cli.main([*command, "--dtype", "float64", "--out", "c.json", "--quiet"]) == 0
        model = load(folders[name], device="cpu", dtype="float64")
        graph, circuit = read_circuit(Path("c.json"))
        prompts = PROMPTS if partners else PROMPTS[:1]
        settings = CircuitSettings(method, share=90 / graph.n_edges)
        expected, about = find_circuit(model, graph, prompts, partners or [None], settings)
        assert graph.kv == kv
        np.testing.assert_array_equal(circuit.edges, expected.edges)
        written = json.loads(Path("c.json").read_text())
        assert written["prompt_passes"] == about["prompt_passes"]
        if METHODS[method].blind:
            assert "metric" not in written
            continue
        usual = ("kl" if METHODS[method].learned else "logit-diff", "patch")
        alone = ("kl" if METHODS[method].learned else "nll", "zero")
        assert (written["metric"], written["ablation"]) == (usual if partners else alone)
        assert f"{written['metric']} (" in capsys.readouterr().out
