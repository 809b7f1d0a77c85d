"""What `knowcirc edit` does with a model: where to edit, the target's probability, the edit, the new folder."""

import argparse
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from knowcirc.configuration.study import default
from knowcirc.editing.editors import EDITORS
from knowcirc.editing.edits import Edit, Material, Request
from knowcirc.editing.making import make_edits
from knowcirc.editing.memit import layers_below
from knowcirc.editing.moments import Moment
from knowcirc.editing.sampling import sample_prefixes
from knowcirc.editing.values import TOKENS, position_of
from knowcirc.facts.prompts import Prompt
from knowcirc.facts.ranking import token_ranks
from knowcirc.facts.records import Record
from knowcirc.files import read_json, write_json
from knowcirc.models.loading import LanguageModel, weights_digest

TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "chat_template*",
)
log = logging.getLogger(__name__)


def plain_prompt(args: argparse.Namespace) -> Prompt:
    """A request that is given as token ids."""
    target = " ".join(map(str, args.answer_id))
    return Prompt(" ".join(map(str, args.ids)), args.ids, None, target, args.answer_id)


def plain_request(args: argparse.Namespace) -> Request:
    """The same with its target, for an editor."""
    return Request(plain_prompt(args), None, args.answer_id)


def find_place(results: Path, digest: str) -> dict[str, Any] | None:
    """Where a study under a results folder edits the model of this digest: ROME's `layer` and `clamp`."""
    for path in sorted(results.glob("*/edits/edit_layer.json")):
        summary = path.parents[1] / "moments" / "moments.json"
        if summary.is_file() and read_json(summary).get("weights_sha256") == digest:
            return dict(read_json(path))
    return None


def find_records(results: Path, digest: str) -> list[Record]:
    """The editing records of a study under a results folder that was made for the model of this digest, or none."""
    for path in sorted(results.glob("*/edits/records.json")):
        summary = path.parents[1] / "moments" / "moments.json"
        if summary.is_file() and read_json(summary).get("weights_sha256") == digest:
            log.info("demonstrations are of the records in %s", path)
            return [Record.from_json(record) for record in read_json(path)["records"]]
    log.warning("no study of this model in %s, so there are no demonstrations: the new fact stands alone", results)
    return []


def longest_prefix(editor: str) -> int:
    """How many tokens of a sampled text an editor puts before the request, at most."""
    return max(length for length, _ in default("editing/prefixes")) if EDITORS[editor].contexts else 0


def layers_with_moments(editor: str, settings: dict[str, object]) -> list[int]:
    """The layers whose second moments the editor reads."""
    if not EDITORS[editor].moments or settings.get("second_moments") is False:
        return []
    return list(_layers(settings))


def _layers(settings: dict[str, object]) -> range:
    """The layers that an editor writes to: `span` of them, or one."""
    return layers_below(int(str(settings["layer"])), int(str(settings.get("span", 1))))


def check_read(prompt: Prompt, settings: dict[str, object], n_layers: int) -> None:
    """Make sure that the answer reads what an editor writes at the subject's token: above the last layer nothing does.

    Raises:
        ValueError: if the editor's highest layer is the last one, and the token not the prompt's last; or if it spans
            more layers than there are.
    """
    layers, token = _layers(settings), str(settings.get("token", "subject_last"))
    top, span = layers[-1], len(layers)
    if top >= n_layers:
        raise ValueError(f"--span {span} is more layers than this model has ({n_layers}); give a smaller one")
    at = next(at for at in TOKENS if at == token)
    if top == n_layers - 1 and position_of(prompt, at) < len(prompt.ids) - 1:
        raise ValueError(
            f"layer {top} is the last, and what is written there at the subject is not read at the end of "
            f"{prompt.text!r}; give a lower --layer{' or a smaller --span' if span > 1 else ''}"
        )


@torch.no_grad()
def read_target(model: LanguageModel, one_request: Request) -> tuple[float, bool]:
    """exp of the mean log-probability of the target's tokens, and whether they are the likeliest ones.

    Raises:
        ValueError: naming the prompt, if a logit is not finite.
    """
    ids = model.ids_of(one_request.prompt.text) if model.before else one_request.prompt.ids
    for x in model.transformer.stream(model.batch([ids + one_request.target[:-1]])):
        last = x
    logits = model.transformer.unembed(last[0, -len(one_request.target) :])
    target = model.batch([one_request.target])[0]
    ranks = token_ranks(logits, target, one_request.prompt.text)
    chosen = logits.double().log_softmax(-1).gather(1, target[:, None])
    return float(chosen.mean().exp()), bool((ranks == 0).all())


def find_edit(
    args: argparse.Namespace,
    model: LanguageModel,
    requests: list[Request],
    settings: dict[str, object],
    found: dict[int, Moment],
    records: Sequence[Record],
) -> Edit:
    """The edit that the editor finds.

    Raises:
        ValueError: if the second moments are singular, or the new weights are not finite.
    """
    prefixes = [(length, number) for length, number in default("editing/prefixes")]
    top_k = default("editing/prefix_top_k")
    material = Material(lambda layer: found[layer], lambda: sample_prefixes(model, prefixes, args.seed, top_k), records)
    log.info("editing: %s, layer %s", args.editor, settings.get("layer", "of its own choice"))
    try:
        change = make_edits(args.editor, model, requests, settings, material)
    except torch.linalg.LinAlgError:
        raise ValueError("the second moments are singular; estimate them on more tokens (--moment-tokens)") from None
    return change


def save_text(args: argparse.Namespace, change: Edit, about: dict[str, object]) -> None:
    """Write what stands before texts after an edit in context to `before.txt` in `args.out`, with `provenance.json`."""
    with new_folder(args.out) as part:
        (part / "before.txt").write_text(change.before, "utf-8")
        write_json(part / "provenance.json", about)


def save(args: argparse.Namespace, model: LanguageModel, about: dict[str, object]) -> None:
    """Write the model as it is now to `args.out`, in float32, with the tokenizer's files and `provenance.json`."""
    with new_folder(args.out) as part:
        from knowcirc.models.saving import save_float32  # imports transformers, which takes seconds

        save_float32(model, part)
        for pattern in TOKENIZER_FILES:
            for path in args.model.glob(pattern):
                shutil.copyfile(path, part / path.name)
        old = args.model / "provenance.json"
        origin = read_json(old) if old.is_file() else {}
        write_json(part / "provenance.json", {**origin, **about, "weights_sha256": weights_digest(part)})


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place when the block ends without an error."""
    part = path.absolute().with_name(f".{path.absolute().name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        part.replace(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
