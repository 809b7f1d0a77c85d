"""A saved model's configuration, read without the library that wrote it."""

import json
from pathlib import Path
from types import SimpleNamespace

from knowcirc.models.families import FAMILIES


def read_config(folder: Path) -> SimpleNamespace:
    """The folder's `config.json`, with the family's defaults for what it leaves out.

    Raises:
        ValueError: if the folder is missing, holds no configuration, or its family has no adapter.
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
    return SimpleNamespace(**{**FAMILIES[family].module.DEFAULTS, **given})
