"""Load a saved Hugging Face folder as a `LanguageModel`: its weights, its tokenizer and the `Transformer` view.

The files are read as they are, since importing transformers takes seconds. It is imported for a folder that no study
has fetched and that was not loaded here before: then forward pass and tokens are compared with its own.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Int
from tokenizers import Tokenizer
from torch import Tensor

from knowcirc.cache import cache_folder
from knowcirc.models import folding
from knowcirc.models.config import read_config
from knowcirc.models.families import FAMILIES
from knowcirc.models.gpu import lease
from knowcirc.models.packing import packed, with_blocks
from knowcirc.models.tokens import read_tokenizer
from knowcirc.models.transformer import Shape, Transformer
from knowcirc.models.weights import Weights, read_weights, weight_files

DTYPES = {"float32": torch.float32, "float64": torch.float64, "float16": torch.float16, "bfloat16": torch.bfloat16}
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A loaded model. `own` holds views of `weights`; `transformer` is the same, folded and packed as was asked for.

    `weights` are named as the parameters of the Hugging Face model; `config` is its `config.json`, with the family's
    defaults. Folding and packing copy: what changes `weights` reaches `transformer` by way of `refreshed`. `before` is
    text that stands before whatever it is asked (`ids_of`): that of an edit in context.
    """

    weights: Weights
    config: SimpleNamespace
    tokenizer: Tokenizer | None
    transformer: Transformer
    folder: Path
    own: Transformer
    folded: bool = False
    before: str = ""

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.transformer.device

    @property
    def text(self) -> Tokenizer:
        """The tokenizer.

        Raises:
            ValueError: if the folder holds none (then prompts must be given as ids).
        """
        if self.tokenizer is None:
            raise ValueError(f"{self.folder} holds no tokenizer; give token ids (--ids, --answer-id) instead")
        return self.tokenizer

    def ids_of(self, text: str) -> tuple[int, ...]:
        """The tokens of a text that the model is asked, behind what stands before it.

        Raises:
            ValueError: if there is no tokenizer.
        """
        return tuple(self.text.encode(self.before + text).ids)

    def refreshed(self, layers: Iterable[int]) -> "LanguageModel":
        """The model with some layers made from `weights` as they are now, folded and packed as the others are."""
        blocks = {layer: self.own.blocks[layer] for layer in layers}
        if self.folded:
            blocks = {layer: folding.fold_block(block) for layer, block in blocks.items()}
        return replace(self, transformer=with_blocks(self.transformer, blocks))

    @property
    def context(self) -> int:
        """How many tokens a prompt may have."""
        return context_of(self.folder, self.config)

    def check_rows(self, rows: Iterable[Sequence[int]]) -> None:
        """Make sure that the model can read rows of token ids.

        Raises:
            ValueError: for ids outside the vocabulary, or more tokens than it reads.
        """
        most, end = self.context, self.transformer.shape.d_vocab
        for row in rows:
            if len(row) > most:
                raise ValueError(f"a text of {len(row)} tokens is too long, {self.folder} reads {most}; shorten it")
            if (worst := max(row, default=0)) >= end:
                shown = "" if self.tokenizer is None else f" ({self.tokenizer.id_to_token(worst)!r})"
                raise ValueError(
                    f"token id {worst}{shown} is outside the vocabulary of {self.folder}; its ids are 0 to {end - 1}"
                )

    def batch(self, rows: list[tuple[int, ...]]) -> Int[Tensor, "batch pos"]:
        """Token ids as one tensor on the model's device; the rows must be equally long.

        Raises:
            ValueError: as `check_rows` does.
        """
        self.check_rows(rows)
        return torch.tensor(rows, dtype=torch.long, device=self.device)


def choose_device(name: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda` or `cuda:N`; `auto` takes what KNOWCIRC_DEVICE says, then a GPU if any.

    A GPU is this process's until it ends; while others hold all that will do, this waits (`gpu.py`).

    Raises:
        ValueError: if a GPU is asked for and none is visible, or the name is unknown.
    """
    if name == "auto" and (name := os.environ.get("KNOWCIRC_DEVICE", "auto")) == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name != "cpu" and not name.startswith("cuda"):
        raise ValueError(f"device {name!r} is none of auto, cpu, cuda, cuda:N")
    return torch.device(name) if name == "cpu" else lease(name)


def load(
    folder: Path | str,
    *,
    device: str = "auto",
    dtype: str = "float32",
    processing: str = "none",
    fast: bool = False,
) -> LanguageModel:
    """The model saved in `folder`.

    `fast` packs copies of the transformer's matrices where that helps (`packing.py`); changes of the weights do not
    reach them.

    Raises:
        ValueError: if the folder, its weights, the family, the dtype or the device will not do.
    """
    folder = Path(folder)
    config = read_config(folder)
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} is none of {', '.join(DTYPES)}")
    place, family = choose_device(device), FAMILIES[config.model_type].module
    weights = read_weights(folder, family.PREFIX, DTYPES[dtype], place)
    own = view = view_of(folder, config, weights)
    tokenizer = read_tokenizer(folder)
    if not is_checked(folder):
        from knowcirc.models.checking import check_folder  # imports transformers

        check_folder(folder, view, tokenizer)
    if processing == "folded":
        view = folding.fold(view)
    elif processing != "none":
        raise ValueError(f"processing {processing!r} is none of none, folded")
    if fast:
        view = packed(view)
    log.info("loaded %s: %s, %s on %s", folder, view.shape.family, dtype, place)
    return LanguageModel(weights, config, tokenizer, view, folder, own, folded=processing == "folded")


def view_of(folder: Path, config: SimpleNamespace, weights: Weights) -> Transformer:
    """The family's view of the weights, all of which it must use.

    Raises:
        ValueError: if weights are missing or left, or of other sizes than the configuration says.
    """
    shape = shape_of(folder, config)
    if config.tie_word_embeddings and "lm_head.weight" in weights:  # some files hold the embeddings twice
        if torch.equal(weights["lm_head.weight"], weights[FAMILIES[config.model_type].module.EMBEDDING]):
            weights.pop("lm_head.weight")
        else:  # as transformers has it: what differs is not tied
            config.tie_word_embeddings = False
    try:
        view: Transformer = FAMILIES[config.model_type].module.adapt(config, weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{folder}: its weights are not of the sizes in config.json ({reason}); save it again"
        ) from None
    first = view.blocks[0].mlp
    sizes = {
        "vocabulary": (view.embedding, (shape.d_vocab, shape.d_model)),
        "MLP": (first.w_in, (shape.d_mlp, shape.d_model)),
    }
    for what, (tensor, expected) in sizes.items():
        if tuple(tensor.shape) != expected:
            raise ValueError(
                f"{folder}: its {what} is of size {tuple(tensor.shape)}, config.json says {expected}; save it again"
            )
    weights.check_all_taken()
    return view


def shape_of(folder: Path, config: SimpleNamespace) -> Shape:
    """The sizes that a configuration states.

    Raises:
        ValueError: if it leaves one out, or states one of another type.
    """
    shape: Shape = _stated(folder, FAMILIES[config.model_type].module.read_shape, config)
    if shape.n_heads % shape.n_kv_heads:
        raise ValueError(
            f"model folder {folder}: config.json has {shape.n_heads} heads for {shape.n_kv_heads} K/V heads, which do "
            "not share them evenly; save the model again"
        )
    return shape


def start_token_of(folder: Path, config: SimpleNamespace) -> int:
    """The token that a text of this model begins with: its BOS, or the end-of-text token where it has none.

    Raises:
        ValueError: if the configuration names neither, or one that the vocabulary lacks.
    """
    end = shape_of(folder, config).d_vocab
    for name in ("bos_token_id", "eos_token_id"):
        value = getattr(config, name, None)
        if value is None:
            continue
        token = value[0] if isinstance(value, list) and value else value
        if not isinstance(token, int) or not 0 <= token < end:
            raise ValueError(
                f"{folder}/config.json: {name} {token!r} is outside the model's vocabulary, whose ids are 0 to "
                f"{end - 1}; correct it"
            )
        return token
    raise ValueError(f"{folder}/config.json names neither bos_token_id nor eos_token_id; add one")


def context_of(folder: Path, config: SimpleNamespace) -> int:
    """How many tokens a prompt may have.

    Raises:
        ValueError: as `shape_of` does.
    """
    return int(_stated(folder, FAMILIES[config.model_type].module.read_context, config))


def _stated(folder: Path, read: Callable[[SimpleNamespace], Any], config: SimpleNamespace) -> Any:
    try:
        return read(config)
    except (AttributeError, TypeError, ZeroDivisionError, OverflowError) as error:
        what = f"does not say {error.name}" if isinstance(error, AttributeError) else f"is odd ({error})"
        raise ValueError(f"model folder {folder}: config.json {what}; save the model again") from None
    except ValueError as error:  # what the forward pass does not compute
        raise ValueError(f"model folder {folder}: {error}") from None


def read_shape(folder: Path) -> Shape:
    """The sizes of the model saved in `folder`; no weights are read.

    Raises:
        ValueError: as `read_config` does.
    """
    return shape_of(folder, read_config(folder))


def weights_digest(folder: Path) -> str:
    """A sha256 over the folder's configuration and the files that its weights are read from: the identity of a model.

    Raises:
        ValueError: if it holds no safetensors.
    """
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in weight_files(folder):
        with path.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


PROVENANCE = "provenance.json"
"""In a folder that a study has fetched, forward pass and tokens have been compared."""


def is_checked(folder: Path) -> bool:
    """Whether forward pass and tokens of this very folder were found to be those of transformers.

    A fetched folder is, as long as its files are those that its provenance speaks of, which is written last.

    Raises:
        ValueError: if they were changed since then.
    """
    provenance = folder / PROVENANCE
    if provenance.is_file():
        read = [folder / "config.json", *folder.glob("*.safetensors")]
        if max(path.stat().st_mtime_ns for path in read) <= provenance.stat().st_mtime_ns:
            return True
        if (fetched := json.loads(provenance.read_text("utf-8")).get("weights_sha256")) is not None:
            if fetched == weights_digest(folder):
                return True
            raise ValueError(
                f"{folder} was changed since it was fetched (its sha256 differs from that in {PROVENANCE}); delete "
                f"{PROVENANCE}, and it is fetched again"
            )
    try:
        return check_stamp(folder).is_file()
    except (OSError, ValueError):  # a home that is none, or another's
        return False


def check_stamp(folder: Path) -> Path:
    """The file whose presence says so, under the digest of the folder and of the code that was compared."""
    digest = hashlib.sha256(weights_digest(folder).encode())
    own = sorted(Path(__file__).parent.glob("*.py"))
    for path in [*own, *sorted(folder.glob("tokenizer*"))]:
        if path.is_file():
            digest.update(path.read_bytes())
    return cache_folder() / "checked" / digest.hexdigest()
