"""KC's Table 1: what the circuits of a relation say alone, and how faithful they are to the model under patching."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from knowcirc.circuits.ablations import Absent, AlignedMeans
from knowcirc.circuits.circuit_settings import CircuitSettings
from knowcirc.circuits.discovery import Circuit, n_scored
from knowcirc.circuits.evaluation import circuit_logits, faithfulness, live_part, model_logits, pairs_of
from knowcirc.circuits.graph import EdgeMatrix, Graph
from knowcirc.circuits.random_circuits import random_circuit
from knowcirc.circuits.readings import Reading, mean_of, read_prompts
from knowcirc.facts.knowledge import read_answers
from knowcirc.facts.prompts import Prompt
from knowcirc.models.loading import LanguageModel
from knowcirc.statistics import Interval, bootstrap, columns, proportion

T = TypeVar("T")
ABLATIONS = ("zero", "mean")
SPLITS = ("d_val", "d_test")
MEASURES = {"hit_at_1": "first", "p": "p", "among": "among", "others": "others"}
"""Columns of model and circuit beside hit@k, with the measure of a reading that each is the mean of."""


@dataclass(frozen=True, slots=True)
class Questions:
    """What a relation is asked: its prompts by split, and the first tokens of all its objects."""

    val: Sequence[Prompt]
    test: Sequence[Prompt]
    objects: Sequence[int]

    @property
    def prompts(self) -> list[Prompt]:
        """Those of both splits, D_val first: they share a tree."""
        return [*self.val, *self.test]

    def split(self, rows: Sequence[T]) -> dict[str, Sequence[T]]:
        """What was found on all prompts, by split."""
        return dict(zip(SPLITS, (rows[: len(self.val)], rows[len(self.val) :]), strict=True))


def score_relation(
    model: LanguageModel,
    graph: Graph,
    circuits: Mapping[str, Circuit],
    questions: Questions,
    *,
    hits: int,
    seeds: Sequence[int],
    settings: Mapping[str, CircuitSettings],
    ablations: Sequence[str] = ABLATIONS,
) -> list[dict[str, object]]:
    """One row per method and ablation, of one relation: what its circuits, the model and random circuits say.

    The model and the random circuits are measured once for all methods: random circuits have the size of the first
    method's circuit, each of the `seeds` is asked its share of the prompts. Means are those over D_val. Faithfulness
    (patching) does not depend on the row's ablation; of the random circuits it is the first's. `settings` are
    those by which each method found its circuit.
    """
    randoms = [random_circuit(graph, next(iter(circuits.values())).n_edges, seed) for seed in seeds]
    live = {method: live_part(graph, circuit.edges) for method, circuit in circuits.items()}
    pairs = pairs_of(questions.test)
    kept = faithfulness(
        model, graph, [*(circuit.edges for circuit in circuits.values()), randoms[0]], questions.test, pairs
    )
    original = questions.split(
        read_prompts(model_logits(model, questions.prompts), questions.prompts, questions.objects, hits)
    )
    rows: list[dict[str, object]] = []
    for ablation in ablations:
        means = AlignedMeans.of(model, graph, questions.val) if ablation == "mean" else None
        logits = circuit_logits(model, graph, [one.edges for one in live.values()], questions.prompts, means)
        read = [
            questions.split(read_prompts(row, questions.prompts, questions.objects, hits, constant=one.constant))
            for row, one in zip(logits, live.values(), strict=True)
        ]
        chance = questions.split(random_hits(model, graph, randoms, questions.prompts, means, hits))
        for number, (method, circuit) in enumerate(circuits.items()):
            row: dict[str, object] = {"method": method, "ablation": ablation, "tau": settings[method].tau}
            row |= _size(graph, circuit) | {"n_dropped": live[method].dropped, "constant": int(live[method].constant)}
            for split in SPLITS:
                row |= _split(split, original[split], read[number][split], chance[split])
            row |= {
                "n_objects": len(set(questions.objects)),
                **columns("faithfulness", bootstrap(kept[number].tolist())),
            }
            row |= columns("faithfulness_random", bootstrap(kept[-1].tolist()))
            row |= {"n_val": len(questions.val), "n_test": len(questions.test), "n_pairs": len(pairs), "n_relations": 1}
            row |= {"n_scored": n_scored(settings[method], questions.val)}
            rows.append(row)
    return rows


def random_hits(
    model: LanguageModel,
    graph: Graph,
    randoms: Sequence[EdgeMatrix],
    prompts: Sequence[Prompt],
    absent: Absent | None,
    k: int,
) -> list[bool]:
    """Whether a random circuit has each prompt's answer among the first k: they are asked in turn, a prompt each.

    So the mean is over all of them, at the price of one: chance varies over prompts more than over circuits.
    """
    found = [False] * len(prompts)
    for number, edges in enumerate(randoms[: len(prompts)]):
        if not edges.any():  # says the same to every prompt
            continue
        chosen = range(number, len(prompts), len(randoms))
        part = [prompts[i] for i in chosen]
        answers = read_answers(circuit_logits(model, graph, [edges], part, absent)[0], part)
        for i, answer in zip(chosen, answers, strict=True):
            found[i] = answer.rank < k
    return found


def _size(graph: Graph, circuit: Circuit) -> dict[str, object]:
    return {
        "n_edges": circuit.n_edges,
        "n_edges_merged": graph.merged(circuit.edges),
        "edge_share": circuit.n_edges / graph.n_edges,
        "n_nodes": int(graph.nodes(circuit.edges).sum()),
    }


def _split(
    name: str, original: Sequence[Reading], circuit: Sequence[Reading], chance: Sequence[bool]
) -> dict[str, object]:
    """The columns of one split."""
    whole, alone = (proportion([one.hit for one in side]) for side in (original, circuit))
    row: dict[str, object] = {**columns(f"{name}_original", whole), **columns(f"{name}_circuit", alone)}
    row |= columns(f"{name}_random", proportion(chance)) | columns(f"{name}_kept", kept_share(whole, alone))
    for column, measure in MEASURES.items():
        row |= {f"{name}_{column}_original": mean_of(original, measure)}
        row |= {f"{name}_{column}_circuit": mean_of(circuit, measure)}
    return row


def kept_share(original: Interval, circuit: Interval) -> Interval:
    """What a circuit keeps of the model's hit@k, at most 1, the model's taken as it is; NaN where that is 0."""
    if not original.value > 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    value, low, high = (min(1.0, end / original.value) for end in circuit[:3])
    return Interval(value, low, high, circuit.n)
