"""Where `knowcirc edit` takes second moments from: a file, a study's results, its own cache, or sampled text."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

from knowcirc.cache import cache_folder, is_kept, keeping
from knowcirc.commands.models import Outline
from knowcirc.configuration.study import default
from knowcirc.editing.moments import (
    Moment,
    find_moments,
    load_moment,
    moment_path,
    sampled_corpus,
    save_moment,
    second_moments,
)
from knowcirc.files import read_json, write_json
from knowcirc.job import progress
from knowcirc.models.loading import LanguageModel

SEED = 0  # the corpus belongs to the model, not to the edit: --seed does not change it
log = logging.getLogger(__name__)


def find(args: argparse.Namespace, outline: Outline, layers: Sequence[int], digest: str) -> dict[int, Moment] | None:
    """The layers' moments where they exist already; None where they must be estimated.

    `--moments` names a file of one layer, or a folder of several.

    Raises:
        ValueError: if a file is not of this model and layer, or too few tokens are asked for.
    """
    if args.moments is not None:
        if not args.moments.is_dir() and len(layers) > 1:
            raise ValueError(
                f"--moments {args.moments} is a file of one layer, this editor needs layers "
                f"{', '.join(map(str, layers))}; name their folder"
            )
        paths = {layer: moment_path(args.moments, layer) if args.moments.is_dir() else args.moments for layer in layers}
        return {layer: read(path, outline, layer, digest) for layer, path in paths.items()}
    requested = args.moment_tokens or default("moments/tokens")
    if args.moment_tokens is None and (folder := find_moments(args.results, digest)) is not None:
        log.info("second moments of %s", folder)
        return {layer: read(moment_path(folder, layer), outline, layer, digest) for layer in layers}
    stamp = is_kept("moments", digest, "moments.json")
    if stamp is not None and read_json(stamp).get("sampled") == [requested, *sizes(outline, requested)]:
        log.info("second moments of %s", stamp.parent)
        return {layer: read(moment_path(stamp.parent, layer), outline, layer, digest) for layer in layers}
    if requested < outline.shape.d_mlp:
        raise ValueError(
            f"--moment-tokens {requested} is below {outline.shape.d_mlp}, the MLP's width: second moments would be "
            f"singular; give {outline.shape.d_mlp} or more"
        )
    return None


def read(path: Path, outline: Outline, layer: int, digest: str) -> Moment:
    """Moments from a file, whose provenance must not name another model or layer.

    Raises:
        ValueError: if it does, or the file is of another kind or size.
    """
    if not path.is_file():
        raise ValueError(
            f"second moments {path} do not exist; give --moments FILE, or --moment-tokens to sample afresh"
        )
    try:
        with safe_open(path, "pt") as handle:
            said = handle.metadata() or {}
        moment = load_moment(path, outline.shape.d_mlp)
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file ({error}); give second moments of this layer") from None
    for key, requested in (("layer", str(layer)), ("weights_sha256", digest)):
        if said.get(key, requested) != requested:
            raise ValueError(f"{path} holds second moments of {key} {said[key]}, this edit needs {requested}")
    return moment


def sizes(outline: Outline, requested: int) -> tuple[int, int]:
    """Tokens of a sampled text, and texts of a batch: they decide what is sampled."""
    length = min(default("moments/length"), outline.context - 1)
    return length, min(default("moments/batch"), -(-requested // length))


def estimate(args: argparse.Namespace, model: LanguageModel, outline: Outline, digest: str) -> list[Moment]:
    """The moments of all layers on text that the model samples, kept in the cache where that can be."""
    requested = args.moment_tokens or default("moments/tokens")
    log.info("estimating second moments on %d sampled tokens, once for this model", requested)
    length, batch = sizes(outline, requested)
    corpus = sampled_corpus(model, requested, length=length, batch=batch, seed=SEED, watch=progress)
    moments, count = second_moments(model, corpus)
    about = {"weights_sha256": digest, "corpus": f"sampled, seed {SEED}", "tokens": str(count)}
    with keeping("the second moments", "the next edit estimates them again"):
        folder = cache_folder() / "moments" / digest
        (folder / "moments.json").unlink(missing_ok=True)
        for layer, moment in enumerate(moments):
            save_moment(moment_path(folder, layer), moment, {**about, "layer": str(layer)})
        write_json(folder / "moments.json", {**about, "tokens": count, "sampled": [requested, length, batch]})
        log.info("second moments are kept in %s", folder)
    return moments
