"""`knowcirc trace`: the indirect effect of every site on a fact's answer, as a table and as heatmaps."""

import argparse
import logging

import numpy as np
import pandas as pd

from knowcirc.commands.arguments import show
from knowcirc.commands.models import load_model, make_prompts, names_of, read_outline
from knowcirc.facts.prompts import Prompt
from knowcirc.files import write_table
from knowcirc.models.loading import LanguageModel
from knowcirc.plots.style import save_one
from knowcirc.plots.tracing import causal_trace_facts
from knowcirc.tracing.averages import trace_rows
from knowcirc.tracing.causal import (
    Kind,
    Trace,
    TraceSettings,
    corrupted_span,
    embedding_deviation,
    trace_fact,
)

COLUMNS = ("kind", "layer", "position", "token", "effect")
log = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> int:
    """The exit code, after the table is written. A file of prompts gives it a column `prompt`, counted from 0."""
    outline = read_outline(args)
    prompts = [prompt for prompt, _ in make_prompts(outline, args.cases)]
    for prompt in prompts:
        corrupted_span(prompt, args.extra)
    model = load_model(args, fast=True)
    settings = settings_of(args, embedding_deviation(model, prompts))
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


def settings_of(args: argparse.Namespace, deviation: float) -> TraceSettings:
    """The settings of the options; the noise level is a multiple of the embeddings' standard deviation."""
    noise = args.noise_multiplier * deviation
    log.info("noise %.4g = %g x %.4g, the embeddings' standard deviation", noise, args.noise_multiplier, deviation)
    return TraceSettings(
        noise, args.draws, args.window, args.noise_seed, args.kind, distribution=args.distribution, extra=args.extra
    )


def describe(args: argparse.Namespace, model: LanguageModel, prompt: Prompt, trace: Trace) -> list[tuple[str, str]]:
    """The probabilities, and each kind's largest indirect effect: at any token, and at the subject's."""
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
