"""ACDC on prompts: what absent edges deliver, the search itself, and its files, so that a killed search goes on.

| ablation | an absent edge delivers |
|---|---|
| `zero` | nothing (KC) |
| `mean` | the sender's mean output at that position over the reference prompts of equal length |
| `patch` | the sender's output on the prompt's corrupted partner (resampling) |
"""

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from knowcirc.circuits.acdc import Criterion, EdgeTest, Progress, Search, acdc, begin
from knowcirc.circuits.attribution import top_edges
from knowcirc.circuits.choices import Ablation, Metric
from knowcirc.circuits.circuit_settings import CircuitSettings
from knowcirc.circuits.discovery import Baseline, Circuit, Scoring, attribute, needs_partners, passes_of, places_used
from knowcirc.circuits.graph import EdgeMatrix, Graph
from knowcirc.circuits.methods import EXACT, INTEGRATED, REFINED
from knowcirc.circuits.metrics import ANCHORED, Task, make_task
from knowcirc.circuits.patched import Outputs, record
from knowcirc.circuits.settings import AcdcSettings
from knowcirc.facts.prompts import Prompt
from knowcirc.files import atomic
from knowcirc.models.loading import LanguageModel
from knowcirc.models.packing import packed
from knowcirc.models.token_tree import TokenTree, grow

log = logging.getLogger(__name__)


def search_circuit(
    model: LanguageModel,
    graph: Graph,
    prompts: Sequence[Prompt],
    partners: Sequence[Prompt | None],
    settings: AcdcSettings,
    *,
    edges: EdgeMatrix | None = None,
    state: Path | None = None,
    report: Callable[[Progress], None] | None = None,
) -> tuple[Search, Task]:
    """The finished search on the prompts together, and its task.

    `edges` limits the search to some edges (all others are absent from the start). `state` is a file that keeps the
    search after every layer: where it exists the search goes on from it; the caller deletes it in the end.

    Raises:
        ValueError: where the metric or the ablation needs partners that are not there.
    """
    task = task_of(model, prompts, partners, settings.metric, settings.ablation)
    found = acdc(
        packed(model.transformer),
        graph,
        task,
        Criterion(settings.tau, settings.absolute),
        absent=absent_outputs(model, graph, task, partners, settings.ablation),
        search=begin(graph, edges) if state is None or not state.is_file() else load_search(state),
        after_layer=None if state is None else lambda search: save_search(state, search),
        report=report,
    )
    return found, task.anchored(model.transformer)


def task_of(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    partners: Sequence[Prompt | None],
    metric: Metric,
    ablation: Ablation,
) -> Task:
    """The task of prompts that share what they may share under the ablation.

    Raises:
        ValueError: where the metric needs wrong answers that are not there.
    """
    others = [partner.answer[0] for partner in partners if partner is not None]
    return make_task(
        metric,
        [prompt.ids for prompt in prompts],
        [prompt.answer[0] for prompt in prompts],
        others if len(others) == len(prompts) else None,
        device=model.device,
        beside=shared_under(ablation, prompts, partners),
    )


def candidates(
    model: LanguageModel,
    graph: Graph,
    prompts: Sequence[Prompt],
    partners: Sequence[Prompt | None],
    ablation: str,
    n_edges: int,
) -> EdgeMatrix:
    """The edges that `eap-ig+acdc` searches: the `n_edges` strongest by EAP-IG that lie on a path.

    EAP-IG sets edges against what ACDC puts in their place: under zero ablation against the zero baseline, although
    there are partners. Scores against partners say little of it: on SmolLM2 what every prompt needs alike, such as the
    first layers' heads, scores next to nothing there, and without it no other edge matters.

    Raises:
        ValueError: where the scores overflow, or the edges form no path.
    """
    others = [None] * len(prompts) if ablation == "zero" else partners
    scores = attribute(model, graph, prompts, others, INTEGRATED)
    edges: EdgeMatrix = top_edges(graph, scores, n_edges)
    if not edges.any():
        raise ValueError(f"the {n_edges} strongest edges form no path to the output; search more edges")
    return edges


def find_exact(
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
    """The circuit of method `acdc` on the first prompts, and what is said of its search; nothing in it is drawn."""
    criterion = _criterion(settings)
    first, beside = _first(prompts, partners, settings)
    search, task = search_circuit(model, graph, first, beside, criterion, **kept)
    about = describe_search(search, task, criterion)
    rows = search.rows + passes_before(criterion.metric, criterion.ablation)
    about["prompt_passes"] = rows * len(first) / len(prompts)
    return Circuit(EXACT, search.edges, search.scores(graph)), about


def _first(
    prompts: Sequence[Prompt], partners: Sequence[Prompt | None], settings: CircuitSettings
) -> tuple[list[Prompt], list[Prompt | None]]:
    """The prompts that a search takes, with their partners; under patch ablation none without a partner.

    Raises:
        ValueError: if none is left.
    """
    paired = [partner is not None for partner in partners]
    if needs_partners(settings):
        if not any(paired):
            raise ValueError("no prompt has a partner of equal length to patch from; set circuits.acdc.ablation: zero")
        if not all(paired):
            out = len(paired) - sum(paired)
            log.warning("patching: %d of %d prompts have no partner and are left out", out, len(paired))
    places = places_used(settings, paired)
    return [prompts[place] for place in places], [partners[place] for place in places]


def passes_before(metric: Metric, ablation: Ablation) -> float:
    """How often each prompt passes the network for what absent edges deliver, and for what the whole model says."""
    return float((ablation != "zero") + (metric in ANCHORED))


def find_refined(
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
    """The circuit of method `eap-ig+acdc` on the first prompts; nothing in it is drawn."""
    criterion, n_edges = _criterion(settings), settings.n_edges(graph.n_edges)
    first, beside = _first(prompts, partners, settings)
    circuit, rows = refine(model, graph, first, beside, criterion, n_edges=n_edges, **kept)
    scored = passes_of(graph, beside, method=INTEGRATED, scoring=Scoring(ablation=_baseline(criterion.ablation)))
    passes = rows + scored + passes_before(criterion.metric, criterion.ablation)
    return circuit, {"prompt_passes": passes * len(first) / len(prompts)}


def _baseline(ablation: str) -> Baseline | None:
    return "zero" if ablation == "zero" else None


def _criterion(settings: CircuitSettings) -> AcdcSettings:
    if settings.criterion is None:
        raise ValueError(f"method {settings.method} needs a criterion")
    return AcdcSettings.model_validate(settings.criterion)


def refine(
    model: LanguageModel,
    graph: Graph,
    prompts: Sequence[Prompt],
    partners: Sequence[Prompt | None],
    settings: AcdcSettings,
    *,
    n_edges: int,
    state: Path | None = None,
    report: Callable[[Progress], None] | None = None,
) -> tuple[Circuit, int]:
    """The circuit of `eap-ig+acdc`: exact ACDC on the `n_edges` strongest edges by EAP-IG, all others absent.

    Then how many changed circuits were run, each on all prompts.

    Raises:
        ValueError: as `candidates` and `search_circuit` do.
    """
    edges = None
    if state is None or not state.is_file():
        edges = candidates(model, graph, prompts, partners, settings.ablation, n_edges)
    found, _ = search_circuit(model, graph, prompts, partners, settings, edges=edges, state=state, report=report)
    return Circuit(REFINED, found.edges, found.scores(graph)), found.rows


def absent_outputs(
    model: LanguageModel, graph: Graph, task: Task, partners: Sequence[Prompt | None], ablation: Ablation
) -> Outputs | None:
    """What absent edges deliver in the task's tree, [src, 1, node, d_model]; None for nothing.

    The tree must have been grown with `shared_under` the ablation beside its prompts.

    Raises:
        ValueError: for a missing partner, or where a mean would be the prompt's own output.
    """
    if ablation == "zero":
        return None
    given = [partner.ids for partner in partners if partner is not None]
    if ablation == "patch":
        if len(given) < len(partners):
            raise ValueError("patch ablation needs a corrupted prompt for each prompt; give them, or ablate to zero")
        return record(model.transformer, graph, task.tree.with_tokens(given)).outputs
    reference = grow(given, device=model.device) if given else task.tree
    outputs = record(model.transformer, graph, reference).outputs
    shares = _shares(task.tree, reference).to(outputs)
    return torch.einsum("nm,sbmd->sbnd", shares, outputs)


def shared_under(
    ablation: str, prompts: Sequence[Prompt], partners: Sequence[Prompt | None]
) -> list[Sequence[int]] | None:
    """What must agree beside the tokens for prompts to share a position: absent edges must deliver the same there.

    Under patching that is the partners' tokens, under means the prompts' length.
    """
    if ablation == "mean":
        return [[len(prompt.ids)] * len(prompt.ids) for prompt in prompts]
    given = [partner.ids for partner in partners if partner is not None]
    return [*given] if ablation == "patch" and len(given) == len(prompts) else None


def _shares(tree: TokenTree, reference: TokenTree) -> Float[Tensor, "node reference"]:
    """How each node's mean is made up of nodes of the reference prompts that are as long as the node's prompts."""
    shares = torch.zeros(len(tree), len(reference), dtype=torch.float64, device=tree.ids.device)
    lengths = reference.lengths
    for length, path in zip(tree.lengths, tree.paths, strict=True):
        rows = [row for row, other in enumerate(lengths) if other == length]
        if len(rows) < 2:
            raise ValueError(
                f"mean ablation needs at least 2 reference prompts of {length} tokens, and there is {len(rows)}; "
                "give more prompts of that length"
            )
        passed = reference.paths[rows, :length].T
        each = torch.full(passed.shape, 1 / len(rows), dtype=shares.dtype, device=shares.device)
        shares[path[:length]] = shares.new_zeros(length, len(reference)).scatter_add_(1, passed, each)
    return shares


def save_search(path: Path, search: Search) -> None:
    """Keep a search between two layers."""
    tests = np.array([(test.src, test.dst, test.score, test.kept) for test in search.tests], dtype=np.float64)
    numbers = (search.metric_start, search.metric_circuit, search.closest, search.passes, search.rows)
    with atomic(path) as part, part.open("wb") as handle:
        np.savez_compressed(
            handle,
            allow_pickle=False,
            edges=search.edges,
            projections=search.projections,
            next_layer=np.array(search.next_layer),
            tests=tests.reshape(-1, 4),
            numbers=np.array(numbers),
        )


def load_search(path: Path) -> Search:
    """The search that `save_search` kept.

    Raises:
        ValueError: if the file is none.
    """
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as arrays:
            start, circuit, closest, passes, rows = arrays["numbers"].tolist()
            rows_of_tests = arrays["tests"].tolist()
            tests = [EdgeTest(int(src), int(dst), score, bool(kept)) for src, dst, score, kept in rows_of_tests]
            return Search(
                arrays["edges"],
                arrays["projections"],
                int(arrays["next_layer"]),
                tests,
                start,
                circuit,
                closest,
                int(passes),
                int(rows),
            )
    except (OSError, EOFError, KeyError, ValueError, BadZipFile) as error:
        raise ValueError(f"{path} holds no search that could go on ({error}); delete it to begin anew") from None


def describe_search(search: Search, task: Task, settings: AcdcSettings) -> dict[str, object]:
    """What stands beside the circuit in its file: settings and outcome, differences in nats and in KC's unit."""
    change = task.nats(search.metric_circuit - search.metric_start)
    tau = task.nats(settings.tau)
    return {
        "metric": settings.metric,
        "tau": settings.tau,
        "tau_nats": tau,
        "tau_kc": tau * task.kc_factor,
        "absolute": settings.absolute,
        "ablation": settings.ablation,
        "tests": len(search.tests),
        "passes": search.passes,
        "rows": search.rows,
        "prompt_passes": float(search.rows),
        "metric_start": search.metric_start,
        "metric_circuit": search.metric_circuit,
        "change_nats": change,
        "change_kc": change * task.kc_factor,
        "min_abs_score_minus_tau": search.closest if math.isfinite(search.closest) else None,
        "projections_kept": int(search.projections.sum()),
    }
