"""Find the circuit of a set of prompts: pairs with corrupted partners, scores summed over prompts, the top edges."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from knowcirc.circuits.attribution import Scores, Targets, score_edges, top_edges
from knowcirc.circuits.graph import EdgeMatrix, Graph
from knowcirc.circuits.random_circuits import random_circuit
from knowcirc.facts.prompts import Prompt
from knowcirc.models.loading import LanguageModel
from knowcirc.models.token_tree import groups, grow

STEPS = {"eap": 1, "eap-ig": 5}
SCORING = tuple(STEPS)  # methods that score every edge by attribution
METHODS = ("acdc", *SCORING, "eap-ig+acdc", "random")
BATCH = 8
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Circuit:
    """A circuit: which edges are in it, and the score of each edge of the graph (None for random circuits)."""

    method: str
    edges: EdgeMatrix
    scores: Scores | None

    @property
    def n_edges(self) -> int:
        """How many edges it holds."""
        return int(self.edges.sum())


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
    model: LanguageModel, graph: Graph, prompts: Sequence[Prompt], partners: Sequence[Prompt | None], method: str
) -> Scores:
    """Mean edge scores over the prompts.

    A prompt with a partner is scored by the logit difference against the partner's run; one without by its
    negative log-likelihood (nats) against the zero baseline.

    Raises:
        ValueError: for an unknown method.
    """
    if method not in STEPS:
        raise ValueError(f"method {method!r} gives no scores; choose one of {', '.join(SCORING)}")
    total = np.zeros((graph.n_src, graph.n_dst))
    for paired in (True, False):
        chosen = [i for i, partner in enumerate(partners) if (partner is not None) == paired]
        rows = [prompts[i].ids for i in chosen]
        others = [partner for i in chosen if (partner := partners[i]) is not None]
        for group in groups(rows, BATCH, beside=[other.ids for other in others] if paired else None):
            total += _score_group(
                model,
                graph,
                [prompts[chosen[k]] for k in group],
                [others[k] for k in group] if paired else None,
                STEPS[method],
            )
    return total / len(prompts)


def _score_group(
    model: LanguageModel, graph: Graph, prompts: Sequence[Prompt], partners: Sequence[Prompt] | None, steps: int
) -> Scores:
    """Scores of prompts in one tree, summed over them."""
    rows = [prompt.ids for prompt in prompts]
    others = None if partners is None else [partner.ids for partner in partners]
    tree = grow(rows, beside=others, device=model.device)
    answers = torch.tensor([prompt.answer[0] for prompt in prompts], device=model.device)
    wrong = None
    if partners is not None:
        wrong = torch.tensor([partner.answer[0] for partner in partners], device=model.device)
    corrupted = None if others is None else tree.with_tokens(others)
    return score_edges(model.transformer, graph, tree, corrupted, Targets(answers, wrong), steps=steps)


def discover(
    model: LanguageModel,
    graph: Graph,
    prompts: Sequence[Prompt],
    partners: Sequence[Prompt | None],
    *,
    method: str,
    n_edges: int,
    seed: int,
) -> Circuit:
    """The circuit of `n_edges` edges that `method` finds on the prompts.

    Raises:
        ValueError: for an unknown method or an impossible size.
    """
    if method == "random":
        return Circuit(method, random_circuit(graph, n_edges, seed), None)
    scores = attribute(model, graph, prompts, partners, method)
    return Circuit(method, top_edges(graph, scores, n_edges), scores)
