"""A saved model's weights by name, mapped from its safetensors files: nothing is read before it is used."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

INDEX = "model.safetensors.index.json"
IGNORED = (".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq")
"""Ends of names that old files hold besides the weights: masks and angles, which follow from the configuration."""


RENAMED = {"embed_out.weight": "lm_head.weight"}
"""Names that old files (GPT-NeoX) have for what is now called otherwise."""


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


def read_weights(folder: Path, prefix: str, dtype: torch.dtype | None, device: torch.device) -> Weights:
    """The weights of a folder, as stored where `dtype` is None.

    Names without the model's `prefix`, as some files on the hub have them, get it.

    Raises:
        ValueError: if there are no safetensors, they cannot be read, or a number is not finite.
    """
    tensors = {}
    for path in weight_files(folder):
        try:
            with safe_open(path, "pt") as handle:
                for name in handle.keys():  # noqa: SIM118 (no dictionary)
                    if name.endswith(IGNORED):
                        continue
                    named = RENAMED.get(name, name)
                    whole = named if named.startswith((prefix, "lm_head.")) else prefix + named
                    tensor = handle.get_tensor(name)
                    kind = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
                    tensors[whole] = tensor.to(device=device, dtype=kind)
                    check_weights(f"{folder}: weights {name}", tensors[whole])
        except (SafetensorError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{path} is no readable safetensors file ({reason}); save or fetch it again") from None
    return Weights(tensors, folder)


def check_weights(what: str, tensor: Tensor) -> None:
    """Make sure that weights are numbers; `what` begins the complaint.

    Their least and largest value say so: both are NaN where one is, and finding them reads the weights just once.

    Raises:
        ValueError: if one is NaN or infinite, as stored or as an overflow of the type they are read in.
    """
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return
    ends = torch.stack(torch.aminmax(tensor))
    if bool(ends.isfinite().all()):
        return
    bad = tensor[~tensor.isfinite()]
    kind = str(tensor.dtype).removeprefix("torch.")
    raise ValueError(
        f"{what}: {len(bad)} of {tensor.numel()} are not finite in {kind} (the first is {float(bad[0])}); compute in "
        "float32 or float64, or, where these give the same, mend the model's weights"
    )


def weight_files(folder: Path) -> list[Path]:
    """The files that a folder's weights are read from, all of them there.

    Raises:
        ValueError: if it holds no safetensors, or its index names a file that it lacks.
    """
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
    if lost := [name for name in names if not (folder / str(name)).is_file()]:
        raise ValueError(f"{folder} lacks {lost[0]}, which its {INDEX} names; save or fetch the model again")
    return [folder / str(name) for name in names]
