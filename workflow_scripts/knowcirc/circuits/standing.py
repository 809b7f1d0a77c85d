"""The search for a circuit that stands alone: edges go by learned scores, and only where their loss was measured.

Attribution does not know what an ablation does: where attention or a norm is saturated, first-order effects vanish,
and the weakest 2 % of the edges by |gradient x activation| take the answer with them. Measuring every edge, as ACDC
does, takes tens of thousands of passes. So:

1. Every edge has a score, at first its rank by |EAP-IG| against the ablation. After each step the gradient of the
   metric in the present circuit moves it (Adam): what pays in circuit after circuit rises, absent edges included.
2. A step takes the present edges of the least scores, a share of those left, and cuts them along the depth into
   groups; so it does with the absent edges that the gradient wants back most. One batched pass measures each group's
   removal or return, on a few prompts drawn anew for each step.
3. Groups whose removal costs least go (at least half of them, and all that cost less than `price` an edge); the scores
   of the others rise. Groups whose return helps come back. A step tries some whole nodes, too, drawn from those whose
   edges promise least: a node goes where it costs no more an edge than the groups do.
4. Where the step as a whole costs far more than its groups did one by one, it is taken back to its best third. Where
   that happens to steps in a row, the next ones try less: half as much after each but the first, and a quarter more
   again after each step that stands.
5. At the size that is asked for, steps go on that remove as much as they return, and of all circuits not above that
   size the one whose metric on all prompts is least is the result.

Sources: the scores are those of edge-popup (Ramanujan et al. 2020, arXiv 1911.13299) with the return of edges as in
RigL (Evci et al. 2020, arXiv 1911.11134); DiscoGP (arXiv 2407.03779) and Edge Pruning (arXiv 2406.16778) learn masks of
circuits. Measuring groups of removals before they are made is ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from knowcirc.circuits.circuit import Circuit
from knowcirc.circuits.graph import EdgeMatrix, Graph
from knowcirc.circuits.masked import Change, MaskedModel, Run
from knowcirc.circuits.metrics import Task
from knowcirc.circuits.patched import Outputs
from knowcirc.circuits.settings import StandingSettings
from knowcirc.models.transformer import Transformer
from knowcirc.seeding import derive

DECAY = 0.9  # of Adam's moments
RETURNED = 0.5  # quantile of the present edges' scores that a returned edge gets at least
KEPT_OF_LIMIT = 0.97  # no node goes that would leave less of the size asked for
LEAST = 1 / 16  # of what a step tries at most, however often steps were taken back
JUMP = 1.0  # how far above the metric's running mean a step's outcome is taken back, nats


@dataclass(slots=True)
class StandingSearch:
    """A search at rest between two steps, so that it can be kept and taken up again.

    `refused` is how many steps in a row were taken back just now, and `caution` what the shares of edges that a step
    tries are multiplied by. `best` is the best circuit not above the
    size so far, with its metric on all prompts. `path` holds, for sizes asked for, the first circuit that was not above
    each. `passes` is how often each prompt has passed the network, forward or back, in the mean.
    """

    edges: EdgeMatrix
    scores: Float[ndarray, "src dst"]
    mean: Float[ndarray, "src dst"]
    square: Float[ndarray, "src dst"]
    step: int = 0
    level: float = float("nan")
    polished: int = 0
    rows: int = 0
    best: EdgeMatrix | None = None
    best_metric: float = float("inf")
    before: EdgeMatrix | None = None
    accepted: list[Change] = field(default_factory=list)
    path: dict[float, EdgeMatrix] = field(default_factory=dict)
    refused: int = 0
    caution: float = 1.0
    passes: float = 0.0


def begin_standing(graph: Graph, scores: Float[ndarray, "src dst"], passes: float = 0.0) -> StandingSearch:
    """A search that has done nothing yet: all edges, ranked from 0 to 1 by absolute score.

    `passes` is how often each prompt has passed the network for the scores.
    """
    strength = np.where(graph.valid, np.abs(scores), -1.0).ravel()
    ranks = np.empty(strength.size)
    ranks[np.argsort(strength, kind="stable")] = np.arange(strength.size) - (strength.size - graph.n_edges)
    ranks = np.where(graph.valid, ranks.reshape(graph.valid.shape) / graph.n_edges, -np.inf)
    zeros = np.zeros(graph.valid.shape)
    return StandingSearch(graph.valid.copy(), ranks, zeros, zeros.copy(), passes=passes)


def begin_below(circuit: Circuit) -> StandingSearch:
    """A search that begins with a circuit of an earlier one and the scores that this learned.

    Raises:
        ValueError: if the circuit has no scores.
    """
    if circuit.scores is None:
        raise ValueError(f"the circuit of method {circuit.method} has no scores to go on with")
    scores = np.nan_to_num(circuit.scores, nan=-np.inf)
    zeros = np.zeros(scores.shape)
    return StandingSearch(circuit.edges.copy(), scores, zeros, zeros.copy())


class Standing:
    """The search at work."""

    def __init__(
        self,
        model: Transformer,
        graph: Graph,
        task: Task,
        settings: StandingSettings,
        search: StandingSearch,
        absent: Outputs | None = None,
        sizes: Sequence[float] = (),
    ) -> None:
        self.graph, self.settings, self.search = graph, settings, search
        self.task = task.anchored(model)
        self.model = MaskedModel(model, graph, task.tree, absent)
        self.n_prompts = len(task.answers)
        self.sizes = sorted({*(size for size in sizes if size < 1), settings.size}, reverse=True)
        self.whole = self.metric(graph.valid)

    @property
    def limit(self) -> int:
        """How many edges the circuit may hold."""
        return max(1, int(self.settings.size * self.graph.n_edges))

    @property
    def finished(self) -> bool:
        """Whether no step is left to be made."""
        return self.search.polished > self.settings.polish

    @property
    def late(self) -> bool:
        """Whether the size should have been reached: from here on edges only go, so that every search ends."""
        return self.search.step >= self.settings.steps and int(self.search.edges.sum()) > self.limit

    @property
    def _care(self) -> float:
        return 1.0 if self.late else self.search.caution

    def step(self) -> None:
        """One step: a gradient, the measured groups, what goes and what returns."""
        search, settings = self.search, self.settings
        rng = np.random.default_rng(derive(settings.seed, "standing", search.step))
        chosen = np.sort(rng.permutation(self.n_prompts)[: settings.prompts]).tolist()
        run, values = self._run(search.edges, chosen)
        level = float(values.detach().mean())
        late = self.late
        if search.before is not None and not late and not level <= search.level + JUMP:
            run, values = self._take_back(run, values, chosen)
            level = float(values.detach().mean())
            search.refused += 1
            if search.refused > 1:  # one alone happens in most searches, and they lose by going slower after it
                search.caution = max(LEAST, 0.5 * search.caution)
        else:
            search.refused = 0
            search.caution = min(1.0, 1.25 * search.caution)
        search.level = level if np.isnan(search.level) else 0.5 * search.level + 0.5 * level
        gradient = self._gradient(run, values)
        self._learn(gradient)
        changes = [*self._weakest(), *([] if late else self._wanted(gradient))]
        nodes = self._idle(rng)
        if changes or nodes:  # none where the circuit is empty
            self._try(run, values, chosen, changes, nodes, rng)
        search.step += 1
        self._note()

    def _try(
        self,
        run: Run,
        values: torch.Tensor,
        chosen: Sequence[int],
        changes: Sequence[Change],
        nodes: Sequence[Change],
        rng: np.random.Generator,
    ) -> None:
        """Measure the changes of groups and of whole nodes on some of the run's prompts, and make those that pay."""
        probes = np.sort(rng.permutation(len(chosen))[: self.settings.probes]).tolist()
        part = self.model.part([chosen[i] for i in probes])
        logits = self.model.measure(run, [*changes, *nodes], part)
        costs = self.task.each(logits, [chosen[i] for i in probes]).mean(-1) - values[probes].detach().mean()
        self.search.rows += len(costs)
        self.search.passes += len(costs) * len(probes) / self.n_prompts
        self._accept(changes, nodes, costs.double().cpu().numpy())

    def _run(self, edges: EdgeMatrix, prompts: Sequence[int]) -> tuple[Run, torch.Tensor]:
        run = self.model.run(edges, self.model.part(prompts))
        self.search.passes += len(prompts) / self.n_prompts
        with torch.enable_grad():
            values = self.task.each(run.logits, prompts)
        return run, values

    def _gradient(self, run: Run, values: torch.Tensor) -> Float[ndarray, "src dst"]:
        with torch.enable_grad():
            loss = values.mean()
        self.search.passes += len(values) / self.n_prompts
        return self.model.gradient(run, loss)

    def _learn(self, gradient: Float[ndarray, "src dst"]) -> None:
        """Adam's step on the scores."""
        search, steps = self.search, self.search.step + 1
        search.mean += (1 - DECAY) * (gradient - search.mean)
        search.square += (1 - DECAY) * (gradient**2 - search.square)
        corrected = 1 - DECAY**steps
        move = search.mean / corrected / (np.sqrt(search.square / corrected) + 1e-6)
        search.scores -= np.where(self.graph.valid, self.settings.rate * move, 0.0)

    def _weakest(self) -> list[Change]:
        """Groups of present edges that may go."""
        search, settings = self.search, self.settings
        present = int(search.edges.sum())
        easy = present > settings.turn * self.graph.n_edges or search.level <= self.whole + settings.ease
        rate = (settings.first if easy else settings.later) * self._care
        surplus = max(0, present - self.limit)
        # at the size asked for, what is sure to go (half of it) makes room for all that may return
        requested = (
            min(int(present * rate), 2 * (surplus + int(settings.returned * self._care * present))) + settings.groups
        )
        return self._groups(np.where(search.edges, -search.scores, -np.inf), requested, settings.groups, present=False)

    def _wanted(self, gradient: Float[ndarray, "src dst"]) -> list[Change]:
        """Groups of absent edges that may return: those whose return is promised to lower the metric most."""
        search, settings = self.search, self.settings
        promise = np.where(self.graph.valid & ~search.edges & (gradient < 0), -gradient, -np.inf)
        requested = int(settings.returned * self._care * search.edges.sum())
        return self._groups(promise, requested, settings.return_groups, present=True)

    def _idle(self, rng: np.random.Generator) -> list[Change]:
        """Whole nodes that may go, drawn from the quarter whose edges together promise least to first order."""
        edges = self.search.edges
        alive = np.flatnonzero(edges.any(1))
        alive = alive[alive > 0]  # the embedding stays
        effects = np.abs((self.search.mean * edges).sum(1))[alive]
        least = alive[np.argsort(effects, kind="stable")][: max(self.settings.nodes, len(alive) // 4)]
        drawn = np.sort(rng.permutation(least)[: self.settings.nodes])
        return [Change(np.full(int(edges[node].sum()), node), np.flatnonzero(edges[node]), False) for node in drawn]

    def _groups(self, order: Float[ndarray, "src dst"], requested: int, groups: int, *, present: bool) -> list[Change]:
        """The `requested` first edges of an order (highest first, -inf: none), cut along the depth."""
        requested = min(requested, int(np.isfinite(order).sum()))
        if requested < 1 or groups < 1:
            return []
        first = np.argpartition(-order, requested - 1, axis=None)[:requested]
        src, dst = np.unravel_index(first, order.shape)
        along = np.lexsort((src, dst))
        pieces = np.array_split(along, min(groups, requested))
        return [Change(src[piece], dst[piece], present) for piece in pieces]

    def _accept(self, changes: Sequence[Change], nodes: Sequence[Change], costs: Float[ndarray, " row"]) -> None:
        """Make the changes that cost least, and raise the scores of the edges that stay."""
        search, settings = self.search, self.settings
        costs = np.where(np.isfinite(costs), costs, np.inf)
        costs, of_nodes = costs[: len(changes)], costs[len(changes) :]
        sizes = np.array([len(change) for change in changes])
        leaving = np.array([not change.present for change in changes])
        made = np.where(leaving, costs <= settings.price * sizes, costs < -settings.price * sizes)
        removals = np.flatnonzero(leaving)
        made[removals[np.argsort(costs[removals], kind="stable")[: max(1, len(removals) // 2)]]] = True
        floor = np.quantile(search.scores[search.edges], RETURNED)
        for change, yes in zip(changes, made, strict=True):
            place = (change.src, change.dst)
            if yes and change.present:
                search.scores[place] = np.maximum(search.scores[place], floor)
            elif not yes and not change.present:
                search.scores[place] += settings.raised
        order = [int(i) for i in np.argsort(costs, kind="stable") if made[i]]
        each = costs[removals] / sizes[removals]
        usual = max(settings.price, float(np.median(each))) if len(removals) else settings.price
        gone = [node for node, cost in zip(nodes, of_nodes, strict=True) if cost <= usual * self._edges_of(node)]
        search.before, search.accepted = search.edges, [changes[i] for i in order]
        search.edges = self._changed(search.edges, search.accepted)
        for node in gone:
            edges = self._changed(search.edges, [node])
            if edges.sum() >= KEPT_OF_LIMIT * self.limit:  # a node takes along what depends on it alone
                search.edges = edges
                search.accepted.append(node)

    def _edges_of(self, node: Change) -> int:
        """How many edges go with a node: those out of it, and those into what only it reads (a K/V input is shared)."""
        inputs = self.graph.owners[:, node.src[0]] & (self.graph.owners.sum(1) == 1)
        return len(node) + int(self.search.edges[:, inputs].sum())

    def _changed(self, edges: EdgeMatrix, changes: Sequence[Change]) -> EdgeMatrix:
        edges = edges.copy()
        for change in changes:
            edges[change.src, change.dst] = change.present
        return self.graph.connected(edges)

    def _take_back(self, run: Run, values: torch.Tensor, prompts: Sequence[int]) -> tuple[Run, torch.Tensor]:
        """Go back to the best third of the last step's changes; edges that the broken circuit misses rise."""
        search = self.search
        if search.before is None:
            return run, values
        kept = max(1, len(search.accepted) // 3)
        if bool(torch.isfinite(values).all()):
            missed = self._gradient(run, values) < 0
            for change in search.accepted[kept:]:
                if not change.present:
                    place = (change.src, change.dst)
                    search.scores[place] += np.where(missed[place], self.settings.raised, 0.0)
        search.edges = self._changed(search.before, search.accepted[:kept])
        search.before = None
        return self._run(search.edges, prompts)

    def _note(self) -> None:
        """Keep the circuit where it is the first below a size of the path, or the best one not above the limit."""
        search = self.search
        present = int(search.edges.sum())
        for size in self.sizes:
            if size not in search.path and present <= max(1, int(size * self.graph.n_edges)):
                search.path[size] = search.edges.copy()
        if present > self.limit:
            return
        search.polished += 1
        search.passes += 1
        metric = self.metric(search.edges)
        if metric < search.best_metric:
            search.best, search.best_metric = search.edges.copy(), metric

    def metric(self, edges: EdgeMatrix) -> float:
        """The metric of a circuit on all prompts."""
        run = self.model.run(edges, self.model.part(range(self.n_prompts)), grad=False)
        return float(self.task.measure(run.logits))
