"""Load a saved Hugging Face folder as a `LanguageModel`: the network, its tokenizer and the `Transformer` view."""

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from knowcirc.models import folding
from knowcirc.models.families import FAMILIES
from knowcirc.models.packing import packed
from knowcirc.models.transformer import Shape, Transformer

DTYPES = {"float32": torch.float32, "float64": torch.float64, "float16": torch.float16, "bfloat16": torch.bfloat16}
CHECKED = "provenance.json"
"""In a folder that a study has fetched, its forward pass has been checked."""
PROBE = 12  # tokens of the input that a family's adapter is checked on
ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-4, torch.float16: 5e-2, torch.bfloat16: 0.2}
"""How far logits may lie apart, as a share of the largest."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A loaded model. `transformer` holds views of `network`'s weights (copies under folding and packing)."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast | None
    transformer: Transformer
    folder: Path

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.transformer.device

    @property
    def text(self) -> PreTrainedTokenizerFast:
        """The tokenizer.

        Raises:
            ValueError: if the folder holds none (then prompts must be given as ids).
        """
        if self.tokenizer is None:
            raise ValueError(f"{self.folder} holds no tokenizer; give token ids (--ids, --answer-id) instead")
        return self.tokenizer

    def batch(self, rows: list[tuple[int, ...]]) -> Int[Tensor, "batch pos"]:
        """Token ids as one tensor on the model's device; the rows must be equally long."""
        return torch.tensor(rows, dtype=torch.long, device=self.device)


def choose_device(name: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda` or `cuda:N`; `auto` takes what KNOWCIRC_DEVICE says, then a GPU if any.

    Raises:
        ValueError: if a GPU is asked for and none is visible, or the name is unknown.
    """
    if name == "auto" and (name := os.environ.get("KNOWCIRC_DEVICE", "auto")) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name != "cpu" and not name.startswith("cuda"):
        raise ValueError(f"device {name!r} is none of auto, cpu, cuda, cuda:N")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {name!r} asked for, but no GPU is visible; use --device cpu")
    return torch.device(name)


def read_config(folder: Path) -> dict[str, object]:
    """The folder's `config.json`.

    Raises:
        ValueError: if the folder is missing, holds no configuration, or its family has no adapter.
    """
    path = folder / "config.json"
    if not folder.is_dir():
        raise ValueError(f"model folder {folder} does not exist; give a folder made by save_pretrained")
    if not path.is_file():
        raise ValueError(f"model folder {folder} holds no config.json; give a folder made by save_pretrained")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(f"{path} is no JSON; save the model again") from None
    family = config.get("model_type")
    if family not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise ValueError(f"{path}: model_type {family!r} has no adapter; supported families: {known}")
    return config


def load(
    folder: Path | str,
    *,
    device: str = "auto",
    dtype: str = "float32",
    processing: str = "none",
    fast: bool = False,
) -> LanguageModel:
    """The model saved in `folder`, frozen, in evaluation mode.

    `fast` packs copies of the transformer's matrices where that helps (`packing.py`); changes of the network's weights
    do not reach them.

    Raises:
        ValueError: if the folder, its weights, the family, the dtype or the device will not do.
    """
    folder = Path(folder)
    config = read_config(folder)
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} is none of {', '.join(DTYPES)}")
    place = choose_device(device)
    transformers_logging.disable_progress_bar()
    settings: dict[str, Any] = {"dtype": DTYPES[dtype], "attn_implementation": "eager", "local_files_only": True}
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(folder, **settings, output_loading_info=True)
    except OSError as error:
        raise ValueError(f"{folder} holds no readable weights ({str(error).splitlines()[0]}); save it again") from None
    if missing := sorted(loaded[1]["missing_keys"]):
        raise ValueError(f"{folder} lacks the weights {missing[0]} ({len(missing)} in all); save or fetch it again")
    network = loaded[0].to(place).eval().requires_grad_(False)
    view = FAMILIES[str(config["model_type"])].module.adapt(network)
    if not (folder / CHECKED).is_file():
        check_view(network, view)
    if processing == "folded":
        view = folding.fold(view)
    elif processing != "none":
        raise ValueError(f"processing {processing!r} is none of none, folded")
    if fast:
        view = packed(view)
    has_tokenizer = any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json"))
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True) if has_tokenizer else None
    log.info("loaded %s: %s, %s on %s", folder, view.shape.family, dtype, place)
    return LanguageModel(network, tokenizer, view, folder)


@torch.no_grad()
def check_view(network: PreTrainedModel, view: Transformer) -> None:
    """Make sure that the family's adapter computes what the network does, on a short input.

    Raises:
        ValueError: if a logit differs by more than rounding explains.
    """
    ids = torch.arange(1, PROBE + 1, device=view.device)[None] * (view.shape.d_vocab - 1) // PROBE
    own, whole = view.logits(ids).double(), network(ids).logits[:, -1].double()
    if not torch.isfinite(whole).all():
        return  # what is run on such a model says so itself
    apart = float((own - whole).abs().max() / whole.abs().max().clamp(min=1.0))
    if not apart <= ROUNDING[view.embedding.dtype]:
        raise ValueError(
            f"{network.config.name_or_path or 'the model'}: this library's forward pass for family {view.shape.family} "
            f"departs from the model's own by {apart:.2g} of its largest logit; the family needs an adapter that "
            "computes all that this model does"
        )


def read_shape(folder: Path) -> Shape:
    """The sizes of the model saved in `folder`; no weights are read.

    Raises:
        ValueError: as `read_config` does.
    """
    config = read_config(folder)
    return FAMILIES[str(config["model_type"])].module.read_shape(
        AutoConfig.from_pretrained(folder, local_files_only=True)
    )


def weights_digest(folder: Path) -> str:
    """A sha256 over the folder's configuration and weight files: the identity of a model."""
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()
