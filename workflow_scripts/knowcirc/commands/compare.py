"""`knowcirc compare`: two circuits of one graph, edge by edge and node by node."""

import argparse
from pathlib import Path

from knowcirc.commands.arguments import check_circuits_stay, check_figure, check_input_file, check_output_file, show
from knowcirc.commands.options import Subparsers, new_parser

COLUMNS = ["kind", "name", "status"]


def add(commands: Subparsers) -> None:
    """Add the command and its options."""
    parser = new_parser(
        commands,
        "compare",
        "say what two circuits share",
        text="Nodes and edges that are shared, lost (in the first circuit alone) and new (in the second alone), and "
        "their Jaccard indices. A circuit of K/V heads is expanded to query heads where the other has these.",
        example="knowcirc compare before.json after.json --out differences.csv --figure differences.png",
    )
    for name in ("before", "after"):
        parser.add_argument(name, type=Path, metavar=f"{name.upper()}.json", help="a circuit file")
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="every node and edge by name, with its status")
    parser.add_argument("--figure", type=Path, metavar="FILE.png|.pdf", help="what is shared, lost and new, by layer")


def prepare(args: argparse.Namespace) -> None:
    """Check the circuit files and the output."""
    for path in (args.before, args.after):
        check_input_file(path, "circuit file", "make one with knowcirc discover")
    if args.out is not None:
        check_output_file(args.out)
        check_circuits_stay(args.out, args.before, args.after)
    check_figure(args)


def run(args: argparse.Namespace) -> int:
    """The exit code, after the counts are printed and the names are written.

    Raises:
        ValueError: if the circuits are of graphs of different models.
    """
    import pandas as pd

    from knowcirc.circuits.export import expanded, read_circuit
    from knowcirc.circuits.overlap import compare, differences
    from knowcirc.files import write_table
    from knowcirc.plots.circuit_differences import circuit_differences
    from knowcirc.plots.style import save_one

    (graph, before), (other, after) = (read_circuit(path) for path in (args.before, args.after))
    if graph.kv != other.kv:  # one has K/V heads' names, the other query heads'
        (graph, before), (other, after) = expanded(graph, before), expanded(other, after)
    if graph != other:
        sizes = [f"{one.n_layers} layers of {one.n_heads} heads ({one.n_kv} K/V)" for one in (graph, other)]
        raise ValueError(f"{args.before} has {sizes[0]}, {args.after} {sizes[1]}: give two circuits of one model")
    counts = compare(graph, before.edges, after.edges)
    table = pd.DataFrame(differences(graph, before.edges, after.edges), columns=COLUMNS)
    if args.out is not None:
        write_table(args.out, table)
    if args.figure is not None:
        save_one(circuit_differences(table, graph.n_layers, (args.before.stem, args.after.stem)), args.figure)
    rows = [(str(path), f"{circuit.n_edges} edges") for path, circuit in ((args.before, before), (args.after, after))]
    for kind in ("edges", "nodes"):
        parts = ", ".join(f"{counts[f'{status}_{kind}']} {status}" for status in ("shared", "lost", "new"))
        rows.append((kind, f"{parts}; Jaccard index {counts[f'jaccard_{kind}']:.3f}"))
    written = (("table", args.out), ("figure", args.figure))
    show(rows + [(name, str(path)) for name, path in written if path is not None])
    return 0
