"""The circuits of `knowcirc discover` of the strongest edges, by attribution or a trained mask, or of random ones."""

import argparse
import contextlib
import logging
from collections import Counter
from collections.abc import Sequence

from knowcirc.circuits.choices import UNITS
from knowcirc.circuits.circuit_settings import CircuitSettings
from knowcirc.circuits.discovery import Circuit, Scoring
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.methods import METHODS, RANDOM
from knowcirc.circuits.random_circuits import random_circuit
from knowcirc.commands.measures import measures_of
from knowcirc.commands.meter import Meter
from knowcirc.commands.models import Pair, load_model
from knowcirc.commands.searching import Found, check_read
from knowcirc.functions import function_of

log = logging.getLogger(__name__)


def rank(args: argparse.Namespace, graph: Graph, pairs: Sequence[Pair], requested: int) -> Found:
    """The circuit of the strongest edges, or a random one, as it is written and printed."""
    circuit, details = find(args, graph, pairs, requested)
    share = 100 * circuit.n_edges / graph.n_edges
    rows = [
        ("edges", f"{circuit.n_edges} of {graph.n_edges} ({share:.2f} %), {requested} asked for"),
        ("nodes", f"{int(graph.nodes(circuit.edges).sum())} of {graph.n_src}"),
    ]
    if METHODS[args.method].blind:
        return Found(circuit, details, rows)
    measured = [measures_of(args.method, args.metric, args.ablation, case) for case in args.cases]
    metrics, ablations = zip(*measured, strict=True)
    details |= {"metric": _one_or_all(metrics), "ablation": _one_or_all(ablations)}
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
    scoring = Scoring(args.metric, args.ablation)
    with contextlib.closing(Meter(args.method, quiet=args.quiet or not method.learned)) as meter:
        circuit, details = function_of(method.find)(
            model, graph, prompts, partners, settings, seed=args.seed, scoring=scoring, report=meter
        )
    if not circuit.n_edges:
        log.warning(
            "the %d strongest edges form no path to the output: the circuit is empty; give more --edges", requested
        )
    return circuit, details
