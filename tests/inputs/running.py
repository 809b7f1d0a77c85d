"""What happens to an input: run in this process, without a model's weights where none are needed."""

import contextlib
import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import load_file, save_file
from snakemake.utils import update_config

from knowcirc import cli
from knowcirc.configuration.checks import read_study
from knowcirc.editing.editors import read_editors
from knowcirc.facts.relations import read_relation
from knowcirc.facts.sources import DatasetRow
from knowcirc.fields import read_rows
from knowcirc.models.table import read_models

ROOT = Path(__file__).resolve().parents[2]
MODEL = "MODEL"
"""Stands for the tiny model's folder in arguments."""
RELATION: dict[str, object] = {
    "name": "capital",
    "category": "factual",
    "subject_type": "country",
    "answer_type": "city",
    "templates": ["The capital of {} is", "{} has its capital in", "Who governs {} sits in"],
    "question_template": "Question: What is the capital of {}? Answer:",
    "facts": [["France", "Paris"], ["Italy", "Rome"]],
}


def refused(read: Any, *given: Any) -> str:
    """The complaint of a reader, without the folder that its files lie in.

    Raises:
        AssertionError: if it complains of nothing.
    """
    try:
        read(*given)
    except ValueError as error:
        return str(error)
    raise AssertionError(f"{given} is taken")


def study(text: str, typed: Mapping[str, Any] | None = None) -> str:
    """What the check of a configuration says of settings laid over the default study, or typed on top of it."""
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text("utf-8"))
    update_config(config, yaml.safe_load(text) or {})
    update_config(config, typed or {})
    models = {name: row.n_layers for name, row in read_models(ROOT / "config/models.tsv").items()}
    said = refused(read_study, config, ROOT, models, [], typed)
    head, *lines = said.split("\n  ")
    assert head == "the configuration is not right:"
    return " | ".join(lines)


def table(name: str, old: str, new: str, folder: Path) -> str:
    """What is said of a table of `config/` with a change in it."""
    text = (ROOT / "config" / name).read_text("utf-8")
    assert old in text
    path = folder / name
    path.write_text(text.replace(old, new, 1), "utf-8")
    models = {each: row.n_layers for each, row in read_models(ROOT / "config/models.tsv").items()}
    readers = {
        "models.tsv": read_models,
        "editors.tsv": lambda path: read_editors(path, models),
        "datasets.tsv": lambda path: list(read_rows(path, DatasetRow)),
    }
    return refused(readers[name], path).replace(f"{folder}/", "")


def relation(change: str | Mapping[str, object], folder: Path) -> str:
    """What is said of a relation file: the text, or a right one with other values."""
    path = folder / "capital.yaml"
    text = change if isinstance(change, str) else yaml.safe_dump(RELATION | dict(change), allow_unicode=True)
    path.write_text(text, "utf-8")
    return refused(read_relation, path).replace(f"{folder}/", "")


def command(arguments: list[str], model: Path) -> str:
    """The line of a command that must end with exit code 2, and write nothing else."""
    out, err = io.StringIO(), io.StringIO()
    given = [each.replace(MODEL, str(model)) for each in arguments]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main([*given, "--quiet"] if given and given[0] in cli.COMMANDS else given)
    said = err.getvalue()
    assert code == 2, f"exit code {code}: {out.getvalue()}{said}"
    assert out.getvalue() == ""
    assert said.count("\n") == 1
    return said.removeprefix("knowcirc: error: ").rstrip("\n").replace(str(model), MODEL)


def changed_model(change: Mapping[str, Any], model: Path, place: Path) -> Path:
    """A copy of a model's folder with a change in it."""
    shutil.copytree(model, place)
    for name in change.get("remove", []):
        (place / name).unlink()
    for name, text in change.get("write", {}).items():
        (place / name).write_text(text, "utf-8")
    if "rename" in change:
        old, new = change["rename"]
        (place / old).rename(place / new)
    if "config" in change or "drop" in change:
        config = json.loads((place / "config.json").read_text("utf-8")) | change.get("config", {})
        config.pop(change.get("drop"), None)
        (place / "config.json").write_text(json.dumps(config), "utf-8")
    if "spoil" in change:
        name, value = change["spoil"]
        weights = load_file(place / "model.safetensors")
        weights[name].flatten()[3] = float(value)
        save_file(weights, place / "model.safetensors", {"format": "pt"})
    return place
