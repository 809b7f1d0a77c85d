"""A saved model's weights by name, mapped from its safetensors files: nothing is read before it is used."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

INDEX = "model.safetensors.index.json"
IGNORED = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")
"""Ends of names that old files hold besides the weights: masks and angles, which follow from the configuration."""


class Weights(dict[str, Tensor]):
    """Tensors by the names of the Hugging Face model's parameters; it remembers which of them were taken."""

    def __init__(self, tensors: dict[str, Tensor], folder: Path | str = "the model") -> None:
        super().__init__(tensors)
        self.folder = folder
        self.taken: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        self.taken.add(name)
        return super().__getitem__(name)

    def __missing__(self, name: str) -> Tensor:
        raise ValueError(f"{self.folder} lacks the weights {name}; save or fetch it again")

    def check_all_taken(self) -> None:
        """Make sure that the configuration uses all that the files hold.

        Raises:
            ValueError: naming the first weights that it does not use.
        """
        if left := sorted(set(self) - self.taken):
            raise ValueError(
                f"{self.folder} holds the weights {left[0]} ({len(left)} such in all), which its config.json does not "
                "use; correct the configuration, or save the model again"
            )


def read_weights(folder: Path, prefix: str, dtype: torch.dtype, device: torch.device) -> Weights:
    """The weights of a folder. Names without the model's `prefix`, as some files on the hub have them, get it.

    Raises:
        ValueError: if there are no safetensors, or they cannot be read.
    """
    tensors = {}
    for path in _files(folder):
        try:
            with safe_open(path, "pt") as handle:
                for name in handle.keys():  # noqa: SIM118 (no dictionary)
                    whole = name if name.startswith((prefix, "lm_head.")) else prefix + name
                    tensor = handle.get_tensor(name)
                    kind = dtype if tensor.is_floating_point() else tensor.dtype
                    tensors[whole] = tensor.to(device=device, dtype=kind)
        except (SafetensorError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{path} is no readable safetensors file ({reason}); save or fetch it again") from None
    return Weights({name: tensor for name, tensor in tensors.items() if not name.endswith(IGNORED)}, folder)


def _files(folder: Path) -> list[Path]:
    whole, index = folder / "model.safetensors", folder / INDEX
    if whole.is_file():
        return [whole]
    if not index.is_file():
        old = "; pytorch_model.bin is not read, since a pickle may run anything" if list(folder.glob("*.bin")) else ""
        raise ValueError(f"{folder} holds no model.safetensors{old}; save the model with save_pretrained")
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError):
        raise ValueError(f"{index} is no index of weights; save or fetch the model again") from None
    return [folder / name for name in names]
