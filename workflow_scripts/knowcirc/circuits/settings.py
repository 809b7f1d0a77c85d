"""How circuits are searched for: typed settings of the methods. Nothing here imports torch."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from knowcirc.circuits.choices import METRICS, Ablation, Metric
from knowcirc.fields import Count, Natural, NotNegative, Positive, Section, Share, setting

Part = Annotated[float, Field(gt=0, lt=1)]
"""Between 0 and 1."""
TAU = {"nll": 0.05, "kc-nll": 0.01}
"""ACDC's threshold where none is given, in the metric's unit: KC's, and what is about as much in nats."""


class AcdcSettings(Section):
    """How ACDC searches. `tau` is in the metric's unit (nats for `nll`, nats / (T - 1) for `kc-nll`)."""

    tau: NotNegative = setting(
        None,
        "what an edge must cost to stay",
        unit="the metric's",
        source="KC: 0.01 nats / (T - 1); also 0.02, 0.005",
        otherwise=", ".join(f"{tau} with {metric}" for metric, tau in TAU.items()),
    )
    metric: Metric = setting("nll", "what a lost edge costs: nll, kc-nll (nats / (T - 1)), kl or nll+kl")
    absolute: bool = setting(False, "absolute scores; false: an edge whose removal helps goes, too", source="KC's code")
    ablation: Ablation = setting("zero", "what absent edges deliver: zero, mean or patch", source="KC: zero")

    @model_validator(mode="before")
    @classmethod
    def _fill_in_tau(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("tau") is not None:
            return values
        metric = values.get("metric", cls.model_fields["metric"].default)
        if metric not in METRICS:
            return {**values, "tau": 0.0}  # the metric is what is wrong
        if metric not in TAU:
            raise ValueError(f"metric {metric} without tau; say what an edge must cost to stay")
        return {**values, "tau": TAU[metric]}


class StandingSteps(Section):
    """How the search for circuits that stand alone goes. Shares are of the graph's edges unless said otherwise."""

    first: Part = setting(0.25, "share of the present edges that a step tries to remove; at least half of these go")
    later: Part = setting(0.07, "the same once fewer than `turn` are left and the metric is worse by `ease`")
    turn: Part = setting(0.3, "share of the edges below which `later` may hold")
    ease: NotNegative = setting(0.2, "how far above the whole model's metric `later` begins", unit="the metric's")
    groups: Count = setting(8, "groups in which removals are measured")
    returned: Part = setting(0.02, "share of the present edges that a step tries to return")
    return_groups: Count = setting(4, "groups in which returns are measured")
    nodes: Natural = setting(6, "whole nodes that a step tries to remove")
    rate: Part = setting(0.03, "what scores move by in a step", unit="ranks, 0 to 1")
    price: NotNegative = setting(0.00001, "what an edge may cost to go without question", unit="the metric's")
    raised: Part = setting(0.1, "what scores of edges rise by whose removal cost too much", unit="ranks, 0 to 1")
    prompts: Count = setting(6, "prompts of D_val whose gradient a step takes, drawn anew")
    probes: Count = setting(2, "of these, how many a step measures its groups on")
    polish: Count = setting(8, "steps at the final size, of which the best circuit is taken")
    steps: Count = setting(150, "steps after which edges only go until the size is reached")


class StandingSettings(StandingSteps):
    """The same, with the size that ends the search, and the seed of its draws."""

    size: Share
    seed: int = 0


Resampling = Literal["bootstrap", "halves"]
"""How D_val is drawn anew (`resampling.py`)."""
RelationMetric = Literal["nll", "kc-nll", "kl", "nll+kl"]
"""Metrics that need no wrong answer."""


class StandingSection(StandingSteps):
    """The search for circuits that stand alone (method `standing`). Shares are of the graph's edges unless said."""

    metric: RelationMetric = setting("nll+kl", "what is learned and measured: nll, kl, half of each (nats) or kc-nll")
    ablation: Literal["zero", "mean"] = setting("zero", "what absent edges deliver", source="KC: zero")


class AcdcSection(AcdcSettings):
    """Exact ACDC: of the showcase, in eap-ig+acdc, and as a method of relations."""

    metric: RelationMetric = setting("nll", "what a lost edge costs: nll (nats), kc-nll (nats / (T - 1)), kl or nll+kl")
    ablation: Literal["zero", "patch"] = setting("zero", "what absent edges deliver", source="KC: zero")
    share: Share = setting(0.3, "share of the edges, the strongest, that eap-ig+acdc tests")
    prompts: Count = setting(3, "prompts of D_val on which a relation's circuit is searched together")


class RelevanceSection(Section):
    """Relevance patching (method `relp`)."""

    attention: Literal["gradient", "frozen", "half"] = setting(
        "gradient",
        "what passes the attention: the gradient; frozen (nothing to queries and keys: the AH-rule); or half of each "
        "product (AttnLRP)",
        source="RelP's code: gradient, or frozen; arXiv 2402.05602: half",
    )


class ActivationsSection(Section):
    """EAP-IG over activations (method `eap-ig-activations`)."""

    steps: Count = setting(5, "steps from each node's corrupted output to its clean one", source="arXiv 2403.17806: 5")
    prompts: Count = setting(20, "prompts of D_val that are scored, at most")


class MaskSection(Section):
    """How a mask of the edges is trained. Prompts without a partner are left out where absent edges are patched."""

    metric: Literal["kl", "nll", "nll+kl"] = setting("kl", "what is learned", source="both papers: kl")
    ablation: Literal["patch", "zero"] = setting(
        "patch", "what absent edges deliver; where no prompt has a partner: nothing", source="arXiv 2406.16778: patch"
    )
    first: Literal["even", "eap-ig"] = setting(
        "eap-ig",
        "log-odds at the beginning: even (`start` for every edge), or eap-ig (by its ranks, so that as many edges as "
        "asked for are expected to stay)",
        source="both papers: even",
    )


class PruningSection(MaskSection):
    """Edge Pruning: hard-concrete masks with a target size (method `edge-pruning`)."""

    steps: Count = setting(20, "steps of training", source="arXiv 2406.16778: 3000")
    prompts: Count = setting(4, "prompts of a step, drawn anew", source="arXiv 2406.16778: 32")
    rate: Positive = setting(
        0.1, "learning rate of the log-odds and of the multipliers", source="arXiv 2406.16778: 0.8"
    )
    start: float = setting(10.0, "log-odds of every edge at the beginning, where they are even", source="its code")
    warmup: Share = setting(
        0.75, "share of the steps in which the target goes from the whole graph to its size", source="its code: 0.83"
    )


class SamplingSection(MaskSection):
    """Uniform gradient sampling: a probability for every edge, and a price (method `ugs`)."""

    steps: Count = setting(20, "steps of training", source="its code: 1900 for IOI")
    prompts: Count = setting(4, "prompts of a step, drawn anew", source="its code: 5")
    samples: Count = setting(1, "masks drawn in a step", source="its code: one for each prompt and sample")
    rate: Positive = setting(0.1, "learning rate of the log-odds", source="its code: 0.01 to 0.15, by the price")
    price: NotNegative = setting(0.001, "what an edge costs", unit="the metric's", source="its code: 0.001")
    start: float = setting(1.0, "log-odds of every edge at the beginning, where they are even", source="its code")


class MethodSections(Section):
    """The settings of methods that have some of their own (`Method.options`)."""

    relp: RelevanceSection = RelevanceSection()
    eap_ig_activations: ActivationsSection = ActivationsSection()
    edge_pruning: PruningSection = PruningSection()
    ugs: SamplingSection = SamplingSection()
