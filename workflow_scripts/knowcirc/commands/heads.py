"""`knowcirc heads`: what every head attends to and writes at the end of a prompt, and the roles that this gives it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from knowcirc.commands.arguments import (
    check_circuits_stay,
    check_figure,
    check_input_file,
    check_output_file,
    show,
)
from knowcirc.commands.cases import Needs, read_cases
from knowcirc.commands.options import Subparsers, add_model, add_prompts, add_roles, new_parser

if TYPE_CHECKING:
    import pandas as pd

    from knowcirc.facts.prompts import Prompt
    from knowcirc.models.loading import LanguageModel
    from knowcirc.reading.heads import Context, HeadReading, Thresholds

SHOWN = 8  # heads listed on stdout


def add(commands: Subparsers) -> None:
    """Add the command and its options."""
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
    )
    add_model(parser)
    add_prompts(parser, subject=True)
    add_roles(parser)
    parser.add_argument(
        "--circuit", type=Path, metavar="FILE.json", help="a circuit: a column says which heads are in it"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE.csv", help="one row per head (.parquet works too)"
    )
    parser.add_argument("--figure", type=Path, metavar="FILE.png|.pdf", help="a map of the heads, and the main ones")


def prepare(args: argparse.Namespace) -> None:
    """Read the prompts, check the circuit file and the outputs."""
    args.cases = read_cases(args, Needs(subject=True))
    check_output_file(args.out)
    if args.circuit is not None:
        check_input_file(args.circuit, "circuit file", "make one with knowcirc discover")
        check_circuits_stay(args.out, args.circuit)
    check_figure(args)


def run(args: argparse.Namespace) -> int:
    """The exit code, after the table is written. A file of prompts gives it a column `prompt`, counted from 0."""
    import pandas as pd

    from knowcirc.circuits.export import expanded
    from knowcirc.commands.circuit_files import check_fit, read
    from knowcirc.commands.models import load_model, make_prompts, names_of, read_outline
    from knowcirc.files import write_table
    from knowcirc.plots.heads import special_heads
    from knowcirc.plots.style import save_one
    from knowcirc.reading.heads import Thresholds, read_heads

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
        readings = read_heads(model, prompt, context_of(model, prompt, args))
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


def context_of(model: LanguageModel, prompt: Prompt, args: argparse.Namespace) -> Context:
    """Where the relation's words stand, and the tokens of the answer's type, as the options give them."""
    from knowcirc.facts.prompts import answer_tokens, word_positions
    from knowcirc.reading.heads import Context

    if model.tokenizer is None:
        return Context()
    kind = frozenset(answer_tokens(model.text, text)[0] for text in (*args.type_answers, prompt.answer_text))
    return Context(word_positions(model.text, prompt, args.relation_words), kind if args.type_answers else frozenset())


def _row(model: LanguageModel, reading: HeadReading, limits: Thresholds, inside: set[str] | None) -> dict[str, object]:
    from knowcirc.commands.models import names_of

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
