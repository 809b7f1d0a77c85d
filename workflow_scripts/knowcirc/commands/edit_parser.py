"""What `knowcirc edit` accepts, and the checks that need no library."""

import argparse
from pathlib import Path

from knowcirc.commands.arguments import DTYPES, check_input_file, check_output_folder, flag, real, token_ids, whole
from knowcirc.commands.options import Subparsers, add_model, new_parser

EDITORS = ("rome", "ft-m")
SETTINGS = ("steps", "clamp", "learning_rate", "weight_decay", "kl_factor", "stop_loss")


def add_edit(commands: "Subparsers") -> None:
    """Add `knowcirc edit`."""
    parser = new_parser(
        commands,
        "edit",
        "change a fact in one weight matrix and save the model",
        text="Writes a Hugging Face folder (float32) in which one MLP output matrix differs, and prints the target's "
        "probability before and after. ROME needs second moments of the layer's keys: those of --moments, else of the "
        "study in --results where its model is this one, else estimated on sampled text (minutes) and kept in "
        "~/.cache/knowcirc for the next edit.",
        example="knowcirc edit results/models/smollm2-135m --editor rome --out edited \\\n"
        '    --prompt "The official language of {} is" --subject France --target German',
        prepare=prepare_edit,
    )
    add_model(parser, DTYPES[:2])
    parser.add_argument("--prompt", metavar="TEXT", help="the request, {} where the subject stands")
    parser.add_argument("--subject", metavar="TEXT", help="what the fact is about")
    parser.add_argument("--target", metavar="TEXT", help="what the model shall say, without a space in front")
    parser.add_argument("--ids", type=token_ids, metavar="1,2,3", help="the filled-in request as token ids (ft-m only)")
    parser.add_argument("--answer-id", type=token_ids, metavar="ID[,ID]", help="the target as token ids, with --ids")
    parser.add_argument("--editor", choices=EDITORS, default="rome", help="default: rome")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder for the edited model")
    parser.add_argument(
        "--layer", type=whole(0), metavar="N", help="layer to edit (default: the model's in config/models.tsv)"
    )
    parser.add_argument("--moments", type=Path, metavar="FILE", help="second moments of the layer (safetensors)")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    parser.add_argument(
        "--moment-tokens",
        type=whole(1),
        metavar="N",
        help="sample afresh, this many tokens (without: 20000 if need be)",
    )
    parser.add_argument("--steps", type=whole(1), metavar="N", help="most gradient steps")
    parser.add_argument("--learning-rate", type=real(zero=False), metavar="X", help="of Adam")
    parser.add_argument("--stop-loss", type=real(zero=True), metavar="X", help="stop below this loss (nats)")
    parser.add_argument("--clamp", type=real(zero=False), metavar="X", help="rome: bound on the change, value norms")
    parser.add_argument("--weight-decay", type=real(zero=True), metavar="X", help="rome: weight of the change's size")
    parser.add_argument("--kl-factor", type=real(zero=True), metavar="X", help="rome: weight of the KL divergence")
    parser.add_argument("--seed", type=whole(0), default=0, metavar="N", help="samples ROME's contexts (default: 0)")


def prepare_edit(args: argparse.Namespace) -> None:
    """Check the request and the output folder."""
    texts = {name: getattr(args, name) for name in ("prompt", "subject", "target")}
    if args.ids is not None or args.answer_id is not None:
        if given := [flag(name) for name, value in texts.items() if value is not None]:
            raise ValueError(f"{', '.join(given)} and --ids exclude each other; give texts or token ids")
        if args.ids is None or args.answer_id is None:
            raise ValueError("--ids and --answer-id belong together; give both")
        if args.editor == "rome":
            raise ValueError("rome needs texts (it samples contexts and holds 'SUBJECT is a' still); "
                             "give --prompt, --subject, --target, or --editor ft-m with --ids")  # fmt: skip
    else:
        _check_request(texts)
    if args.moments is not None:
        if args.editor != "rome" or args.moment_tokens is not None:
            other = "--moment-tokens" if args.moment_tokens is not None else f"--editor {args.editor}"
            raise ValueError(f"--moments and {other} exclude each other; leave one out")
        check_input_file(args.moments, "second moments", "leave --moments out to have them estimated")
    check_output_folder(args.out)


def _check_request(texts: dict[str, str | None]) -> None:
    if missing := [flag(name) for name, value in texts.items() if not value]:
        raise ValueError(f"{', '.join(missing)} missing or empty; give --prompt with {{}}, --subject and --target")
    if str(texts["prompt"]).count("{}") != 1:
        raise ValueError(f"--prompt {texts['prompt']!r} must hold {{}} once, where the subject stands")
    for name in ("subject", "target"):
        if (text := str(texts[name])) != text.strip():
            raise ValueError(f"{flag(name)} {text!r}: give it without spaces around it")
