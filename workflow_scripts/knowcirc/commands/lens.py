"""`knowcirc lens`: the answer's rank through the layers by the logit lens, and what brings it up."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from knowcirc.commands.arguments import check_figure, check_output_file, show
from knowcirc.commands.cases import read_cases
from knowcirc.commands.options import Subparsers, add_model, add_prompts, new_parser

if TYPE_CHECKING:
    import pandas as pd

    from knowcirc.facts.prompts import Prompt
    from knowcirc.models.loading import LanguageModel


def add(commands: Subparsers) -> None:
    """Add the command and its options."""
    parser = new_parser(
        commands,
        "lens",
        "follow an answer through the layers (logit lens)",
        text="The answer's rank and probability at the last position and at the subject's last token (if one is given) "
        "after each layer, and by how many orders of magnitude of rank each layer's attention and MLP bring it up.",
        example="knowcirc lens results/models/smollm2-135m --out lens.csv --figure lens.png \\\n"
        '    --prompt "The official language of France is" --subject France --answer French',
    )
    add_model(parser)
    add_prompts(parser, subject=True)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.csv", help="one row per position and layer")
    parser.add_argument("--figure", type=Path, metavar="FILE.png|.pdf", help="rank and probability by layer")


def prepare(args: argparse.Namespace) -> None:
    """Read the prompts and check the outputs."""
    args.cases = read_cases(args)
    check_output_file(args.out)
    check_figure(args)


def run(args: argparse.Namespace) -> int:
    """The exit code, after the table is written. A file of prompts gives it a column `prompt`, counted from 0."""
    import pandas as pd

    from knowcirc.commands.models import load_model, make_prompts, read_outline
    from knowcirc.files import write_table
    from knowcirc.plots.ranks import answer_rank_by_layer
    from knowcirc.plots.style import save_one

    outline = read_outline(args)
    prompts = [prompt for prompt, _ in make_prompts(outline, args.cases)]
    model = load_model(args, fast=True)
    frames = [lens_rows(model, prompt).assign(prompt=index) for index, prompt in enumerate(prompts)]
    frame = pd.concat(frames, ignore_index=True)
    write_table(args.out, frame if args.prompts is not None else frame.drop(columns="prompt"))
    lines = [line for one, prompt in zip(frames, prompts, strict=True) for line in _describe(one, prompt)]
    lines.append(("lens", str(args.out)))
    if args.figure is not None:
        meta = {"prompt": prompts[0].text, "answer": prompts[0].answer_text, "subject": args.cases[0].subject}
        save_one(answer_rank_by_layer(frames[0], meta, args.model.resolve().name), args.figure)
        lines.append(("figure", f"{args.figure}{' (the first prompt)' if len(prompts) > 1 else ''}"))
    show(lines)
    return 0


def lens_rows(model: LanguageModel, prompt: Prompt) -> pd.DataFrame:
    """One row per position and layer (0: embedding): rank, probability, and the orders of magnitude of
    rank that attention and MLP take off."""
    import numpy as np
    import pandas as pd

    from knowcirc.reading.lens import rank_drops, step_ranks, token_curve

    places = {"answer_at_last": len(prompt.ids) - 1}
    if prompt.span is not None:
        places["answer_at_subject"] = prompt.subject_last
    (ranks,) = step_ranks(model, [prompt], [{"answer": prompt.answer[0]}], [places])
    frames = []
    for place, position in places.items():
        dropped = {
            f"rank_drop_{name}": np.concatenate([[0.0], part])
            for name, part in rank_drops(ranks["answer", place]).items()
        }
        rank, p = zip(*token_curve(model, prompt, prompt.answer[0], position), strict=True)
        columns = {"layer": range(len(rank)), "rank": rank, "probability": p, **dropped}
        frames.append(pd.DataFrame({"quantity": place, "position": position, **columns}))
    return pd.concat(frames, ignore_index=True)


def _describe(rows: pd.DataFrame, prompt: Prompt) -> list[tuple[str, str]]:
    found = [("prompt", f"{prompt.text} -> {prompt.answer_text}")]
    for place, part in rows.groupby("quantity", sort=False):
        best = part.loc[part["rank"].idxmin()]
        at = f"best rank {int(best['rank'])}, with {int(best['layer'])} layers passed"
        drops = [part[f"rank_drop_{name}"].sum() for name in ("attention", "mlp")]
        by = f"orders of magnitude off by attention {drops[0]:.2f}, by MLPs {drops[1]:.2f}"
        found.append((str(place).replace("_", " "), f"{at}; {by}"))
    return found
