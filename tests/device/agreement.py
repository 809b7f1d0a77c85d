"""Whether a device computes what the CPU does: every method's circuit, traces, edits, on small models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from device.shapes import SMALL, prompts_of, save
from knowcirc.circuits.circuit_settings import CircuitSettings
from knowcirc.circuits.discovery import Circuit
from knowcirc.circuits.evaluation import circuit_logits
from knowcirc.circuits.finding import find_circuit
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.methods import METHODS
from knowcirc.editing.editors import EDITORS
from knowcirc.editing.edits import Edit, Material, request
from knowcirc.editing.making import make_edit
from knowcirc.facts.prompts import Prompt
from knowcirc.models.loading import LanguageModel, load
from knowcirc.tracing.causal import ALL_KINDS, TraceSettings, trace_fact

ROUNDING = 1e-3
"""How far numbers of two devices may lie apart, as a share of the largest: float32 sums in another order."""
ALIKE = 0.98  # Jaccard similarity of circuits: an edge whose score is as good as another's may stand for it
SETTINGS: dict[str, Any] = {
    "criterion": {"tau": 0.02, "metric": "nll", "absolute": False, "ablation": "zero"},
    "share": 0.3,
    "prompts": 3,
    "standing": {"steps": 40, "polish": 1},
}
EDIT_LAYER, EDIT_STEPS = 1, 5


def compare(folder: Path, device: str) -> list[dict[str, object]]:
    """Each comparison: what, on which model, how far apart, and whether that is near enough."""
    found: list[dict[str, object]] = []
    for shape in SMALL:
        path = save(shape, folder / shape.name)
        for dtype in ("float32", "float64"):
            here, there = (load(path, device=name, dtype=dtype) for name in ("cpu", device))
            prompts = prompts_of(here, 4)
            checks = {**_circuits(prompts), "tracing": _trace(prompts[0]), **_edits()}
            for what, check in checks.items():
                apart, most = check(here, there)
                about = {"model": shape.name, "dtype": dtype, "what": what}
                found.append({**about, "apart": apart, "most": most, "agrees": bool(apart <= most)})
    return found


Check = Callable[[LanguageModel, LanguageModel], tuple[float, float]]


def _circuits(prompts: list[Prompt]) -> dict[str, Check]:
    """Of each method: the share of edges that differ; and what the CPU's circuit says on both devices."""

    def find(model: LanguageModel, method: str) -> Circuit:
        graph = Graph.of(model.transformer.shape, "grouped")
        own = METHODS[method].settings
        settings = CircuitSettings(method, **{name: value for name, value in SETTINGS.items() if name in own})
        return find_circuit(model, graph, prompts, [None] * len(prompts), settings, seed=1)[0]

    def check_of(method: str) -> Check:
        def check(here: LanguageModel, there: LanguageModel) -> tuple[float, float]:
            one, other = (find(model, method).edges for model in (here, there))
            return 1 - float((one & other).sum() / (one | other).sum()), 1 - ALIKE

        return check

    def evaluate(here: LanguageModel, there: LanguageModel) -> tuple[float, float]:
        graph = Graph.of(here.transformer.shape, "grouped")
        edges = find(here, "eap-ig-zero").edges
        one, other = (circuit_logits(model, graph, [edges], prompts).cpu() for model in (here, there))
        return _apart(one, other), ROUNDING

    return {**{method: check_of(method) for method in METHODS}, "circuit alone": evaluate}


def _trace(prompt: Prompt) -> Check:
    settings = TraceSettings(noise=1.0, draws=3, window=3, seed=1, kinds=ALL_KINDS)

    def check(here: LanguageModel, there: LanguageModel) -> tuple[float, float]:
        one, other = (trace_fact(model, prompt, settings) for model in (here, there))
        effects = [np.stack([trace.effects[kind] for kind in ALL_KINDS]) for trace in (one, other)]
        return _apart(*map(torch.from_numpy, effects)), ROUNDING

    return check


def _edits() -> dict[str, Check]:
    def check_of(editor: str) -> Check:
        def check(here: LanguageModel, there: LanguageModel) -> tuple[float, float]:
            one, other = (_edit(model, editor) for model in (here, there))
            changes = [_changes(model, edit) for model, edit in ((here, one), (there, other))]
            return _apart(*changes), 10 * ROUNDING  # a gradient's steps add up what rounding does

        return check

    return {editor: check_of(editor) for editor, entry in EDITORS.items() if not entry.in_context}


def _edit(model: LanguageModel, editor: str) -> Edit:
    size = model.transformer.shape.d_mlp
    moment = torch.eye(size, device=model.device) + 1 / size
    entry = EDITORS[editor]
    chosen = {"layer": EDIT_LAYER} if entry.layered else {}
    settings = {**chosen, **({"steps": EDIT_STEPS} if "steps" in entry.settings.model_fields else {})}
    settings |= {"nullspace_threshold": 2.0} if "nullspace_threshold" in entry.chosen else {}
    material = Material(lambda _: moment, lambda: [(30, 31, 32), (40, 41)])
    return make_edit(editor, model, request(model, "w3 w4 {} w6", "w20 w60", "w77"), settings, material)


def _changes(model: LanguageModel, edit: Edit) -> Tensor:
    """What an edit adds to the weights, all matrices one after the other."""
    return torch.cat([(value - matrix.view(model.own)).flatten().cpu() for matrix, value in edit.weights.items()])


def _apart(one: Tensor, other: Tensor) -> float:
    """The largest difference, as a share of the largest number."""
    return float((one - other).abs().max() / one.abs().max().clamp(min=1e-12))
