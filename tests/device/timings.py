"""What searches, traces and edits take on a device, on models in the shapes of real ones, and the memory they need.

A search that would take longer than its share of the time is stopped, and its whole time extrapolated from the share of
its work that was done (`Progress.work`); such times are marked.
"""

import contextlib
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from device.shapes import Model, prompts_of, save
from knowcirc.circuits.acdc import Criterion, Progress, acdc, begin
from knowcirc.circuits.discovery import attribute
from knowcirc.circuits.graph import EdgeMatrix, Graph
from knowcirc.circuits.metrics import make_task
from knowcirc.circuits.standing import Standing, begin_standing
from knowcirc.circuits.standing_files import settings_for
from knowcirc.editing.edits import Material, request
from knowcirc.editing.making import make_edit
from knowcirc.facts.prompts import Prompt
from knowcirc.models.loading import LanguageModel, load
from knowcirc.models.packing import packed
from knowcirc.tracing.causal import ALL_KINDS, TraceSettings, trace_fact

MEBI = 2**20
KEPT = 0.5  # tau is the absolute score that so many edges lie below: about a sixteenth stay then
PROMPTS, FACTS, EDITS, DRAWS, WINDOW = 20, 20, 5, 10, 10


class _EnoughError(Exception):
    """The share of the time is used up."""


def measure(model: Model, folder: Path, device: str, limit: float, number: int) -> dict[str, object]:
    """Seconds and memory of each part on one model; no part takes much longer than `limit` seconds.

    `number`: prompts and facts, 20 where shapes are those of real models.
    """
    loaded = load(save(model, folder / model.name), device=device)
    loaded = replace(loaded, transformer=packed(loaded.transformer))
    graph = Graph.of(loaded.transformer.shape, "grouped")
    prompts = prompts_of(loaded, number)
    scores = attribute(loaded, graph, prompts, [None] * number, "eap-ig-zero")  # once before times count
    parts: dict[str, Callable[[], dict[str, object]]] = {
        "EAP-IG": lambda: _attribution(loaded, graph, prompts),
        "exact ACDC, one prompt": lambda: _acdc(loaded, graph, prompts[:1], limit, 0),
        "exact ACDC, top quarter of the layers": lambda: _acdc(loaded, graph, prompts, limit, 3 * graph.n_layers // 4),
        "standing circuit": lambda: _standing(loaded, graph, prompts, scores, limit),
        "causal tracing": lambda: _tracing(loaded, prompts[: min(number, FACTS)], limit),
        "ROME": lambda: _editing(loaded, min(number, EDITS)),
    }
    return {what: _measured(part, loaded.device) for what, part in parts.items()}


def _measured(part: Callable[[], dict[str, object]], device: torch.device) -> dict[str, object]:
    """What a part says, with its seconds and the most memory that it held."""
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    found = part()
    if on_gpu:
        torch.cuda.synchronize(device)
        found["gpu_mib"] = torch.cuda.max_memory_allocated(device) // MEBI
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"seconds": time.perf_counter() - start, **found, "peak_mib_so_far": peak}


def _attribution(model: LanguageModel, graph: Graph, prompts: list[Prompt]) -> dict[str, object]:
    attribute(model, graph, prompts, [None] * len(prompts), "eap-ig-zero")
    return {"prompts": len(prompts)}


def _acdc(model: LanguageModel, graph: Graph, prompts: list[Prompt], limit: float, first: int) -> dict[str, object]:
    """The search down to layer `first`, or as far as the time allows."""
    start, done = time.perf_counter(), [0.0, 0.0]
    task = make_task("nll", [prompt.ids for prompt in prompts], [prompt.answer[0] for prompt in prompts])
    scores = attribute(model, graph, prompts, [None] * len(prompts), "eap-ig-zero")
    search = begin(graph)

    def report(progress: Progress) -> None:
        done[1] = progress.work
        if time.perf_counter() - start > limit or search.next_layer < first:
            raise _EnoughError

    with contextlib.suppress(_EnoughError):
        acdc(model.transformer, graph, task, Criterion(_tau(graph, scores)), search=search, report=report)
    seconds = time.perf_counter() - start
    return {
        "prompts": len(prompts),
        "tests": len(search.tests),
        "kept": sum(test.kept for test in search.tests),
        "tests_a_second": len(search.tests) / seconds,
        "work_done": done[1],
        "whole_s": seconds / done[1],
        "extrapolated": search.next_layer >= 0,
    }


def _tau(graph: Graph, scores: EdgeMatrix) -> float:
    """The threshold that most edges' scores by attribution lie below: a removal adds to the loss what it takes off."""
    return float(np.quantile(np.abs(scores[graph.valid]), KEPT))


def _standing(
    model: LanguageModel, graph: Graph, prompts: list[Prompt], scores: EdgeMatrix, limit: float
) -> dict[str, object]:
    """The search for a circuit of a tenth of the edges, step by step while there is time."""
    start = time.perf_counter()
    task = make_task("nll+kl", [prompt.ids for prompt in prompts], [prompt.answer[0] for prompt in prompts])
    search = Standing(
        model.transformer, graph, task, settings_for(graph, graph.n_edges // 10), begin_standing(graph, scores)
    )
    while not search.finished and time.perf_counter() - start < limit:
        search.step()
    left = int(search.search.edges.sum())
    return {
        "prompts": len(prompts),
        "steps": search.search.step,
        "edges": graph.n_edges,
        "edges_left": left,
        "finished": search.finished,
    }


def _tracing(model: LanguageModel, prompts: list[Prompt], limit: float) -> dict[str, object]:
    start, facts = time.perf_counter(), 0
    settings = TraceSettings(noise=1.0, draws=DRAWS, window=WINDOW, seed=1, kinds=ALL_KINDS)
    for prompt in prompts:
        if time.perf_counter() - start > limit:
            break
        trace_fact(model, prompt, settings)
        facts += 1
    seconds = (time.perf_counter() - start) / facts
    return {"facts": facts, "draws": DRAWS, "seconds_a_fact": seconds, "extrapolated": facts < len(prompts)}


def _editing(model: LanguageModel, number: int) -> dict[str, object]:
    size, layers = model.transformer.shape.d_mlp, model.transformer.shape.n_layers
    moment = torch.eye(size, device=model.device) + 1 / size
    material = Material(lambda _: moment, lambda: [(30 + i, 31 + i, 32 + i, 33 + i, 34 + i) for i in range(10)])
    for i in range(number):
        asked = request(model, "w3 w4 w5 {} w6 w7", f"w{20 + i} w{60 + 7 * i % 97}", f"w{80 + i}")
        make_edit("rome", model, asked, {"layer": layers // 6, "stop_loss": 0.0}, material)
    return {"edits": number}
