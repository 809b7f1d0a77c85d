"""What `knowcirc edit` does with a model: reads the target's probability, finds the edit, writes the edited folder."""

import argparse
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from knowcirc.configuration.study import default
from knowcirc.editing.edits import Edit, Material, Request
from knowcirc.editing.making import make_edits
from knowcirc.editing.moments import Moment
from knowcirc.editing.sampling import sample_prefixes
from knowcirc.facts.ranking import token_ranks
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


@torch.no_grad()
def read_target(model: LanguageModel, one_request: Request) -> tuple[float, bool]:
    """exp of the mean log-probability of the target's tokens, and whether they are the likeliest ones.

    Raises:
        ValueError: naming the prompt, if a logit is not finite.
    """
    for x in model.transformer.stream(model.batch([one_request.prompt.ids + one_request.target[:-1]])):
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
) -> Edit:
    """The edit that the editor finds.

    Raises:
        ValueError: if the second moments are singular, or the new weights are not finite.
    """
    prefixes = [(length, number) for length, number in default("editing/prefixes")]
    material = Material(lambda layer: found[layer], lambda: sample_prefixes(model, prefixes, args.seed))
    log.info("editing: %s, layer %s", args.editor, settings["layer"])
    try:
        change = make_edits(args.editor, model, requests, settings, material)
    except torch.linalg.LinAlgError:
        raise ValueError("the second moments are singular; estimate them on more tokens (--moment-tokens)") from None
    if not all(bool(weight.isfinite().all()) for weight in change.weights.values()):
        raise ValueError(
            "the edit gave weights that are not finite; lower --learning-rate, or give more --moment-tokens"
        )
    return change


def save(args: argparse.Namespace, model: LanguageModel, about: dict[str, object]) -> None:
    """Write the model as it is now to `args.out`, in float32, with the tokenizer's files and `provenance.json`."""
    with new_folder(args.out) as part:
        model.network.float().save_pretrained(part)
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
