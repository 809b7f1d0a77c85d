"""The scores of a relation's circuit: a row of KC's Table 1, and how faithful it is to the model under patching."""

from collections.abc import Sequence

import numpy as np
import torch

from knowcirc.circuits.attribution import Targets
from knowcirc.circuits.discovery import Circuit, choose_partners
from knowcirc.circuits.evaluation import circuit_answers
from knowcirc.circuits.evaluation import hits as hits_of
from knowcirc.circuits.graph import EdgeMatrix, Graph
from knowcirc.circuits.patched import record, run_circuit
from knowcirc.circuits.random_circuits import random_circuit
from knowcirc.facts.knowledge import answer_prompts
from knowcirc.facts.prompts import Prompt, batches
from knowcirc.models.loading import LanguageModel
from knowcirc.statistics import bootstrap, columns, proportion

BATCH = 8


def score_relation(
    model: LanguageModel,
    graph: Graph,
    circuit: Circuit,
    val: Sequence[Prompt],
    test: Sequence[Prompt],
    *,
    hits: int,
    seeds: Sequence[int],
) -> dict[str, object]:
    """hit@k of model, circuit and random circuits on both splits (zero ablation), and faithfulness (patching).

    Random circuits have the circuit's size; their hit@k are means over `seeds`, their faithfulness is the first's.
    """
    row: dict[str, object] = {
        "tau": None,
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
    row |= columns("faithfulness", bootstrap(faithfulness(model, graph, circuit.edges, test)))
    row |= columns("faithfulness_random", bootstrap(faithfulness(model, graph, randoms[0], test)))
    return {**row, "n_val": len(val), "n_test": len(test), "n_pairs": len(_pairs(test))}


def _pairs(prompts: Sequence[Prompt]) -> list[tuple[int, int]]:
    return [(i, j) for i, j in enumerate(choose_partners(prompts, 0)) if j is not None]


def faithfulness(model: LanguageModel, graph: Graph, edges: EdgeMatrix, prompts: Sequence[Prompt]) -> list[float]:
    """(m(circuit) - m(empty)) / (m(model) - m(empty)) for each prompt that has a partner among the others.

    m is the logit difference between the prompt's and its partner's answer; absent edges deliver the partner's
    run, so that the empty circuit is that run. 1 is the whole model; values outside 0 to 1 occur.
    """
    pairs = _pairs(prompts)
    values = []
    for group in batches([prompts[i].ids for i, _ in pairs], BATCH):
        clean = model.batch([prompts[pairs[k][0]].ids for k in group])
        other = model.batch([prompts[pairs[k][1]].ids for k in group])
        targets = Targets(
            torch.tensor([prompts[pairs[k][0]].answer[0] for k in group], device=model.device),
            torch.tensor([prompts[pairs[k][1]].answer[0] for k in group], device=model.device),
        )
        patch = record(model.transformer, graph, other).outputs
        circuit = -targets.loss(run_circuit(model.transformer, graph, edges, clean, ablated=patch))
        with torch.no_grad():
            whole, empty = (-targets.loss(model.transformer.logits(ids)) for ids in (clean, other))
        values += ((circuit - empty) / (whole - empty)).tolist()
    return values
