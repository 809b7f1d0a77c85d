"""The circuit of one prompt, or of several together, by any method: one entry for the study and its analyses.

| method | what | goes by |
|---|---|---|
| `standing` | learned scores, measured removals (`standing.py`) | `share`, `standing` |
| `acdc` | exact ACDC (`acdc.py`) | `rule`, on the first `prompts` |
| `eap-ig+acdc` | exact ACDC on the strongest edges by EAP-IG | `rule`, `share`, on the first `prompts` |
| `eap`, `eap-ig`, `eap-ig-zero` | the strongest edges by attribution | `share` |
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from knowcirc.circuits.acdc import Progress
from knowcirc.circuits.discovery import Circuit, discover
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.searching import AcdcSettings, describe_search, refine, search_circuit
from knowcirc.circuits.standing_files import search_standing, settings_for
from knowcirc.facts.prompts import Prompt
from knowcirc.models.loading import LanguageModel

Find = Callable[[LanguageModel, Prompt], Circuit]
BY_RULE = ("acdc", "eap-ig+acdc")


@dataclass(frozen=True, slots=True)
class CircuitSettings:
    """How circuits are found.

    `rule` is ACDC's (`AcdcSettings`), `share` the share of the edges in the circuit (or searched by `eap-ig+acdc`),
    `prompts` how many prompts ACDC takes at most, `standing` holds metric, ablation and fields of `StandingSettings`.
    """

    method: str
    rule: dict[str, object] | None = None
    share: float | None = None
    prompts: int | None = None
    standing: dict[str, Any] = field(default_factory=dict)

    @property
    def tau(self) -> float | None:
        """ACDC's threshold, in its metric's unit."""
        return None if self.rule is None else float(str(self.rule["tau"]))

    def n_edges(self, graph: Graph) -> int:
        """How many edges the share is.

        Raises:
            ValueError: if the settings have none.
        """
        if self.share is None:
            raise ValueError(f"method {self.method} needs a share of the edges")
        return max(1, round(self.share * graph.n_edges))


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
    report: Callable[[Progress], None] | None = None,
) -> tuple[Circuit, dict[str, object]]:
    """The circuit of the prompts together, and what is said of its search.

    `state` is a file that keeps a search that is not finished; `sizes` are larger shares of the edges at which
    `standing` keeps its circuit.

    Raises:
        ValueError: if the settings lack what the method needs.
    """
    kept: dict[str, Any] = {"state": state, "report": report}
    if settings.method == "standing":
        own = dict(settings.standing)
        measures = {key: own.pop(key) for key in ("metric", "ablation") if key in own}
        how = replace(settings_for(graph, settings.n_edges(graph), seed), **own)
        return search_standing(model, graph, prompts, partners, how, sizes=sizes, **measures, **kept)
    if settings.method not in BY_RULE:
        n_edges = settings.n_edges(graph)
        return discover(model, graph, prompts, partners, method=settings.method, n_edges=n_edges, seed=seed), {}
    if settings.rule is None:
        raise ValueError(f"method {settings.method} needs a rule")
    rule = AcdcSettings(**settings.rule)  # type: ignore[arg-type]
    prompts, partners = prompts[: settings.prompts], partners[: settings.prompts]
    if settings.method == "eap-ig+acdc":
        return refine(model, graph, prompts, partners, rule, n_edges=settings.n_edges(graph), **kept), {}
    search, task = search_circuit(model, graph, prompts, partners, rule, **kept)
    return Circuit("acdc", search.edges, search.scores(graph)), describe_search(search, task, rule)
