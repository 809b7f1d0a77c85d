"""`knowcirc trace`: the indirect effect of every site on a fact's answer, as a table."""

import argparse
import logging

import numpy as np
import pandas as pd

from knowcirc.commands.arguments import show
from knowcirc.commands.models import load_model, make_prompts, names_of, read_outline
from knowcirc.facts.prompts import Prompt
from knowcirc.files import write_table
from knowcirc.models.loading import LanguageModel
from knowcirc.tracing.causal import Trace, TraceSettings, embedding_deviation, tabulate, trace_fact

log = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> int:
    """The exit code, after the table is written. A file of prompts gives it a column `prompt`, counted from 0."""
    outline = read_outline(args)
    prompts = [prompt for prompt, _ in make_prompts(outline, args.cases)]
    model = load_model(args)
    deviation = embedding_deviation(model, prompts)
    settings = TraceSettings(
        args.noise_multiplier * deviation, args.draws, args.window, args.noise_seed, kinds=(args.kind,)
    )
    log.info(
        "noise %.4g = %g x %.4g, the embeddings' standard deviation", settings.noise, args.noise_multiplier, deviation
    )
    rows: list[dict[str, object]] = []
    lines: list[tuple[str, str]] = []
    for index, prompt in enumerate(prompts):
        log.info("tracing prompt %d of %d: %s", index + 1, len(prompts), prompt.text)
        trace = trace_fact(model, prompt, settings)
        number = {} if args.prompts is None else {"prompt": index}
        rows += [{**number, **row} for row in tabulate(trace, names_of(model, prompt.ids))]
        lines += [("prompt", f"{index}: {prompt.text}")] if number else []
        lines += describe(args, model, prompt, trace)
    write_table(args.out, pd.DataFrame(rows))
    show([*lines, ("trace", str(args.out))])
    return 0


def describe(args: argparse.Namespace, model: LanguageModel, prompt: Prompt, trace: Trace) -> list[tuple[str, str]]:
    """The probabilities, and the sites of the largest indirect effect: anywhere, and on the subject's tokens."""
    effects, names = trace.effects[args.kind], names_of(model, prompt.ids)

    def peak(low: int, high: int) -> str:
        part = effects[:, low:high]
        layer, column = (int(axis) for axis in np.unravel_index(part.argmax(), part.shape))
        where = f"{args.kind}, layer {layer}, position {low + column} ({names[low + column]!r})"
        return f"{where}: indirect effect {part[layer, column]:.4g} (probability)"

    return [
        ("p clean", f"{trace.p_clean:.4g} (probability of the answer)"),
        ("p corrupted", f"{trace.p_corrupted:.4g} (mean of {args.draws} draws)"),
        ("total effect", f"{trace.total:.4g} (probability)"),
        ("peak", peak(0, len(names))),
        ("peak in subject", peak(*(prompt.span or (0, len(names))))),
    ]
