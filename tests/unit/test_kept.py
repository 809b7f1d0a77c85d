"""Circuits that a job keeps: found once, with partners drawn among the prompts."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from knowcirc.circuits import kept
from knowcirc.circuits.acdc import Progress
from knowcirc.circuits.circuit_settings import CircuitSettings
from knowcirc.circuits.discovery import choose_partners
from knowcirc.circuits.finding import find_circuit
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.kept import KeptCircuits
from knowcirc.facts.prompts import fill
from knowcirc.files import Parts
from knowcirc.models.loading import LanguageModel
from knowcirc.seeding import derive

FACTS = (("France", "French"), ("Italy", "Italian"), ("Spain", "Spanish"))


def test_a_circuit_is_found_once_and_with_partners(
    model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = Graph.of(model.transformer.shape, "grouped")
    settings = CircuitSettings("eap", share=0.2)
    prompts = [fill(model.text, "people in {} speak", subject, answer) for subject, answer in FACTS]
    finder = KeptCircuits(model, graph, settings, Parts(tmp_path / "table.csv", "one"))
    found = finder.find_with_partners("languages", prompts, 3)
    seed = derive(3, "partners", "languages")
    partners = [prompts[i] for i in choose_partners(prompts, seed) if i is not None]
    expected, _ = find_circuit(model, graph, prompts, partners, settings, seed=seed)
    assert (found.edges == expected.edges).all()

    def fails(*arguments: object, **options: object) -> None:
        raise AssertionError("searched again")

    monkeypatch.setattr(kept, "find_circuit", fails)
    later = KeptCircuits(model, graph, settings, Parts(tmp_path / "table.csv", "one"))
    assert (later.find_with_partners("languages", prompts, 3).edges == found.edges).all()
    assert later.costs == finder.costs
    assert finder.costs["languages"]["passes"] == 4  # two runs, and a pass back through a third
    with pytest.raises(AssertionError, match="searched again"):
        later.find_with_partners("languages", prompts[:2], 3)  # other prompts are another circuit


def test_seconds_of_an_interrupted_search_are_added(
    model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = Graph.of(model.transformer.shape, "grouped")
    prompts = [fill(model.text, "people in {} speak", subject, answer) for subject, answer in FACTS]
    settings, plain = CircuitSettings("eap", share=0.2), kept.find_circuit

    def finder() -> KeptCircuits:
        return KeptCircuits(model, graph, settings, Parts(tmp_path / "table.csv", "one"))

    def interrupted(*arguments: object, state: Path, report: Callable[[Progress], None], **_: object) -> None:
        state.write_bytes(b"a search that is not finished")
        report(Progress(1, 1, 2, 1, 0.5))
        raise KeyboardInterrupt

    monkeypatch.setattr(kept, "NOTED", 0.0)
    monkeypatch.setattr(kept, "find_circuit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        finder().find("languages", prompts)
    (noted,) = (tmp_path / "table.csv.parts").glob("*.json")
    assert 0 < json.loads(noted.read_text()) < 60
    noted.write_text("1000.0")
    monkeypatch.setattr(kept, "find_circuit", plain)
    again = finder()
    again.find("languages", prompts)
    assert 1000 < again.costs["languages"]["seconds"] < 1060
