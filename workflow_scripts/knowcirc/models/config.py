"""A saved model's configuration, read without the library that wrote it."""

import json
from pathlib import Path
from types import SimpleNamespace

from knowcirc.models.families import FAMILIES

SIZES = {
    *(
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "hidden_size",
        "intermediate_size",
        "head_dim",
    ),
    *("n_layer", "n_head", "n_embd", "n_inner", "n_positions", "vocab_size", "max_position_embeddings"),
}
"""Settings that count something."""


def read_config(folder: Path) -> SimpleNamespace:
    """The folder's `config.json`, with the family's defaults for what it leaves out.

    Raises:
        ValueError: if the folder is missing, holds no configuration, or its family has no adapter, or a size is none.
    """
    path = folder / "config.json"
    if not folder.is_dir():
        raise ValueError(f"model folder {folder} does not exist; give a folder made by save_pretrained")
    if not path.is_file():
        raise ValueError(f"model folder {folder} holds no config.json; give a folder made by save_pretrained")
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(f"{path} is no JSON; save the model again") from None
    if not isinstance(given, dict):
        raise ValueError(f"{path} holds no settings; save the model again")
    family = given.get("model_type")
    if family not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise ValueError(f"{path}: model_type {family!r} has no adapter; supported families: {known}")
    defaults = FAMILIES[family].module.DEFAULTS
    for name in SIZES & set(given):
        size, unset = given[name], given[name] is None and defaults.get(name, 0) is None
        if not unset and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
            raise ValueError(f"{path}: {name} {size!r} is no number of things; save the model again")
    return SimpleNamespace(**{**FAMILIES[family].module.DEFAULTS, **given})
