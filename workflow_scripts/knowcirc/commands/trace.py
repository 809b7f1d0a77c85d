"""`knowcirc trace`: the indirect effect of every site on a fact's answer, as a table and as heatmaps."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from knowcirc.commands.arguments import check_figure, check_output_file, real, several, show, whole
from knowcirc.commands.cases import Needs, read_cases
from knowcirc.commands.options import Subparsers, add_model, add_prompts, new_parser
from knowcirc.configuration.study import default
from knowcirc.tracing.settings import ALL_KINDS, DISTRIBUTIONS, FITTED, KINDS, Kind

if TYPE_CHECKING:
    import pandas as pd

    from knowcirc.facts.prompts import Prompt
    from knowcirc.models.loading import LanguageModel
    from knowcirc.tracing.causal import Trace, TraceSettings
    from knowcirc.tracing.noise import Sample

COLUMNS = ("kind", "layer", "position", "token", "effect")
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
        "attention) outputs above them at that position keep the corrupted run's values.",
        example="knowcirc trace results/models/smollm2-135m --kind state,mlp --out trace.csv --figure trace.png \\\n"
        '    --prompt "The official language of France is" --subject France --answer French',
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
        help="standard deviations; multivariate: roots of the covariance (default: %(default)g)",
    )
    parser.add_argument(
        "--distribution",
        choices=DISTRIBUTIONS,
        default=default("tracing/distribution"),
        help="of the noise; uniform: from minus to plus its level; multivariate: with mean and covariance of the "
        "subjects' embeddings (default: %(default)s)",
    )
    parser.add_argument(
        "--extra",
        type=whole(0),
        default=default("tracing/extra"),
        metavar="N",
        help="corrupt N tokens after the subject, too (default: %(default)s)",
    )
    parser.add_argument(
        "--noise-seed",
        "--seed",
        type=whole(0, MAX_SEED),
        default=default("tracing/noise_seed"),
        metavar="N",
        help="draws the noise (default: %(default)s)",
    )


def prepare(args: argparse.Namespace) -> None:
    """Read the prompts and check the outputs."""
    args.cases = read_cases(args, Needs(subject=True))
    check_output_file(args.out)
    check_figure(args)


def run(args: argparse.Namespace) -> int:
    """The exit code, after the table is written. A file of prompts gives it a column `prompt`, counted from 0."""
    import pandas as pd

    from knowcirc.commands.models import load_model, make_prompts, names_of, read_outline
    from knowcirc.files import write_table
    from knowcirc.plots.style import save_one
    from knowcirc.plots.tracing import causal_trace_facts
    from knowcirc.tracing.averages import trace_rows
    from knowcirc.tracing.causal import corrupted_span, trace_fact
    from knowcirc.tracing.noise import check_fit, sample_of, subject_tokens

    outline = read_outline(args)
    prompts = [prompt for prompt, _ in make_prompts(outline, args.cases)]
    for prompt in prompts:
        corrupted_span(prompt, args.extra)
    check_fit(args.distribution, subject_tokens(prompts))
    model = load_model(args, fast=True)
    settings = settings_of(args, sample_of(model, prompts, (), "prompts"))
    frames: list[pd.DataFrame] = []
    lines: list[tuple[str, str]] = []
    for index, prompt in enumerate(prompts):
        log.info("tracing prompt %d of %d: %s", index + 1, len(prompts), prompt.text)
        trace = trace_fact(model, prompt, settings)
        rows = trace_rows(trace, prompt, names_of(model, prompt.ids))
        frames.append(pd.DataFrame(rows).assign(case=index))
        lines += [] if args.prompts is None else [("prompt", f"{index}: {prompt.text}")]
        lines += describe(args, model, prompt, trace)
    frame = pd.concat(frames, ignore_index=True)
    number = {} if args.prompts is None else {"prompt": frame["case"]}
    write_table(args.out, pd.DataFrame({**number, **frame[list(COLUMNS)]}))
    lines.append(("trace", str(args.out)))
    if args.figure is not None:
        sites = frame[frame["kind"] != "total"]
        save_one(causal_trace_facts(sites, args.model.resolve().name, args.window), args.figure)
        lines.append(("figure", str(args.figure)))
    show(lines)
    return 0


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


def describe(args: argparse.Namespace, model: LanguageModel, prompt: Prompt, trace: Trace) -> list[tuple[str, str]]:
    """The probabilities, and each kind's largest indirect effect: at any token, and at the subject's."""
    import numpy as np

    from knowcirc.commands.models import names_of

    names = names_of(model, prompt.ids)

    def peak(kind: Kind, low: int, high: int) -> str:
        part = trace.effects[kind][:, low:high]
        layer, column = (int(axis) for axis in np.unravel_index(part.argmax(), part.shape))
        where = f"{kind}, layer {layer}, position {low + column} ({names[low + column]!r})"
        return f"{where}: indirect effect {part[layer, column]:.4g} (probability)"

    lines = [
        ("p clean", f"{trace.p_clean:.4g} (probability of the answer)"),
        ("p corrupted", f"{trace.p_corrupted:.4g} (mean of {args.draws} draws)"),
        ("total effect", f"{trace.total:.4g} (probability)"),
    ]
    for kind in trace.effects:
        lines.append(("peak", peak(kind, 0, len(names))))
        lines.append(("peak in subject", peak(kind, *(prompt.span or (0, len(names))))))
    return lines
