"""`knowcirc export`: a circuit file in the format of another program."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowcirc.commands.arguments import check_circuits_stay, check_input_file, check_output_file, show
from knowcirc.commands.options import Subparsers, new_parser

if TYPE_CHECKING:
    from knowcirc.circuits.circuit import Circuit
    from knowcirc.circuits.graph import Graph

OWN = ("cfg", "method", "nodes", "edges")
FORMATS = ("json", "mib", "neuronpedia", "dot")


def add(commands: Subparsers) -> None:
    """Add the command and its options."""
    parser = new_parser(
        commands,
        "export",
        "write a circuit file in the format of another program",
        text="mib: what EAP-IG's Graph.from_json and MIB's evaluation read, and nothing besides. Edges have the "
        "names of query heads; those that were not tested have the score 0. EAP-IG runs the edges that are in the "
        "circuit; MIB takes the strongest by score, up to each of its sizes. json: the same with this program's own "
        "entries (method, prompts, which edges were tested); every circuit file that it writes is of this kind. "
        "neuronpedia: an attribution graph for Neuronpedia's and circuit-tracer's viewer. A circuit holds at all "
        "positions, so heads and MLPs stand in one column; the edges into a head's query, key and value are one link. "
        "dot: for graphviz.",
        example="knowcirc export circuit.json --to neuronpedia -o graph.json",
    )
    parser.add_argument("circuit", type=Path, metavar="FILE.json", help="a file of knowcirc discover or of EAP-IG")
    parser.add_argument("--to", choices=FORMATS, default="mib", help="the format (default: %(default)s)")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="where to write it")


def prepare(args: argparse.Namespace) -> None:
    """Check the circuit file and the output."""
    check_input_file(args.circuit, "circuit file", "make one with knowcirc discover")
    check_output_file(args.out)
    check_circuits_stay(args.out, args.circuit)


def run(args: argparse.Namespace) -> int:
    """The exit code, after the file is written.

    Raises:
        ValueError: if the circuit file is none, or has not what the format needs.
    """
    from knowcirc.circuits.export import expanded, read_circuit, write_document, write_dot
    from knowcirc.circuits.viewer import attribution_graph
    from knowcirc.files import read_json, write_json

    graph, circuit = read_circuit(args.circuit)
    about = read_json(args.circuit)
    if args.to == "dot":
        write_dot(args.out, graph, circuit)
    elif args.to == "neuronpedia":
        write_json(args.out, attribution_graph(*expanded(graph, circuit), about, args.out.name))
    else:
        write_document(args.out, _document(args, graph, circuit, about))
    rows = [("format", args.to), ("edges", f"{circuit.n_edges} of {graph.n_edges}"), ("written", str(args.out))]
    show(rows)
    return 0


def _document(args: argparse.Namespace, graph: Graph, circuit: Circuit, about: dict[str, Any]) -> dict[str, Any]:
    """The circuit file, whole or (mib) without what other programs do not read.

    Raises:
        ValueError: if it does not say how wide the model is, which EAP-IG asks for.
    """
    from knowcirc.circuits.export import document_of

    d_model = about["cfg"].get("d_model")
    if not isinstance(d_model, int):
        raise ValueError(f"{args.circuit}: cfg.d_model is {d_model!r}, and EAP-IG needs it; add the model's width")
    extra = {key: value for key, value in about.items() if key not in OWN}
    whole: dict[str, Any] = document_of(graph, d_model, circuit, extra)
    if args.to == "json":
        return whole
    cfg = {key: value for key, value in whole["cfg"].items() if key not in ("kv", "n_kv")}
    edges = {name: {key: edge[key] for key in ("score", "in_graph")} for name, edge in whole["edges"].items()}
    return {"cfg": cfg, "nodes": whole["nodes"], "edges": edges}
