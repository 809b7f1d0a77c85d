"""Save a model as it is now, edits in place, as a Hugging Face folder."""

import os
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from knowcirc.models.loading import LanguageModel


def save_float32(model: LanguageModel, folder: Path) -> None:
    """Write configuration and weights into `folder`, in float32."""
    transformers_logging.disable_progress_bar()
    network: Any = AutoModelForCausalLM.from_pretrained(model.folder, dtype=torch.float32, local_files_only=True)
    values = network.state_dict()
    with torch.no_grad():
        for name, weights in model.weights.items():
            values[name].copy_(weights)
    network.save_pretrained(folder)
    open_to_others(folder)


def open_to_others(folder: Path) -> None:
    """Give a folder's weight files the permissions of any new file: safetensors writes them for the owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    for path in folder.glob("*.safetensors"):
        path.chmod(0o666 & ~mask)
