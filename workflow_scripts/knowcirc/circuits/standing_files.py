"""The search `standing` on prompts: its first scores, its steps, and its file, so that a killed search goes on.

1. The task: prompts joined at what they share under the ablation, and what absent edges deliver there.
2. First scores by EAP-IG against what the ablation delivers, unless the file holds a search.
3. Steps until the search is finished; every `KEPT` seconds, and in the end, the search is kept in its file.
4. The circuit's metric, and the whole model's, by a plain forward pass that shares nothing with the search.
"""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from knowcirc.circuits.acdc import Progress
from knowcirc.circuits.choices import Ablation, Metric
from knowcirc.circuits.circuit_settings import CircuitSettings
from knowcirc.circuits.discovery import Circuit, NoCircuitError, Scoring, attribute, passes_of
from knowcirc.circuits.graph import EdgeMatrix, Graph
from knowcirc.circuits.masked import Change
from knowcirc.circuits.methods import FROM_NOTHING, INTEGRATED, STANDING
from knowcirc.circuits.metrics import Task
from knowcirc.circuits.patched import Outputs, run_circuit
from knowcirc.circuits.searching import absent_outputs, passes_before, task_of
from knowcirc.circuits.settings import StandingSettings, StandingSteps
from knowcirc.circuits.standing import Standing, StandingSearch, begin_below, begin_standing
from knowcirc.facts.prompts import Prompt
from knowcirc.files import atomic
from knowcirc.models.loading import LanguageModel

KEPT = 10.0  # seconds between two states of a search in its file
APIECE = 20  # edges of the circuit asked for, a group, at least
LOSS = 0.05  # share of the present edges that a step was seen to remove, for the progress alone


def settings_for(graph: Graph, n_edges: int, seed: int = 0, steps: StandingSteps | None = None) -> StandingSettings:
    """The settings for a circuit of at most `n_edges` edges; `steps` say how the search goes (None: the defaults).

    Small circuits change by fewer groups at a time, since every step takes one edge of each group at least.
    """
    given = StandingSteps() if steps is None else steps
    size = math.nextafter(n_edges / graph.n_edges, 2)  # so that rounding down does not take one away
    groups, returned = (min(most, max(1, n_edges // APIECE)) for most in (given.groups, given.return_groups))
    own = {name: getattr(given, name) for name in StandingSteps.model_fields}
    return StandingSettings(
        **{**own, "size": min(1.0, size), "seed": seed, "groups": groups, "return_groups": returned}
    )


def find_standing(
    model: LanguageModel,
    graph: Graph,
    prompts: Sequence[Prompt],
    partners: Sequence[Prompt | None],
    settings: CircuitSettings,
    *,
    seed: int,
    sizes: Sequence[float] = (),
    **kept: Any,
) -> tuple[Circuit, dict[str, object]]:
    """The circuit of method `standing`, and what is said of its search."""
    own = dict(settings.standing)
    measures = {key: own.pop(key) for key in ("metric", "ablation") if key in own}
    how = settings_for(graph, settings.n_edges(graph.n_edges), seed, StandingSteps.model_validate(own))
    return search_standing(model, graph, prompts, partners, how, sizes=sizes, **measures, **kept)


def search_standing(
    model: LanguageModel,
    graph: Graph,
    prompts: Sequence[Prompt],
    partners: Sequence[Prompt | None],
    settings: StandingSettings,
    *,
    metric: Metric = "nll+kl",
    ablation: Ablation = "zero",
    state: Path | None = None,
    sizes: Sequence[float] = (),
    start: Circuit | None = None,
    report: Callable[[Progress], None] | None = None,
) -> tuple[Circuit, dict[str, object]]:
    """The best circuit found that is not above `settings.size` of the edges, and what is to be said of its search.

    `sizes` are larger shares of the edges at which the search's circuit is kept, in the circuit's `path`. `state` is a
    file that keeps the search: where it exists the search goes on from it; the caller deletes it in the end. `start` is
    a circuit of an earlier search to begin with, in place of all edges.

    Raises:
        ValueError: where partners are missing or numbers overflow.
        NoCircuitError: if no circuit of the size is found.
    """
    task = task_of(model, prompts, partners, metric, ablation)
    absent = absent_outputs(model, graph, task, partners, ablation)
    whole = measure_afresh(model, graph, task, graph.valid, absent)
    if not math.isfinite(whole):
        raise ValueError(f"the whole model's {metric} is {whole}; search in float64, or mend the model")
    if state is not None and state.is_file():
        search = load_standing(state, graph)
    elif start is not None:
        search = begin_below(start)
    else:
        search = begin_standing(graph, *first_scores(model, graph, prompts, partners, settings, metric, ablation))
    standing = Standing(model.transformer, graph, task, settings, search, absent, sizes)
    _work(standing, graph, settings, state, report)
    best = search.best
    if best is None or not best.any():
        raise NoCircuitError(_failure(standing, metric))
    details: dict[str, object] = {
        "metric": metric,
        "ablation": ablation,
        "metric_model": whole,
        "metric_circuit": measure_afresh(model, graph, task, best, absent),
        "steps": search.step,
        "rows": search.rows,
        "prompt_passes": search.passes + passes_before(metric, ablation) + 1,  # the whole model's metric
        "size": settings.size,
        "edges_limit": standing.limit,
        "settings": settings.model_dump(),
    }
    # at the size asked for the best circuit stands, not the first one that was not above it
    path = {size: edges for size, edges in search.path.items() if edges.sum() > standing.limit}
    return Circuit(STANDING, best, np.where(graph.valid, search.scores, np.nan), path), details


def first_scores(
    model: LanguageModel,
    graph: Graph,
    prompts: Sequence[Prompt],
    partners: Sequence[Prompt | None],
    settings: StandingSettings,
    metric: Metric,
    ablation: Ablation,
) -> tuple[Float[ndarray, "src dst"], float]:
    """EAP-IG scores of all edges against what the ablation delivers, on as many prompts as a step takes.

    Then how often each of all prompts passes the network for them, in the mean.

    A mean is near to what partners give; where there are none, zero has to do.

    Raises:
        ValueError: if they are not finite.
    """
    chosen, beside = list(prompts[: settings.prompts]), list(partners[: settings.prompts])
    patched = ablation == "patch" or (ablation == "mean" and _fit(chosen, beside))
    method = INTEGRATED if patched else FROM_NOTHING
    scoring = Scoring(metric, "patch" if patched else "zero")
    passes = passes_of(graph, beside, method=method, scoring=scoring) * len(chosen) / len(prompts)
    return attribute(model, graph, chosen, beside, method, scoring), passes


def _fit(prompts: Sequence[Prompt], partners: Sequence[Prompt | None]) -> bool:
    """Whether every prompt has a partner of its length."""
    pairs = zip(prompts, partners, strict=True)
    return all(partner is not None and len(partner.ids) == len(prompt.ids) for prompt, partner in pairs)


def measure_afresh(
    model: LanguageModel, graph: Graph, task: Task, edges: EdgeMatrix, absent: Outputs | None = None
) -> float:
    """The metric of a circuit on all prompts, by the plain forward pass that circuits are evaluated with."""
    logits = run_circuit(model.transformer, graph, edges, task.tree, ablated=absent)
    return float(task.anchored(model.transformer).measure(logits))


def _work(
    standing: Standing,
    graph: Graph,
    settings: StandingSettings,
    state: Path | None,
    report: Callable[[Progress], None] | None,
) -> None:
    """Go on with the search until it is finished; keep it in its file, and say how far it is."""
    last, done = time.monotonic(), 0.0
    while not standing.finished:
        standing.step()
        now = time.monotonic()
        if state is not None and (now - last >= KEPT or standing.finished):
            save_standing(state, standing.search)
            last = now
        if report is not None:
            done = max(done, 1.0 if standing.finished else _share(standing, graph, settings))
            present = int(standing.search.edges.sum())
            report(Progress(graph.n_edges - present, present, graph.n_edges, standing.search.rows, done))


def _share(standing: Standing, graph: Graph, settings: StandingSettings) -> float:
    """How much of the work is done: steps go by the logarithm of what is left, then the last ones are counted."""
    present = max(int(standing.search.edges.sum()), standing.limit)
    way, gone = (math.log(graph.n_edges / left) / LOSS for left in (standing.limit, present))
    last = settings.polish + 1
    polished = min(standing.search.polished, last)
    return ((way if polished else gone) + polished) / (way + last)


def _failure(standing: Standing, metric: Metric) -> str:
    """Why there is no circuit."""
    edges = standing.search.edges
    if (present := int(edges.sum())) and not math.isfinite(value := standing.metric(edges)):
        return f"the {metric} of a circuit of {present} edges is {value}; search in float64, or ask for more edges"
    return f"no circuit of at most {standing.limit} edges that joins input and output was found; ask for more edges"


def save_standing(path: Path, search: StandingSearch) -> None:
    """Keep a search between two steps."""
    kept = {name: edges for name in ("best", "before") if (edges := getattr(search, name)) is not None}
    accepted = search.accepted
    numbers = (
        search.step,
        search.level,
        search.polished,
        search.rows,
        search.best_metric,
        search.refused,
        search.caution,
        search.passes,
    )
    with atomic(path) as part, part.open("wb") as handle:
        np.savez_compressed(
            handle,
            allow_pickle=False,
            edges=search.edges,
            scores=search.scores,
            mean=search.mean,
            square=search.square,
            numbers=np.array(numbers, dtype=np.float64),
            accepted=np.array([(len(change), change.present) for change in accepted], dtype=np.int64).reshape(-1, 2),
            src=np.concatenate([np.zeros(0, np.int64), *(change.src for change in accepted)]),
            dst=np.concatenate([np.zeros(0, np.int64), *(change.dst for change in accepted)]),
            sizes=np.array([*search.path], dtype=np.float64),
            path=np.array([*search.path.values()], dtype=bool).reshape(-1, *search.edges.shape),
            **kept,
        )


def load_standing(path: Path, graph: Graph | None = None) -> StandingSearch:
    """The search that `save_standing` kept.

    Raises:
        ValueError: if the file is none, or one of another graph.
    """
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as arrays:
            search = _read({name: arrays[name] for name in arrays.files})
        if graph is not None and search.edges.shape != graph.valid.shape:
            raise ValueError(f"its edges have shape {search.edges.shape}, the graph's {graph.valid.shape}")
    except (OSError, EOFError, KeyError, ValueError, BadZipFile) as error:
        raise ValueError(f"{path} holds no search that could go on ({error}); delete it to begin anew") from None
    return search


def _read(arrays: dict[str, ndarray]) -> StandingSearch:
    """A search from the arrays of its file."""
    step, level, polished, rows, best_metric, refused, caution, passes = arrays["numbers"].tolist()
    ends = np.cumsum(arrays["accepted"][:, 0])[:-1]
    pieces = zip(np.split(arrays["src"], ends), np.split(arrays["dst"], ends), strict=True)
    flags = arrays["accepted"][:, 1].tolist()
    accepted = [Change(src, dst, bool(flag)) for (src, dst), flag in zip(pieces, flags, strict=False)]
    return StandingSearch(
        arrays["edges"],
        arrays["scores"],
        arrays["mean"],
        arrays["square"],
        step=int(step),
        level=level,
        polished=int(polished),
        rows=int(rows),
        best=arrays.get("best"),
        best_metric=best_metric,
        before=arrays.get("before"),
        accepted=accepted,
        path=dict(zip(arrays["sizes"].tolist(), arrays["path"], strict=True)),
        refused=int(refused),
        caution=caution,
        passes=passes,
    )
