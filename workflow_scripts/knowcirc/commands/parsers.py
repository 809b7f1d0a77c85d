"""What each subcommand accepts: its options, its help with an example, and the checks that need no library."""

import argparse
from pathlib import Path

from knowcirc.commands.arguments import (
    check_circuits_stay,
    check_figure,
    check_input_file,
    check_output_file,
    real,
    several,
    whole,
    words,
)
from knowcirc.commands.cases import Needs, read_cases
from knowcirc.commands.discover_parser import add_discover
from knowcirc.commands.edit_parser import add_edit
from knowcirc.commands.options import Subparsers, add_model, add_prompts, new_parser
from knowcirc.configuration.study import default
from knowcirc.tracing.settings import ALL_KINDS, DISTRIBUTIONS, KINDS

MAX_SEED = 2**32 - 1


def add_evaluate(commands: "Subparsers") -> None:
    """Add `knowcirc evaluate`."""
    parser = new_parser(
        commands,
        "evaluate",
        "measure what a circuit can do alone, beside the whole model",
        text="All edges outside the circuit deliver nothing (zero ablation), and edges on no path from the input to "
        "the logits are dropped; a circuit of which none is left has a constant output and scores 0. hit@10 is the "
        "share of prompts whose answer is among the ten likeliest tokens; NLL is the mean over the prompts, in nats.",
        example="knowcirc evaluate results/models/smollm2-135m circuit.json --out measures.json \\\n"
        '    --prompt "The official language of France is" --answer French',
        prepare=prepare_evaluate,
    )
    add_model(parser)
    parser.add_argument("circuit", type=Path, metavar="CIRCUIT.json", help="a file of knowcirc discover or of EAP-IG")
    add_prompts(parser)
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="the measures as JSON besides")
    parser.add_argument(
        "--processing", choices=("none", "folded"), help="default: what the circuit file says it was found under"
    )
    parser.add_argument("--seed", type=whole(0), metavar="N", help="taken for uniformity; nothing is drawn here")


def prepare_evaluate(args: argparse.Namespace) -> None:
    """Read the prompts, check the circuit file and the output."""
    args.cases = read_cases(args)
    check_input_file(args.circuit, "circuit file", "make one with knowcirc discover")
    if args.out is not None:
        check_output_file(args.out)
        check_circuits_stay(args.out, args.circuit)


def add_compare(commands: "Subparsers") -> None:
    """Add `knowcirc compare`."""
    parser = new_parser(
        commands,
        "compare",
        "say what two circuits share",
        text="Nodes and edges that are shared, lost (in the first circuit alone) and new (in the second alone), and "
        "their Jaccard indices. A circuit of K/V heads is expanded to query heads where the other has these.",
        example="knowcirc compare before.json after.json --out differences.csv --figure differences.png",
        prepare=prepare_compare,
    )
    for name in ("before", "after"):
        parser.add_argument(name, type=Path, metavar=f"{name.upper()}.json", help="a circuit file")
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="every node and edge by name, with its status")
    parser.add_argument("--figure", type=Path, metavar="FILE.png|.pdf", help="what is shared, lost and new, by layer")


def prepare_compare(args: argparse.Namespace) -> None:
    """Check the circuit files and the output."""
    for path in (args.before, args.after):
        check_input_file(path, "circuit file", "make one with knowcirc discover")
    if args.out is not None:
        check_output_file(args.out)
        check_circuits_stay(args.out, args.before, args.after)
    check_figure(args)


def add_heads(commands: "Subparsers") -> None:
    """Add `knowcirc heads`."""
    parser = new_parser(
        commands,
        "heads",
        "name the heads that move a fact's answer",
        text="What every head attends to from the last position, which tokens its output raises most (logit lens), and "
        "its role: mover (attends to the subject, raises the answer), relation (attends to the relation's words, "
        "raises an answer of the same type) or mixture (both).",
        example="knowcirc heads results/models/smollm2-135m --out heads.csv --figure heads.png \\\n"
        '    --prompt "The official language of France is" --subject France --answer French \\\n'
        "    --relation-words official,language --type-answers German,Spanish --circuit circuit.json",
        prepare=prepare_heads,
    )
    add_model(parser)
    add_prompts(parser, subject=True)
    parser.add_argument(
        "--relation-words", type=words, default=(), metavar="A,B", help="words of the prompt that carry the relation"
    )
    parser.add_argument(
        "--type-answers",
        type=words,
        default=(),
        metavar="A,B",
        help="other answers of the same type; for relation heads",
    )
    parser.add_argument(
        "--circuit", type=Path, metavar="FILE.json", help="a circuit: a column says which heads are in it"
    )
    parser.add_argument(
        "--attention",
        type=real(zero=True),
        default=default("heads/attention"),
        metavar="X",
        help="least share of attention (default: %(default)s)",
    )
    parser.add_argument(
        "--tokens",
        type=whole(1),
        default=default("heads/tokens"),
        metavar="N",
        help="most raised tokens that count (default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE.csv", help="one row per head (.parquet works too)"
    )
    parser.add_argument("--figure", type=Path, metavar="FILE.png|.pdf", help="a map of the heads, and the main ones")


def prepare_heads(args: argparse.Namespace) -> None:
    """Read the prompts, check the circuit file and the outputs."""
    args.cases = read_cases(args, Needs(subject=True))
    check_output_file(args.out)
    if args.circuit is not None:
        check_input_file(args.circuit, "circuit file", "make one with knowcirc discover")
        check_circuits_stay(args.out, args.circuit)
    check_figure(args)


def add_lens(commands: "Subparsers") -> None:
    """Add `knowcirc lens`."""
    parser = new_parser(
        commands,
        "lens",
        "follow an answer through the layers (logit lens)",
        text="The answer's rank and probability at the last position and at the subject's last token (if one is given) "
        "after each layer, and by how many orders of magnitude of rank each layer's attention and MLP bring it up.",
        example="knowcirc lens results/models/smollm2-135m --out lens.csv --figure lens.png \\\n"
        '    --prompt "The official language of France is" --subject France --answer French',
        prepare=prepare_lens,
    )
    add_model(parser)
    add_prompts(parser, subject=True)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.csv", help="one row per position and layer")
    parser.add_argument("--figure", type=Path, metavar="FILE.png|.pdf", help="rank and probability by layer")


def prepare_lens(args: argparse.Namespace) -> None:
    """Read the prompts and check the outputs."""
    args.cases = read_cases(args)
    check_output_file(args.out)
    check_figure(args)


def add_trace(commands: "Subparsers") -> None:
    """Add `knowcirc trace`."""
    parser = new_parser(
        commands,
        "trace",
        "find which states carry a fact (causal tracing)",
        text="The subject's embeddings get noise; then one site at a time (layer and position) is given its clean "
        "value. The rise of the answer's probability is the site's indirect effect. The noise level is a multiple of "
        "the standard deviation of the subjects' embeddings. The severed kinds restore states while the MLP (or "
        "attention) outputs above them at that position keep the corrupted run's values.",
        example="knowcirc trace results/models/smollm2-135m --kind state,mlp --out trace.csv --figure trace.png \\\n"
        '    --prompt "The official language of France is" --subject France --answer French',
        prepare=prepare_trace,
    )
    add_model(parser)
    add_prompts(parser, subject=True)
    parser.add_argument(
        "--kind",
        type=several(ALL_KINDS),
        default=KINDS[:1],
        metavar="KIND[,KIND...]",
        help=f"what is restored: {', '.join(ALL_KINDS)}, or all (default: state)",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.csv", help="the effects (.parquet works too)")
    parser.add_argument(
        "--figure", type=Path, metavar="FILE.png|.pdf", help="heatmaps, token by layer, one row of them per prompt"
    )
    add_noise(parser)


def add_noise(parser: argparse.ArgumentParser) -> None:
    """Add how a prompt is corrupted, and how many layers are restored at once."""
    parser.add_argument(
        "--draws",
        type=whole(1),
        default=default("tracing/draws"),
        metavar="N",
        help="noise draws (default: %(default)s)",
    )
    parser.add_argument(
        "--window",
        type=whole(1),
        default=default("tracing/window"),
        metavar="N",
        help="layers restored at once, mlp and attention (default: %(default)s)",
    )
    parser.add_argument(
        "--noise-multiplier",
        type=real(zero=True),
        default=default("tracing/noise_multiplier"),
        metavar="X",
        help="standard deviations (default: %(default)g)",
    )
    parser.add_argument(
        "--distribution",
        choices=DISTRIBUTIONS,
        default=DISTRIBUTIONS[0],
        help="of the noise; uniform: from minus to plus its level (default: %(default)s)",
    )
    parser.add_argument(
        "--extra", type=whole(0), default=0, metavar="N", help="corrupt N tokens after the subject, too (default: 0)"
    )
    parser.add_argument(
        "--noise-seed",
        "--seed",
        type=whole(0, MAX_SEED),
        default=default("tracing/noise_seed"),
        metavar="N",
        help="draws the noise (default: %(default)s)",
    )


def prepare_trace(args: argparse.Namespace) -> None:
    """Read the prompts and check the outputs."""
    args.cases = read_cases(args, Needs(subject=True))
    check_output_file(args.out)
    check_figure(args)


def add_check(commands: "Subparsers") -> None:
    """Add `knowcirc check`."""
    parser = new_parser(
        commands,
        "check",
        "check the files of a finished study against what it promises",
        text="Prints one line per failure and a summary; the exit code is 1 if anything failed.",
        example="knowcirc check results",
        prepare=prepare_check,
    )
    parser.add_argument("results", type=Path, metavar="RESULTS", help="the study's output folder")


def prepare_check(args: argparse.Namespace) -> None:
    """Make sure that the folder is there."""
    if not args.results.is_dir():
        raise ValueError(f"results folder {args.results} does not exist; run snakemake first, or name another folder")


COMMANDS = (add_discover, add_evaluate, add_compare, add_heads, add_lens, add_trace, add_edit, add_check)
