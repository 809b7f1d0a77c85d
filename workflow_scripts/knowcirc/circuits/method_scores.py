"""The methods of a relation side by side: each method's own circuit and its circuits of every size, prompt by prompt.

Rows have method, ablation (what absent edges deliver), measure, size (share of the edges asked for; none for the
method's own circuit), n_edges and edge_share (what the circuit holds), n_dropped (edges of it on no path from input to
logits), prompt (index in D_test) and value.

| measure | ablation | circuits |
|---|---|---|
| `hit_at_K` (0 or 1) | zero, mean, patch | own, and the sizes of `HIT_SIZES` |
| `faithfulness` | patch | own, and MIB's sizes |
| `completeness` | patch | own |
| `logit_diff` (m, nats) | patch | MIB's sizes, the strongest edges by absolute score |
| | zero, mean | the sizes of `HIT_SIZES` |
| `logit_diff_signed` | patch | MIB's sizes, the edges of the highest scores, where a method scores all edges |
| `logit_diff_model`, `logit_diff_empty` | zero, mean, patch | the whole graph, and no edge |

Under patching, and of the logit difference, there are the prompts that have a partner, at most as many as asked for.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from knowcirc.circuits.ablations import AlignedMeans
from knowcirc.circuits.circuit import Circuit
from knowcirc.circuits.evaluation import (
    SIZES,
    circuit_logits,
    complement,
    live_part,
    pairs_of,
    patched_measures,
    sized_circuits,
)
from knowcirc.circuits.graph import EdgeMatrix, Graph
from knowcirc.circuits.methods import METHODS, RANDOM
from knowcirc.circuits.random_circuits import random_circuit
from knowcirc.facts.knowledge import read_answers
from knowcirc.facts.prompts import Prompt
from knowcirc.models.loading import LanguageModel
from knowcirc.seeding import derive

HIT_SIZES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Sizes at which hit@k is measured, a part of MIB's."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What methods are compared by: the k of hit@k, pairs of prompts at most, and the seed of what is drawn."""

    hits: int
    pairs: int
    seed: int


def compared_circuits(graph: Graph, relation: str, circuits: Sequence[Circuit], seed: int) -> list[Circuit]:
    """A relation's circuits, one by each method, and a random one as large as the first."""
    edges = random_circuit(graph, circuits[0].n_edges, derive(seed, "random", relation))
    return [*circuits, Circuit(RANDOM, edges, None)]


@dataclass(frozen=True, slots=True)
class _Sized:
    """A circuit of a method: the size asked for (None: its own), its edges, those of them that are dropped."""

    size: float | None
    edges: EdgeMatrix
    dropped: int


def measure_circuit(
    model: LanguageModel,
    graph: Graph,
    relation: str,
    circuit: Circuit,
    prompts: Sequence[Prompt],
    means: AlignedMeans,
    settings: Comparison,
) -> list[dict[str, object]]:
    """The rows of one method on one relation's D_test; `means` are those over its D_val.

    All methods are given the same pairs of the relation's prompts.
    """
    pairs = pairs_of(prompts, settings.pairs, derive(settings.seed, "pairs", relation))
    paired = [pair[0] for pair in pairs]
    sized = sized_circuits(graph, circuit, SIZES, derive(settings.seed, "sizes", relation))
    own = _Sized(None, circuit.edges, live_part(graph, circuit.edges).dropped)
    ladder = [own, *(_Sized(size, edges, 0) for size, edges in zip(SIZES, sized, strict=True))]
    rest = complement(graph, circuit.edges)
    by_sign = _signed(graph, circuit)
    found = patched_measures(model, graph, [*(one.edges for one in ladder), rest, *by_sign], prompts, pairs)
    values, ranks = found.faithfulness, found.ranks
    hit = f"hit_at_{settings.hits}"
    cells = [("patch", "faithfulness", one, paired, row) for one, row in zip(ladder, values, strict=False)]
    cells.append(("patch", "completeness", own, paired, values[len(ladder)]))
    cells += [("patch", "logit_diff", one, paired, row) for one, row in zip(ladder[1:], found.m[1:], strict=False)]
    signed = [_Sized(size, edges, 0) for size, edges in zip(SIZES, by_sign, strict=False)]
    cells += [
        ("patch", "logit_diff_signed", one, paired, row)
        for one, row in zip(signed, found.m[len(ladder) + 1 :], strict=True)
    ]
    cells += [
        ("patch", "logit_diff_model", own, paired, found.model),
        ("patch", "logit_diff_empty", own, paired, found.empty),
    ]
    tested = [place for place, one in enumerate(ladder) if one.size is None or one.size in HIT_SIZES]
    cells += [("patch", hit, ladder[place], paired, ranks[place] < settings.hits) for place in tested]
    for ablation, absent in (("zero", None), ("mean", means)):
        chosen = [ladder[place] for place in tested]
        alone = _run_alone(model, graph, [one.edges for one in chosen], prompts, pairs, absent)
        everywhere = list(range(len(prompts)))
        cells += [
            (ablation, hit, one, everywhere, row < settings.hits) for one, row in zip(chosen, alone.ranks, strict=True)
        ]
        cells += [
            (ablation, "logit_diff", one, paired, row) for one, row in zip(chosen, alone.m, strict=True) if one.size
        ]
        cells += [(ablation, "logit_diff_model", own, paired, found.model)]
        cells += [(ablation, "logit_diff_empty", own, paired, alone.empty)]
    return [
        {
            **{"method": circuit.method, "relation": relation, "ablation": ablation, "measure": measure},
            **{"size": one.size, "n_edges": int(one.edges.sum()), "edge_share": one.edges.sum() / graph.n_edges},
            **{"n_dropped": one.dropped, "prompt": prompt, "value": float(value)},
        }
        for ablation, measure, one, chosen, row in cells
        for prompt, value in zip(chosen, row, strict=True)
    ]


def _signed(graph: Graph, circuit: Circuit) -> list[EdgeMatrix]:
    """The circuits of MIB's sizes by signed score; none of a method that does not score every edge."""
    method = METHODS.get(circuit.method)
    return sized_circuits(graph, circuit, SIZES, 0, signed=True) if method and method.scored else []


@dataclass(frozen=True, slots=True)
class _Alone:
    """Ranks of the answers (from 0) by circuits, the logit difference of pairs, and that of the empty circuit."""

    ranks: Int[ndarray, "circuit prompt"]
    m: Float[ndarray, "circuit pair"]
    empty: Float[ndarray, " pair"]


def _run_alone(
    model: LanguageModel,
    graph: Graph,
    circuits: Sequence[EdgeMatrix],
    prompts: Sequence[Prompt],
    pairs: Sequence[tuple[int, int]],
    absent: AlignedMeans | None,
) -> _Alone:
    """What circuits say of the prompts with means in place of all other edges, or nothing; equal ones are run once."""
    live = [live_part(graph, edges) for edges in circuits]
    distinct = {one.edges.tobytes(): one.edges for one in live}
    nothing = np.zeros_like(graph.valid)
    distinct[nothing.tobytes()] = nothing
    logits = circuit_logits(model, graph, list(distinct.values()), prompts, absent)
    ranks, m = {}, {}
    for key, row in zip(distinct, logits, strict=True):
        ranks[key] = np.array([answer.rank for answer in read_answers(row, prompts)])
        m[key] = np.array([float(row[i, prompts[i].answer[0]] - row[i, prompts[j].answer[0]]) for i, j in pairs])
    ranks[nothing.tobytes()] = np.full(len(prompts), model.transformer.shape.d_vocab)  # a constant output hits nothing
    rows = [one.edges.tobytes() for one in live]
    return _Alone(np.stack([ranks[row] for row in rows]), np.stack([m[row] for row in rows]), m[nothing.tobytes()])
