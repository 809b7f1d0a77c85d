"""`knowcirc discover`: the circuit of one or several prompts, as JSON."""

import argparse
import logging
from collections import Counter
from collections.abc import Sequence

import numpy as np

from knowcirc.circuits.choices import UNITS
from knowcirc.circuits.circuit_settings import CircuitSettings
from knowcirc.circuits.discovery import Circuit, Scoring
from knowcirc.circuits.export import expanded, write_circuit, write_dot
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.methods import METHODS, RANDOM
from knowcirc.circuits.random_circuits import random_circuit
from knowcirc.commands.arguments import show
from knowcirc.commands.discover_parser import measures_of
from knowcirc.commands.models import Pair, load_model, make_prompts, read_outline
from knowcirc.commands.searching import Found, check_read, search
from knowcirc.commands.standing import stand
from knowcirc.configuration.study import default
from knowcirc.files import Parts
from knowcirc.functions import function_of
from knowcirc.models.loading import weights_digest

log = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> int:
    """The exit code, after the circuit is written."""
    outline = read_outline(args)
    graph = Graph.of(outline.shape, args.kv)
    requested = size(args, graph)
    pairs = make_prompts(outline, args.cases)
    described = describe(args, pairs, requested)
    parts: Parts | None = None
    if METHODS[args.method].tests:
        found, parts = search(args, graph, pairs, requested, described)
    elif METHODS[args.method].passes:
        found, parts = stand(args, graph, pairs, requested, described)
    else:
        found = rank(args, graph, pairs, requested)
    write_circuit(args.out, graph, outline.shape, found.circuit, described | found.details)
    if args.expanded is not None:
        wide, circuit = expanded(graph, found.circuit)
        write_circuit(args.expanded, wide, outline.shape, circuit, described | found.details)
    if args.dot is not None:
        write_dot(args.dot, graph, found.circuit)
    if parts is not None:
        parts.clear()
    files = [("circuit", args.out), ("expanded", args.expanded), ("graphviz", args.dot), ("table of tests", args.tests)]
    rows = [("method", args.method), ("prompts", str(len(args.cases))), *found.rows]
    show(rows + [(name, str(path)) for name, path in files if path is not None])
    return 0


def size(args: argparse.Namespace, graph: Graph) -> int:
    """How many of the strongest edges are taken, into the circuit or to be searched; acdc searches all.

    For `standing` it is the most that the circuit may hold.

    Raises:
        ValueError: if the graph has fewer.
    """
    if (place := METHODS[args.method].settings.get("share")) is None:
        return graph.n_edges
    requested: int = max(1, round(default(place) * graph.n_edges)) if args.edges is None else args.edges
    if requested > graph.n_edges:
        raise ValueError(f"--edges {requested} is more than the {graph.n_edges} edges of this model's {args.kv} graph")
    return requested


def rank(args: argparse.Namespace, graph: Graph, pairs: Sequence[Pair], requested: int) -> Found:
    """The circuit of the strongest edges, or a random one, as it is written and printed."""
    circuit, details = find(args, graph, pairs, requested)
    share = 100 * circuit.n_edges / graph.n_edges
    rows = [
        ("edges", f"{circuit.n_edges} of {graph.n_edges} ({share:.2f} %), {requested} asked for"),
        ("nodes", f"{int(graph.nodes(circuit.edges).sum())} of {graph.n_src}"),
    ]
    if METHODS[args.method].attribution is None:
        return Found(circuit, details, rows)
    measured = [measures_of(args.method, args.metric, args.ablation, case) for case in args.cases]
    metrics, ablations = zip(*measured, strict=True)
    details = {"metric": _one_or_all(metrics), "ablation": _one_or_all(ablations)}
    return Found(circuit, details, [*rows, *_measures(measured)])


def _one_or_all(values: Sequence[str]) -> str | list[str]:
    """The value where all prompts have the same, else one per prompt."""
    return values[0] if len(set(values)) == 1 else list(values)


def _measures(measured: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """What is printed of the metrics and baselines: a line for each kind of prompt."""
    baselines = {"zero": "zero", "patch": "the corrupted prompt"}
    return [
        ("metric", f"{metric} ({UNITS[metric]}), against {baselines[ablation]}, {n} prompt(s)")
        for (metric, ablation), n in Counter(measured).items()
    ]


def find(
    args: argparse.Namespace, graph: Graph, pairs: Sequence[Pair], requested: int
) -> tuple[Circuit, dict[str, object]]:
    """The circuit, and what is said of its search; a random one without reading the weights.

    Raises:
        ValueError: if the numbers overflow in the chosen precision.
    """
    if args.method == RANDOM:
        return Circuit(args.method, random_circuit(graph, requested, args.seed), None), {}
    model = load_model(args, args.processing)
    check_read(args)
    log.info("scoring %d edges on %d prompt(s)", graph.n_edges, len(pairs))
    prompts, partners = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    method, settings = METHODS[args.method], CircuitSettings(args.method, share=requested / graph.n_edges)
    measures = {"scoring": Scoring(args.metric, args.ablation)} if method.attribution else {}
    circuit, details = function_of(method.find)(model, graph, prompts, partners, settings, seed=args.seed, **measures)
    if circuit.scores is not None and not np.isfinite(circuit.scores).all():
        raise ValueError(f"scores are not finite in {args.dtype}; use --dtype float32 or float64")
    if not circuit.n_edges:
        log.warning(
            "the %d strongest edges form no path to the output: the circuit is empty; give more --edges", requested
        )
    return circuit, details


def describe(args: argparse.Namespace, pairs: Sequence[Pair], requested: int) -> dict[str, object]:
    """What stands beside the circuit in its file: the model, the settings, the prompts."""
    prompts: list[dict[str, object]] = []
    for case, (prompt, partner) in zip(args.cases, pairs, strict=True):
        row: dict[str, object] = {"prompt": prompt.text, "ids": prompt.ids, "answer": prompt.answer_text}
        row["answer_id"] = prompt.answer[0]
        if partner is not None and case.corrupted is not None:
            row |= {"corrupted": partner.text, "corrupted_ids": partner.ids}
        if partner is not None and case.wrong_answer is not None:
            row |= {"wrong_answer": partner.answer_text, "wrong_answer_id": partner.answer[0]}
        prompts.append(row)
    sized = {} if "share" not in METHODS[args.method].settings else {"edges_asked": requested}
    settings = {"processing": args.processing, "dtype": args.dtype, "seed": args.seed}
    return {
        "model": args.model.resolve().name,
        "weights_sha256": weights_digest(args.model),
        **sized,
        **settings,
        "prompts": prompts,
    }
