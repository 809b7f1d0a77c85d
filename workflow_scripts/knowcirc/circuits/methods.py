"""The registry of methods that find circuits: what finds them, by which settings, at what cost, and how it is drawn.

A new method is a module with a function like `discovery.find_attributed`, and an entry here. Nothing here imports
torch: the workflow reads the registry on every start.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from knowcirc.circuits.settings import ActivationsSection, PruningSection, RelevanceSection, SamplingSection
from knowcirc.fields import Section, value_at

GRADIENTS = "circuits.attribution:score_edges"
Line = str | tuple[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Attribution:
    """How edges are scored without a search: in how many steps from the baseline (1: on the clean prompt alone).

    `from_nothing`: the baseline is zero and the metric `nll` whatever partners there are. `scorer` ("module:function"
    below `knowcirc`) gives the scores of some prompts, like `attribution.score_edges`. `blind`: it reads the clean run
    alone, no answer, no metric and no baseline. `everywhere`: it takes its steps for every layer's heads and MLP.
    `finish` ("module:function") makes the final scores of the mean over prompts, where they are not that mean.
    """

    steps: int = 1
    from_nothing: bool = False
    scorer: str = GRADIENTS
    blind: bool = False
    everywhere: bool = False
    finish: str | None = None

    @property
    def stepped(self) -> bool:
        """Whether `steps` are the scorer's; other scorers have settings of their own."""
        return self.scorer == GRADIENTS

    @property
    def on_clean(self) -> bool:
        """Whether gradients are taken on the clean prompt alone, where a divergence from it has no slope."""
        return self.steps == 1 and not self.blind and not self.everywhere


@dataclass(frozen=True, slots=True)
class Method:
    """A method that finds circuits.

    `find` ("module:function" below `knowcirc`) gives the circuit of prompts and what is said of its search. `settings`
    are the fields of `CircuitSettings` that it goes by, each with its place in the configuration; of a place that ends
    in {a,b} these keys alone. `scored`: it
    scores every edge, so that a circuit of any size follows. `passes`: its search passes circuits of other sizes and
    keeps them. `attribution` says how it scores edges by one pass or a few, where it does; `learned`: it trains a mask
    of the edges. `options` are the settings of its own (a class of `settings`), where it has any. `colour` (a name of
    `plots.style`), `line` and `marker` draw it.
    """

    name: str
    find: str
    settings: Mapping[str, str]
    colour: str
    line: Line
    marker: str
    scored: bool = False
    passes: bool = False
    attribution: Attribution | None = None
    learned: bool = False
    options: type[Section] | None = None

    @property
    def tests(self) -> bool:
        """Whether it tests edges one by one, by ACDC's rule."""
        return "criterion" in self.settings

    @property
    def blind(self) -> bool:
        """Whether it reads no metric and no ablation."""
        return not (self.together or self.learned) and (self.attribution is None or self.attribution.blind)

    @property
    def together(self) -> bool:
        """Whether it has one metric and one ablation for all prompts."""
        return self.tests or self.passes


SHARE = {"share": "circuits/share"}
CRITERION = {"criterion": "circuits/acdc/{tau,metric,absolute,ablation}", "prompts": "circuits/acdc/prompts"}
ATTRIBUTED = "circuits.discovery:find_attributed"
STANDING, EXACT, REFINED, RANDOM = "standing", "acdc", "eap-ig+acdc", "random"
LEARNED = "circuits.learned:find_learned"
INTEGRATED, FROM_NOTHING = "eap-ig", "eap-ig-zero"  # searches rank edges by these, too

METHODS = {
    method.name: method
    for method in (
        Method(
            STANDING,
            "circuits.standing_files:find_standing",
            SHARE | {"standing": "circuits/standing"},
            *("BLACK", "-", "p"),
            passes=True,
        ),
        Method("eap", ATTRIBUTED, SHARE, "ORANGE", "--", "s", scored=True, attribution=Attribution(1)),
        Method(INTEGRATED, ATTRIBUTED, SHARE, "BLUE", "-", "o", scored=True, attribution=Attribution(5)),
        Method(
            FROM_NOTHING,
            ATTRIBUTED,
            SHARE,
            *("SKY", (0, (3, 1)), "v"),
            scored=True,
            attribution=Attribution(5, from_nothing=True),
        ),
        Method(
            "eap-ig-activations",
            ATTRIBUTED,
            SHARE | {"options": "circuits/eap_ig_activations"},
            *("BLUE", (0, (1, 1)), "P"),
            scored=True,
            attribution=Attribution(scorer="circuits.activations:score_edges", everywhere=True),
            options=ActivationsSection,
        ),
        Method(
            "relp",
            ATTRIBUTED,
            SHARE | {"options": "circuits/relp"},
            *("PURPLE", "-", "<"),
            scored=True,
            attribution=Attribution(scorer="circuits.relevance:score_edges"),
            options=RelevanceSection,
        ),
        Method(
            "information-flow",
            ATTRIBUTED,
            SHARE,
            *("YELLOW", (0, (2, 1)), "h"),
            scored=True,
            attribution=Attribution(
                from_nothing=True, scorer="circuits.flow:score_edges", blind=True, finish="circuits.flow:as_route"
            ),
        ),
        Method(
            "edge-pruning",
            LEARNED,
            SHARE | {"options": "circuits/edge_pruning"},
            *("VERMILION", "-", "*"),
            scored=True,
            learned=True,
            options=PruningSection,
        ),
        Method(
            "ugs",
            LEARNED,
            SHARE | {"options": "circuits/ugs"},
            *("GREEN", "-", "d"),
            scored=True,
            learned=True,
            options=SamplingSection,
        ),
        Method(
            REFINED,
            "circuits.searching:find_refined",
            CRITERION | {"share": "circuits/acdc/share"},
            *("VERMILION", "-.", "D"),
        ),
        Method(EXACT, "circuits.searching:find_exact", CRITERION, "GREEN", (0, (5, 1, 1, 1, 1, 1)), "^"),
        Method(RANDOM, ATTRIBUTED, SHARE, "GREY", ":", "X"),
    )
}


def settings_in(config: Mapping[str, Any], method: str) -> dict[str, object]:
    """The settings that a study gives to a method, as `CircuitSettings` takes them."""
    return {"method": method} | {name: _at(config, place) for name, place in METHODS[method].settings.items()}


def _at(config: Mapping[str, Any], place: str) -> object:
    path, _, keys = place.partition("/{")
    value = value_at(config, path)
    return {key: value[key] for key in keys.rstrip("}").split(",")} if keys else value
