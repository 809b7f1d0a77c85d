"""`knowcirc edit`: change facts in the weights and save the model as a new Hugging Face folder."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from knowcirc.commands.arguments import (
    DTYPES,
    check_input_file,
    check_output_folder,
    flag,
    real,
    show,
    token_ids,
    whole,
)
from knowcirc.commands.cases import check_columns, read_rows
from knowcirc.commands.options import Subparsers, add_model, new_parser
from knowcirc.configuration.study import default
from knowcirc.editing.editors import EDITORS, ROME_ITSELF, SWEEP, OfModel, read_editors, settings_of
from knowcirc.wording import fill_in, place_in

if TYPE_CHECKING:
    from knowcirc.commands.models import Outline
    from knowcirc.editing.edits import Request
    from knowcirc.facts.prompts import Prompt

SETTINGS = tuple(dict.fromkeys(name for editor in EDITORS.values() for name in editor.chosen))
"""The settings of all editors."""

COLUMNS = ("prompt", "subject", "target")
TABLE = Path("config") / "editors.tsv"
SHOWN = 12  # names of parameters
log = logging.getLogger(__name__)


def names(quality: str) -> str:
    """The editors that have a quality, as a sentence names them."""
    found = [name for name, editor in EDITORS.items() if getattr(editor, quality)]
    return f"{', '.join(found[:-1])} and {found[-1]}"


def add(commands: Subparsers) -> None:
    """Add the command and its options."""
    parser = new_parser(
        commands,
        "edit",
        "change facts in the weights and save the model",
        text="Writes a Hugging Face folder (float32) in which the edited weights differ, and prints the target's "
        f"probability before and after. {names('moments')} need second moments of the layers' keys: those of "
        "--moments, else of the study in --results where its model is this one, else estimated on sampled text "
        "(minutes) and kept in ~/.cache/knowcirc for the next edit. Settings that are not given are the model's in "
        "config/editors.tsv, where its provenance.json names a model there, else their defaults. ike leaves the "
        "weights alone: DIR holds the text that stands before prompts (before.txt). Several facts "
        f"(--edits) are edited together by {names('together')}, one after the other by the others.",
        example="knowcirc edit results/models/smollm2-135m --editor rome --out edited \\\n"
        '    --prompt "The official language of {} is" --subject France --target German',
    )
    add_model(parser, DTYPES[:2])
    parser.add_argument("--prompt", metavar="TEXT", help="the request, {} where the subject stands")
    parser.add_argument("--subject", metavar="TEXT", help="what the fact is about")
    parser.add_argument("--target", metavar="TEXT", help="what the model shall say, without a space in front")
    parser.add_argument(
        "--edits", type=Path, metavar="FILE.csv", help="several requests instead: columns prompt, subject, target"
    )
    parser.add_argument(
        "--ids", type=token_ids, metavar="1,2,3", help=f"the filled-in request as token ids (not by {names('texts')})"
    )
    parser.add_argument("--answer-id", type=token_ids, metavar="ID[,ID]", help="the target as token ids, with --ids")
    parser.add_argument("--editor", choices=tuple(EDITORS), default=ROME_ITSELF, help="default: %(default)s")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder for the edited model")
    parser.add_argument(
        "--layer",
        type=whole(0),
        metavar="N",
        help="layer to edit, the last of --span where there are several (default: the editor's own in "
        "config/editors.tsv, else where the study in --results edits, else ROME's in that table)",
    )
    parser.add_argument(
        "--moments", type=Path, metavar="PATH", help="second moments of the layer (safetensors), or a folder of them"
    )
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    parser.add_argument(
        "--moment-tokens",
        type=whole(1),
        metavar="N",
        help=f"sample afresh, this many tokens (without: {default('moments/tokens')} if need be)",
    )
    for name in SETTINGS:
        add_setting(parser, name)
    parser.add_argument("--seed", type=whole(0), default=0, metavar="N", help="samples ROME's contexts (default: 0)")


def add_setting(parser: argparse.ArgumentParser, name: str) -> None:
    """Add a setting of some of the editors, as these describe it."""
    having = [editor for editor in EDITORS.values() if name in editor.chosen]
    field = having[0].chosen[name]
    units = {unit for editor in having if (unit := (editor.chosen[name].json_schema_extra or {}).get("unit"))}
    by_value: dict[object, list[str]] = {}
    for editor in having:
        by_value.setdefault(editor.default(name), []).append(editor.name)
    defaults = [_text(value) + (f" for {', '.join(of)}" if len(by_value) > 1 else "") for value, of in by_value.items()]
    told = "; ".join(filter(None, [" or ".join(sorted(units)), f"default: {', '.join(defaults)}"]))
    whose = "" if len(having) == len(EDITORS) else f"{', '.join(editor.name for editor in having)}: "
    parser.add_argument(
        flag(name), default=None, help=f"{whose}{field.description} ({told})".replace("%", "%%"), **_accepted(field)
    )


def _accepted(field: FieldInfo) -> dict[str, Any]:
    """What the command line takes for a setting: one of its words, yes or no (--no-NAME), or a number."""
    if get_origin(field.annotation) is Literal:
        return {"choices": get_args(field.annotation)}
    if field.annotation is bool:
        return {"action": argparse.BooleanOptionalAction}
    whole_number = field.annotation is int
    number: Callable[[str], object] = whole(1) if whole_number else real(zero=_may_be_zero(field))
    return {"type": number, "metavar": "N" if whole_number else "X"}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _may_be_zero(field: FieldInfo) -> bool:
    return any(getattr(bound, "ge", None) == 0 for bound in field.metadata)


def prepare(args: argparse.Namespace) -> None:
    """Check the request and the output folder."""
    texts = {name: getattr(args, name) for name in COLUMNS}
    if args.edits is not None:
        others = {**texts, "ids": args.ids, "answer_id": args.answer_id}
        if given := [flag(name) for name, value in others.items() if value is not None]:
            raise ValueError(f"{', '.join(given)} and --edits exclude each other; leave one out")
        check_input_file(args.edits, "edits", f"columns {', '.join(COLUMNS)}")
        args.requests = read_edits(args.edits)
    elif args.ids is not None or args.answer_id is not None:
        if given := [flag(name) for name, value in texts.items() if value is not None]:
            raise ValueError(f"{', '.join(given)} and --ids exclude each other; give texts or token ids")
        if args.ids is None or args.answer_id is None:
            raise ValueError("--ids and --answer-id belong together; give both")
        if EDITORS[args.editor].texts:
            why = (
                "samples contexts and holds 'SUBJECT is a' still"
                if EDITORS[args.editor].contexts
                else "writes a prompt"
            )
            raise ValueError(
                f"{args.editor} needs texts (it {why}); give --prompt, --subject, --target, or --editor ft-m with --ids"
            )
        args.requests = []
    else:
        _check_request(texts)
        args.requests = [texts]
    if args.moments is not None:
        if not EDITORS[args.editor].moments or args.moment_tokens is not None:
            other = "--moment-tokens" if args.moment_tokens is not None else f"--editor {args.editor}"
            raise ValueError(f"--moments and {other} exclude each other; leave one out")
        if not args.moments.is_dir():
            check_input_file(args.moments, "second moments", "leave --moments out to have them estimated")
    check_output_folder(args.out)


def read_edits(path: Path) -> list[dict[str, str]]:
    """The requests of a CSV file.

    Raises:
        ValueError: naming the file, the line and what is wrong with it.
    """
    columns, rows = read_rows(path, "requests")
    check_columns(path, columns, COLUMNS, COLUMNS, ", ".join(COLUMNS))
    requests = [texts for _, texts in rows]
    for where, texts in rows:
        try:
            _check_request(dict(texts))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    filled = [fill_in(texts["prompt"], texts["subject"]) for texts in requests]
    if twice := [text for number, text in enumerate(filled) if text in filled[:number]]:
        raise ValueError(f"{path}: {twice[0]!r} is asked for twice; keep one")
    return requests


def _check_request(texts: dict[str, str | None]) -> None:
    if missing := [flag(name) for name, value in texts.items() if not value]:
        raise ValueError(f"{', '.join(missing)} missing or empty; give --prompt with {{}}, --subject and --target")
    try:
        place_in(str(texts["prompt"]))
    except ValueError as error:
        raise ValueError(f"--prompt {error}") from None
    for name in ("subject", "target"):
        if (text := str(texts[name])) != text.strip():
            raise ValueError(f"{flag(name)} {text!r}: give it without spaces around it")


def run(args: argparse.Namespace) -> int:
    """The exit code, after the edited model is written."""
    from knowcirc.commands import editing, moments
    from knowcirc.commands.models import check_tokens, load_model, load_tokenizer, read_outline
    from knowcirc.editing.edits import applied, request
    from knowcirc.facts.prompts import fill
    from knowcirc.models.config import read_config
    from knowcirc.models.loading import start_token_of, weights_digest

    outline, digest = read_outline(args), weights_digest(args.model)
    settings = choose_settings(args, outline, editing.find_place(args.results, digest))
    prompts: list[Prompt] = []
    if args.ids is not None:
        check_tokens(outline, editing.plain_prompt(args))
    else:
        tokenizer, ahead = load_tokenizer(args.model), editing.longest_prefix(args.editor)
        for texts in args.requests:
            prompts.append(fill(tokenizer, texts["prompt"], texts["subject"], texts["target"]))
            check_tokens(outline, prompts[-1], before=ahead)
    if EDITORS[args.editor].samples:
        start_token_of(args.model, read_config(args.model))  # sampled texts begin with it
    layers = editing.layers_with_moments(args.editor, settings)
    found = moments.find(args, outline, layers, digest) if layers else {}
    for prompt in prompts if EDITORS[args.editor].contexts else ():
        editing.check_read(prompt, settings, outline.shape.n_layers)
    model = load_model(args)
    requests = [editing.plain_request(args)] if args.ids is not None else []
    requests += [request(model, texts["prompt"], texts["subject"], texts["target"]) for texts in args.requests]
    before = [editing.read_target(model, one_request) for one_request in requests]
    for one_request, (_, already) in zip(requests, before, strict=True):
        if already:
            log.warning("the model already answers %r; the edit is made all the same", one_request.prompt.answer_text)
    if found is None:
        found = dict(enumerate(moments.estimate(args, model, outline, digest)))
    records = editing.find_records(args.results, digest) if EDITORS[args.editor].in_context else []
    change = editing.find_edit(args, model, requests, settings, found, records)
    with applied(model, change) as edited:
        after = [editing.read_target(edited, one_request)[0] for one_request in requests]
        about = {"editor": args.editor, "settings": settings, "report": change.report, "seed": args.seed}
        facts = [_describe(*each) for each in zip(requests, [p for p, _ in before], after, strict=True)]
        about |= facts[0] if len(facts) == 1 else {"edits": facts}
        about = {"edited_from": digest, "edit": about}
        if EDITORS[args.editor].in_context:
            editing.save_text(args, change, about)
        else:
            editing.save(args, model, about)
    names = list(dict.fromkeys(matrix.name(model) for matrix in change.weights))
    how = ", ".join(filter(None, [args.editor, _effort(change.report)]))
    shown = [("editor", how), ("edited", _edited(names, args.out))]
    for fact in facts:
        told = f"{fact['prompt']!r} -> {fact['target']!r}: " if len(facts) > 1 else ""
        probability = "(probability, geometric mean over the target's tokens)"
        shown.append(("p(target) before", f"{told}{fact['p_before']:.4g} {probability}"))
        shown.append(("p(target) after", f"{told}{fact['p_after']:.4g}"))
    show([*shown, ("model", str(args.out))])
    return 0


def _edited(names: list[str], out: Path) -> str:
    if not names:
        return f"no weights: the text of {out / 'before.txt'} stands before prompts"
    return ", ".join(names) if len(names) <= SHOWN else f"{names[0]}, ... {names[-1]} ({len(names)} parameters)"


def _effort(report: Mapping[str, float]) -> str:
    if "steps" in report:
        return f"{report['steps']:.0f} steps"
    for name in ("token", "demonstration"):
        if (count := report.get(f"{name}s")) is not None:
            return f"{count:.0f} {name}{'' if count == 1 else 's'}"
    if "neurons" in report:
        return f"{report['neurons']:.0f} neurons of {report['layers']:.0f} layers"
    return ""


def _describe(one_request: Request, before: float, after: float) -> dict[str, object]:
    prompt = one_request.prompt
    subject = None if prompt.span is None else one_request.subject
    return {
        "prompt": prompt.text,
        "ids": prompt.ids,
        "subject": subject,
        "target": prompt.answer_text,
        "p_before": before,
        "p_after": after,
    }


def choose_settings(
    args: argparse.Namespace, outline: Outline, chosen: dict[str, Any] | None = None
) -> dict[str, object]:
    """The editor's layer and settings: the options, else the table's rows of the model, the study's sweep, defaults.

    Raises:
        ValueError: if an option is not the editor's, or no layer is given or known.
    """
    from knowcirc.editing.making import default_layer

    editor, given = EDITORS[args.editor], {name: getattr(args, name) for name in SETTINGS}
    if odd := [flag(name) for name, value in given.items() if value is not None and name not in editor.chosen]:
        raise ValueError(f"{', '.join(odd)}: no setting of --editor {args.editor}; leave it out")
    given = {name: value for name, value in given.items() if name in editor.chosen}
    of_model = known_settings(args.model)
    swept = chosen is not None and chosen["from"] == SWEEP and editor.swept
    if chosen is not None and swept and args.layer is None and given["clamp"] is None:
        given["clamp"] = float(chosen["clamp"])
    settings = settings_of(args.editor, of_model, given)
    if not editor.layered:
        if args.layer is not None:
            raise ValueError(f"--layer: {args.editor} has no layer to choose; leave it out")
        return settings
    layer = args.layer if args.layer is not None else settings.get("layer")
    if layer is None and editor.depth is not None:
        layer = default_layer(args.editor, 0, outline.shape.n_layers)
    if layer is None:
        known_layer = chosen["layer"] if chosen is not None else of_model.get(ROME_ITSELF, {}).get("layer")
        if known_layer is None:
            raise ValueError(
                f"{args.model}: no default layer, as no study here has one and its provenance.json names no model "
                f"of {TABLE} here with a layer of {ROME_ITSELF}; give --layer"
            )
        layer = default_layer(args.editor, int(str(known_layer)), outline.shape.n_layers)
    if int(str(layer)) >= outline.shape.n_layers:
        raise ValueError(f"--layer {layer} does not exist; this model has layers 0 to {outline.shape.n_layers - 1}")
    return {**settings, "layer": layer}


def known_settings(folder: Path) -> OfModel:
    """The model's own settings: those of `config/editors.tsv` here for the model that its provenance names."""
    from knowcirc.files import read_json

    provenance = folder / "provenance.json"
    if not (provenance.is_file() and TABLE.is_file()):
        return {}
    return read_editors(TABLE).get(str(read_json(provenance).get("model")), {})
