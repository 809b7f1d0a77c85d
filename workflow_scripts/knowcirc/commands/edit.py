"""`knowcirc edit`: change facts in the weights and save the model as a new Hugging Face folder."""

import argparse
import logging
from pathlib import Path
from typing import Any

from knowcirc.commands import moments
from knowcirc.commands.arguments import flag, show
from knowcirc.commands.edit_parser import ROME, SETTINGS
from knowcirc.commands.editing import find_edit, read_target, save
from knowcirc.commands.models import Outline, check_tokens, load_model, load_tokenizer, read_outline
from knowcirc.editing.editors import EDITORS, SWEEP, OfModel, read_editors, settings_of
from knowcirc.editing.edits import Request, applied, request
from knowcirc.editing.making import default_layer
from knowcirc.editing.memit import layers_below
from knowcirc.facts.prompts import Prompt, fill
from knowcirc.files import read_json
from knowcirc.models.loading import weights_digest

TABLE = Path("config") / "editors.tsv"
log = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> int:
    """The exit code, after the edited model is written."""
    outline, digest = read_outline(args), weights_digest(args.model)
    settings = choose_settings(args, outline, find_place(args.results, digest))
    if args.ids is not None:
        check_tokens(outline, _plain_prompt(args))
    else:
        tokenizer = load_tokenizer(args.model)
        for texts in args.requests:
            check_tokens(outline, fill(tokenizer, texts["prompt"], texts["subject"], texts["target"]))
    layers = layers_with_moments(args.editor, settings)
    found = moments.find(args, outline, layers, digest) if layers else {}
    model = load_model(args)
    requests = [_plain_request(args)] if args.ids is not None else []
    requests += [request(model, texts["prompt"], texts["subject"], texts["target"]) for texts in args.requests]
    before = [read_target(model, one_request) for one_request in requests]
    for one_request, (_, already) in zip(requests, before, strict=True):
        if already:
            log.warning("the model already answers %r; the edit is made all the same", one_request.prompt.answer_text)
    if found is None:
        found = dict(enumerate(moments.estimate(args, model, outline, digest)))
    change = find_edit(args, model, requests, settings, found)
    with applied(model, change):
        after = [read_target(model, one_request)[0] for one_request in requests]
        about = {"editor": args.editor, "settings": settings, "report": change.report, "seed": args.seed}
        facts = [_describe(*each) for each in zip(requests, [p for p, _ in before], after, strict=True)]
        about |= facts[0] if len(facts) == 1 else {"edits": facts}
        save(args, model, {"edited_from": digest, "edit": about})
    names = dict.fromkeys(matrix.name(model) for matrix in change.weights)
    shown = [("editor", f"{args.editor}, {change.report['steps']:.0f} steps"), ("edited", ", ".join(names))]
    for fact in facts:
        told = f"{fact['prompt']!r} -> {fact['target']!r}: " if len(facts) > 1 else ""
        probability = "(probability, geometric mean over the target's tokens)"
        shown.append(("p(target) before", f"{told}{fact['p_before']:.4g} {probability}"))
        shown.append(("p(target) after", f"{told}{fact['p_after']:.4g}"))
    show([*shown, ("model", str(args.out))])
    return 0


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


def layers_with_moments(editor: str, settings: dict[str, object]) -> list[int]:
    """The layers whose second moments the editor reads."""
    if not EDITORS[editor].moments:
        return []
    layer = int(str(settings["layer"]))
    return list(layers_below(layer, int(str(settings["span"])))) if "span" in settings else [layer]


def choose_settings(
    args: argparse.Namespace, outline: Outline, chosen: dict[str, Any] | None = None
) -> dict[str, object]:
    """The editor's layer and settings: the options, else the table's rows of the model, the study's sweep, defaults.

    Raises:
        ValueError: if an option is not the editor's, or no layer is given or known.
    """
    editor, given = EDITORS[args.editor], {name: getattr(args, name) for name in SETTINGS}
    if odd := [flag(name) for name, value in given.items() if value is not None and name not in editor.chosen]:
        raise ValueError(f"{', '.join(odd)}: no setting of --editor {args.editor}; leave it out")
    given = {name: value for name, value in given.items() if name in editor.chosen}
    of_model = known_settings(args.model)
    swept = chosen is not None and chosen["from"] == SWEEP and editor.swept
    if chosen is not None and swept and args.layer is None and given["clamp"] is None:
        given["clamp"] = float(chosen["clamp"])
    settings = settings_of(args.editor, of_model, given)
    layer = args.layer if args.layer is not None else settings.get("layer")
    if layer is None:
        known_layer = chosen["layer"] if chosen is not None else of_model.get(ROME, {}).get("layer")
        if known_layer is None:
            raise ValueError(
                f"{args.model}: no default layer, as no study here has one and its provenance.json names no model "
                f"of {TABLE} here with a layer of {ROME}; give --layer"
            )
        layer = default_layer(args.editor, int(str(known_layer)), outline.shape.n_layers)
    if int(str(layer)) >= outline.shape.n_layers:
        raise ValueError(f"--layer {layer} does not exist; this model has layers 0 to {outline.shape.n_layers - 1}")
    return {**settings, "layer": layer}


def find_place(results: Path, digest: str) -> dict[str, Any] | None:
    """Where a study under a results folder edits the model of this digest: ROME's `layer` and `clamp`."""
    for path in sorted(results.glob("*/edits/edit_layer.json")):
        summary = path.parents[1] / "moments" / "moments.json"
        if summary.is_file() and read_json(summary).get("weights_sha256") == digest:
            return dict(read_json(path))
    return None


def known_settings(folder: Path) -> OfModel:
    """The model's own settings: those of `config/editors.tsv` here for the model that its provenance names."""
    provenance = folder / "provenance.json"
    if not (provenance.is_file() and TABLE.is_file()):
        return {}
    return read_editors(TABLE).get(str(read_json(provenance).get("model")), {})


def _plain_prompt(args: argparse.Namespace) -> Prompt:
    target = " ".join(map(str, args.answer_id))
    return Prompt(" ".join(map(str, args.ids)), args.ids, None, target, args.answer_id)


def _plain_request(args: argparse.Namespace) -> Request:
    return Request(_plain_prompt(args), None, args.answer_id)
