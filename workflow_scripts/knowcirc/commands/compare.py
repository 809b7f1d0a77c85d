"""`knowcirc compare`: circuits of one graph, edge by edge and node by node, and their consensus."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from knowcirc.commands.arguments import (
    check_circuits_stay,
    check_figure,
    check_input_file,
    check_output_file,
    real,
    show,
    whole,
)
from knowcirc.commands.options import Subparsers, new_parser
from knowcirc.configuration.study import Stability
from knowcirc.fields import field_of

COLUMNS = ["kind", "name", "status"]
KINDS = ("edges", "nodes")
RELEASED = ".gv"
SHARE = float(field_of(Stability, "share").default)


def add(commands: Subparsers) -> None:
    """Add the command and its options."""
    parser = new_parser(
        commands,
        "compare",
        "say what circuits share",
        text="Nodes and edges that are shared, lost (in the first circuit alone) and new (in the second alone), and "
        "their Jaccard indices. Of more than two circuits: the Jaccard indices of all pairs beside those of random "
        "sets of these sizes, how often each edge and node is in, and a consensus circuit. A circuit of K/V heads is "
        "expanded to query heads where another has these. Beside a released circuit of Knowledge Circuits (graph.gv), "
        "a head's query, key and value inputs are taken as one.",
        example="knowcirc compare before.json after.json --out differences.csv --figure differences.png",
    )
    for name in ("before", "after"):
        parser.add_argument(name, type=Path, metavar=f"{name.upper()}.json", help="a circuit file (.json, .gv)")
    parser.add_argument("others", type=Path, nargs="*", metavar="MORE.json", help="further circuit files")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.csv",
        help="every node and edge by name, with its status, or how often it is in",
    )
    parser.add_argument("--figure", type=Path, metavar="FILE.png|.pdf", help="what is shared, lost and new, by layer")
    parser.add_argument(
        "--consensus", type=Path, metavar="FILE.json", help="write a circuit of the edges that the circuits agree on"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--share",
        type=real(zero=False, high=1.0),
        metavar="X",
        help=f"it holds the edges in at least this share of the circuits (default: {SHARE:g})",
    )
    size.add_argument("--edges", type=whole(1), metavar="N", help="or the N edges that are in the most of them")


@dataclass(frozen=True, slots=True)
class _Compared:
    """Two circuits compared: counts, names with their status, the edges of each, and the layers of their model."""

    counts: dict[str, int | float]
    differences: list[dict[str, str]]
    n_edges: tuple[int, int]
    n_layers: int


def prepare(args: argparse.Namespace) -> None:
    """Check the circuit files and the outputs.

    Raises:
        ValueError: if options do not go together.
    """
    args.paths = [args.before, args.after, *args.others]
    for path in args.paths:
        check_input_file(path, "circuit file", "make one with knowcirc discover")
    if args.consensus is None and (args.share is not None or args.edges is not None):
        raise ValueError("--share and --edges are of the consensus circuit; name its file with --consensus")
    if (args.others or args.consensus) and any(path.suffix == RELEASED for path in args.paths):
        raise ValueError(f"released circuits ({RELEASED}) are compared two at a time, without --consensus")
    if args.others and args.figure is not None:
        raise ValueError(f"--figure shows two circuits, {len(args.paths)} are given; leave it out, or give two")
    for option, path in (("--out", args.out), ("--consensus", args.consensus)):
        if path is not None:
            check_output_file(path)
            check_circuits_stay(path, *args.paths, option=option)
    if args.out is not None and args.consensus is not None and args.out.absolute() == args.consensus.absolute():
        raise ValueError(f"--out and --consensus both name {args.out}; give two files")
    check_figure(args)


def run(args: argparse.Namespace) -> int:
    """The exit code, after the counts are printed and the names are written.

    Raises:
        ValueError: if the circuits are of graphs of different models.
    """
    rows = _pair(args) if not args.others else []
    if args.others or args.consensus is not None:
        rows += _several(args)
    show(rows)
    return 0


def _pair(args: argparse.Namespace) -> list[tuple[str, str]]:
    """What two circuits share, as lines; the table and the figure are written."""
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
    return rows + [(name, str(path)) for name, path in written if path is not None]


def _several(args: argparse.Namespace) -> list[tuple[str, str]]:
    """What several circuits share, as lines; frequencies and consensus are written.

    Raises:
        ValueError: if the circuits are of different models or weight processings.
    """
    from knowcirc.circuits.export import write_document
    from knowcirc.circuits.stability import agreement, all_pairs, frequencies
    from knowcirc.circuits.stability_files import consensus_document, frequency_table, read_alike
    from knowcirc.files import write_table

    alike = read_alike(args.paths)
    graph, edges, n = alike.graph, [one.edges for one in alike.circuits], len(args.paths)
    rows = []
    if args.others:
        rows += [(str(path), f"{one.n_edges} edges") for path, one in zip(args.paths, alike.circuits, strict=True)]
        for i, j in all_pairs(n):
            found = agreement(graph, edges, [(i, j)], edges[i])
            texts = [f"{kind} {found[f'jaccard_{kind}']:.3f} (chance {found[f'chance_{kind}']:.3f})" for kind in KINDS]
            rows.append(("Jaccard", f"{args.paths[i]}, {args.paths[j]}: {', '.join(texts)}"))
        found, counts = agreement(graph, edges, all_pairs(n), edges[0]), frequencies(edges)
        texts = [f"{kind} {found[f'jaccard_{kind}']:.3f} (chance {found[f'chance_{kind}']:.3f})" for kind in KINDS]
        rows.append(("mean", ", ".join(texts)))
        rows += [("in all", f"{(counts == n).sum()} edges"), ("in any", f"{(counts > 0).sum()} edges")]
        if args.out is not None:
            write_table(args.out, frequency_table(graph, edges))
            rows.append(("table", str(args.out)))
    if args.consensus is not None:
        share = SHARE if args.share is None else args.share
        circuit, document = consensus_document(alike, [str(path) for path in args.paths], share, args.edges)
        write_document(args.consensus, document)
        rows.append(("consensus", f"{args.consensus}: {circuit.n_edges} edges"))
    return rows


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
    from knowcirc.circuits.overlap import compare, differences
    from knowcirc.circuits.stability_files import read_alike

    alike = read_alike([before, after])
    graph, (one, two) = alike.graph, alike.circuits
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
