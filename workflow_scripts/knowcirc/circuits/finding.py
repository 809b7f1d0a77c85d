"""The circuit of one prompt by any method: exact ACDC, attribution, ACDC on what attribution leaves, or `standing`."""

from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class CircuitSettings:
    """How a circuit is found: `acdc` goes by a `rule`, attribution by a `share` of the edges, `eap-ig+acdc` by both.

    `standing` goes by a share, too; its rule may hold a metric and an ablation.
    """

    method: str
    rule: dict[str, object] | None = None
    share: float | None = None

    @property
    def tau(self) -> float | None:
        """ACDC's threshold, in its metric's unit."""
        return None if self.rule is None or "tau" not in self.rule else float(str(self.rule["tau"]))


def finder(graph: Graph, settings: CircuitSettings) -> Find:
    """What finds the circuits of single prompts without a partner, against the zero baseline."""
    return lambda model, prompt: find_circuit(model, graph, prompt, None, settings)[0]


def find_circuit(
    model: LanguageModel,
    graph: Graph,
    prompt: Prompt,
    partner: Prompt | None,
    settings: CircuitSettings,
    state: Path | None = None,
    report: Callable[[Progress], None] | None = None,
) -> tuple[Circuit, dict[str, object]]:
    """The circuit, and what is said of its search; `state` is a file that keeps a search that is not finished.

    Raises:
        ValueError: if the settings lack what the method needs.
    """
    by_rule, by_share = settings.method in ("acdc", "eap-ig+acdc"), settings.method != "acdc"
    if (by_rule and settings.rule is None) or (by_share and settings.share is None):
        raise ValueError(f"method {settings.method} needs {'a rule' if by_rule else 'a share of the edges'}")
    n_edges = round((settings.share or 0.0) * graph.n_edges)
    if settings.method == "standing":
        how = settings_for(graph, max(1, n_edges))
        measures: dict[str, Any] = settings.rule or {}
        return search_standing(model, graph, [prompt], [partner], how, state=state, report=report, **measures)
    if not by_rule:
        return discover(model, graph, [prompt], [partner], method=settings.method, n_edges=n_edges, seed=0), {}
    rule = AcdcSettings(**settings.rule)  # type: ignore[arg-type]
    if by_share:
        return refine(model, graph, [prompt], [partner], rule, n_edges=n_edges, state=state, report=report), {}
    search, task = search_circuit(model, graph, [prompt], [partner], rule, state=state, report=report)
    return Circuit("acdc", search.edges, search.scores(graph)), describe_search(search, task, rule)
