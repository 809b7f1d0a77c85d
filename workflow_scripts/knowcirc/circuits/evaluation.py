"""What a circuit can do, one definition a measure: hit@k and NLL alone, faithfulness and its kin under patching.

| measure | absent edges deliver | value |
|---|---|---|
| hit@k (KC section 3.3) | nothing, means, or the partner's run | the answer is among the k likeliest next tokens |
| faithfulness | the partner's run | (m(circuit) - m(empty)) / (m(model) - m(empty)) |
| completeness | the partner's run | faithfulness of the complement; near 0: nothing is left outside |
| CPR, CMD (MIB, arXiv 2504.13151) | the partner's run | areas of F and of abs(1 - F) over the circuit's size |

m is the logit difference between the prompt's and its partner's answer. The empty circuit is the partner's run, so
faithfulness is 0 for no edges and 1 for all of them; values outside 0 to 1 occur. F is the same ratio of the means of m
over prompts, as MIB has it.

Edges that lie on no path from the input to the logits are dropped before a circuit is run alone: what they carry comes
from biases and is the same for every prompt. Under patching they carry the partner's run and change nothing. A circuit
of which nothing is left has a constant output; what its biases happen to favour is no hit, for any k.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from numpy import ndarray
from torch import Tensor

from knowcirc.circuits.ablations import Absent
from knowcirc.circuits.attribution import Targets, top_edges
from knowcirc.circuits.discovery import Circuit, choose_partners
from knowcirc.circuits.graph import EdgeMatrix, Graph
from knowcirc.circuits.methods import METHODS, RANDOM
from knowcirc.circuits.patched import record, run_circuit
from knowcirc.circuits.random_circuits import random_circuit
from knowcirc.facts.knowledge import Answer, read_answers
from knowcirc.facts.prompts import Prompt
from knowcirc.facts.ranking import check_finite, token_ranks
from knowcirc.models.loading import LanguageModel
from knowcirc.models.memory import in_parts
from knowcirc.models.token_tree import grouped_logits, groups, grow, next_logits
from knowcirc.seeding import derive

BATCH = 20
PATCHED_BATCH = 8
SIZES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""MIB's grid of circuit sizes, as shares of the graph's edges."""
CONSTANT = "its output is constant, the same for every prompt: no path leads from the input to the logits"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Live:
    """The edges of a circuit that lie on some path from the input to the logits, and how many others were dropped."""

    edges: EdgeMatrix
    dropped: int

    @property
    def constant(self) -> bool:
        """Whether the circuit's output is the same for every prompt: nothing that the input says can reach it."""
        return not self.edges.any()


def live_part(graph: Graph, edges: EdgeMatrix) -> Live:
    """The part of a circuit that is evaluated."""
    kept = graph.connected(edges)
    return Live(kept, int(edges.sum() - kept.sum()))


def circuit_logits(
    model: LanguageModel,
    graph: Graph,
    circuits: Sequence[EdgeMatrix],
    prompts: Sequence[Prompt],
    absent: Absent | None = None,
) -> Float[Tensor, "circuit prompt vocab"]:
    """Next-token logits of each circuit as it is given; all other edges deliver what is `absent` (None: nothing).

    Prompts share trees, and what absent edges deliver is made once a tree, for all circuits.
    """
    rows = [prompt.ids for prompt in prompts]
    beside = None if absent is None else [absent.beside(prompt) for prompt in prompts]
    found = model.transformer.embedding.new_empty(len(circuits), len(prompts), model.transformer.shape.d_vocab)

    def run(group: list[int]) -> None:
        apart = None if beside is None else [beside[i] for i in group]
        tree = grow([rows[i] for i in group], beside=apart, device=model.device)
        ablated = None if absent is None else absent.at(tree, [prompts[i] for i in group])
        for number, edges in enumerate(circuits):
            found[number, group] = run_circuit(model.transformer, graph, edges, tree, ablated=ablated)

    for _ in in_parts(groups(rows, BATCH, beside=beside), run):
        pass
    return found


@torch.no_grad()
def model_logits(model: LanguageModel, prompts: Sequence[Prompt]) -> Float[Tensor, "prompt vocab"]:
    """Next-token logits of the whole model, on trees of the prompts."""
    found = model.transformer.embedding.new_empty(len(prompts), model.transformer.shape.d_vocab)
    for group, logits in grouped_logits(model.transformer, [prompt.ids for prompt in prompts], BATCH):
        found[group] = logits
    return found


def circuit_answers(
    model: LanguageModel,
    graph: Graph,
    edges: EdgeMatrix,
    prompts: Sequence[Prompt],
    *,
    absent: Absent | None = None,
) -> list[Answer]:
    """The answers of the circuit in the order of the prompts; all other edges deliver what is `absent`, None: nothing.

    Edges on no path from the input to the logits are dropped first; the log says how many. Where none is left, ranks
    are the size of the vocabulary, so that no answer is among the first k.

    Raises:
        ValueError: naming the prompt, if a logit is not finite or the prompt lacks what the ablation needs.
    """
    live = live_part(graph, edges)
    if live.constant:
        log.warning("circuit of %d edges: %s; its hit@k is 0", int(edges.sum()), CONSTANT)
    elif live.dropped:
        log.info(
            "%d of %d edges lie on no path from the input to the logits and are dropped", live.dropped, edges.sum()
        )
    found = read_answers(circuit_logits(model, graph, [live.edges], prompts, absent)[0], prompts)
    return [replace(one, rank=model.transformer.shape.d_vocab) for one in found] if live.constant else found


def hits(answers: Sequence[Answer], k: int) -> list[bool]:
    """Which answers are among the `k` likeliest tokens."""
    return [answer.rank < k for answer in answers]


def nll(answers: Sequence[Answer]) -> float:
    """Mean negative log-likelihood of the answers, in nats."""
    p = torch.tensor([answer.p for answer in answers], dtype=torch.float64)
    return float(-p.clamp_min(1e-300).log().mean())


def pairs_of(prompts: Sequence[Prompt], most: int | None = None, seed: int = 0) -> list[tuple[int, int]]:
    """(prompt, partner) for each prompt that has a partner among the others; at most `most`, drawn by `seed`."""
    pairs = [(i, j) for i, j in enumerate(choose_partners(prompts, 0)) if j is not None]
    if most is None or most >= len(pairs):
        return pairs
    return [pairs[k] for k in sorted(np.random.default_rng(seed).permutation(len(pairs))[:most])]


def faithfulness(
    model: LanguageModel,
    graph: Graph,
    circuits: Sequence[EdgeMatrix],
    prompts: Sequence[Prompt],
    pairs: Sequence[tuple[int, int]],
) -> Float[ndarray, "circuit pair"]:
    """(m(circuit) - m(empty)) / (m(model) - m(empty)) of each circuit on each pair of (prompt, partner)."""
    return patched_measures(model, graph, circuits, prompts, pairs).faithfulness


@dataclass(frozen=True, slots=True)
class Patched:
    """The logit difference (`m`, nats) of circuits, of the whole model and of the empty circuit; ranks from 0."""

    m: Float[ndarray, "circuit pair"]
    model: Float[ndarray, " pair"]
    empty: Float[ndarray, " pair"]
    ranks: Int[ndarray, "circuit pair"]

    @property
    def faithfulness(self) -> Float[ndarray, "circuit pair"]:
        """(m - empty) / (model - empty)."""
        found: Float[ndarray, "circuit pair"] = (self.m - self.empty) / (self.model - self.empty)
        return found


def patched_measures(
    model: LanguageModel,
    graph: Graph,
    circuits: Sequence[EdgeMatrix],
    prompts: Sequence[Prompt],
    pairs: Sequence[tuple[int, int]],
) -> Patched:
    """What each circuit makes of each pair of (prompt, partner), the partner's run in place of all other edges.

    Pairs share a tree, and the partners' runs are recorded once a tree, for all circuits; equal circuits are run once.
    """
    equal: dict[bytes, list[int]] = {}
    for row, edges in enumerate(circuits):
        equal.setdefault(edges.tobytes(), []).append(row)
    values = np.empty((len(circuits), len(pairs)))
    whole, empty = np.empty(len(pairs)), np.empty(len(pairs))
    ranks = np.empty((len(circuits), len(pairs)), dtype=int)
    rows, partners = ([prompts[pair[side]].ids for pair in pairs] for side in (0, 1))

    def measure(group: list[int]) -> None:
        firsts, seconds = ([prompts[pairs[k][side]] for k in group] for side in (0, 1))
        clean = grow([rows[k] for k in group], beside=[partners[k] for k in group], device=model.device)
        other = clean.with_tokens([partners[k] for k in group])
        answers, others = (
            torch.tensor([prompt.answer[0] for prompt in side], device=model.device) for side in (firsts, seconds)
        )
        targets = Targets(answers, others)
        corrupted = record(model.transformer, graph, other)
        absent = corrupted.outputs
        with torch.no_grad():
            ends = next_logits(model.transformer, clean), model.transformer.unembed(other.at_ends(corrupted.final))
            for logits, found in zip(ends, (whole, empty), strict=True):
                check_finite(logits, firsts[0].text)
                found[group] = -targets.loss(logits).cpu().numpy()
        for same in equal.values():
            logits = run_circuit(model.transformer, graph, circuits[same[0]], clean, ablated=absent)
            values[np.ix_(same, group)] = -targets.loss(logits).cpu().numpy()
            ranks[np.ix_(same, group)] = token_ranks(logits, answers, firsts[0].text).cpu().numpy()

    for _ in in_parts(groups(rows, PATCHED_BATCH, beside=partners), measure):
        pass
    return Patched(values, whole, empty, ranks)


def complement(graph: Graph, edges: EdgeMatrix) -> EdgeMatrix:
    """All edges of the graph that are not in the circuit: its faithfulness is the circuit's completeness."""
    rest: EdgeMatrix = graph.valid & ~edges
    return rest


def edge_count(graph: Graph, share: float) -> int:
    """How many edges a share of the graph is, at least one."""
    return max(1, round(share * graph.n_edges))


def sized_circuits(
    graph: Graph, circuit: Circuit, sizes: Sequence[float], seed: int, *, signed: bool = False
) -> list[EdgeMatrix]:
    """Circuits of each size (share of the graph's edges) by the circuit's method, disconnected parts dropped.

    Attribution methods: the strongest edges, by the score itself where `signed`, else by its absolute value. `random`:
    circuits drawn by `seed`, anew for each size. A method that passed circuits of other sizes: `passed_circuits`; one
    that finds a single circuit: `nested_circuits`.

    Raises:
        ValueError: if a method other than `random` gave no scores.
    """
    counts = [edge_count(graph, size) for size in sizes]
    if circuit.method == RANDOM:
        return [
            graph.valid if n == graph.n_edges else random_circuit(graph, n, derive(seed, "size", n)) for n in counts
        ]
    method = METHODS[circuit.method]
    if method.passes:
        return passed_circuits(graph, circuit, counts)
    if not method.scored:
        return nested_circuits(graph, circuit, sizes)
    if circuit.scores is None:
        raise ValueError(f"the circuit of method {circuit.method} has no scores; find it anew")
    scores = np.nan_to_num(circuit.scores, nan=0.0)
    return [top_edges(graph, scores, n, signed=signed) for n in counts]


def passed_circuits(graph: Graph, circuit: Circuit, counts: Sequence[int]) -> list[EdgeMatrix]:
    """For each number of edges the largest circuit not above it of those that a search passed, its result included.

    The search began with the whole graph; it may have gone on below its result. Below the smallest circuit: the edges
    of the search's result with the highest scores (learned ones: low is weak, whatever the sign), disconnected parts
    dropped.

    Raises:
        ValueError: if a circuit below the smallest is asked for and there are no scores.
    """
    passed = sorted([graph.valid, *circuit.path.values(), circuit.edges], key=lambda edges: int(edges.sum()))
    found = []
    for count in counts:
        fitting = [edges for edges in passed if edges.sum() <= count]
        if fitting:
            found.append(fitting[-1])
            continue
        if circuit.scores is None:
            raise ValueError(f"the circuit of method {circuit.method} has no scores to rank its edges by")
        strength = np.where(circuit.edges, np.nan_to_num(circuit.scores, nan=-np.inf), -np.inf)
        chosen = np.zeros(strength.size, dtype=bool)
        chosen[np.argsort(-strength, axis=None, kind="stable")[:count]] = True
        found.append(graph.connected(chosen.reshape(strength.shape)))
    return found


def nested_circuits(graph: Graph, circuit: Circuit, sizes: Sequence[float]) -> list[EdgeMatrix]:
    """Circuits of each size (share of the graph's edges) around a method's one circuit, disconnected parts dropped.

    Edges are ranked by whether they are in the circuit, then by absolute score; an edge without a score (NaN: never
    tested) counts as 0. Ties keep the graph's order.

    Raises:
        ValueError: if the circuit has no scores.
    """
    if circuit.scores is None:
        raise ValueError(f"the circuit of method {circuit.method} has no scores to rank its edges by")
    strength = np.abs(np.nan_to_num(circuit.scores, nan=0.0)).ravel()
    order = np.lexsort((-strength, ~circuit.edges.ravel(), ~graph.valid.ravel()))
    nested = []
    for size in sizes:
        chosen = np.zeros(graph.valid.size, dtype=bool)
        chosen[order[: edge_count(graph, size)]] = True
        nested.append(graph.connected(chosen.reshape(graph.valid.shape)))
    return nested


def areas(
    sizes: Sequence[float], values: Shaped[ndarray, "*rows size"]
) -> tuple[Float[ndarray, "*rows"], Float[ndarray, "*rows"]]:
    """(CPR, CMD): the areas under F and under abs(1 - F) over the share of edges, trapezoids between the sizes.

    `values` are F at each of the `sizes`. As in MIB's code the curve begins at the first size. The best CPR is large,
    the best CMD is 0.

    >>> areas((0.5, 1.0), np.array([1.0, 1.0]))
    (array(0.5), array(0.))
    """
    return np.asarray(np.trapezoid(values, sizes)), np.asarray(np.trapezoid(np.abs(1 - values), sizes))
