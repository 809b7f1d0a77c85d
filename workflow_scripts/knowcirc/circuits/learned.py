"""Masks of the edges that are trained: Edge Pruning, and uniform gradient sampling (UGS).

1. Every edge has log-odds. A step draws a mask from 0 to 1 by them and runs the circuit with an edge delivering its
   share of the sender's output, and the rest of what the ablation delivers, on some prompts drawn anew.
2. d loss / d mask, from one pass back, goes through the draw to the log-odds; what an edge costs is added. Adam's step.
3. The scores are the probabilities that edges stay; the circuit is made of the largest.

| method | a draw of log-odds a |
|---|---|
| `edge-pruning` | hard concrete: sigmoid(3/2 (a + logit of a uniform number)), stretched to -0.1 ... 1.1, clipped |
| `ugs` | p = sigmoid(a), w = p (1 - p): 1 with probability p - w/2, 0 with 1 - p - w/2, else uniform |

| method | what an edge costs |
|---|---|
| `edge-pruning` | what two trained Lagrange multipliers say: they hold a share of the edges that falls to the size |
| `ugs` | a price |

The mean slope of the loss along a uniform share is the loss without the edge less the loss with it, so that UGS follows
the gradient of what masks of 0 and 1 lose.

Sources: Bhaskar et al. 2024, arXiv 2406.16778 (Edge Pruning), with the hard concrete of Louizos et al. 2018, arXiv
1712.01312; Li and Janson 2024, arXiv 2409.09951 (UGS).
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from numpy.random import Generator

from knowcirc.circuits.acdc import Progress
from knowcirc.circuits.attribution import top_edges
from knowcirc.circuits.circuit import Circuit
from knowcirc.circuits.circuit_settings import CircuitSettings
from knowcirc.circuits.discovery import BY_PROMPT, Scoring, attribute, passes_of, read_alike
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.masked import MaskedModel
from knowcirc.circuits.methods import INTEGRATED, METHODS
from knowcirc.circuits.metrics import Task
from knowcirc.circuits.searching import absent_outputs, passes_before, task_of
from knowcirc.circuits.settings import MaskSection, PruningSection, SamplingSection
from knowcirc.facts.prompts import Prompt
from knowcirc.files import atomic
from knowcirc.models.loading import LanguageModel
from knowcirc.seeding import derive

KEPT = 10.0  # seconds between two states of a training in its file
LEFT, RIGHT, TEMPERATURE = -0.1, 1.1, 2 / 3  # of the hard concrete
EDGE = 1e-6  # how near a uniform draw comes to 0 and 1
Edges = Float[ndarray, " edge"]


class Adam:
    """Adam's moments of some parameters; without a guard against small gradients, which are those of edges."""

    def __init__(self, size: int, rate: float, decay: float = 0.999) -> None:
        self.rate, self.decay = rate, decay
        self.mean, self.square = np.zeros(size), np.zeros(size)

    def move(self, gradient: Edges, step: int) -> Edges:
        """How far the parameters go against a gradient in a step, counted from 0."""
        self.mean += 0.1 * (gradient - self.mean)
        self.square += (1 - self.decay) * (gradient**2 - self.square)
        mean, square = self.mean / (1 - 0.9 ** (step + 1)), self.square / (1 - self.decay ** (step + 1))
        found: Edges = self.rate * mean / np.sqrt(square + np.finfo(float).tiny)
        return found


@dataclass(frozen=True, slots=True)
class Draw:
    """A mask, from 0 to 1, and how it changes with the log-odds."""

    mask: Edges
    slope: Edges


class HardConcrete:
    """The masks of Edge Pruning, `size` the share of the edges that is asked for."""

    def __init__(self, n_edges: int, settings: PruningSection, size: float) -> None:
        self.settings, self.size = settings, size
        self.log_odds = np.full(n_edges, float(settings.start))
        self.adam = Adam(n_edges, settings.rate)
        self.multipliers = np.zeros(2)
        self.dual = Adam(2, settings.rate)

    def draw(self, rng: Generator) -> Draw:
        """A mask from the hard concrete distribution."""
        uniform = rng.uniform(EDGE, 1 - EDGE, len(self.log_odds))
        inner = _sigmoid((np.log(uniform) - np.log1p(-uniform) + self.log_odds) / TEMPERATURE)
        stretched = (RIGHT - LEFT) * inner + LEFT
        inside = (stretched > 0) & (stretched < 1)
        return Draw(stretched.clip(0, 1), inside * (RIGHT - LEFT) * inner * (1 - inner) / TEMPERATURE)

    def cost(self, step: int) -> Edges:
        """The slope of the Lagrangian; the multipliers rise with what is above the target, and fall below it."""
        kept = self.kept
        gap = float(kept.mean()) - self.target(step)
        pull = self.multipliers[0] + 2 * self.multipliers[1] * gap
        self.multipliers -= self.dual.move(-np.array([gap, gap**2]), step)
        return pull * kept * (1 - kept) / len(kept)

    def target(self, step: int) -> float:
        """The share of the edges that a step aims at: from all to the size, then the size.

        Where the log-odds begin with ranks, it is the size from the beginning.
        """
        if self.settings.first != "even":
            return self.size
        way = min(1.0, (step + 1) / max(1.0, self.settings.warmup * self.settings.steps))
        return 1 + way * (self.size - 1)

    @property
    def kept(self) -> Edges:
        """The probability that a mask is not 0."""
        return _sigmoid(self.log_odds - TEMPERATURE * math.log(-LEFT / RIGHT))

    @property
    def arrays(self) -> dict[str, ndarray]:
        """All that training changes."""
        dual = {"multipliers": self.multipliers, "dual_mean": self.dual.mean, "dual_square": self.dual.square}
        return {"log_odds": self.log_odds, "mean": self.adam.mean, "square": self.adam.square, **dual}


class UniformGradient:
    """The masks of uniform gradient sampling."""

    def __init__(self, n_edges: int, settings: SamplingSection) -> None:
        self.settings = settings
        self.log_odds = np.full(n_edges, float(settings.start))
        self.adam = Adam(n_edges, settings.rate, decay=0.995)

    def draw(self, rng: Generator) -> Draw:
        """A mask of 0, 1 and, with probability p (1 - p), something uniform between."""
        kept = self.kept
        width = np.maximum(kept * (1 - kept), np.finfo(float).tiny)
        mask = 1 - ((rng.random(len(kept)) - kept) / width + 0.5).clip(0, 1)
        # d E[loss] / d log-odds = width * E[slope | uniform], and a mask is uniform with probability width
        return Draw(mask, ((mask > 0) & (mask < 1)).astype(float))

    def cost(self, step: int) -> Edges:
        """The slope of the price of the edges that are expected to stay."""
        kept = self.kept
        return self.settings.price * kept * (1 - kept)

    @property
    def kept(self) -> Edges:
        """The probability that each edge stays."""
        return _sigmoid(self.log_odds)

    @property
    def arrays(self) -> dict[str, ndarray]:
        """All that training changes."""
        return {"log_odds": self.log_odds, "mean": self.adam.mean, "square": self.adam.square}


Mask = HardConcrete | UniformGradient
"""Log-odds of the edges, the draw by them, and what an edge costs."""


def _sigmoid(x: Edges) -> Edges:
    found: Edges = 1 / (1 + np.exp(-x))
    return found


class Training:
    """The training of a mask on a task."""

    def __init__(
        self, masked: MaskedModel, task: Task, mask: Mask, settings: PruningSection | SamplingSection, seed: int
    ) -> None:
        self.masked, self.task, self.mask, self.settings, self.seed = masked, task, mask, settings, seed
        self.done = 0

    def step(self) -> float:
        """One step; the loss of its masks, mean over its prompts."""
        rng = np.random.default_rng(derive(self.seed, "mask", self.done))
        n_prompts, settings = len(self.task.answers), self.settings
        chosen = np.sort(rng.permutation(n_prompts)[: settings.prompts]).tolist()
        samples = settings.samples if isinstance(settings, SamplingSection) else 1
        part = self.masked.part(chosen)
        gradient, losses = np.zeros(len(self.mask.log_odds)), []
        for _ in range(samples):
            draw = self.mask.draw(rng)
            loss, slope = slope_of_mask(self.masked, self.task, draw.mask, chosen, part)
            gradient += slope * draw.slope / samples
            losses.append(loss)
        if not np.isfinite(gradient).all():
            raise ValueError(
                f"the mask's gradient is not finite in step {self.done}; train in float64, or mend the model"
            )
        self.mask.log_odds -= self.mask.adam.move(gradient + self.mask.cost(self.done), self.done)
        self.done += 1
        return float(np.mean(losses))

    @property
    def passes(self) -> float:
        """How often each prompt has passed the network, forward or back."""
        settings, n_prompts = self.settings, len(self.task.answers)
        samples = settings.samples if isinstance(settings, SamplingSection) else 1
        return 2 * self.done * samples * min(settings.prompts, n_prompts) / n_prompts


def slope_of_mask(
    masked: MaskedModel, task: Task, mask: Edges, chosen: Sequence[int], part: Any
) -> tuple[float, Edges]:
    """The loss of a circuit whose edges let a share of their sender through, and its slope with each edge's share."""
    graph = masked.graph
    weights = np.zeros(graph.valid.shape)
    weights[graph.valid] = mask
    run = masked.run(weights, part)
    with torch.enable_grad():
        loss = task.each(run.logits, chosen).mean()
    slope: Edges = masked.gradient(run, loss)[graph.valid]
    return float(loss.detach()), slope


def find_learned(
    model: LanguageModel,
    graph: Graph,
    prompts: Sequence[Prompt],
    partners: Sequence[Prompt | None],
    settings: CircuitSettings,
    *,
    seed: int,
    sizes: Sequence[float] = (),
    scoring: Scoring = BY_PROMPT,
    state: Path | None = None,
    report: Callable[[Progress], None] | None = None,
) -> tuple[Circuit, dict[str, object]]:
    """The edges that a trained mask keeps most likely, and what is said of the training.

    `state` is a file that keeps a training: where it exists it goes on from it; the caller deletes it in the end.

    Raises:
        ValueError: if a gradient is not finite, or the file holds no training of this graph.
    """
    kind, n_edges = METHODS[settings.method].options, settings.n_edges(graph.n_edges)
    if kind is None:
        raise ValueError(f"method {settings.method} trains no mask; take edge-pruning or ugs")
    own: Any = kind.model_validate(dict(settings.options))
    scoring = Scoring(scoring.metric or own.metric, scoring.ablation or ("zero" if own.ablation == "zero" else None))
    alike = read_alike(settings.method, prompts, partners, scoring)
    alike.name_others(prompts)
    metric, ablation, kept = alike.metric, alike.ablation, alike.places
    chosen, beside = [prompts[i] for i in kept], [partners[i] for i in kept]
    task = task_of(model, chosen, beside, metric, ablation)
    absent = absent_outputs(model, graph, task, beside, ablation)
    mask: Mask = (
        HardConcrete(graph.n_edges, own, n_edges / graph.n_edges)
        if isinstance(own, PruningSection)
        else UniformGradient(graph.n_edges, own)
    )
    scored = 0.0
    if own.first != "even":
        scores = attribute(model, graph, chosen, beside, INTEGRATED, Scoring(metric, ablation))
        begin_with_ranks(mask, np.abs(scores[graph.valid]), n_edges)
        scored = passes_of(graph, beside, method=INTEGRATED, scoring=Scoring(metric, ablation))
    masked = MaskedModel(model.transformer, graph, task.tree, absent)
    training = Training(masked, task.anchored(model.transformer), mask, own, seed)
    if state is not None and state.is_file():
        load_training(state, training)
    losses = _train(training, own, graph, n_edges, state, report)
    scores = np.zeros(graph.valid.shape)
    scores[graph.valid] = mask.kept
    about: dict[str, object] = {"metric": metric, "ablation": ablation, "settings": own.model_dump()}
    about |= {"expected_edges": float(mask.kept.sum()), "loss": losses[-1] if losses else None}
    return Circuit(settings.method, top_edges(graph, scores, n_edges), scores), {
        **about,
        "prompt_passes": (scored + passes_before(metric, ablation) + training.passes) * len(kept) / len(prompts),
    }


def begin_with_ranks(mask: Mask, strength: Edges, n_edges: int) -> None:
    """Log-odds by rank, so that as many edges as asked for are expected to stay, the strongest most likely."""
    ranks = np.empty(len(strength))
    ranks[np.argsort(strength, kind="stable")] = (np.arange(len(strength)) + 0.5) / len(strength)
    odds = np.log(ranks / (1 - ranks))
    low, high = -100.0, 100.0
    for _ in range(60):  # halvings, to the last bit
        middle = (low + high) / 2
        mask.log_odds[:] = odds + middle
        low, high = (low, middle) if mask.kept.sum() > n_edges else (middle, high)


def _train(
    training: Training,
    settings: MaskSection,
    graph: Graph,
    n_edges: int,
    state: Path | None,
    report: Callable[[Progress], None] | None,
) -> list[float]:
    """The losses of the steps that are left to be made."""
    steps: int = training.settings.steps
    last, losses = time.monotonic(), []
    while training.done < steps:
        losses.append(training.step())
        now = time.monotonic()
        if state is not None and (now - last >= KEPT or training.done == steps):
            save_training(state, training)
            last = now
        if report is not None:
            present = int((training.mask.kept > 0.5).sum())
            report(Progress(graph.n_edges - present, present, graph.n_edges, training.done, training.done / steps))
    return losses


def save_training(path: Path, training: Training) -> None:
    """Keep a training between two steps."""
    with atomic(path) as part, part.open("wb") as handle:
        np.savez_compressed(handle, allow_pickle=False, done=np.array(training.done), **training.mask.arrays)


def load_training(path: Path, training: Training) -> None:
    """Go on where a kept training was.

    Raises:
        ValueError: if the file is none, or one of another graph or method.
    """
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as arrays:
            for name, own in training.mask.arrays.items():
                own[...] = arrays[name]
            training.done = int(arrays["done"])
    except (OSError, EOFError, KeyError, ValueError, BadZipFile) as error:
        raise ValueError(f"{path} holds no training that could go on ({error}); delete it to begin anew") from None
