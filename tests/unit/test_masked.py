"""Circuits on a token tree, their edges' gradients and many changed circuits, against plain passes and differences."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from knowcirc.circuits import masked
from knowcirc.circuits.choices import ABLATIONS, Ablation
from knowcirc.circuits.graph import EdgeMatrix, Graph
from knowcirc.circuits.masked import Change, MaskedModel
from knowcirc.circuits.metrics import Task, make_task
from knowcirc.circuits.patched import Outputs, run_circuit
from knowcirc.circuits.random_circuits import random_circuit
from knowcirc.circuits.searching import absent_outputs, shared_under
from knowcirc.facts.prompts import Prompt
from knowcirc.models.loading import LanguageModel
from knowcirc.models.table import KvView
from knowcirc.models.transformer import Transformer

pytestmark = pytest.mark.many(1, one_in=2)
Loader = Callable[..., LanguageModel]
ROWS = [[0, 5, 17, 4, 33], [0, 5, 18], [0, 5], [9, 5, 17], [0, 5, 18], [0, 5, 17, 4, 34]]
STEP = 1e-6
REFERENCES = [[*row[:-1], row[-1] + 40] for row in (*ROWS, [1, 2])]  # two or more of every length


class Case:
    """A tiny model, a task on prompts of different lengths, and what absent edges deliver."""

    def __init__(self, load_tiny: Loader, name: str, kv: KvView, ablation: Ablation, dtype: str = "float64") -> None:
        model = load_tiny(name, dtype)
        prompts = [Prompt("", tuple(row), None, "", (20 + i,)) for i, row in enumerate(ROWS)]
        others = REFERENCES if ablation == "mean" else REFERENCES[: len(ROWS)]
        partners = [Prompt("", tuple(row), None, "", (50,)) for row in others]
        self.model: Transformer = model.transformer
        self.graph = Graph.of(self.model.shape, kv)
        answers = [prompt.answer[0] for prompt in prompts]
        beside = shared_under(ablation, prompts, partners)
        self.task: Task = make_task("nll", ROWS, answers, beside=beside)
        self.absent: Outputs | None = absent_outputs(model, self.graph, self.task, partners, ablation)
        self.masked = MaskedModel(self.model, self.graph, self.task.tree, self.absent)

    def circuit(self, share: float, seed: int) -> EdgeMatrix:
        return random_circuit(self.graph, round(share * self.graph.n_edges), seed)

    def logits(self, edges: EdgeMatrix) -> Tensor:
        """The plain pass."""
        return run_circuit(self.model, self.graph, edges, self.task.tree, ablated=self.absent)


@pytest.fixture(params=ABLATIONS)
def ablation(request: pytest.FixtureRequest) -> Ablation:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=["grouped", "per_head"])
def case(request: pytest.FixtureRequest, load_tiny: Loader, name: str, ablation: Ablation) -> Case:
    return Case(load_tiny, name, request.param, ablation)


def same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_all_edges_are_the_model(case: Case) -> None:
    run = case.masked.run(case.graph.valid, case.masked.part(range(len(ROWS))))
    for row, ids in enumerate(ROWS):
        same(run.logits[row].detach(), case.model.logits(torch.tensor([ids]))[0])


@pytest.mark.parametrize("share", [0.05, 0.3, 0.8])
def test_circuits_give_the_plain_passs_logits(case: Case, share: float) -> None:
    for seed in range(2):
        edges = case.circuit(share, seed)
        for grad in (True, False):
            run = case.masked.run(edges, case.masked.part(range(len(ROWS))), grad=grad)
            same(run.logits.detach(), case.logits(edges))


@pytest.mark.parametrize("prompts", [[3], [2], [0, 5], [1, 4, 2]])
def test_a_part_of_the_tree_gives_what_the_whole_does(case: Case, prompts: Sequence[int]) -> None:
    edges = case.circuit(0.4, 7)
    part = case.masked.part(prompts)
    assert len(part.nodes) < len(case.task.tree)
    same(case.masked.run(edges, part).logits.detach(), case.logits(edges)[list(prompts)])


# -- gradients ---------------------------------------------------------------------------------------------------------


def weighted(case: Case, weights: Tensor, row: int) -> Tensor:
    """Logits of one prompt when every edge lets a share of its sender through: a pass of its own, head by head."""
    model, graph, tree = case.model, case.graph, case.task.tree
    ids = torch.tensor([ROWS[row]])
    absent = None if case.absent is None else tree.along(case.absent[:, 0])[:, row, None, : len(ROWS[row])]
    delivered: list[Tensor] = []
    bias: Tensor | float = 0.0

    def read(receiver: int) -> Tensor:
        total = torch.zeros_like(delivered[0]) + bias
        for sender, output in enumerate(delivered):
            if graph.valid[sender, receiver]:
                share = weights[sender, receiver]
                total = total + share * output
                if absent is not None:
                    total = total + (1 - share) * absent[sender]
        return total

    delivered.append(model.embed(ids))
    for layer, block in enumerate(model.blocks):
        att, written = block.attention, []
        for head in range(graph.n_heads):
            reader = head // (graph.n_heads // graph.n_kv)
            q, k, v = (
                att.read(kind, [own], block.norm1(read(graph.reads(layer, kind).start + place)[None]))  # type: ignore[arg-type]
                for kind, own, place in (
                    ("q", head, head),
                    ("k", head // model.shape.group, reader),
                    ("v", head // model.shape.group, reader),
                )
            )
            q, k = (model.turn(x[0][:, :, None], 0)[:, :, 0] for x in (q, k))
            scores = q @ k.transpose(-1, -2) / (att.divisor or math.sqrt(q.shape[-1]))
            scores = scores if att.cap is None else att.cap * (scores / att.cap).tanh()
            every = torch.ones(scores.shape[-2:]).bool()
            scores = scores.masked_fill(every.triu(1) | every.tril(-(att.window or len(ROWS[row]))), -torch.inf)
            written.append(att.write([head], (scores.softmax(-1) @ v[0])[None])[0])
        if block.post1 is not None:
            total = sum(written)
            written = [each * block.post1(total) / total for each in written]
        beside = read(graph.mlp_in(layer)) if graph.parallel else None
        delivered += written
        bias = bias if att.b_o is None else bias + att.b_o
        delivered.append(model.mlp(layer, read(graph.mlp_in(layer)) if beside is None else beside))
    return model.unembed(read(graph.final)[:, -1])[0]


def metric_of(case: Case, edges: EdgeMatrix, prompts: Sequence[int], place: tuple[int, int], step: float) -> float:
    """The metric on some prompts when one edge's weight has moved by a step."""
    weights = torch.from_numpy(edges).double()
    weights[place] += step
    logits = torch.stack([weighted(case, weights, row) for row in prompts])
    return float(case.task.each(logits, prompts).mean())


def edges_of_each_kind(case: Case, edges: EdgeMatrix, rng: np.random.Generator) -> list[tuple[int, int]]:
    """A present and an absent edge, between nodes that the circuit has, into receivers of every kind."""
    graph, live = case.graph, edges.any(1)
    used = (graph.owners & live).any(1)
    used[graph.final] = True
    chosen = []
    for kind in ("<q>", "<k>", "<v>", "m", "logits"):
        mine = np.array([name.endswith(kind) or (kind == "m" and name.startswith("m")) for name in graph.dst_names])
        for present in (True, False):
            places = np.argwhere(graph.valid & (edges == present) & (live[:, None] & (used & mine)[None]))
            chosen += [tuple(map(int, place)) for place in places[rng.permutation(len(places))[:1]]]
    return chosen  # type: ignore[return-value]


def test_gradients_are_numerical_derivatives(case: Case) -> None:
    edges, prompts = case.circuit(0.35, 3), [0, 1]
    run = case.masked.run(edges, case.masked.part(prompts))
    same(run.logits[0].detach(), weighted(case, torch.from_numpy(edges).double(), 0))
    gradient = case.masked.gradient(run, case.task.each(run.logits, prompts).mean())
    places = edges_of_each_kind(case, edges, np.random.default_rng(0))
    assert len({bool(edges[place]) for place in places}) == 2
    assert len(places) >= 6
    for place in places:
        up, down = (metric_of(case, edges, prompts, place, step) for step in (STEP, -STEP))
        assert gradient[place] == pytest.approx((up - down) / (2 * STEP), abs=1e-7, rel=1e-5), place


def test_gradients_vanish_outside_the_graph_and_at_dead_heads(case: Case) -> None:
    edges = case.circuit(0.1, 5)
    run = case.masked.run(edges, case.masked.part([0, 3]))
    gradient = case.masked.gradient(run, case.task.each(run.logits, [0, 3]).mean())
    dead = ~(case.graph.owners & edges.any(1)).any(1)
    dead[case.graph.final] = False
    assert dead.any()
    assert not gradient[~case.graph.valid].any()
    if case.model.blocks[0].post1 is None:  # else a head that nothing reads counts in the scale of the others
        assert not gradient[:, dead].any()


# -- many changed circuits ---------------------------------------------------------------------------------------------


def some(graph: Graph, among: EdgeMatrix, size: int, present: bool, rng: np.random.Generator) -> Change:
    """A change of some edges among those that are marked."""
    places = np.argwhere(among & graph.valid)
    src, dst = places[rng.permutation(len(places))[:size]].T
    return Change(src, dst, present)


def changed(edges: EdgeMatrix, change: Change) -> EdgeMatrix:
    edges = edges.copy()
    edges[change.src, change.dst] = change.present
    return edges


def agree(case: Case, edges: EdgeMatrix, changes: Sequence[Change], prompts: Sequence[int]) -> None:
    """Every row of a measurement, on some of a run's prompts, against the plain pass of its circuit."""
    changes = [change for change in changes if len(change)]
    assert changes
    run = case.masked.run(edges, case.masked.part([0, 1, 3, 5]))
    rows = case.masked.measure(run, changes, case.masked.part(prompts))
    assert rows.shape[:2] == (len(changes), len(prompts))
    for change, row in zip(changes, rows, strict=True):
        same(row, case.logits(changed(edges, change))[list(prompts)])


@pytest.mark.parametrize("most", [10**10, 0, 400_000])  # all rows at once, one at a time, a few
@pytest.mark.parametrize("prompts", [[0, 1, 3, 5], [1], [5, 0]])
def test_rows_are_the_changed_circuits(
    case: Case, prompts: Sequence[int], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masked, "CPU_MEMORY", most)
    rng, edges, graph = np.random.default_rng(1), case.circuit(0.4, 2), case.graph
    at = np.arange(graph.n_dst) // graph.layer_width
    changes = [some(graph, edges & (at == layer), 4, False, rng) for layer in (2, 0, 1)]  # not in the layers' order
    changes += [some(graph, ~edges & (at == layer), 5, True, rng) for layer in (1, 2, 0)]
    changes += [some(graph, edges, 9, False, rng), some(graph, ~edges, 9, True, rng)]
    changes += [some(graph, edges & (at == graph.n_layers), 2, False, rng)]
    agree(case, edges, changes, prompts)


def test_changes_of_the_final_stream_alone(case: Case) -> None:
    rng, edges, graph = np.random.default_rng(2), case.circuit(0.3, 4), case.graph
    final = np.arange(graph.n_dst) == graph.final
    agree(case, edges, [some(graph, edges & final, 2, False, rng), some(graph, ~edges & final, 2, True, rng)], [0, 3])


def test_a_head_that_returns_is_computed(case: Case) -> None:
    """One with no edge out of it in the run, whose inputs then hear nothing but the ablation."""
    rng, edges, graph = np.random.default_rng(3), case.circuit(0.1, 5), case.graph
    dead = [src for src in range(1, graph.n_src) if not edges[src].any() and "h" in graph.src_names[src]]
    assert dead
    out_of_it = np.zeros_like(edges)
    out_of_it[dead[0]] = True
    agree(case, edges, [some(graph, ~edges & out_of_it, 3, True, rng), some(graph, edges, 3, False, rng)], [0, 1])
