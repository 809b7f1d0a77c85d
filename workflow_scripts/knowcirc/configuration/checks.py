"""Check a study's configuration before anything runs: its settings, and the tables and relation files that it names."""

import os
import shutil
import subprocess
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from knowcirc.configuration.relations import relation_errors
from knowcirc.configuration.study import EditingBase, Study
from knowcirc.configuration.typed import as_meant
from knowcirc.editing.editors import EDITORS
from knowcirc.facts.relations import read_relations
from knowcirc.facts.sources import SOURCES
from knowcirc.fields import hint, lines_of

DEVICES = Path("/dev")


def read_study(
    config: Mapping[str, Any],
    root: Path,
    models: Mapping[str, int],
    datasets: Sequence[str],
    typed: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """All settings of a study, those that the configuration leaves out with their defaults.

    `models` are the rows of models.tsv with their numbers of layers, `datasets` the rows of datasets.tsv; `typed` is
    what of the configuration comes from the command line.

    Raises:
        ValueError: with one line for each mistake: where it stands, what is wrong, and what may have been meant.
    """
    config = as_meant(Study, config, typed or {})
    errors = setting_errors(config)
    if not errors:
        study = Study.model_validate(config)
        source = SOURCES[study.relations.source]
        known = source.relations(root, datasets)
        errors = reference_errors(study, models, known)
        if not errors and not source.dataset:
            files = [str(root / known[name]) for name in study.relations.names]
            errors = relation_errors(study, read_relations(source.name, files))
    if errors:
        raise ValueError("the configuration is not right:\n  " + "\n  ".join(errors))
    return study.model_dump(by_alias=True)


def setting_errors(config: Mapping[str, Any]) -> list[str]:
    """One line for each setting that is unknown, missing, or not what it must be."""
    try:
        Study.model_validate(dict(config))
    except ValidationError as error:
        return lines_of(error, Study)
    return []


def reference_errors(study: Study, models: Mapping[str, int], relations: Collection[str]) -> list[str]:
    """One line for each name in the configuration that no table or relation file has, and other contradictions.

    `models` are those of models.tsv with their numbers of layers.
    """
    lines = [
        f"models: {name!r} is not in models.tsv{hint(name, list(models))}"
        for name in study.models
        if name not in models
    ]
    editing = cast(EditingBase, study.editing)  # made from the registry, which the type checker does not see
    lines += _layer_errors(editing.circuits.layers, models) + _head_errors(study, models)
    lines += [
        f"editing.circuits.editors: {name} "
        + ("leaves the weights alone" if EDITORS[name].in_context else "has no layer to choose")
        + ", edits are followed at chosen layers; leave it out"
        for name in editing.circuits.editors
        if not EDITORS[name].layered
    ]
    names = study.relations.names
    lines += [
        f"relations.names: unknown relation {name!r}{hint(name, sorted(relations))}"
        for name in names
        if name not in relations
    ]
    used, more = _named_relations(study)
    lines += more
    for key, needed in used.items():
        missing = [name for name in dict.fromkeys(needed) if name not in names]
        if len(missing) == 1:
            lines.append(f"{key}: {missing[0]!r} is not in relations.names{hint(missing[0], names)}")
        elif missing:
            lines.append(f"{key}: {', '.join(map(repr, missing))} are not in relations.names")
    if (shown := study.showcase.relation) not in names:
        lines.append(f"showcase.relation: {shown!r} is not in relations.names")
    if study.icl.shown is not None and study.icl.shown.relation not in study.icl.relations:
        lines.append(f"icl.shown.relation: {study.icl.shown.relation!r} is not in icl.relations")
    mirror, corpus = study.mirror, study.moments.corpus
    if mirror is not None and not Path(mirror).is_dir():
        lines.append(f"mirror: folder {mirror!r} does not exist; correct the path or set it to null")
    if corpus is not None and not Path(corpus).is_file():
        lines.append(f"moments.corpus: file {corpus!r} does not exist; correct the path or set it to null")
    lines += _sequence_errors(editing, corpus)
    return lines


def _named_relations(study: Study) -> tuple[dict[str, list[str]], list[str]]:
    """The relations that parts of the study name, by place, and one line for each contradiction among them."""
    lines: list[str] = []
    parts = ("tracing", "comparison", "editing", "icl", "reverse")
    used = {f"{part}.relations": getattr(study, part).relations for part in parts}
    if study.stability is not None:
        used["stability.relations"] = study.stability.relations or []
        lines += [
            f"stability.methods: {name!r} is not in circuits.methods, whose circuits of all relations are compared with"
            for name in study.stability.methods or ()
            if name not in study.circuits.methods
        ]
    used["hops.compositions"] = [
        name for each in study.hops.compositions for name in (each.first, each.second, each.direct) if name
    ]
    pairs = [f"{each.first}+{each.second}" for each in study.hops.compositions]
    lines += [
        f"hops.compositions: {pair} stands twice; keep one"
        for number, pair in enumerate(pairs)
        if pair in pairs[:number]
    ]
    return used, lines


def _sequence_errors(editing: EditingBase, corpus: str | None) -> list[str]:
    """One line for each editor that nothing adds up of in a sequence, and for a text that is not there or not unseen.

    `corpus` is the file of the second moments: both take the beginning of theirs.
    """
    lines = [
        f"editing.sequential.editors: {name} leaves the weights alone, nothing adds up; leave it out"
        for name in (editing.sequential.editors if editing.sequential else None) or ()
        if EDITORS[name].in_context
    ]
    text = None if editing.sequential is None else editing.sequential.text_file
    if text is not None and not Path(text).is_file():
        lines.append(f"editing.sequential.text_file: file {text!r} does not exist; correct the path or set it to null")
    elif text is not None and corpus is not None and Path(text).resolve() == Path(corpus).resolve():
        lines.append(
            f"editing.sequential.text_file: {text!r} is moments.corpus, too, and editors draw on it; give a text that "
            "no edit has seen, or set it to null"
        )
    return lines


def _head_errors(study: Study, models: Mapping[str, int]) -> list[str]:
    """One line for each model that lacks the layers whose heads are traced."""
    if study.tracing.heads is None or study.tracing.heads.layers is None:
        return []
    low, high = study.tracing.heads.layers
    if low > high:
        return [f"tracing.heads.layers: {low} is above {high}; give the first layer, then the last"]
    return [
        f"tracing.heads.layers: layer {high} does not exist; {name} has layers 0 to {models[name] - 1}"
        for name in study.models
        if name in models and high >= models[name]
    ]


def _layer_errors(layers: Mapping[str, Sequence[int]], models: Mapping[str, int]) -> list[str]:
    """One line for each model whose edited layers are given and that no table has, and for each layer that is none."""
    place, lines = "editing.circuits.layers", []
    for name, chosen in layers.items():
        if name not in models:
            lines.append(f"{place}: {name!r} is not in models.tsv{hint(name, list(models))}")
            continue
        lines += [
            f"{place}.{name}: layer {layer} does not exist; the model has layers 0 to {models[name] - 1}"
            for layer in chosen
            if layer >= models[name]
        ]
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
