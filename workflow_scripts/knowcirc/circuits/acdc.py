"""Exact ACDC, the paper's greedy search for a circuit, without recomputing what a removal cannot reach.

1. Visit receivers from the final residual stream down to layer 0; within a layer the MLP, then the projections of
   the heads (per-head view), then values, keys and queries, heads from last to first.
2. A receiver whose node has no edge left out of it is dead: its edges go untested. (Where the heads' sum is normed, a
   dead head still counts in the scale; the metric is measured anew once its edges are gone.)
3. Test its senders from the latest layer down, heads ascending, the embedding last. The score of an edge is
   metric(without it) - metric(before the test); below tau it goes, for good, and the metric moves with it.
4. Speculate: score many of the next edges in one batch, row j as if all edges before it had been decided as guessed.
   Decisions hold up to the first that contradicts its guess; the increments behind it are the next guesses.
5. A score within `MARGIN` of tau is measured again alone, since a batch may differ from one row in its last bits.

Every decision is that of the one-by-one search. Sources: Conmy et al. 2023, arXiv 2304.14997 (ACDC); Yao et al.
2024, arXiv 2405.17969, section 3.1 and its code (zero ablation, order, projections).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from knowcirc.circuits.graph import EdgeMatrix, Graph
from knowcirc.circuits.metrics import Task
from knowcirc.circuits.patched import Outputs
from knowcirc.circuits.state import CircuitState, Rows
from knowcirc.models.memory import halved
from knowcirc.models.transformer import Transformer

MARGIN = 1e-5
FIRST_WIDTH = 16  # edges in a batch, with one prompt: at the start,
NARROWEST = 8  # after a wrong guess at its beginning,
WIDEST = 64  # and at most; with several prompts less, as the tree has more nodes than one prompt, but never below
FEWEST = 4
PROJECTION = -1  # as sender: the edge from a head's input to its query, key or value


@dataclass(frozen=True, slots=True)
class EdgeTest:
    """One tested edge: sender and receiver index, its score in the metric's unit, whether it was kept."""

    src: int
    dst: int
    score: float
    kept: bool


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: edges decided (tested or dropped) and kept so far, of `total`; `work`: share of the way.

    `work` weighs the edges by the third power of the layers from their receiver to the top, as the time of a layer
    was seen to grow: more is to recompute, and more of the edges there is undecided when a guess fails.
    """

    decided: int
    kept: int
    total: int
    tests: int
    work: float


@dataclass(slots=True)
class Search:
    """A run of ACDC: what it has found, layer by layer, so that it can be kept and taken up again.

    `next_layer` is the layer to visit next (n_layers: the final residual stream, -1: none). `metric_start` is the
    metric of the edges that the search began with, `metric_circuit` of those that are left. `closest` is the smallest
    distance of a score from tau; `passes` and `rows` count batched passes and their rows.
    """

    edges: EdgeMatrix
    projections: Bool[ndarray, " dst"]
    next_layer: int
    tests: list[EdgeTest] = field(default_factory=list)
    metric_start: float = math.nan
    metric_circuit: float = math.nan
    closest: float = math.inf
    passes: int = 0
    rows: int = 0

    def scores(self, graph: Graph) -> Float[ndarray, "src dst"]:
        """Scores of the tested edges, NaN where an edge was never tested."""
        scores = np.full(graph.valid.shape, np.nan)
        for test in self.tests:
            if test.src != PROJECTION:
                scores[test.src, test.dst] = test.score
        return scores


def begin(graph: Graph, edges: EdgeMatrix | None = None) -> Search:
    """A search that has tested nothing yet, on all edges of the graph or on some."""
    edges = graph.valid.copy() if edges is None else edges & graph.valid
    projections = edges.any(0) & graph.projections
    return Search(edges, projections, graph.n_layers)


@dataclass(frozen=True, slots=True)
class Criterion:
    """When an edge goes: its score is below `tau` (in the metric's unit), or its absolute score is."""

    tau: float
    absolute: bool = False

    def distance(self, score: float) -> float:
        """How far a score lies above tau; the edge goes where this is negative."""
        return (abs(score) if self.absolute else score) - self.tau


@torch.no_grad()
def acdc(
    model: Transformer,
    graph: Graph,
    task: Task,
    criterion: Criterion,
    *,
    absent: Outputs | None = None,
    search: Search | None = None,
    after_layer: Callable[[Search], None] | None = None,
    report: Callable[[Progress], None] | None = None,
) -> Search:
    """The circuit that greedy testing leaves, with every test in order.

    Signed scores (the default of `criterion`) let an edge go whenever its removal helps. `absent` holds what absent
    edges deliver (None: zero ablation), in the task's tree or prompt by prompt (see `CircuitState`). `search` is a
    search to go on with; `after_layer` gets it after every layer, `report` the progress after every batch.
    """
    run = AcdcRun(model, graph, task, criterion, absent, begin(graph) if search is None else search, report)
    for layer in range(run.search.next_layer, -1, -1):
        run.visit(layer)
        if after_layer is not None:
            after_layer(run.search)
    return run.search


class AcdcRun:
    """A search at work: the circuit's state, and the batches that decide edges."""

    def __init__(
        self,
        model: Transformer,
        graph: Graph,
        task: Task,
        criterion: Criterion,
        absent: Outputs | None,
        search: Search,
        report: Callable[[Progress], None] | None,
    ) -> None:
        self.graph, self.criterion, self.search, self.report = graph, criterion, search, report
        self.task = task.anchored(model)
        self.state = CircuitState(model, graph, self.task, search.edges, absent)
        self.edges = self.state.edges
        self.margin = MARGIN if model.embedding.dtype == torch.float32 else 0.0
        longest = max(self.state.tree.lengths)
        load = len(self.state.tree) / longest  # positions computed, in prompts
        widths = (max(FEWEST, round(width / load)) for width in (FIRST_WIDTH, NARROWEST, WIDEST))
        self.first_width, self.narrowest, self.widest = widths
        self.width = self.first_width
        self.metric = finite(self.state.refresh(graph.n_layers))
        if math.isnan(search.metric_start):
            search.metric_start = self.metric
        for layer in range(graph.n_layers - 1, search.next_layer, -1):
            self.state.settle([graph.mlp(layer)])
            self.state.settle(range(graph.n_src)[graph.heads(layer)])
        undecided = np.zeros_like(graph.valid)
        undecided[:, self._open()] = self.edges[:, self._open()]
        self.decided = int(graph.valid.sum() - undecided.sum())
        self.kept = int(self.edges.sum() - undecided.sum())
        heights = graph.n_layers + 1 - np.arange(graph.n_dst) // graph.layer_width
        self.effort = heights**3 / (heights**3 * graph.valid.sum(0)).sum()
        self.work = 1 - float(undecided.sum(0) @ self.effort)

    def _open(self) -> slice:
        """Receivers that are not visited yet."""
        return slice(0, min(self.graph.n_dst, (self.search.next_layer + 1) * self.graph.layer_width))

    def visit(self, layer: int) -> None:
        """Decide all edges into a layer (n_layers: into the final residual stream)."""
        graph, state = self.graph, self.state
        self.metric = state.refresh(layer)
        self.width = min(self.first_width, self.widest)  # so that a search taken up again makes the same batches
        if layer == graph.n_layers:
            self._test(layer, self._edges_into([graph.final]))
        else:
            state.settle([graph.mlp(layer)])
            self._test(layer, self._edges_into(self._living([graph.mlp_in(layer)])))
            state.settle(range(graph.n_src)[graph.heads(layer)])
            reads = [range(graph.n_dst)[graph.reads(layer, kind)] for kind in ("v", "k", "q")]
            living = self._living([receiver for span in reads for receiver in reversed(span)])
            if state.joint:  # what a head that nothing reads has lost moves the scale of the others
                self.metric = finite(state.refresh(layer))
            self._test(layer, [(PROJECTION, receiver) for receiver in living if self.search.projections[receiver]])
            self._test(layer, self._edges_into(living))
        self.search.edges, self.search.next_layer = self.edges.copy(), layer - 1
        self.search.metric_circuit = self.metric
        self._tell()

    def _living(self, receivers: Sequence[int]) -> list[int]:
        """The receivers whose output some edge still reads; the edges into the others go untested."""
        alive = self.edges.any(1)
        living = [receiver for receiver in receivers if (self.graph.owners[receiver] & alive).any()]
        for receiver in set(receivers) - set(living):
            self._drop(receiver)
        return living

    def _drop(self, receiver: int) -> None:
        self._count(receiver, int(self.edges[:, receiver].sum()))
        self.edges[:, receiver] = False
        self.search.projections[receiver] = False

    def _count(self, receiver: int, decided: int, *, kept: bool = False) -> None:
        self.decided += decided
        self.kept += kept
        self.work += decided * float(self.effort[receiver])

    def _edges_into(self, receivers: Sequence[int]) -> list[tuple[int, int]]:
        """(src, dst) of the present edges in ACDC's order: latest layer first, its MLP before its heads 0, 1, ..."""
        order = self.graph.latest_first
        return [(int(src), dst) for dst in receivers for src in order[self.edges[order, dst]]]

    def _test(self, layer: int, items: list[tuple[int, int]]) -> None:
        """Decide the items (edges, or projections of receivers) in order, in speculative batches."""
        kept = [False] * len(items)  # guesses: most edges go
        done, alone = 0, False
        while done < len(items):
            asked = 1 if alone else min(self.width, len(items) - done)
            width, rows = halved(partial(self._propagate, layer, items, kept, done), asked)
            if width < asked:  # more do not fit in memory
                self.width = self.widest = width
            batch, guess = items[done : done + width], kept[done : done + width]
            metrics = rows.metric.tolist()
            self.search.passes += 1
            self.search.rows += len(batch)
            decided, alone = self._decide(batch, guess, metrics, rows)
            kept[done + decided : done + len(batch)] = self._guess(metrics, guess, decided)
            self._adapt(decided, len(batch))
            done += decided
            self._tell()

    def _propagate(
        self, layer: int, items: list[tuple[int, int]], kept: list[bool], done: int, width: int
    ) -> tuple[int, Rows]:
        """What a batch of the next `width` items leads to, and how many they are."""
        batch = slice(done, done + width)
        return width, self.state.propagate(layer, self._deltas(items[batch], kept[batch]), width)

    def _decide(
        self, batch: list[tuple[int, int]], guess: list[bool], metrics: list[float], rows: Rows
    ) -> tuple[int, bool]:
        """How many items of a batch are decided, and whether the next must be measured alone."""
        accepted, decided, close = None, 0, False
        for (src, dst), guessed, metric in zip(batch, guess, metrics, strict=True):
            score = finite(metric) - self.metric
            distance = self.criterion.distance(score)
            close = abs(distance) < self.margin and len(batch) > 1
            if close:
                break
            keep = distance >= 0
            self.search.tests.append(EdgeTest(src, dst, score, keep))
            self.search.closest = min(self.search.closest, abs(distance))
            if not keep:
                self.metric, accepted = metric, decided
                self._remove(src, dst)
            decided += 1
            if src != PROJECTION:
                self._count(dst, 1, kept=keep)
            if keep != guessed:
                break
        if accepted is not None:
            self.state.commit(rows, accepted)
        return decided, close

    def _remove(self, src: int, dst: int) -> None:
        if src == PROJECTION:
            self._drop(dst)
        else:
            self.edges[src, dst] = False

    def _guess(self, metrics: list[float], guess: list[bool], decided: int) -> list[bool]:
        """Guesses for the items behind the decided ones, from what their rows added in the batch's own world.

        There an edge is missing that stays; where the answer is less likely, the same change of a logit costs more.
        """
        result, before = [], math.nan
        for index, metric in enumerate(metrics):
            if index >= decided:
                scale = self.task.slope(self.metric) / self.task.slope(before)
                result.append(self.criterion.distance((metric - before) * scale) >= 0)
            if not guess[index]:
                before = metric
        return result

    def _adapt(self, decided: int, width: int) -> None:
        if decided == width == self.width:
            self.width = min(2 * self.width, self.widest)
        elif decided < width:
            self.width = min(self.widest, max(self.narrowest, min(self.width, decided + self.narrowest)))

    def _deltas(self, batch: list[tuple[int, int]], guess: list[bool]) -> dict[int, Float[Tensor, "row _ d"]]:
        """Changes of the receivers' inputs: in row j edge j is gone, and those before it that are guessed to go."""
        state, rows = self.state, len(batch)
        deltas: dict[int, Tensor] = {}
        for receiver in dict.fromkeys(dst for _, dst in batch):
            mine = [i for i, (_, dst) in enumerate(batch) if dst == receiver]
            if batch[mine[0]][0] == PROJECTION:
                own = (state.absent_input(receiver) - state.inputs[receiver])[None]
            else:
                own = state.removal([batch[i][0] for i in mine])
            if not state.read_everywhere(receiver):
                own = state.at_last(own)
            gone = own * torch.tensor([not guess[i] for i in mine]).to(own)[:, None, None]
            total = gone.cumsum(0)
            change = own.new_zeros(rows, *own.shape[1:])
            change[mine[0] : mine[-1] + 1] = total - gone + own
            change[mine[-1] + 1 :] = total[-1]
            deltas[receiver] = change
        return deltas

    def _tell(self) -> None:
        if self.report is not None:
            counts = (self.decided, self.kept, self.graph.n_edges, len(self.search.tests))
            self.report(Progress(*counts, work=self.work))


def finite(metric: float) -> float:
    """The metric, which must be a number.

    Raises:
        ValueError: if it has overflown.
    """
    if not math.isfinite(metric):
        raise ValueError(f"the metric is {metric}; search in float64, or mend the model")
    return metric
