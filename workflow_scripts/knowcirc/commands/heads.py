"""`knowcirc heads`: what every head attends to and writes at the end of a prompt, and the roles that this gives it."""

import argparse
import json

import pandas as pd

from knowcirc.circuits.export import expanded
from knowcirc.commands.arguments import show
from knowcirc.commands.circuit_files import check_fit, read
from knowcirc.commands.models import load_model, make_prompts, names_of, read_outline
from knowcirc.facts.prompts import Prompt, answer_tokens, word_positions
from knowcirc.files import write_table
from knowcirc.models.loading import LanguageModel
from knowcirc.plots.heads import special_heads
from knowcirc.plots.style import save_one
from knowcirc.reading.heads import Context, HeadReading, Thresholds, read_heads

SHOWN = 8  # heads listed on stdout


def run(args: argparse.Namespace) -> int:
    """The exit code, after the table is written. A file of prompts gives it a column `prompt`, counted from 0."""
    outline = read_outline(args)
    inside: set[str] | None = None
    processing = "none"
    if args.circuit is not None:
        graph, circuit, processing = read(args.circuit)
        check_fit(args.circuit, graph, outline.shape)
        wide, same = expanded(graph, circuit)
        inside = {name for name, alive in zip(wide.src_names, wide.nodes(same.edges), strict=True) if alive}
    prompts = [prompt for prompt, _ in make_prompts(outline, args.cases)]
    model = load_model(args, processing, fast=True)
    limits = Thresholds(args.attention, args.tokens)
    frames = []
    for index, prompt in enumerate(prompts):
        readings = read_heads(model, prompt, _context(model, prompt, args))
        rows = [_row(model, reading, limits, inside) for reading in readings]
        frames.append(pd.DataFrame(rows).assign(prompt=index, tokens=json.dumps(names_of(model, prompt.ids))))
    frame = pd.concat(frames, ignore_index=True)
    dropped = ["tokens"] if args.prompts is not None else ["tokens", "prompt"]
    write_table(args.out, frame.drop(columns=dropped))
    lines = [*_describe(frame, len(prompts)), ("heads", str(args.out))]
    if args.figure is not None:
        texts = prompts[0].text if len(prompts) == 1 else f"{len(prompts)} prompts, the first “{prompts[0].text}”"
        answer = names_of(model, prompts[0].answer[:1])[0]
        save_one(special_heads(frame, texts, answer, args.model.resolve().name), args.figure)
        lines.append(("figure", str(args.figure)))
    show(lines)
    return 0


def _context(model: LanguageModel, prompt: Prompt, args: argparse.Namespace) -> Context:
    """Where the relation's words stand, and the tokens of the answer's type, as the options give them."""
    if model.tokenizer is None:
        return Context()
    kind = frozenset(answer_tokens(model.text, text)[0] for text in (*args.type_answers, prompt.answer_text))
    return Context(word_positions(model.text, prompt, args.relation_words), kind if args.type_answers else frozenset())


def _row(model: LanguageModel, reading: HeadReading, limits: Thresholds, inside: set[str] | None) -> dict[str, object]:
    circuit = {} if inside is None else {"in_circuit": reading.name in inside}
    return {
        "head": reading.name,
        "layer": reading.layer,
        "role": reading.role(limits) or "",
        "to_subject": reading.to_subject,
        "to_relation": reading.to_relation,
        "answer_rank": reading.rank + 1,
        "type_rank": None if reading.kind_rank is None else reading.kind_rank + 1,
        "attribution": reading.attribution,
        "top_tokens": json.dumps(names_of(model, reading.top)),
        "attention": json.dumps(list(reading.attention)),
        **circuit,
    }


def _describe(frame: pd.DataFrame, n_prompts: int) -> list[tuple[str, str]]:
    """The heads that have a role, the most frequent and strongest first."""
    having = frame[frame["role"] != ""]
    if having.empty:
        return [("roles", "no head meets the thresholds (--attention, --tokens)")]
    groups = having.groupby(["head", "role"]).agg(n=("prompt", "size"), attribution=("attribution", "mean"))
    best = groups.sort_values(["n", "attribution"], ascending=False).head(SHOWN)
    return [
        (str(role), f"{head}, on {int(row['n'])} of {n_prompts} prompt(s), adds {row['attribution']:.2f} to the logit")
        for (head, role), row in best.iterrows()  # type: ignore[misc]
    ]
