"""`knowcirc compare`: two circuits of one graph, edge by edge and node by node."""

import argparse
from dataclasses import dataclass
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
        "their Jaccard indices. A circuit of K/V heads is expanded to query heads where the other has these. Beside a "
        "released circuit of Knowledge Circuits (graph.gv), a head's query, key and value inputs are taken as one.",
        example="knowcirc compare before.json after.json --out differences.csv --figure differences.png",
    )
    for name in ("before", "after"):
        parser.add_argument(name, type=Path, metavar=f"{name.upper()}.json", help="a circuit file (.json, .gv)")
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="every node and edge by name, with its status")
    parser.add_argument("--figure", type=Path, metavar="FILE.png|.pdf", help="what is shared, lost and new, by layer")


@dataclass(frozen=True, slots=True)
class _Compared:
    """Two circuits compared: counts, names with their status, the edges of each, and the layers of their model."""

    counts: dict[str, int | float]
    differences: list[dict[str, str]]
    n_edges: tuple[int, int]
    n_layers: int


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

    from knowcirc.circuits.merged import SUFFIX
    from knowcirc.files import write_table
    from knowcirc.plots.circuit_differences import circuit_differences
    from knowcirc.plots.style import save_one

    released = SUFFIX in (args.before.suffix, args.after.suffix)
    found = (_merged if released else _edge_by_edge)(args.before, args.after)
    table, counts = pd.DataFrame(found.differences, columns=COLUMNS), found.counts
    if args.out is not None:
        write_table(args.out, table)
    if args.figure is not None:
        save_one(circuit_differences(table, found.n_layers, _names(args.before, args.after)), args.figure)
    rows = [(str(path), f"{n} edges") for path, n in zip((args.before, args.after), found.n_edges, strict=True)]
    for kind in ("edges", "nodes"):
        parts = ", ".join(f"{counts[f'{status}_{kind}']} {status}" for status in ("shared", "lost", "new"))
        rows.append((kind, f"{parts}; Jaccard index {counts[f'jaccard_{kind}']:.3f}"))
    written = (("table", args.out), ("figure", args.figure))
    show(rows + [(name, str(path)) for name, path in written if path is not None])
    return 0


def _names(before: Path, after: Path) -> tuple[str, str]:
    """The files' names in the figure, with their folders where they are the same."""
    if before.stem != after.stem:
        return before.stem, after.stem
    return f"{before.parent.name}/{before.stem}", f"{after.parent.name}/{after.stem}"


def _edge_by_edge(before: Path, after: Path) -> _Compared:
    """Two circuits of one graph.

    Raises:
        ValueError: if they are of graphs of different models.
    """
    from knowcirc.circuits.export import expanded, read_circuit
    from knowcirc.circuits.overlap import compare, differences

    (graph, one), (other, two) = (read_circuit(path) for path in (before, after))
    if graph.kv != other.kv:  # one has K/V heads' names, the other query heads'
        (graph, one), (other, two) = expanded(graph, one), expanded(other, two)
    if graph != other:
        sizes = [f"{each.n_layers} layers of {each.n_heads} heads ({each.n_kv} K/V)" for each in (graph, other)]
        raise ValueError(f"{before} has {sizes[0]}, {after} {sizes[1]}: give two circuits of one model")
    return _Compared(
        compare(graph, one.edges, two.edges),
        list(differences(graph, one.edges, two.edges)),
        (one.n_edges, two.n_edges),
        graph.n_layers,
    )


def _merged(before: Path, after: Path) -> _Compared:
    """Two circuits of which one at least is a released one, node by node.

    Raises:
        ValueError: if the released one has nodes that the other's model does not have.
    """
    from knowcirc.circuits.export import read_circuit
    from knowcirc.circuits.merged import SUFFIX, check_fits, compare_merged, merge, merged_differences, read_published

    paths = (before, after)
    graphs = {path: read_circuit(path) for path in paths if path.suffix != SUFFIX}
    circuits = [
        merge(graphs[path][0], graphs[path][1].edges) if path in graphs else read_published(path) for path in paths
    ]
    for path, (graph, _) in graphs.items():
        for other, circuit in zip(paths, circuits, strict=True):
            check_fits(circuit, other, graph, path)
    n_layers = max([graph.n_layers for graph, _ in graphs.values()] or [each.n_layers for each in circuits])
    n_edges = (len(circuits[0].edges), len(circuits[1].edges))
    return _Compared(compare_merged(*circuits), list(merged_differences(*circuits)), n_edges, n_layers)
