"""The scores of a relation's circuit: a row of KC's Table 1, and how faithful it is to the model under patching."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from knowcirc.circuits.discovery import Circuit
from knowcirc.circuits.evaluation import circuit_answers, faithfulness, pairs_of
from knowcirc.circuits.evaluation import hits as hits_of
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.random_circuits import random_circuit
from knowcirc.facts.knowledge import answer_prompts
from knowcirc.facts.prompts import Prompt
from knowcirc.models.loading import LanguageModel
from knowcirc.statistics import bootstrap, columns, proportion


def against_random(table: pd.DataFrame, found: str, random: str) -> list[str]:
    """Whether a circuit's measure lies above that of random circuits: yes or no where the intervals do not overlap.

    Where they do, `unclear`; where there is no value, empty.
    """
    lows, highs = (table[[f"{found}{end}", f"{random}{end}"]].to_numpy(dtype=float) for end in ("_low", "_high"))
    above, below = lows[:, 0] > highs[:, 1], highs[:, 0] < lows[:, 1]
    verdicts = np.where(above, "yes", np.where(below, "no", "unclear"))
    return np.where(np.isnan(lows).any(1), "", verdicts).tolist()


def score_relation(
    model: LanguageModel,
    graph: Graph,
    circuit: Circuit,
    val: Sequence[Prompt],
    test: Sequence[Prompt],
    *,
    hits: int,
    seeds: Sequence[int],
    tau: float | None = None,
) -> dict[str, object]:
    """hit@k of model, circuit and random circuits on both splits (zero ablation), and faithfulness (patching).

    Random circuits have the circuit's size; their hit@k are means over `seeds`, their faithfulness is the first's.
    `tau` is ACDC's threshold, where it found the circuit.
    """
    row: dict[str, object] = {
        "tau": tau,
        "n_edges": circuit.n_edges,
        "edge_share": circuit.n_edges / graph.n_edges,
        "n_nodes": int(graph.nodes(circuit.edges).sum()),
        "ablation": "zero",
    }
    randoms = [random_circuit(graph, circuit.n_edges, seed) for seed in seeds]
    for name, prompts in (("d_val", val), ("d_test", test)):
        row |= columns(f"{name}_original", proportion(hits_of(answer_prompts(model, prompts), hits)))
        found = circuit_answers(model, graph, circuit.edges, prompts)
        row |= columns(f"{name}_circuit", proportion(hits_of(found, hits)))
        chance = [hits_of(circuit_answers(model, graph, edges, prompts), hits) for edges in randoms]
        row |= columns(f"{name}_random", bootstrap(np.mean(chance, axis=0).tolist()))
    pairs = pairs_of(test)
    found_kept, random_kept = faithfulness(model, graph, [circuit.edges, randoms[0]], test, pairs)
    row |= columns("faithfulness", bootstrap(found_kept.tolist()))
    row |= columns("faithfulness_random", bootstrap(random_kept.tolist()))
    return {**row, "n_val": len(val), "n_test": len(test), "n_pairs": len(pairs)}
