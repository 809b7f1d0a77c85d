"""Second moments of the MLPs' keys: C = E[k k^T], which says how a rank-one edit spares other keys (ROME, section 3).

Keys are the inputs of each layer's MLP output matrix over a corpus: text that the model samples itself, or a text
file. Kept uncentred, float32, one file per layer, with the corpus and the number of tokens beside it.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from knowcirc.editing.sampling import Watch, sample, silent, special_tokens, start_token
from knowcirc.files import atomic, read_json
from knowcirc.models.loading import LanguageModel
from knowcirc.models.transformer import HookPoint
from knowcirc.seeding import derive

Moment = Float[Tensor, "d_mlp d_mlp"]


def sampled_corpus(
    model: LanguageModel, n_tokens: int, *, length: int, batch: int, seed: int, watch: Watch = silent
) -> Iterator[Int[Tensor, "batch pos"]]:
    """Batches of sampled texts, start token in front, until `n_tokens` sampled tokens have been given."""
    given, batches = 0, -(-n_tokens // (length * batch))
    while given < n_tokens:
        begin = torch.full((batch, 1), start_token(model))
        what = f"sampling text, batch {given // (length * batch) + 1} of {batches}: position"
        text = sample(model, begin, length, seed=derive(seed, "corpus", given), watch=watch, what=what)
        given += text.numel()
        yield torch.cat((begin, text), 1)


def text_corpus(model: LanguageModel, path: Path, n_tokens: int, *, length: int) -> Iterator[Int[Tensor, "one pos"]]:
    """The first `n_tokens` tokens of a text file in windows, start token in front of each.

    Raises:
        ValueError: if the file holds fewer tokens.
    """
    ids = model.text.encode(path.read_text("utf-8"), add_special_tokens=False).ids
    special = special_tokens(model)
    ids = [token for token in ids if token not in special]
    if len(ids) < n_tokens:
        raise ValueError(f"{path} holds {len(ids)} tokens, {n_tokens} are asked for; give a longer text")
    for low in range(0, n_tokens, length):
        yield torch.tensor([[start_token(model), *ids[low : min(low + length, n_tokens)]]])


@torch.no_grad()
def second_moments(model: LanguageModel, corpus: Iterator[Int[Tensor, "batch pos"]]) -> tuple[list[Moment], int]:
    """C of every layer over the corpus (start tokens left out), and the number of tokens that went into it.

    Raises:
        ValueError: if a key has overflown.
    """
    network = model.transformer
    size = (network.shape.d_mlp, network.shape.d_mlp)
    sums = [torch.zeros(size, device=model.device) for _ in range(network.shape.n_layers)]
    count = 0
    for ids in corpus:
        x = network.embed(ids.to(model.device))
        for layer in range(network.shape.n_layers):
            x = network.advance(layer, x, hook=partial(_add_keys, sums[layer]))
        count += ids[:, 1:].numel()
    for layer, total in enumerate(sums):
        if not bool(total.isfinite().all()):
            raise ValueError(
                f"the second moments of layer {layer} are not finite; compute in float32 or float64, or mend the model"
            )
    return [total / count for total in sums], count


def _add_keys(total: Moment, point: HookPoint, value: Tensor) -> Tensor:
    if point == "keys":
        keys = value[:, 1:].flatten(0, 1).float()
        total.addmm_(keys.T, keys)
    return value


def save_moment(path: Path, moment: Moment, provenance: dict[str, str]) -> None:
    """Write one layer's C with its provenance (model digest, corpus, tokens, layer)."""
    with atomic(path) as part:
        save_file({"moment": moment.contiguous().cpu()}, part, metadata=provenance)


def load_moment(path: Path, d_mlp: int) -> Moment:
    """C from a file of `save_moment`.

    Raises:
        ValueError: if there is no such file, its size is another model's, or a number in it is not finite.
    """
    if not path.is_file():
        raise ValueError(f"second moments {path} do not exist; run the rule estimate_moments or give --moments FILE")
    try:
        moment = load_file(path).get("moment")
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file ({error}); make it again") from None
    if moment is None or tuple(moment.shape) != (d_mlp, d_mlp):
        raise ValueError(f"{path} holds no second moments of {d_mlp} keys; it belongs to another model")
    if not bool(moment.isfinite().all()):
        raise ValueError(f"{path} holds numbers that are not finite; estimate the second moments again")
    return moment


def moment_path(folder: Path, layer: int) -> Path:
    """The file of a layer in a folder of second moments."""
    return folder / f"layer_{layer}.safetensors"


def find_moments(results: Path, digest: str) -> Path | None:
    """A folder of moments under a results folder that was made for the model of this digest."""
    for path in sorted(results.glob("*/moments/moments.json")):
        if read_json(path).get("weights_sha256") == digest:
            return path.parent / "layers"
    return None
