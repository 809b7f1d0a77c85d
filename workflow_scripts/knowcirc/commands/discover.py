"""`knowcirc discover`: the circuit of one or several prompts, as JSON."""

import argparse
from collections.abc import Sequence

from knowcirc.circuits.export import expanded, write_circuit, write_dot
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.methods import METHODS
from knowcirc.commands.arguments import show
from knowcirc.commands.models import Pair, make_prompts, read_outline
from knowcirc.commands.ranking import rank
from knowcirc.commands.searching import search
from knowcirc.commands.standing import stand
from knowcirc.configuration.study import default
from knowcirc.files import Parts
from knowcirc.models.loading import weights_digest


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
