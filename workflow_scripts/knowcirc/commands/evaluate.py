"""`knowcirc evaluate`: what a circuit can do alone, beside the whole model."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from knowcirc.commands.arguments import check_circuits_stay, check_input_file, check_output_file, show, whole
from knowcirc.commands.cases import read_cases
from knowcirc.commands.options import Subparsers, add_model, add_prompts, new_parser

if TYPE_CHECKING:
    from knowcirc.circuits.evaluation import Live
    from knowcirc.facts.knowledge import Answer

K = 10
log = logging.getLogger(__name__)


def add(commands: Subparsers) -> None:
    """Add the command and its options."""
    parser = new_parser(
        commands,
        "evaluate",
        "measure what a circuit can do alone, beside the whole model",
        text="All edges outside the circuit deliver nothing (zero ablation), and edges on no path from the input to "
        "the logits are dropped; a circuit of which none is left has a constant output and scores 0. hit@10 is the "
        "share of prompts whose answer is among the ten likeliest tokens; NLL is the mean over the prompts, in nats.",
        example="knowcirc evaluate results/models/smollm2-135m circuit.json --out measures.json \\\n"
        '    --prompt "The official language of France is" --answer French',
    )
    add_model(parser)
    parser.add_argument("circuit", type=Path, metavar="CIRCUIT.json", help="a file of knowcirc discover or of EAP-IG")
    add_prompts(parser)
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="the measures as JSON besides")
    parser.add_argument(
        "--processing", choices=("none", "folded"), help="default: what the circuit file says it was found under"
    )
    parser.add_argument("--seed", type=whole(0), metavar="N", help="taken for uniformity; nothing is drawn here")


def prepare(args: argparse.Namespace) -> None:
    """Read the prompts, check the circuit file and the output."""
    args.cases = read_cases(args)
    check_input_file(args.circuit, "circuit file", "make one with knowcirc discover")
    if args.out is not None:
        check_output_file(args.out)
        check_circuits_stay(args.out, args.circuit)


def run(args: argparse.Namespace) -> int:
    """The exit code, after the measures are printed and written."""
    from knowcirc.circuits.evaluation import circuit_answers, live_part
    from knowcirc.commands.circuit_files import check_fit, read
    from knowcirc.commands.models import load_model, make_prompts, read_outline
    from knowcirc.facts.knowledge import answer_prompts
    from knowcirc.files import write_json

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
    from knowcirc.circuits.evaluation import hits, nll

    return {f"hit@{K}": sum(hits(answers, K)) / len(answers), "nll_nats": nll(answers)}


def report(
    args: argparse.Namespace, result: dict[str, object], live: Live, whole: dict[str, float], alone: dict[str, float]
) -> None:
    """Print the measures, after what was dropped of the circuit and whether its output is constant."""
    from knowcirc.circuits.evaluation import CONSTANT

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
