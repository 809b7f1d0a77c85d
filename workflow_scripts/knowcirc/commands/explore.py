"""`knowcirc explore`: circuits as one HTML page to look around in, without a network."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowcirc.commands.arguments import (
    DTYPES,
    check_circuits_stay,
    check_input_file,
    check_output_file,
    show,
)
from knowcirc.commands.cases import read_cases
from knowcirc.commands.options import Subparsers, add_prompts, add_roles, new_parser

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowcirc.circuits.graph import Graph
    from knowcirc.commands.models import Outline
    from knowcirc.explorer.packing import Shown

ENDS = (".json", ".npz")


def add(commands: Subparsers) -> None:
    """Add the command and its options."""
    parser = new_parser(
        commands,
        "explore",
        "look around in circuits, on an HTML page",
        text="One self-contained page that shows circuits node by node and edge by edge, filters them, sets two beside "
        "each other, and finds the paths between nodes. With a model folder and a prompt it also holds what every "
        "head attends to and which tokens heads and MLPs raise (logit lens). It loads nothing from outside.",
        example="knowcirc explore circuit.json other.json -o page.html --model results/models/smollm2-135m \\\n"
        '    --prompt "The official language of France is" --subject France --answer French',
    )
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="circuits of one model: of discover (.json), a study's (.npz)",
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE.html", help="the page")
    parser.add_argument("--model", type=Path, metavar="MODEL", help="Hugging Face folder: for prompts, and .npz alone")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="numbers to compute in (default: float32)")
    parser.add_argument("--title", default="Circuits", metavar="TEXT", help="the page's title (default: %(default)s)")
    parser.add_argument("--traces", type=Path, metavar="FILE.parquet|.csv", help="a study's traces/facts.parquet")
    parser.add_argument("--heads", type=Path, metavar="FILE.csv", help="a study's components/heads.csv: named heads")
    add_prompts(parser, subject=True)
    add_roles(parser)


def prepare(args: argparse.Namespace) -> None:
    """Check the files, the prompts and the output."""
    for path in args.files:
        check_input_file(path, "circuit file", "make one with knowcirc discover")
        if path.suffix not in ENDS:
            raise ValueError(f"circuit file {path}: its name must end in {' or '.join(ENDS)}")
    for path, what in ((args.traces, "traces"), (args.heads, "table of heads")):
        if path is not None:
            check_input_file(path, what, "give a file of a study")
    check_output_file(args.out)
    check_circuits_stay(args.out, *args.files)
    args.cases = read_cases(args, needed=False)
    if args.cases and args.model is None:
        raise ValueError("a prompt without --model; give the model folder that reads it")
    if args.model is None and all(path.suffix == ".npz" for path in args.files):
        raise ValueError(
            f"{args.files[0]} does not say its model's sizes; give --model, or a circuit.json of that model"
        )


def run(args: argparse.Namespace) -> int:
    """The exit code, after the page is written."""
    from knowcirc.explorer.packing import packed_circuits, packed_heads, packed_reading, packed_traces
    from knowcirc.explorer.page import build_page
    from knowcirc.files import atomic, read_table

    outline = None
    if args.model is not None:
        from knowcirc.commands.models import read_outline

        outline = read_outline(args)
    circuits = _circuits(args.files, outline)
    data: dict[str, Any] = {**packed_circuits(circuits), "heads": [], "traces": [], "n_traced": 0}
    if args.heads is not None:
        data["heads"] = packed_heads(read_table(args.heads))
    if args.traces is not None:
        data |= packed_traces(read_table(args.traces))
    readings = _readings(args, outline, circuits) if outline is not None and args.cases else []
    data["readings"] = [packed_reading(reading, f"prompt {number}") for number, reading in enumerate(readings)]
    with atomic(args.out) as part:
        part.write_text(build_page(args.title, data), "utf-8")
    rows = [(one.title, f"{one.circuit.n_edges} edges") for one in circuits]
    show([*rows, *[("left out", name) for name in data["left_out"]], ("page", str(args.out))])
    return 0


def _circuits(files: Sequence[Path], outline: Outline | None) -> list[Shown]:
    """The circuits of all files, in their order.

    Raises:
        ValueError: naming the file that holds none, or one of another model.
    """
    from knowcirc.circuits.graph import Graph
    from knowcirc.commands.circuit_files import check_fit, read

    documents = {path: read(path)[:2] for path in files if path.suffix == ".json"}
    graphs = [graph for graph, _ in documents.values()]
    if outline is not None:
        for path, (graph, _) in documents.items():
            check_fit(path, graph, outline.shape)
        graphs += [Graph.of(outline.shape, kv) for kv in ("grouped", "per_head")]
    found: list[Shown] = []
    for path in files:
        found += _of_json(path, *documents[path]) if path in documents else _of_arrays(path, graphs)
    return found


def _of_json(path: Path, graph: Graph, circuit: Any) -> list[Shown]:
    from knowcirc.explorer.packing import Shown
    from knowcirc.files import read_json

    document = read_json(path)
    named = [(name, document.get(name)) for name in ("prompt", "answer", "metric", "ablation", "tau")]
    about = tuple((name, str(value)) for name, value in named if isinstance(value, str | int | float))
    return [Shown(str(path), path.stem, "Files", graph, circuit, about=about)]


def _of_arrays(path: Path, graphs: Sequence[Graph]) -> list[Shown]:
    """The circuits of a study's file; its relations stand in it, its method is its name.

    Raises:
        ValueError: if it holds no circuits, or none that fit the model.
    """
    from zipfile import BadZipFile

    from knowcirc.circuits.export import load_circuits
    from knowcirc.explorer.packing import Shown
    from knowcirc.explorer.study import fitting, graph_of_array

    try:
        loaded = load_circuits(path, path.stem)
    except (ValueError, KeyError, BadZipFile, EOFError) as error:
        raise ValueError(f"{path} is no file of circuits ({type(error).__name__}: {error})") from None
    shapes = [circuit.edges.shape for circuit in loaded.values()]
    graph = (graph_of_array(shapes[0], graphs) if shapes else None) or graphs[0]
    return [
        Shown(f"{path}/{name}", name, str(path), graph, circuit, relation=name)
        for name, circuit in fitting(graph, path, path.stem).items()
    ]


def _readings(args: argparse.Namespace, outline: Outline, circuits: Sequence[Shown]) -> list[dict[str, object]]:
    """What every node does on each prompt; the model is loaded after all else was checked."""
    from functools import partial

    from knowcirc.commands.circuit_files import read
    from knowcirc.commands.heads import context_of
    from knowcirc.commands.models import load_model, make_prompts, names_of
    from knowcirc.reading.heads import Thresholds
    from knowcirc.reading.nodes import read_nodes

    prompts = [prompt for prompt, _ in make_prompts(outline, args.cases)]
    ways = {read(path)[2] for path in args.files if path.suffix == ".json"} or {"none"}
    if len(ways) > 1:
        raise ValueError("the circuits were found under different weight processing; give those of one, or no prompt")
    model, limits = load_model(args, ways.pop(), fast=True), Thresholds(args.attention, args.tokens)
    names = partial(names_of, model)
    return [read_nodes(model, prompt, names, limits, context_of(model, prompt, args)) for prompt in prompts]
