"""The registry of methods that find circuits: every entry keeps what it promises to the study, figures and commands."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from knowcirc.circuits.circuit_settings import CircuitSettings
from knowcirc.circuits.evaluation import sized_circuits
from knowcirc.circuits.finding import find_circuit
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.methods import METHODS, RANDOM, Method, settings_in
from knowcirc.configuration.checks import setting_errors
from knowcirc.facts.prompts import Prompt
from knowcirc.models.loading import LanguageModel
from knowcirc.plots import style
from knowcirc.plots.methods import look

ROOT = Path(__file__).parents[2]
SMALL = {"share": 0.3, "standing": {"steps": 40, "polish": 1}, "prompts": 2}
FEW = {"steps": 3}


@pytest.fixture(params=METHODS.values(), ids=lambda method: method.name)
def method(request: pytest.FixtureRequest) -> Method:
    """Every method in turn."""
    found: Method = request.param
    return found


def settings_of(method: Method, config: dict[str, Any]) -> CircuitSettings:
    """The study's settings, smaller."""
    given: dict[str, Any] = settings_in(config, method.name)
    if FEW.keys() <= given.get("options", {}).keys():
        given["options"] = given["options"] | FEW
    return CircuitSettings(**given | {name: value for name, value in SMALL.items() if name in given})  # type: ignore[arg-type]


def test_a_method_finds_a_connected_circuit_of_its_name(
    method: Method, config: dict[str, Any], load_tiny: Callable[..., LanguageModel]
) -> None:
    model = load_tiny("llama", dtype="float64")
    graph = Graph.of(model.transformer.shape, "grouped")
    prompts = [Prompt(f"prompt {i}", (0, 5, i, 7), None, f" {i}", (i + 1,)) for i in (3, 4)]
    settings = settings_of(method, config)
    circuit, about = find_circuit(model, graph, prompts, [None, None], settings, seed=1, sizes=(0.5,))
    again, _ = find_circuit(model, graph, prompts, [None, None], settings, seed=1, sizes=(0.5,))
    assert circuit.method == method.name
    assert float(str(about["prompt_passes"])) >= (method.name != RANDOM)
    np.testing.assert_array_equal(circuit.edges, again.edges)
    assert not (circuit.edges & ~graph.valid).any()
    if method.name != RANDOM:
        np.testing.assert_array_equal(graph.connected(circuit.edges), circuit.edges)
    if method.scored:
        assert circuit.scores is not None
    sizes = [int(edges.sum()) for edges in sized_circuits(graph, circuit, (0.1, 0.5, 1.0), seed=0)]
    assert sizes == sorted(sizes)
    if method.passes:
        share = 0.5 * circuit.n_edges / graph.n_edges
        smaller, _ = find_circuit(model, graph, prompts, [None, None], replace(settings, share=share), start=circuit)
        assert 0 < smaller.n_edges <= circuit.n_edges / 2
    else:
        with pytest.raises(ValueError, match="does not go on from a circuit"):
            find_circuit(model, graph, prompts, [None, None], settings, start=circuit)


def test_a_method_can_be_drawn(method: Method) -> None:
    colour, line, marker = look(method.name)
    assert colour == getattr(style, method.colour)
    assert line
    assert marker
    assert len({look(name) for name in METHODS}) == len(METHODS)


def test_the_schema_knows_the_methods(method: Method, config: dict[str, Any]) -> None:
    config["circuits"]["methods"] = [method.name]
    errors = setting_errors(config)
    assert bool(errors) == (method.name == RANDOM)


def test_an_unknown_method_is_refused(load_tiny: Callable[..., LanguageModel]) -> None:
    model = load_tiny("llama")
    with pytest.raises(ValueError, match="'magic' finds no circuits; choose one of standing, eap"):
        find_circuit(model, Graph.of(model.transformer.shape, "grouped"), [], [], CircuitSettings("magic"))


def test_reading_the_registry_imports_nothing_heavy() -> None:
    code = "import sys; import knowcirc.circuits.methods; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    environment = {"PYTHONPATH": str(ROOT / "workflow_scripts")}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
