"""The search of `knowcirc discover --method acdc`: how it goes on after a kill, and what it leaves."""

import argparse
import contextlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from knowcirc.circuits.acdc import PROJECTION, Search
from knowcirc.circuits.choices import KC_UNIT, UNITS
from knowcirc.circuits.circuit import Circuit
from knowcirc.circuits.graph import EdgeMatrix, Graph
from knowcirc.circuits.methods import EXACT, METHODS
from knowcirc.circuits.metrics import Task
from knowcirc.circuits.searching import candidates, describe_search, load_search, search_circuit
from knowcirc.circuits.settings import AcdcSettings
from knowcirc.commands.measures import measures_of
from knowcirc.commands.meter import Meter
from knowcirc.commands.models import Pair, load_model
from knowcirc.files import Parts, fingerprint, write_table
from knowcirc.models.loading import LanguageModel, choose_device

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """A circuit, what stands beside it in its file, and what is printed of it."""

    circuit: Circuit
    details: dict[str, object]
    rows: list[tuple[str, str]]


def search(
    args: argparse.Namespace, graph: Graph, pairs: Sequence[Pair], requested: int, described: Mapping[str, object]
) -> tuple[Found, Parts]:
    """What ACDC finds, and the parts to be cleared once all is written. The table of tests is written here.

    `described` (model, settings, prompts) is part of the identity by which an unfinished search is known again.

    Raises:
        ValueError: if there is nothing to search, or numbers overflow.
    """
    check_references(args, pairs)
    model = load_model(args, args.processing)
    settings = AcdcSettings(tau=args.tau, metric=args.metric, absolute=args.absolute, ablation=args.ablation)
    device = choose_device(args.device).type
    parts = Parts(args.out, fingerprint(described, settings.model_dump(), args.method, args.kv, device))
    found, task = run_search(args, model, graph, pairs, requested, settings, parts)
    details = describe_search(found, task, settings)
    if graph.kv == "per_head":
        details["projections"] = [graph.dst_names[i] for i in np.flatnonzero(found.projections)]
    if args.tests is not None:
        write_table(args.tests, tabulate(graph, found))
    circuit = Circuit(args.method, found.edges, found.scores(graph))
    return Found(circuit, details, summarise(args, graph, found, task, requested)), parts


def run_search(
    args: argparse.Namespace,
    model: LanguageModel,
    graph: Graph,
    pairs: Sequence[Pair],
    requested: int,
    settings: AcdcSettings,
    parts: Parts,
) -> tuple[Search, Task]:
    """The finished search, begun or taken up from `parts`, and its task.

    Raises:
        ValueError: if there is nothing to search, or numbers overflow; `parts` are gone then.
    """
    state = parts.path("search", ".npz")
    prompts, partners = [prompt for prompt, _ in pairs], [partner for _, partner in pairs]
    try:
        edges = begin(args, model, graph, pairs, requested, state)
        with contextlib.closing(Meter(quiet=args.quiet)) as meter:
            found, task = search_circuit(
                model, graph, prompts, partners, settings, edges=edges, state=state, report=meter
            )
    except ValueError:
        parts.clear()
        raise
    return found, task


def check_references(args: argparse.Namespace, pairs: Sequence[Pair]) -> None:
    """Make sure that a mean is one of several prompts; warn of given partners that nothing reads.

    Raises:
        ValueError: naming the length of which there is one prompt alone.
    """
    counts = Counter(len(prompt.ids) for prompt, _ in pairs)
    lone = [length for length, count in counts.items() if count < 2]
    if args.ablation == "mean" and lone:
        other = "zero" if args.cases[0].corrupted is None else "patch"
        raise ValueError(
            f"mean ablation needs at least 2 prompts of {lone[0]} tokens, and there is 1; give more by --prompts, or "
            f"take --ablation {other}"
        )
    check_read(args)


def check_read(args: argparse.Namespace) -> None:
    """Warn of given pairs that neither metric nor ablation reads."""
    for case in args.cases:
        metric, ablation = measures_of(args.method, args.metric, args.ablation, case)
        if case.paired and METHODS[args.method].blind:
            log.warning("method %s reads no corrupted prompts and no wrong answers", args.method)
            return
        if case.paired and metric != "logit-diff" and ablation == "zero":
            log.warning("metric %s with zero ablation reads no corrupted prompts and no wrong answers", metric)
            return


def begin(
    args: argparse.Namespace,
    model: LanguageModel,
    graph: Graph,
    pairs: Sequence[Pair],
    requested: int,
    state: Path,
) -> EdgeMatrix | None:
    """The edges that a new search is limited to; None for all, or where `state` holds a search to go on with.

    Raises:
        ValueError: if the `requested` strongest edges form no path, or their scores overflow.
    """
    if state.is_file():
        layer = load_search(state).next_layer
        log.info("going on from %s", f"layer {layer}" if layer >= 0 else "the end: all layers are done")
        return None
    log.info("searching on %d prompt(s), tau %g; finished layers are kept in %s", len(pairs), args.tau, state.parent)
    if args.method == EXACT:
        return None
    partners = [partner if case.paired else None for case, (_, partner) in zip(args.cases, pairs, strict=True)]
    return candidates(model, graph, [prompt for prompt, _ in pairs], partners, args.ablation, requested)


def tabulate(graph: Graph, search: Search) -> pd.DataFrame:
    """The tests in order: receiver, sender, score in the metric's unit, kept (1 or 0).

    A projection's test has the projection as its receiver (`a5.h3.q`) and its input as its sender (`a5.h3.q_in`).
    """
    senders, receivers = graph.node_names
    rows = []
    for test in search.tests:
        receiver, projects = receivers[test.dst], test.src == PROJECTION
        pair = (receiver.removesuffix("_in"), receiver) if projects else (receiver, senders[test.src])
        rows.append((*pair, test.score, int(test.kept)))
    return pd.DataFrame(rows, columns=["receiver", "sender", "score", "kept"])


def summarise(
    args: argparse.Namespace, graph: Graph, search: Search, task: Task, requested: int
) -> list[tuple[str, str]]:
    """What is printed of a search."""
    n_edges = int(search.edges.sum())
    among = "" if args.method == EXACT else f", among the {requested} strongest"
    unit = UNITS[args.metric]
    tau = f"{args.tau:g} {unit}"
    if args.metric == "kc-nll":
        tau += f", {task.nats(args.tau):.4g} nats"
    elif args.metric == "nll":
        tau += f", {args.tau * task.kc_factor:.4g} {KC_UNIT}"
    closest = f"{search.closest:.3g} {unit} from tau" if search.tests else "no test"
    return [
        ("tests", str(len(search.tests))),
        ("edges", f"{n_edges} of {graph.n_edges} ({100 * n_edges / graph.n_edges:.2f} %){among}"),
        ("nodes", f"{int(graph.nodes(search.edges).sum())} of {graph.n_src}"),
        ("tau", f"{tau}{', absolute' if args.absolute else ''}"),
        (f"{args.metric}, before", f"{search.metric_start:.6g} {unit}"),
        (f"{args.metric}, after", f"{search.metric_circuit:.6g} {unit}"),
        ("closest call", closest),
    ]
