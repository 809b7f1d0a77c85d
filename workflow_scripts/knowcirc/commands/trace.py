"""`knowcirc trace`: the indirect effect of every site or head on a fact's answer, as a table and as heatmaps."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from knowcirc.commands.arguments import check_figure, check_output_file, flag, real, several, show, token_span, whole
from knowcirc.commands.cases import Needs, read_cases
from knowcirc.commands.options import Subparsers, add_model, add_prompts, new_parser
from knowcirc.configuration.study import default
from knowcirc.tracing.settings import ALL_KINDS, CORRUPTIONS, DISTRIBUTIONS, FITTED, KINDS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from knowcirc.facts.prompts import Prompt
    from knowcirc.models.loading import LanguageModel
    from knowcirc.tracing.causal import Trace, TraceSettings
    from knowcirc.tracing.heads import HeadTrace
    from knowcirc.tracing.noise import Sample

COLUMNS = ("kind", "layer", "head", "position", "token", "effect")
OF_NOISE = ("draws", "noise_multiplier", "distribution", "extra", "noise_seed")
MAX_SEED = 2**32 - 1
log = logging.getLogger(__name__)


def add(commands: Subparsers) -> None:
    """Add the command and its options."""
    parser = new_parser(
        commands,
        "trace",
        "find which states carry a fact (causal tracing)",
        text="The subject's embeddings get noise; then one site at a time (layer and position) is given its clean "
        "value. The rise of the answer's probability is the site's indirect effect. The noise level is a multiple of "
        "the standard deviation of the subjects' embeddings. The severed kinds restore states while the MLP (or "
        "attention) outputs above them at that position keep the corrupted run's values. With --heads one head's "
        "output at one token is restored at a time. With --corruption subject the corrupted run reads another subject "
        "in place of the noise.",
        example="knowcirc trace results/models/smollm2-135m --kind state,mlp --out trace.csv --figure trace.png \\\n"
        '    --prompt "The official language of France is" --subject France --answer French',
    )
    add_model(parser)
    add_prompts(parser, corrupted=True, wrong_answer=False, subject=True)
    parser.add_argument(
        "--kind",
        type=several(ALL_KINDS),
        metavar="KIND[,KIND...]",
        help=f"what is restored: {', '.join(ALL_KINDS)}, or all (default: {KINDS[0]})",
    )
    parser.add_argument("--heads", action="store_true", help="restore single heads, in place of the kinds")
    parser.add_argument(
        "--layers", type=token_span, metavar="A:B", help="those of layers A to B alone, B not in it, with --heads"
    )
    parser.add_argument(
        "--corruption",
        choices=CORRUPTIONS,
        default=CORRUPTIONS[0],
        help="what the corrupted run reads: the subject with noise, or the prompt --corrupted (column corrupted), "
        "which has another subject of as many tokens (default: %(default)s)",
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
        metavar="N",
        help=f"noise draws (default: {default('tracing/draws')})",
    )
    parser.add_argument(
        "--window",
        type=whole(1),
        metavar="N",
        help=f"layers restored at once, mlp and attention (default: {default('tracing/window')})",
    )
    parser.add_argument(
        "--noise-multiplier",
        type=real(zero=True),
        metavar="X",
        help="standard deviations; multivariate: roots of the covariance "
        f"(default: {default('tracing/noise_multiplier'):g})",
    )
    parser.add_argument(
        "--distribution",
        choices=DISTRIBUTIONS,
        help="of the noise; uniform: from minus to plus its level; multivariate: with mean and covariance of the "
        f"subjects' embeddings (default: {default('tracing/distribution')})",
    )
    parser.add_argument(
        "--extra",
        type=whole(0),
        metavar="N",
        help=f"corrupt N tokens after the subject, too (default: {default('tracing/extra')})",
    )
    parser.add_argument(
        "--noise-seed",
        "--seed",
        type=whole(0, MAX_SEED),
        metavar="N",
        help=f"draws the noise (default: {default('tracing/noise_seed')})",
    )


def prepare(args: argparse.Namespace) -> None:
    """Read the prompts and check the outputs.

    Raises:
        ValueError: if options exclude each other, or a prompt lacks the one that the corrupted run is to read.
    """
    if args.heads and args.kind is not None:
        raise ValueError("--heads and --kind exclude each other: heads take the place of the kinds; give one")
    if args.layers is not None and not args.heads:
        raise ValueError("--layers without --heads; they say whose heads are restored, so give both or neither")
    if args.window is not None and args.heads:
        raise ValueError("--window: no setting of --heads, which are restored one by one; leave it out")
    args.kind = args.kind or KINDS[:1]
    args.cases = read_cases(args, Needs(subject=True, halves=True))
    replaced = args.corruption != CORRUPTIONS[0]
    if not replaced and (args.corrupted is not None or args.corrupted_ids is not None):
        raise ValueError("a corrupted prompt is given and --corruption is noise; take --corruption subject")
    for case in args.cases:
        if replaced and case.corrupted is None:
            raise ValueError(
                f"{case.at}{case.label('corrupted')} is missing: --corruption subject needs the prompt with the other "
                "subject"
            )
    if replaced and (given := [flag(name) for name in OF_NOISE if getattr(args, name) is not None]):
        raise ValueError(f"{', '.join(given)}: no setting of --corruption subject, which draws no noise; leave it out")
    for name in (*OF_NOISE, "window"):
        if getattr(args, name) is None:
            setattr(args, name, default(f"tracing/{name}"))
    check_output_file(args.out)
    check_figure(args)


def run(args: argparse.Namespace) -> int:
    """The exit code, after the table is written. A file of prompts gives it a column `prompt`, counted from 0."""
    import pandas as pd

    from knowcirc.commands.models import load_model, make_prompts, names_of, read_outline
    from knowcirc.files import write_table
    from knowcirc.plots.style import save_one
    from knowcirc.tracing.causal import check_other, corrupted_span
    from knowcirc.tracing.heads import layers_of
    from knowcirc.tracing.noise import check_fit, sample_of, subject_tokens

    outline = read_outline(args)
    layers_of(outline.shape.n_layers, args.layers)
    replaced = args.corruption != CORRUPTIONS[0]
    pairs = [(prompt, other if replaced else None) for prompt, other in make_prompts(outline, args.cases)]
    prompts = [prompt for prompt, _ in pairs]
    for prompt, other in pairs:
        corrupted_span(prompt, 0 if replaced else args.extra)
        if other is not None:
            check_other(prompt, other)
    if not replaced:
        check_fit(args.distribution, subject_tokens(prompts))
    model = load_model(args, fast=True)
    settings = settings_of(args, sample_of(model, prompts, (), "prompts"))
    frames: list[pd.DataFrame] = []
    lines: list[tuple[str, str]] = []
    for index, (prompt, other) in enumerate(pairs):
        log.info("tracing prompt %d of %d: %s", index + 1, len(prompts), prompt.text)
        rows, trace = traced(args, model, prompt, other, settings)
        frames.append(pd.DataFrame(rows).assign(case=index))
        lines += [] if args.prompts is None else [("prompt", f"{index}: {prompt.text}")]
        lines += describe(args, names_of(model, prompt.ids), prompt, trace)
    frame = pd.concat(frames, ignore_index=True)
    number = {} if args.prompts is None else {"prompt": frame["case"]}
    chosen = [name for name in COLUMNS if name in frame]
    write_table(args.out, pd.DataFrame({**number, **frame[chosen]}))
    lines.append(("trace", str(args.out)))
    if args.figure is not None:
        save_one(drawn(args, frame[frame["kind"] != "total"]), args.figure)
        lines.append(("figure", str(args.figure)))
    show(lines)
    return 0


def traced(
    args: argparse.Namespace, model: LanguageModel, prompt: Prompt, other: Prompt | None, settings: TraceSettings
) -> tuple[list[dict[str, object]], Trace | HeadTrace]:
    """The rows of a prompt's trace, of its kinds or its heads, and the trace."""
    from knowcirc.commands.models import names_of
    from knowcirc.tracing.averages import trace_rows
    from knowcirc.tracing.causal import trace_fact
    from knowcirc.tracing.heads import head_rows, trace_heads

    names = names_of(model, prompt.ids)
    if args.heads:
        heads = trace_heads(model, prompt, settings, layers=args.layers, other=other)
        return list(head_rows(heads, prompt, names)), heads
    trace = trace_fact(model, prompt, settings, other=other)
    return trace_rows(trace, prompt, names), trace


def drawn(args: argparse.Namespace, sites: pd.DataFrame) -> Figure:
    """The figure of all prompts."""
    from knowcirc.plots.head_traces import head_trace_facts
    from knowcirc.plots.tracing import causal_trace_facts

    name = args.model.resolve().name
    if args.heads:
        return head_trace_facts(sites, name)
    how = {} if args.corruption == CORRUPTIONS[0] else {"corrupted": "with another subject in place of its own"}
    return causal_trace_facts(sites, name, args.window, **how)


def settings_of(args: argparse.Namespace, sample: Sample) -> TraceSettings:
    """The settings of the options; the noise is a multiple of the embeddings' standard deviation, or like these."""
    from knowcirc.tracing.causal import TraceSettings

    options = {"distribution": args.distribution, "extra": args.extra}
    if args.distribution == FITTED:
        log.info("noise %g x the root covariance of %d embeddings", args.noise_multiplier, len(sample.tokens))
        noise, options["fitted_to"] = args.noise_multiplier, sample.tokens
    else:
        noise, level = args.noise_multiplier * sample.deviation, sample.deviation
        log.info("noise %.4g = %g x %.4g, the embeddings' standard deviation", noise, args.noise_multiplier, level)
    return TraceSettings(noise, args.draws, args.window, args.noise_seed, args.kind, **options)


def describe(
    args: argparse.Namespace, names: list[str], prompt: Prompt, trace: Trace | HeadTrace
) -> list[tuple[str, str]]:
    """The probabilities, and each kind's largest indirect effect: at any token, and at the subject's."""
    import numpy as np

    from knowcirc.tracing.heads import HeadTrace

    def peak(kind: str, effects: np.ndarray, low: int, high: int) -> str:
        part = effects[..., low:high]
        layer, *head, column = (int(axis) for axis in np.unravel_index(part.argmax(), part.shape))
        where = f"head a{layer + first}.h{head[0]}" if head else f"{kind}, layer {layer}"
        where += f", position {low + column} ({names[low + column]!r})"
        return f"{where}: indirect effect {part.max():.4g} (probability)"

    first = trace.layers.start if isinstance(trace, HeadTrace) else 0
    subject = args.corruption != CORRUPTIONS[0]
    corrupted = "another subject" if subject else f"mean of {args.draws} draws"
    lines = [
        ("p clean", f"{trace.p_clean:.4g} (probability of the answer)"),
        ("p corrupted", f"{trace.p_corrupted:.4g} ({corrupted})"),
        ("total effect", f"{trace.total:.4g} (probability)"),
    ]
    kinds = {"head": trace.effects} if isinstance(trace, HeadTrace) else trace.effects
    for kind, effects in kinds.items():
        lines.append(("peak", peak(kind, effects, 0, len(names))))
        lines.append(("peak in subject", peak(kind, effects, *(prompt.span or (0, len(names))))))
    return lines
