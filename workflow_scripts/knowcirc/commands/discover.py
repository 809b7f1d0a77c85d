"""`knowcirc discover`: the circuit of one or several prompts, as JSON."""

import argparse
import logging
from collections.abc import Sequence

import numpy as np

from knowcirc.circuits.discovery import Circuit, discover
from knowcirc.circuits.export import write_circuit, write_dot
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.random_circuits import random_circuit
from knowcirc.commands.arguments import show
from knowcirc.commands.models import Pair, load_model, make_prompts, read_outline
from knowcirc.models.loading import weights_digest

SHARE = 0.05
log = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> int:
    """The exit code, after the circuit is written."""
    outline = read_outline(args)
    graph = Graph.of(outline.shape, args.kv)
    wanted = max(1, round(SHARE * graph.n_edges)) if args.edges is None else args.edges
    if wanted > graph.n_edges:
        raise ValueError(f"--edges {wanted} is more than the {graph.n_edges} edges of this model's {args.kv} graph")
    pairs = make_prompts(outline, args.cases)
    circuit = find(args, graph, pairs, wanted)
    write_circuit(args.out, graph, outline.shape, circuit, describe(args, pairs, wanted))
    if args.dot is not None:
        write_dot(args.dot, graph, circuit)
    report(args, graph, circuit, wanted)
    return 0


def find(args: argparse.Namespace, graph: Graph, pairs: Sequence[Pair], wanted: int) -> Circuit:
    """The circuit; a random one without reading the weights.

    Raises:
        ValueError: if the numbers overflow in the chosen precision.
    """
    if args.method == "random":
        return Circuit(args.method, random_circuit(graph, wanted, args.seed), None)
    model = load_model(args, args.processing)
    log.info("scoring %d edges on %d prompt(s)", graph.n_edges, len(pairs))
    prompts, partners = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    circuit = discover(model, graph, prompts, partners, method=args.method, n_edges=wanted, seed=args.seed)
    if circuit.scores is None or not np.isfinite(circuit.scores).all():
        raise ValueError(f"scores are not finite in {args.dtype}; use --dtype float32 or float64")
    if not circuit.n_edges:
        log.warning(
            "the %d strongest edges form no path to the output: the circuit is empty; give more --edges", wanted
        )
    return circuit


def describe(args: argparse.Namespace, pairs: Sequence[Pair], wanted: int) -> dict[str, object]:
    """What stands beside the circuit in its file: the model, the settings, the prompts."""
    prompts: list[dict[str, object]] = []
    for prompt, partner in pairs:
        row: dict[str, object] = {"prompt": prompt.text, "ids": prompt.ids, "answer": prompt.answer_text}
        row["answer_id"] = prompt.answer[0]
        if partner is not None:
            row |= {"corrupted": partner.text, "corrupted_ids": partner.ids, "wrong_answer": partner.answer_text}
            row["wrong_answer_id"] = partner.answer[0]
        prompts.append(row)
    settings = {"edges_asked": wanted, "processing": args.processing, "dtype": args.dtype, "seed": args.seed}
    return {
        "model": args.model.resolve().name,
        "weights_sha256": weights_digest(args.model),
        **settings,
        "prompts": prompts,
    }


def report(args: argparse.Namespace, graph: Graph, circuit: Circuit, wanted: int) -> None:
    """Print the circuit's size and where it lies."""
    share = 100 * circuit.n_edges / graph.n_edges
    rows = [
        ("method", args.method),
        ("prompts", str(len(args.cases))),
        ("edges", f"{circuit.n_edges} of {graph.n_edges} ({share:.2f} %), {wanted} asked for"),
        ("nodes", f"{int(graph.nodes(circuit.edges).sum())} of {graph.n_src}"),
        ("circuit", str(args.out)),
    ]
    show(rows + ([("graphviz", str(args.dot))] if args.dot is not None else []))
