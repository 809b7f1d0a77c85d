"""Every method and every editor from the command line, on a tiny model of every family."""

from pathlib import Path

import numpy as np
import pytest

from knowcirc import cli
from knowcirc.circuits.export import read_circuit
from knowcirc.circuits.methods import METHODS
from knowcirc.editing.editors import EDITORS
from knowcirc.editing.evaluation import read_said
from knowcirc.models.loading import load
from unit.tiny import MODELS

TEXT = "the language of France is"


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_a_circuit(method: str, name: str, folders: dict[str, Path]) -> None:
    size = [] if method == "acdc" else ["--edges", "60"]
    asked = ["--prompt", TEXT, "--answer", "French", "--method", method, *size]
    assert cli.main(["discover", str(folders[name]), *asked, "--out", "circuit.json", "--quiet"]) == 0
    graph, circuit = read_circuit(Path("circuit.json"))
    assert circuit.method == method
    assert not (circuit.edges & ~graph.valid).any()
    assert 0 < circuit.n_edges <= (graph.n_edges if method == "acdc" else 60)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("editor", EDITORS)
def test_every_editor_changes_what_is_said(editor: str, name: str, folders: dict[str, Path]) -> None:
    entry = EDITORS[editor]
    fact = ["--prompt", "the language of {} is", "--subject", "France", "--target", "Spanish", "--editor", editor]
    fact += ["--layer", "1"] if entry.layered else []
    fact += ["--span", "1"] if "span" in entry.chosen else []
    fact += ["--moment-tokens", "2000"] if entry.moments else []
    fact += (
        ["--nullspace-threshold", "1e6"] if "nullspace_threshold" in entry.chosen else []
    )  # random keys are all large
    assert cli.main(["edit", str(folders[name]), *fact, "--out", "edited", "--quiet"]) == 0
    before = Path("edited/before.txt").read_text() if entry.in_context else ""
    folder = folders[name] if entry.in_context else Path("edited")
    said = [probability(folders[name], TEXT), probability(folder, before + TEXT)]
    assert np.isfinite(said).all()
    assert said[0] != said[1]


def probability(folder: Path, text: str) -> float:
    """Of the target after a text."""
    (said,) = read_said(load(folder, device="cpu"), [(text, "Spanish")])
    return said.p
