"""Circuit search, causal tracing and editing beside what else does their work, measured in one process.

    python tests/benchmarks/bench_circuits.py results-test/models/smollm2-135m [--quick] [--sections NAME ...]

| section | what |
|---|---|
| starting | a command from the shell to its answer, and imports |
| search | the engine on the whole graph; a test beside plain forward passes and the one-by-one reference |
| attribution | EAP and EAP-IG on 1 and on 10 prompts |
| sharing | prompts with a common beginning: exact search on 10 and on 1, attribution and circuits shared and apart |
| standing | the search for a circuit that stands alone: first scores, steps |
| processes | the same search in several processes side by side |
| growth | the engine's time with layers, heads, prompt length, prompts |
| tracing | causal tracing of one fact, plain and ours; its growth with layers, tokens, draws |
| editing | seconds per edit, each editor, and ROME done plainly |
| peers | other libraries, where `make peers` has installed them |
| memory | resident memory after each stage |

Only ratios of times taken in one run mean something; nothing here is a limit.
"""

import argparse
import contextlib
import logging
import math
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks.attribution import measure_attribution, prompt_pairs
from benchmarks.editing import measure_editing
from benchmarks.growth import measure_growth
from benchmarks.peers import Setting, measure_peers
from benchmarks.processes import measure_processes
from benchmarks.sharing import measure_sharing
from benchmarks.standing import measure_standing
from benchmarks.starting import measure_starting
from benchmarks.timing import PAGE, Timing, duration, machine, memory, milliseconds, once, say, side_by_side, table
from benchmarks.tracing import measure_tracing
from knowcirc.circuits.acdc import Criterion, Search, acdc, begin
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.metrics import Task, make_task
from knowcirc.facts.prompts import tokenise
from knowcirc.files import read_json, write_json
from knowcirc.models.loading import LanguageModel, load
from knowcirc.models.packing import packed
from knowcirc.models.transformer import Transformer
from sequential import measure
from unit import reference

TEXT, ANSWER = "The official language of France is", "French"
TAU = 0.05
HEADING = """# What things take

Written by `make bench` on the machine named below. Ratios of times within a section mean something; the times
themselves are that machine's.
"""
MEMORY = "memory"  # of a whole run alone
HUGGING_FACE, OURS, REFERENCE = "Hugging Face: forward pass", "ours: forward pass", "reference: a test"


class _EnoughError(Exception):
    """The search has gone as far down as it is to."""


def main() -> None:
    """Measure all sections, or some, and write what is found after each: tables, a JSON file, and the page."""
    args = parse_arguments()
    logging.disable(logging.WARNING)
    torch.set_num_threads(args.threads)
    stages = {"imports": memory()}
    results: dict[str, Any] = {"model": args.model.name, "quick": args.quick}
    if args.sections and args.out.is_file():
        results = read_json(args.out)
    on = "; ".join(f"{key} {value}" for key, value in machine().items())
    model = load(args.model, device="cpu")
    stages["model loaded"] = memory()
    fast, packing = pack(model.transformer)
    stages["weights packed"] = memory()
    sections = sections_of(args, model, fast, packing)
    if unknown := set(args.sections or ()) - set(sections):
        sys.exit(f"--sections: {', '.join(sorted(unknown))}: no such section; there are {', '.join(sections)}")
    for name, measured in sections.items():
        if args.sections and name not in args.sections:
            continue
        PAGE.clear()
        results[name] = {"measured": measured(), "on": on, "page": PAGE[:]}
        stages[name] = memory()
        write_json(args.out, results)
        write_page(args.page, results)
    if not args.sections:
        PAGE.clear()
        show_memory(stages)
        results[MEMORY] = {"measured": stages, "on": on, "page": PAGE[:]}
        write_json(args.out, results)
        write_page(args.page, results)
    sys.stdout.write(f"written to {args.out}\n")


def write_page(path: Path | None, results: dict[str, Any]) -> None:
    """Write the sections that are measured, those of one run below a line that names the machine."""
    lines, named = [HEADING], ""
    for section in (part for part in results.values() if isinstance(part, dict)):
        if section["on"] != named:
            named = section["on"]
            lines += [f"Measured on: {named}", ""]
        lines += section["page"]
    if path is not None:
        path.write_text("\n".join([*lines, ""]), "utf-8")


def sections_of(
    args: argparse.Namespace, model: LanguageModel, fast: Transformer, packing: float
) -> dict[str, Callable[[], object]]:
    """What each section measures, in the order in which they are."""
    quick, rounds = args.quick, 1 if args.quick else 3
    graph = Graph.of(model.transformer.shape, "grouped")
    first = max(0, graph.n_layers - 3) if quick else 0
    top = max(first, 3 * graph.n_layers // 4)  # ten prompts take hours on the whole graph
    prompts, partners = prompt_pairs(model, 10)
    quick_model = replace(model, transformer=fast)
    tests, many = (20, 5) if quick else (300, 30)
    sections: dict[str, Callable[[], object]] = {
        "starting": lambda: measure_starting(args.model, 1 if quick else 5),
        "search": lambda: measure_search(model, fast, graph, packing, first, many),
        "attribution": lambda: measure_attribution(quick_model, graph, prompts, partners, rounds=rounds),
        "sharing": lambda: measure_sharing(fast, graph, prompts, partners, first=top, rounds=rounds),
        "standing": lambda: measure_standing(model, graph, prompts, quick=quick),
        "processes": lambda: measure_processes(args.model, prompts, rounds),
        "growth": lambda: measure_growth(quick=quick, rounds=rounds),
        "tracing": lambda: measure_tracing(model, sites=10 if quick else 60, rounds=rounds, quick=quick),
        "editing": lambda: measure_editing(model, quick_model, quick=quick),
        "peers": lambda: measure_peers(Setting(model, prompts[0], partners[0], first, tests, many)),
    }
    if not args.peers:
        del sections["peers"]
    return sections


def measure_search(
    model: LanguageModel, fast: Transformer, graph: Graph, packing: float, first: int, rounds: int
) -> dict[str, object]:
    """A test of the search beside plain passes, before and after the search, and the search."""
    prompt = tokenise(model.text, TEXT, ANSWER)
    task = make_task("nll", [prompt.ids], [prompt.answer[0]])
    calls = forward_calls(model, fast, graph, task)
    before = side_by_side(calls, rounds)
    search, seconds = run_engine(fast, graph, task, first)
    after = side_by_side(calls, rounds)
    timings = {name: Timing.of([*before[name], *after[name]]) for name in calls}
    return {
        "tests": show_tests(timings, seconds / len(search.tests), first),
        "search": show_search(graph, search, seconds, packing, timings, first),
    }


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="folder of a saved model")
    parser.add_argument("--out", type=Path, default=Path("results-bench/circuits.json"), help="(default: %(default)s)")
    parser.add_argument(
        "--page",
        type=Path,
        metavar="FILE.md",
        help="the tables besides, as a page of the documentation (not of --quick)",
    )
    parser.add_argument("--quick", action="store_true", help="the last three layers only, few rounds, small networks")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help="other libraries, too")
    parser.add_argument(
        "--sections",
        nargs="+",
        metavar="NAME",
        help="these alone, of the table above; what was measured of the others stays",
    )
    parser.add_argument("--threads", type=int, default=2, help="of torch (default: %(default)s)")
    return parser.parse_args()


def pack(model: Transformer) -> tuple[Transformer, float]:
    """The packed model, and the seconds that packing took."""
    found: list[Transformer] = []
    seconds = once(lambda: found.append(packed(model)))
    return found[0], seconds


def forward_calls(model: LanguageModel, fast: Transformer, graph: Graph, task: Task) -> dict[str, Callable[[], object]]:
    """The plain forward passes and the reference's test, which the engine is compared with."""
    plain = reference.network(model)

    @torch.no_grad()
    def hugging_face() -> object:
        return plain(task.ids, use_cache=False, logits_to_keep=1)

    return {
        HUGGING_FACE: hugging_face,
        OURS: lambda: model.transformer.logits(task.ids),
        f"{OURS}, packed": lambda: fast.logits(task.ids),
        REFERENCE: lambda: measure(model.transformer, graph, task, graph.valid),
    }


def run_engine(model: Transformer, graph: Graph, task: Task, first: int) -> tuple[Search, float]:
    """The search down to the layer `first`, and its seconds."""

    def stop(search: Search) -> None:
        if search.next_layer < first:
            raise _EnoughError

    search = begin(graph)
    start = time.perf_counter()
    with contextlib.suppress(_EnoughError):
        acdc(model, graph, task, Criterion(TAU), search=search, after_layer=stop)
    return search, time.perf_counter() - start


def show_tests(timings: dict[str, Timing], engine: float, first: int) -> dict[str, object]:
    """Seconds of each call and of the engine's test, as multiples of the plain passes."""
    say(f"Seconds a test: {TEXT!r} -> {' ' + ANSWER!r}, K/V grouped, NLL, zero ablation, tau {TAU} nats")
    base, own = timings[HUGGING_FACE].median, timings[OURS].median
    rows = [[name, *milliseconds(t), t.median / base, t.median / own] for name, t in timings.items()]
    rows.append(["engine: a test (mean of the search)", 1e3 * engine, "", "", engine / base, engine / own])
    table(["", "ms (median)", "least", "most", "× Hugging Face", "× ours"], rows)
    reference = timings[REFERENCE].median
    say(f"  a test of the engine: {ratio(engine, base)} a plain forward pass of Hugging Face,")
    say(f"  {ratio(engine, own)} one of ours, {ratio(engine, reference)} a test of the reference")
    say("  (the last layers alone: the engine's cheapest tests, no measure of a whole search)\n" if first else "")
    seconds = {
        name: {"median_s": t.median, "least_s": t.least, "most_s": t.most, "n": t.n} for name, t in timings.items()
    }
    return {**seconds, "engine": {"mean_s": engine, "x_hugging_face": engine / base, "x_ours": engine / own}}


def ratio(part: float, whole: float) -> str:
    """How a time compares with another, in words."""
    return f"{part / whole:.2g} times" if part > whole else f"1/{whole / part:.3g} of"


def show_search(
    graph: Graph, search: Search, seconds: float, packing: float, timings: dict[str, Timing], first: int
) -> dict[str, object]:
    """What the engine found and took, and what its tests would take one by one."""
    low = graph.reads(first, "q").start
    total, kept = int(graph.valid[:, low:].sum()), int(search.edges[:, low:].sum())
    tests = len(search.tests)
    say(f"The engine on {'the whole graph' if first == 0 else f'layers {first} and above'}")
    one_by_one = {name: tests * timings[name].median for name in (HUGGING_FACE, OURS, REFERENCE)}
    table(
        ["", ""],
        [
            ["seconds", f"{seconds:.1f} (besides {packing:.1f} for packing the weights)"],
            ["tests", tests],
            ["edges kept", f"{kept:,} of {total:,}"],
            ["passes, rows", f"{search.passes:,}, {search.rows:,}"],
            ["NLL of the model and of the circuit", f"{search.metric_start:.4f}, {search.metric_circuit:.4f} nats"],
            ["closest score to tau", f"{search.closest:.1e} nats"],
            *[[f"tests × {name}", f"{duration(s)}: {s / seconds:.1f} ×"] for name, s in one_by_one.items()],
        ],
    )
    return {
        "first_layer": first,
        "seconds": seconds,
        "packing_s": packing,
        "tests": tests,
        "passes": search.passes,
        "rows": search.rows,
        "edges_kept": kept,
        "edges": total,
        "nll_model": search.metric_start,
        "nll_circuit": search.metric_circuit,
        "closest_to_tau": search.closest if math.isfinite(search.closest) else None,
        "one_by_one_s": one_by_one,
    }


def show_memory(stages: dict[str, dict[str, float]]) -> None:
    """Resident memory after each stage."""
    say("Memory after each stage, MiB: imports and loading are the start-up; the peak is that of all stages so far")
    rows = [[name, round(used["resident_mib"]), round(used["peak_mib"])] for name, used in stages.items()]
    table(["", "resident", "peak"], rows)


if __name__ == "__main__":
    main()
