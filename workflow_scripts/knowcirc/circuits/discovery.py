"""Find the circuit of a set of prompts: pairs with corrupted partners, scores summed over prompts, the top edges."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch

from knowcirc.circuits.attribution import Targets, top_edges
from knowcirc.circuits.choices import Metric
from knowcirc.circuits.circuit import Circuit, Scores
from knowcirc.circuits.circuit_settings import CircuitSettings
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.methods import METHODS, RANDOM, Attribution
from knowcirc.circuits.random_circuits import random_circuit
from knowcirc.facts.prompts import Prompt
from knowcirc.functions import function_of
from knowcirc.models.loading import LanguageModel
from knowcirc.models.memory import in_parts
from knowcirc.models.token_tree import groups, grow

BATCH = 8
Baseline = Literal["zero", "patch"]
"""What an edge is set against: nothing, or a partner's run."""
log = logging.getLogger(__name__)


class NoCircuitError(ValueError):
    """No circuit of the size asked for joins input and output."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """What attribution measures, and against which baseline: a partner's run (`patch`) or nothing (`zero`).

    What is None goes by the prompt: the logit difference where the partner has another answer, else `nll`; the
    partner's run where the partner has another text, else zero. Methods that come from nothing (`eap-ig-zero`) take
    `nll` and zero in any case, which is what the test of circuits under zero ablation asks for.
    """

    metric: Metric | None = None
    ablation: Baseline | None = None

    def read(self, method: str, prompt: Prompt, partner: Prompt | None) -> tuple[Metric, Baseline]:
        """Metric and baseline of one prompt.

        Raises:
            ValueError: if the prompt lacks the partner that they need.
        """
        found = METHODS[method].attribution
        other = None if found is not None and found.from_nothing else partner
        metric = self.metric or ("logit-diff" if other and other.answer[0] != prompt.answer[0] else "nll")
        ablation = self.ablation or ("patch" if other and other.ids != prompt.ids else "zero")
        if partner is None and (metric == "logit-diff" or ablation == "patch"):
            raise ValueError(
                f"prompt {prompt.text!r} has no partner, which metric logit-diff and ablation patch need; give one, or "
                "take metric nll and ablation zero"
            )
        return metric, ablation


BY_PROMPT = Scoring()


def attribution_of(method: str) -> Attribution:
    """How a method scores edges by gradients.

    Raises:
        ValueError: if it does not.
    """
    found = METHODS[method].attribution if method in METHODS else None
    if found is None:
        known = ", ".join(name for name, each in METHODS.items() if each.attribution is not None)
        raise ValueError(f"method {method!r} gives no scores; choose one of {known}")
    return found


def choose_partners(prompts: Sequence[Prompt], seed: int) -> list[int | None]:
    """For each prompt another of equal token length and another answer, drawn by seed; None where there is none."""
    rng = np.random.default_rng(seed)
    partners: list[int | None] = []
    for prompt in prompts:
        fit = [
            index
            for index, other in enumerate(prompts)
            if len(other.ids) == len(prompt.ids) and other.answer[0] != prompt.answer[0]
        ]
        partners.append(int(rng.choice(fit)) if fit else None)
    return partners


def attribute(
    model: LanguageModel,
    graph: Graph,
    prompts: Sequence[Prompt],
    partners: Sequence[Prompt | None],
    method: str,
    scoring: Scoring = BY_PROMPT,
    options: Mapping[str, Any] | None = None,
) -> Scores:
    """Mean edge scores over the prompts, by the metric and against the baseline that `scoring` gives them.

    Scores of two units cannot be averaged: where some prompts have no partner and would be scored otherwise than the
    others, they are left out, and named in the log. `options` are the method's own settings where it has any.

    Raises:
        ValueError: for an unknown method, a prompt without the partner that it needs, or `kl` with a method that takes
            its gradient on the clean prompt alone.
    """
    attribution = attribution_of(method)
    own = options_of(method, options or {})
    most = own.pop("prompts", None)
    if scoring.metric == "kl" and attribution.on_clean:
        raise ValueError(
            f"metric kl has no slope on the clean prompt, where {method} takes its gradient; take method eap-ig"
        )
    total = np.zeros((graph.n_src, graph.n_dst))
    alike = read_alike(method, prompts, partners, scoring)
    alike.name_others(prompts)
    metric, ablation, chosen = alike.metric, alike.ablation, alike.places[:most]
    score = partial(function_of(attribution.scorer), **({"steps": attribution.steps} if attribution.stepped else own))
    rows = [prompts[i].ids for i in chosen]
    others = [partner.ids for i in chosen if (partner := partners[i]) is not None] if ablation == "patch" else None

    def scored(group: list[int]) -> Scores:
        places = [chosen[k] for k in group]
        answers = torch.tensor([prompts[i].answer[0] for i in places], device=model.device)
        wrong = None
        if metric == "logit-diff":
            given = [partner.answer[0] for i in places if (partner := partners[i]) is not None]
            wrong = torch.tensor(given, device=model.device)
        beside = None if others is None else [others[k] for k in group]
        tree = grow([rows[k] for k in group], beside=beside, device=model.device)
        corrupted = None if beside is None else tree.with_tokens(beside)
        targets = Targets(answers, wrong, metric)
        found: Scores = score(model.transformer, graph, tree, corrupted, targets)
        return found

    for _, scores in in_parts(groups(rows, BATCH, beside=others), scored):
        total += scores
    mean = total / len(chosen)
    if attribution.finish is None:
        return mean
    finished: Scores = function_of(attribution.finish)(graph, mean)
    return finished


@dataclass(frozen=True, slots=True)
class Alike:
    """The metric and the baseline that scores are averaged in, and the places of the prompts that have them."""

    metric: Metric
    ablation: Baseline
    places: list[int]

    def name_others(self, prompts: Sequence[Prompt]) -> None:
        """Name the prompts that are left out, in the log."""
        out = [prompt.text for place, prompt in enumerate(prompts) if place not in self.places]
        if out:
            counts = len(out), len(prompts)
            log.warning("attribution: %d of %d prompts have no fit partner and are left out: %s", *counts, out)


def read_alike(
    method: str, prompts: Sequence[Prompt], partners: Sequence[Prompt | None], scoring: Scoring = BY_PROMPT
) -> Alike:
    """Of several prompts those with a partner, all where none has one.

    Raises:
        ValueError: if a prompt lacks the partner that it needs.
    """
    read = [scoring.read(method, *pair) for pair in zip(prompts, partners, strict=True)]
    found = max(set(read), key=lambda one: (one[1] == "patch", one[0] == "logit-diff"))
    return Alike(*found, [place for place, one in enumerate(read) if one == found])


def options_of(method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a method's own, with the defaults of those that are not given; none where it has none."""
    kind = METHODS[method].options
    return {} if kind is None else kind.model_validate(dict(given)).model_dump()


def needs_partners(settings: CircuitSettings) -> bool:
    """Whether a method with these settings leaves out prompts without a partner, where some have one."""
    entry = METHODS[settings.method]
    if entry.attribution is not None:
        return not entry.attribution.from_nothing
    if entry.learned:
        return bool(options_of(settings.method, settings.options)["ablation"] == "patch")
    return settings.criterion is not None and settings.criterion.get("ablation") == "patch"


def places_used(settings: CircuitSettings, paired: Sequence[bool]) -> list[int]:
    """Of a relation's prompts the places of those that its circuit is found on; `paired` says which have a partner.

    Prompts without a partner are left out where the method needs one and any has one; then it takes the first, as many
    as its settings say.
    """
    places = list(range(len(paired)))
    if needs_partners(settings) and any(paired):
        places = [place for place in places if paired[place]]
    most = settings.prompts if METHODS[settings.method].tests else _most(settings)
    return places[:most]


def _most(settings: CircuitSettings) -> int | None:
    """How many prompts an attribution scores at most."""
    attributed = METHODS[settings.method].attribution is not None
    found: int | None = options_of(settings.method, settings.options).get("prompts") if attributed else None
    return found


def n_scored(settings: CircuitSettings, prompts: Sequence[Prompt]) -> int:
    """How many prompts of a relation a method's circuit is found on."""
    return len(places_used(settings, [index is not None for index in choose_partners(prompts, 0)]))


def find_attributed(
    model: LanguageModel,
    graph: Graph,
    prompts: Sequence[Prompt],
    partners: Sequence[Prompt | None],
    settings: CircuitSettings,
    *,
    seed: int,
    sizes: Sequence[float] = (),
    scoring: Scoring = BY_PROMPT,
    **kept: object,
) -> tuple[Circuit, dict[str, object]]:
    """The strongest edges by attribution, or random ones; too fast to be kept on the way."""
    method, n_edges = settings.method, settings.n_edges(graph.n_edges)
    ways: dict[str, Any] = {"method": method, "scoring": scoring, "options": settings.options}
    passes = 0.0
    if method != RANDOM:
        scored = read_alike(method, prompts, partners, scoring).places[: _most(settings)]
        passes = passes_of(graph, partners, **ways) * len(scored) / len(prompts)
    return discover(model, graph, prompts, partners, n_edges=n_edges, seed=seed, **ways), {"prompt_passes": passes}


def passes_of(
    graph: Graph,
    partners: Sequence[Prompt | None],
    *,
    method: str,
    scoring: Scoring = BY_PROMPT,
    options: Mapping[str, Any] | None = None,
) -> float:
    """How often each prompt that is scored passes the network, forward or back."""
    attribution = attribution_of(method)
    if attribution.blind:
        return 1.0
    other = not attribution.from_nothing and any(partner is not None for partner in partners)
    patched = other if scoring.ablation is None else scoring.ablation == "patch"
    own = options_of(method, options or {})
    gradients = attribution.steps if attribution.stepped else own.get("steps", 1)
    if attribution.everywhere:
        gradients *= 2 * graph.n_layers + 1
    return 1.0 + patched + 2 * gradients


def discover(
    model: LanguageModel,
    graph: Graph,
    prompts: Sequence[Prompt],
    partners: Sequence[Prompt | None],
    *,
    method: str,
    n_edges: int,
    seed: int,
    scoring: Scoring = BY_PROMPT,
    options: Mapping[str, Any] | None = None,
) -> Circuit:
    """The circuit of `n_edges` edges that `method` finds on the prompts.

    Raises:
        ValueError: for an unknown method or an impossible size.
    """
    if method == RANDOM:
        return Circuit(method, random_circuit(graph, n_edges, seed), None)
    scores = attribute(model, graph, prompts, partners, method, scoring, options)
    return Circuit(method, top_edges(graph, scores, n_edges), scores)
