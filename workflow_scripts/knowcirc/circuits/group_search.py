"""Exact search by groups of edges: down the graph as ACDC goes, but what goes is the best prefix of an ordered group.

1. Visit receivers as ACDC does, from the final residual stream down; receivers that nothing reads lose their edges.
2. The present edges into a receiver (or into all receivers of a layer of one kind: MLP; V; K; Q) are a group, in order:
   the weakest by the given scores first, or as ACDC orders them.
3. One batched pass measures `width` prefixes of the group (row r: its first n_r edges gone), on top of all that is
   gone already; one more measures prefixes between the best and the next.
4. The prefix with the least metric + price x (edges left) goes, for good; that may be none.

Every metric is measured on all prompts, so what is reported is the circuit's own. With groups of one edge, in ACDC's
order, an edge goes if its score is below the price: ACDC with tau = price. Sources: ACDC (Conmy et al. 2023,
arXiv 2304.14997) for the way down; groups are ours.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from knowcirc.circuits.acdc import PROJECTION, AcdcRun, Criterion, EdgeTest, Progress, Search, begin, finite
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.metrics import Task
from knowcirc.circuits.patched import Outputs
from knowcirc.circuits.state import Rows
from knowcirc.models.transformer import Transformer

Edge = tuple[int, int]


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """What an edge must cost to stay (`price`, in the metric's unit), and how edges are grouped and measured.

    `width` is the number of prefixes in a pass.

    Raises:
        ValueError: for a width below 1.
    """

    price: float
    per: Literal["edge", "receiver", "kind"] = "receiver"
    width: int = 8

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width {self.width}: a pass measures at least one prefix of a group")


@torch.no_grad()
def group_search(
    model: Transformer,
    graph: Graph,
    task: Task,
    settings: GroupSettings,
    *,
    scores: Float[ndarray, "src dst"] | None = None,
    absent: Outputs | None = None,
    search: Search | None = None,
    after_layer: Callable[[Search], None] | None = None,
    report: Callable[[Progress], None] | None = None,
) -> Search:
    """What is left of the edges that the search began with, and of every decided edge what its removal cost.

    An edge's score is the change of the metric by the measured piece of its group that it lies in, an edge's share.
    `scores` order groups, the least first (None: ACDC's order). All else is as in `acdc`; in the per-head view
    projections are tested with groups of one edge alone, since larger groups take all edges of a receiver.
    """
    run = _GroupRun(model, graph, task, settings, scores, absent, begin(graph) if search is None else search, report)
    for layer in range(run.search.next_layer, -1, -1):
        run.visit(layer)
        if after_layer is not None:
            after_layer(run.search)
    return run.search


class _GroupRun(AcdcRun):
    """The search at work."""

    def __init__(
        self,
        model: Transformer,
        graph: Graph,
        task: Task,
        settings: GroupSettings,
        scores: Float[ndarray, "src dst"] | None,
        absent: Outputs | None,
        search: Search,
        report: Callable[[Progress], None] | None,
    ) -> None:
        super().__init__(model, graph, task, Criterion(settings.price), absent, search, report)
        self.settings, self.scores = settings, scores

    def _test(self, layer: int, items: list[Edge]) -> None:
        """Decide the items (edges, or projections of receivers), group by group."""
        for group in self._groups(layer, items):
            self._decide_group(layer, group)
            self._tell()

    def _groups(self, layer: int, items: Sequence[Edge]) -> list[list[Edge]]:
        """The items in groups, each in the order in which its edges may go."""
        per = self.settings.per
        if items and items[0][0] == PROJECTION:
            return [[item] for item in items] if per == "edge" else []
        groups = [list(group) for _, group in groupby(items, lambda item: self._place(layer, item[1]))]
        scores = self.scores
        if scores is not None:
            groups = [sorted(group, key=lambda item: float(scores[item])) for group in groups]
        return groups if per != "edge" else [[item] for group in groups for item in group]

    def _place(self, layer: int, receiver: int) -> int:
        """What receivers of one group have in common: themselves, or where those of their kind begin."""
        if self.settings.per != "kind" or receiver == self.graph.final:
            return receiver
        spans = (self.graph.reads(layer, kind) for kind in ("q", "k", "v"))  # type: ignore[arg-type]
        return next((span.start for span in spans if span.start <= receiver < span.stop), receiver)

    def _decide_group(self, layer: int, group: list[Edge]) -> None:
        """Measure prefixes of a group, take the best, and say what every piece between two of them cost."""
        measured = {0: self.metric}
        rows, sizes = self._measure(layer, group, spread(0, len(group), self.settings.width), measured)
        best = self._best(measured)
        behind = [size for size in measured if size > best]
        between = spread(best, min(behind) - 1, self.settings.width) if behind else []
        if between:
            finer, fine = self._measure(layer, group, between, measured)
            again = self._best(measured)
            if again in fine:
                rows, sizes = finer, fine
            best = again
        self._note(group, best, measured)
        if best:
            self.state.commit(rows, sizes.index(best))
            self.metric = measured[best]
            for src, dst in group[:best]:
                self._remove(src, dst)

    def _measure(
        self, layer: int, group: Sequence[Edge], sizes: list[int], measured: dict[int, float]
    ) -> tuple[Rows, list[int]]:
        """The metric without the first edges of a group, so many at a time; it is noted in `measured`."""
        rows = self.state.propagate(layer, self._without(group, sizes), len(sizes))
        measured |= zip(sizes, map(finite, rows.metric.tolist()), strict=True)
        self.search.passes += 1
        self.search.rows += len(sizes)
        return rows, sizes

    def _without(self, group: Sequence[Edge], sizes: Sequence[int]) -> dict[int, Float[torch.Tensor, "row _ d"]]:
        """Changes of the receivers' inputs: in each row the first edges of the group are gone."""
        state = self.state
        deltas: dict[int, torch.Tensor] = {}
        for receiver in dict.fromkeys(dst for _, dst in group):
            mine = [i for i, (_, dst) in enumerate(group) if dst == receiver]
            if group[mine[0]][0] == PROJECTION:
                own = (state.absent_input(receiver) - state.inputs[receiver])[None]
            else:
                own = state.removal([group[i][0] for i in mine])
            if not state.read_everywhere(receiver):
                own = state.at_last(own)
            gone = torch.tensor([[i < size for i in mine] for size in sizes]).to(own)
            deltas[receiver] = (gone @ own.flatten(1)).unflatten(1, own.shape[1:])
        return deltas

    def _best(self, measured: dict[int, float]) -> int:
        """The measured prefix with the least metric + price x (edges left); of equals the shortest."""
        return min(sorted(measured), key=lambda size: measured[size] - self.settings.price * size)

    def _note(self, group: Sequence[Edge], best: int, measured: dict[int, float]) -> None:
        """Count the edges, and keep what each piece between two measured prefixes cost, an edge."""
        for start, stop in pairwise(sorted(measured)):
            score = (measured[stop] - measured[start]) / (stop - start)
            self.search.closest = min(self.search.closest, abs(self.criterion.distance(score)))
            for index in range(start, stop):
                src, dst = group[index]
                self.search.tests.append(EdgeTest(src, dst, score, index >= best))
                if src != PROJECTION:
                    self._count(dst, 1, kept=index >= best)


def spread(low: int, high: int, width: int) -> list[int]:
    """At most `width` whole numbers above `low`, evenly spread, the last of them `high`; none where high is low.

    >>> spread(0, 20, 4), spread(5, 7, 4)
    ([5, 10, 15, 20], [6, 7])
    """
    steps = np.linspace(low, high, min(width, high - low) + 1)[1:]
    return [round(step) for step in steps.tolist()]
