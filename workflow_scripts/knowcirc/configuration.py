"""Check a study's configuration before anything runs: against the schema, the tables and the relation files."""

import difflib
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from knowcirc.circuits.methods import METHODS, RANDOM
from knowcirc.models.table import ModelRow

DEVICES = Path("/dev")


def schema_errors(config: dict[str, Any], schema_path: Path) -> list[str]:
    """One line for each place where the configuration departs from its schema."""
    schema = yaml.safe_load(schema_path.read_text("utf-8"))
    schema["$defs"]["method"] = {"enum": [name for name in METHODS if name != RANDOM]}
    lines: list[str] = []
    for error in sorted(
        Draft202012Validator(schema).iter_errors(config), key=lambda e: list(map(str, e.absolute_path))
    ):
        where = ".".join(map(str, error.absolute_path)) or "config"
        if error.validator == "additionalProperties":
            known = list(error.schema.get("properties", {}))
            lines += [
                f"{where}: unknown key {key!r}{_hint(key, known)}" for key in sorted(set(error.instance) - set(known))
            ]
        else:
            lines.append(f"{where}: {error.message}")
    return lines


def reference_errors(config: dict[str, Any], models: dict[str, ModelRow], relations: set[str]) -> list[str]:
    """One line for each name in the configuration that no table or relation file has, and other contradictions."""
    lines = [
        f"models: {name!r} is not in models.tsv{_hint(name, list(models))}"
        for name in config["models"]
        if name not in models
    ]
    names = config["relations"]["names"]
    lines += [
        f"relations.names: unknown relation {name!r}{_hint(name, sorted(relations))}"
        for name in names
        if name not in relations
    ]
    used = {
        f"{part}.relations": config[part]["relations"]
        for part in ("tracing", "comparison", "editing", "icl", "reverse")
    }
    used["hops.compositions"] = [each[hop] for each in config["hops"]["compositions"] for hop in ("first", "second")]
    for key, wanted in used.items():
        missing = [name for name in dict.fromkeys(wanted) if name not in names]
        if len(missing) == 1:
            lines.append(f"{key}: {missing[0]!r} is not in relations.names{_hint(missing[0], names)}")
        elif missing:
            lines.append(f"{key}: {', '.join(map(repr, missing))} are not in relations.names")
    if config["showcase"]["relation"] not in names:
        lines.append(f"showcase.relation: {config['showcase']['relation']!r} is not in relations.names")
    mirror, corpus = config["mirror"], config["moments"]["corpus"]
    if mirror is not None and not Path(mirror).is_dir():
        lines.append(f"mirror: folder {mirror!r} does not exist; correct the path or set it to null")
    if corpus is not None and not Path(corpus).is_file():
        lines.append(f"moments.corpus: file {corpus!r} does not exist; correct the path or set it to null")
    return lines


@cache  # asked for every job
def uses_gpu(device: str) -> bool:
    """Whether the device of the configuration is a GPU; with `auto`, whether this machine shows one.

    Found without torch, which takes seconds to import. On a cluster's login node without a GPU `auto` means CPUs: say
    `cuda` there (profiles/slurm does).
    """
    if device != "auto":
        return device.startswith("cuda")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return False
    if any(DEVICES.glob("nvidia[0-9]*")):
        return True
    if (tool := shutil.which("nvidia-smi")) is None:
        return False
    try:
        listed = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and listed.stdout.startswith("GPU ")


def _hint(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return (
        f", did you mean {near[0]!r}?"
        if near
        else f" (known: {', '.join(known[:12])}{', ...' if len(known) > 12 else ''})"
    )
