"""The methods of a relation side by side: each method's own circuit and its circuits of every size, prompt by prompt.

Rows have method, measure, size (share of the edges asked for; none for the method's own circuit), n_edges and
edge_share (what the circuit holds), n_dropped (edges of it on no path from input to logits), prompt (index in D_test)
and value. Measures: `hit_at_K` (0 or 1, zero ablation;
own circuits), `faithfulness` (own circuits and all sizes) and `completeness` (own circuits).
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from knowcirc.circuits.discovery import Circuit
from knowcirc.circuits.evaluation import (
    SIZES,
    circuit_answers,
    complement,
    faithfulness,
    hits,
    live_part,
    pairs_of,
    sized_circuits,
)
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.random_circuits import random_circuit
from knowcirc.facts.prompts import Prompt
from knowcirc.models.loading import LanguageModel
from knowcirc.seeding import derive

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What methods are compared by: the k of hit@k, pairs of prompts at most, and the seed of what is drawn."""

    hits: int
    pairs: int
    seed: int


def compared_circuits(
    graph: Graph, found: Mapping[str, Mapping[str, Circuit]], relations: Sequence[str], seed: int
) -> list[tuple[str, Circuit]]:
    """(relation, circuit) for each relation and method that has it, and a random circuit as large as the first's.

    `found` are the circuits by method and relation. A relation that no method has (it was left out of the study) is
    named in the log.

    Raises:
        ValueError: if none of the relations is left.
    """
    chosen: list[tuple[str, Circuit]] = []
    for relation in relations:
        circuits = [by_relation[relation] for by_relation in found.values() if relation in by_relation]
        if not circuits:
            log.warning("comparison: %s is left out, no method has a circuit of it", relation)
            continue
        edges = random_circuit(graph, circuits[0].n_edges, derive(seed, "random", relation))
        chosen += [(relation, circuit) for circuit in (*circuits, Circuit("random", edges, None))]
    if not chosen:
        raise ValueError("comparison.relations: no method has a circuit of any of them; name others")
    return chosen


def measure_circuit(
    model: LanguageModel,
    graph: Graph,
    relation: str,
    circuit: Circuit,
    prompts: Sequence[Prompt],
    settings: Comparison,
) -> list[dict[str, object]]:
    """The rows of one method on one relation. All methods are given the same pairs of the relation's prompts."""
    pairs = pairs_of(prompts, settings.pairs, derive(settings.seed, "pairs", relation))
    sized = sized_circuits(graph, circuit, SIZES, derive(settings.seed, "sizes", relation))
    tested = [circuit.edges, complement(graph, circuit.edges), *sized]
    values = faithfulness(model, graph, tested, prompts, pairs)
    own = (circuit.n_edges, live_part(graph, circuit.edges).dropped)
    labels: list[tuple[str, float | None, int, int]] = [("faithfulness", None, *own), ("completeness", None, *own)]
    labels += [("faithfulness", size, int(edges.sum()), 0) for size, edges in zip(SIZES, sized, strict=True)]
    answered = hits(circuit_answers(model, graph, circuit.edges, prompts), settings.hits)
    cells = [
        *(
            (*label, pairs[k][0], value)
            for label, row in zip(labels, values, strict=True)
            for k, value in enumerate(row)
        ),
        *((f"hit_at_{settings.hits}", None, *own, i, hit) for i, hit in enumerate(answered)),
    ]
    return [
        {
            **{"method": circuit.method, "relation": relation, "measure": measure, "size": size, "n_edges": n_edges},
            **{"edge_share": n_edges / graph.n_edges, "n_dropped": n_dropped, "prompt": prompt, "value": float(value)},
        }
        for measure, size, n_edges, n_dropped, prompt, value in cells
    ]
