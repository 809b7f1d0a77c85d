"""`knowcirc discover`: the circuit of one or several prompts, as JSON."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from knowcirc.circuits.choices import ABLATIONS, METRICS
from knowcirc.circuits.methods import INTEGRATED, METHODS, RANDOM
from knowcirc.circuits.settings import TAU
from knowcirc.commands.arguments import check_output_file, flag, real, show, whole
from knowcirc.commands.cases import Case, Needs, read_cases
from knowcirc.commands.measures import measures_of
from knowcirc.commands.options import Subparsers, add_model, add_prompts, new_parser
from knowcirc.configuration.study import default

if TYPE_CHECKING:
    from knowcirc.circuits.graph import Graph
    from knowcirc.commands.models import Pair
    from knowcirc.files import Parts

EXACT = ("float32", "float64")
SETTINGS = ("tau", "absolute", "tests")  # of methods that test edges
MEASURES = ("metric", "ablation")  # of all methods but random
BASELINES = ("zero", "patch")  # ablations that attribution knows


def add(commands: Subparsers) -> None:
    """Add the command and its options."""
    parser = new_parser(
        commands,
        "discover",
        "find the circuit of one or several prompts and write it as JSON",
        text="eap and eap-ig rank edges by attribution patching, scores averaged over the prompts; those that lie on "
        "no path from the embedding to the output are dropped. With a corrupted prompt and its answer they measure "
        "the logit difference of the two answers against the corrupted run; otherwise -NLL (nats) against a zero "
        "baseline; --metric and --ablation choose otherwise. eap-ig-zero is eap-ig with -NLL and the zero baseline "
        "whatever is given. eap-ig-activations moves "
        "every layer's heads and MLP by themselves instead of the input; relp is eap with the rules of layer-wise "
        "relevance propagation for gradients. information-flow reads the clean run alone: what makes up what is read "
        "on the way to the answer. edge-pruning and ugs train a mask of the edges (KL divergence from the whole model, "
        "unless --metric says otherwise), and take those it keeps most likely. acdc removes one edge "
        "after the other, from the output down, where that costs less than tau: every decision is measured, on all "
        "prompts together. eap-ig+acdc does so with the strongest edges of eap-ig alone, set against what removed "
        "edges deliver (zero ablation: the zero baseline). standing looks for the circuit of --edges edges that does "
        "best without the others, on all prompts together: learned scores propose groups of edges, and these go, or "
        "return, by what that was measured to cost; found on ten prompts or more of a kind, it does for others of the "
        "kind. A search that was cut short goes on where it was, from its last layer (standing: its last ten seconds), "
        "when the same command is given again.",
        example="knowcirc discover results/models/smollm2-135m --out circuit.json \\\n"
        '    --prompt "The official language of France is" --answer French \\\n'
        '    --corrupted "The official language of Italy is" --wrong-answer Italian\n'
        "  knowcirc discover results/models/smollm2-135m --out circuit.json --tests tests.csv \\\n"
        '    --prompt "The official language of France is" --answer French --method acdc --tau 0.05\n'
        "  knowcirc discover results/models/smollm2-135m --out circuit.json --method standing --prompts prompts.csv",
    )
    add_model(parser)
    add_prompts(parser, corrupted=True)
    add_circuit(parser)
    add_search(parser)


def add_circuit(parser: argparse.ArgumentParser) -> None:
    """Add the method, what is written, and the graph that the circuit is a part of."""
    parser.add_argument(
        "--method",
        choices=tuple(METHODS),
        default=INTEGRATED,
        help="default: %(default)s; random needs no prompt and no weights",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE.json", help="the circuit; EAP-IG and MIB load it"
    )
    parser.add_argument("--dot", type=Path, metavar="FILE", help="the circuit for graphviz besides")
    parser.add_argument(
        "--edges",
        type=whole(1),
        metavar="N",
        help=f"size before dropping (default: {100 * default('circuits/share'):g} %% of all edges); standing: size at "
        f"most; eap-ig+acdc: edges to search (default: {100 * default('circuits/acdc/share'):g} %%)",
    )
    parser.add_argument(
        "--kv", choices=("grouped", "per_head"), default="grouped", help="K/V inputs of K/V or of query heads"
    )
    parser.add_argument(
        "--processing", choices=("none", "folded"), default="none", help="folded: norms and value biases folded away"
    )
    parser.add_argument(
        "--seed",
        type=whole(0),
        default=0,
        metavar="N",
        help="draws random circuits, and the prompts of standing's steps (default: 0)",
    )


def add_search(parser: argparse.ArgumentParser) -> None:
    """Add how edges are tested."""
    group = parser.add_argument_group(
        "search",
        "--metric and --ablation are for every method but random, the rest for acdc and eap-ig+acdc; these and\n"
        "standing search in float32 or float64; a corrupted prompt (patch, mean) and a wrong answer (logit-diff) may\n"
        "come without each other where one alone is read; under patch and mean, eap-ig+acdc ranks by those prompts\n"
        "that have both, or neither",
    )
    group.add_argument(
        "--tau",
        type=real(zero=True),
        metavar="X",
        help="what an edge must cost to stay, in the metric's unit (default: "
        f"{', '.join(f'{tau} with {metric}' for metric, tau in TAU.items())})",
    )
    group.add_argument(
        "--metric",
        choices=METRICS,
        help="what a lost edge costs: nll (nats; the default), kc-nll (nats / (T - 1), T tokens with the answer: the "
        "unit of KC's code), logit-diff (needs --wrong-answer; the default of eap and eap-ig with a pair), kl (nats, "
        "from the whole model's next token; not with eap, whose gradient is zero there), nll+kl (nats, half of each; "
        "the default of standing)",
    )
    group.add_argument(
        "--absolute", action="store_true", help="absolute scores (default: signed, an edge that harms goes, too)"
    )
    group.add_argument(
        "--ablation",
        choices=ABLATIONS,
        help="what absent edges deliver: nothing (zero; the default), the mean over the corrupted prompts (where there "
        "are none, the prompts) of equal length (mean; not with eap and eap-ig), or the value on the corrupted prompt "
        "(patch; the default of eap and eap-ig where there is one)",
    )
    group.add_argument("--tests", type=Path, metavar="FILE.csv", help="every test in order (.parquet works too)")


def prepare(args: argparse.Namespace) -> None:
    """Check the settings, read the prompts and check the outputs."""
    check_settings(args)
    halves = args.metric is not None or args.ablation is not None
    args.cases = read_cases(args, Needs(halves=halves), needed=args.method != RANDOM)
    if args.method != RANDOM:
        check_partners(args.method, args.metric, args.ablation, args.cases)
    outputs = {name: path for name in ("out", "dot", "tests") if (path := getattr(args, name)) is not None}
    for path in outputs.values():
        check_output_file(path)
    for one, other in combinations(outputs, 2):
        if outputs[one].absolute() == outputs[other].absolute():
            raise ValueError(f"{flag(one)} and {flag(other)} both name {outputs[one]}; give two files")


def check_settings(args: argparse.Namespace) -> None:
    """Make sure that the settings fit the method, and fill in those of a search that were left out.

    Raises:
        ValueError: naming those that do not.
    """
    method = METHODS[args.method]
    if not method.tests:
        refused = (*SETTINGS, *MEASURES) if method.blind else SETTINGS
        values = {name: getattr(args, name) for name in refused}
        if given := [flag(name) for name, value in values.items() if value is not None and value is not False]:
            raise ValueError(f"{', '.join(given)}: no setting of --method {args.method}; take --method acdc")
        if method.passes:
            check_precision(args)
            measures = {name: default(f"circuits/standing/{name}") for name in MEASURES}
            args.metric, args.ablation = (getattr(args, name) or measures[name] for name in MEASURES)
        else:
            check_measures(args)
        return
    if "share" not in method.settings and args.edges is not None:
        raise ValueError(f"--edges: no setting of --method {args.method}, where tau decides; take --method eap-ig+acdc")
    check_precision(args)
    measures = {name: default(f"circuits/acdc/{name}") for name in MEASURES}
    args.metric, args.ablation = (getattr(args, name) or measures[name] for name in MEASURES)
    if args.tau is None and (tau := TAU.get(args.metric)) is None:
        raise ValueError(f"--metric {args.metric} without --tau; say what an edge must cost to stay")
    args.tau = tau if args.tau is None else args.tau
    if args.absolute and args.tau == 0:
        raise ValueError("--absolute with --tau 0 keeps every edge; give a tau above 0")


def check_precision(args: argparse.Namespace) -> None:
    """Make sure that small differences of the metric can be told.

    Raises:
        ValueError: naming the precision in which they cannot.
    """
    if args.dtype not in EXACT:
        raise ValueError(f"--method {args.method} needs --dtype float32 or float64; {args.dtype} is too coarse for it")


def check_measures(args: argparse.Namespace) -> None:
    """Make sure that edges can be scored by the metric and against the baseline; fill in eap-ig-zero's.

    Raises:
        ValueError: naming those that it cannot.
    """
    attribution = METHODS[args.method].attribution
    if METHODS[args.method].learned:
        check_precision(args)
    elif attribution is None:
        return
    if attribution is not None and attribution.from_nothing:
        if args.ablation == "patch":
            raise ValueError(
                f"--method {args.method} has the zero baseline; take --method eap-ig with --ablation patch"
            )
        args.metric, args.ablation = args.metric or "nll", args.ablation or "zero"
    if args.ablation is not None and args.ablation not in BASELINES:
        raise ValueError(
            f"--ablation {args.ablation}: no baseline of --method {args.method}; take zero or patch, or --method acdc"
        )
    if attribution is not None and attribution.on_clean and args.metric == "kl":
        raise ValueError(
            f"--metric kl with --method {args.method}: its gradient is zero on the clean prompt; take --method eap-ig"
        )


def check_partners(method: str, metric: str | None, ablation: str | None, cases: Sequence[Case]) -> None:
    """Make sure that the prompts have what metric and ablation read, and no half of a pair that neither does.

    Raises:
        ValueError: naming what is missing or has no use.
    """
    others = "patch or mean" if METHODS[method].together else "patch"
    for case in cases:
        corrupted, wrong = case.label("corrupted"), case.label("wrong_answer")
        metric_here, ablation_here = measures_of(method, metric, ablation, case)
        if ablation_here == "patch" and case.corrupted is None:
            raise ValueError(f"{case.at}patch ablation needs {corrupted}; give it, or take --ablation zero")
        if metric_here == "logit-diff" and case.wrong_answer is None:
            raise ValueError(f"{case.at}metric logit-diff needs {wrong}; give it, or take --metric nll")
        if case.corrupted is not None and case.wrong_answer is None and ablation_here == "zero":
            raise ValueError(f"{case.at}{corrupted} without {wrong} has no use here; add --ablation {others}")
        if case.wrong_answer is not None and case.corrupted is None and metric_here != "logit-diff":
            raise ValueError(f"{case.at}{wrong} without {corrupted} has no use here; add --metric logit-diff")
    if ablation == "mean" and len({case.corrupted is None for case in cases}) > 1:
        raise ValueError("mean ablation: only some of the prompts have a corrupted one; give it to all or to none")


def run(args: argparse.Namespace) -> int:
    """The exit code, after the circuit is written."""
    from knowcirc.circuits.export import write_circuit, write_dot
    from knowcirc.circuits.graph import Graph
    from knowcirc.commands.models import make_prompts, read_outline
    from knowcirc.commands.ranking import rank
    from knowcirc.commands.searching import search
    from knowcirc.commands.standing import stand

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
    if args.dot is not None:
        write_dot(args.dot, graph, found.circuit)
    if parts is not None:
        parts.clear()
    files = [("circuit", args.out), ("graphviz", args.dot), ("table of tests", args.tests)]
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
    from knowcirc.models.loading import weights_digest

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
