"""The circuit of one prompt, or of several together, by any method of the registry (`methods.py`)."""

from collections.abc import Callable, Sequence
from pathlib import Path

from knowcirc.circuits.acdc import Progress
from knowcirc.circuits.circuit import Circuit
from knowcirc.circuits.circuit_settings import CircuitSettings
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.methods import METHODS
from knowcirc.facts.prompts import Prompt
from knowcirc.functions import function_of
from knowcirc.models.loading import LanguageModel

Find = Callable[[LanguageModel, Prompt], Circuit]


def finder(graph: Graph, settings: CircuitSettings, seed: int = 0) -> Find:
    """What finds the circuits of single prompts without a partner, against the zero baseline."""
    return lambda model, prompt: find_circuit(model, graph, [prompt], [None], settings, seed=seed)[0]


def find_circuit(
    model: LanguageModel,
    graph: Graph,
    prompts: Sequence[Prompt],
    partners: Sequence[Prompt | None],
    settings: CircuitSettings,
    *,
    seed: int = 0,
    sizes: Sequence[float] = (),
    state: Path | None = None,
    start: Circuit | None = None,
    report: Callable[[Progress], None] | None = None,
) -> tuple[Circuit, dict[str, object]]:
    """The circuit of the prompts together, and what is said of its search.

    `state` is a file that keeps a search that is not finished; `sizes` are larger shares of the edges at which a method
    that passes them keeps its circuit. Such a method can begin with another circuit of its own (`start`).

    Raises:
        ValueError: for a method that is not in the registry or cannot begin with a circuit, or settings that lack what
            it needs.
        NoCircuitError: if there is none of the size that was asked for.
    """
    if settings.method not in METHODS:
        raise ValueError(f"method {settings.method!r} finds no circuits; choose one of {', '.join(METHODS)}")
    if start is not None and not METHODS[settings.method].passes:
        raise ValueError(f"method {settings.method} does not go on from a circuit")
    find = function_of(METHODS[settings.method].find)
    begin = {} if start is None else {"start": start}
    found: tuple[Circuit, dict[str, object]] = find(
        model, graph, prompts, partners, settings, seed=seed, sizes=sizes, state=state, report=report, **begin
    )
    return found
