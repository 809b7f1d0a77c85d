"""What the subcommands' parsers share: the frame of a parser, the options of a model and of prompts."""

import argparse
import textwrap
from pathlib import Path

from knowcirc.commands.arguments import DTYPES, real, token_id, token_ids, token_span, whole, words
from knowcirc.configuration.study import default

Subparsers = argparse._SubParsersAction  # argparse gives it no public name


def new_parser(commands: Subparsers, name: str, summary: str, *, text: str, example: str) -> argparse.ArgumentParser:
    """A subcommand's parser, with the options that all have."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=textwrap.fill(f"{summary[0].upper()}{summary[1:]}. {text}", 100),
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr, warnings alone")
    return parser


def add_model(parser: argparse.ArgumentParser, dtypes: tuple[str, ...] = DTYPES) -> None:
    """Add the model folder and how it is computed."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="folder of a model that save_pretrained wrote")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto")
    parser.add_argument("--dtype", choices=dtypes, default="float32", help="numbers to compute in (default: float32)")


def add_prompts(
    parser: argparse.ArgumentParser, *, corrupted: bool = False, wrong_answer: bool = True, subject: bool = False
) -> None:
    """Add the prompts, with corrupted partners (and their answers) or subjects where the subcommand uses them."""
    group = parser.add_argument_group(
        "prompts", "one prompt as text or as token ids (the folder then needs no tokenizer), or a file of prompts"
    )
    group.add_argument("--prompt", metavar="TEXT", help="the text that the model completes")
    group.add_argument("--answer", metavar="TEXT", help="its answer, without a space in front; its first token counts")
    group.add_argument("--ids", type=token_ids, metavar="1,2,3", help="the prompt as token ids, used as they are")
    group.add_argument("--answer-id", type=token_id, metavar="ID", help="the answer as a token id")
    if corrupted:
        group.add_argument("--corrupted", metavar="TEXT", help="a prompt of as many tokens with another answer")
        group.add_argument("--corrupted-ids", type=token_ids, metavar="1,2,3", help="the same as token ids")
    if corrupted and wrong_answer:
        group.add_argument("--wrong-answer", metavar="TEXT", help="the corrupted prompt's answer, or another wrong one")
        group.add_argument("--wrong-answer-id", type=token_id, metavar="ID", help="the same as a token id")
    if subject:
        group.add_argument("--subject", metavar="TEXT", help="the part of the prompt that the fact is about")
        group.add_argument("--subject-span", type=token_span, metavar="A:B", help="its token range, with --ids")
    columns = "prompt, answer (corrupted, wrong_answer, subject), or ids, answer_id (corrupted_ids, ...)"
    group.add_argument("--prompts", type=Path, metavar="FILE.csv", help=f"several prompts; columns {columns}")


def add_roles(parser: argparse.ArgumentParser) -> None:
    """Add what names a head's role: words and answers of the prompt's relation, and the thresholds."""
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
        "--attention",
        type=real(zero=True, high=1.0),
        default=default("heads/attention"),
        metavar="X",
        help="least share of attention of a role (default: %(default)s)",
    )
    parser.add_argument(
        "--tokens",
        type=whole(1),
        default=default("heads/tokens"),
        metavar="N",
        help="most raised tokens that count for a role (default: %(default)s)",
    )
