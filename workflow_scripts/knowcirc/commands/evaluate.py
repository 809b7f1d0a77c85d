"""`knowcirc evaluate`: what a circuit can do alone, beside the whole model."""

import argparse
import logging
from collections.abc import Sequence

from knowcirc.circuits.evaluation import CONSTANT, Live, circuit_answers, hits, live_part, nll
from knowcirc.commands.arguments import show
from knowcirc.commands.circuit_files import check_fit, read
from knowcirc.commands.models import load_model, make_prompts, read_outline
from knowcirc.facts.knowledge import Answer, answer_prompts
from knowcirc.files import write_json

K = 10
log = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> int:
    """The exit code, after the measures are printed and written."""
    outline = read_outline(args)
    graph, circuit, processing = read(args.circuit)
    check_fit(args.circuit, graph, outline.shape)
    prompts = [prompt for prompt, _ in make_prompts(outline, args.cases)]
    model = load_model(args, args.processing or processing)
    live = live_part(graph, circuit.edges)
    log.info("running the model and %d edges on %d prompt(s)", int(live.edges.sum()), len(prompts))
    whole = measure(answer_prompts(model, prompts))
    alone = measure(circuit_answers(model, graph, live.edges, prompts))
    result = {
        "n_prompts": len(prompts),
        "edges": circuit.n_edges,
        "graph_edges": graph.n_edges,
        "share": circuit.n_edges / graph.n_edges,
        "edges_dropped": live.dropped,
        "constant": live.constant,
        "ablation": "zero",
        "processing": args.processing or processing,
        "model": whole,
        "circuit": alone,
    }
    if args.out is not None:
        write_json(args.out, result)
    report(args, result, live, whole, alone)
    return 0


def measure(answers: Sequence[Answer]) -> dict[str, float]:
    """hit@10 (share of the prompts) and mean NLL (nats)."""
    return {f"hit@{K}": sum(hits(answers, K)) / len(answers), "nll_nats": nll(answers)}


def report(
    args: argparse.Namespace, result: dict[str, object], live: Live, whole: dict[str, float], alone: dict[str, float]
) -> None:
    """Print the measures, after what was dropped of the circuit and whether its output is constant."""
    share = 100 * float(str(result["share"]))
    rows = [
        ("prompts", str(result["n_prompts"])),
        ("edges", f"{result['edges']} of {result['graph_edges']} ({share:.2f} %)"),
    ]
    if live.dropped:
        rows.append(("dropped", f"{live.dropped} edge(s) that lie on no path from the input to the logits"))
    if live.constant:
        rows.append(("note", f"the circuit says nothing: {CONSTANT}"))
    for name, values in (("model", whole), ("circuit", alone)):
        rows += [(f"hit@{K}, {name}", f"{100 * values[f'hit@{K}']:.1f} %")]
        rows += [(f"NLL, {name}", f"{values['nll_nats']:.4f} nats")]
    show(rows + ([("measures", str(args.out))] if args.out is not None else []))
