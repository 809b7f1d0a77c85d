"""Causal tracing beside plain restored runs, and how its time grows with layers, tokens and draws.

The plain reference (`tests/plain_tracing.py`) takes one whole forward pass of the network per site and draw. It is
timed on some sites, spread over kinds, layers and positions, and its time for all is extrapolated.
"""

import math
import random
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.growth import MOST, Point, random_transformer
from benchmarks.timing import duration, median_of, once, say, table
from knowcirc.facts.prompts import Prompt, fill
from knowcirc.models.loading import LanguageModel
from knowcirc.models.packing import packed
from knowcirc.models.weights import Weights
from knowcirc.tracing.causal import KINDS, SEVERED, Kind, TraceSettings, embedding_deviation, trace_fact
from plain_tracing import PlainTracing

TEMPLATE, SUBJECT, ANSWER = "In {}, the official language is", "Sri Lanka", "Sinhala"
GROWTH = {"layers": (4, 8, 16), "tokens": (8, 16, 32), "draws": (2, 4, 8)}
WINDOW, SEED = 10, 1


def measure_tracing(model: LanguageModel, *, sites: int, rounds: int, quick: bool) -> dict[str, object]:
    """Both sections: beside the plain reference on `sites` sites, and growth."""
    return {"plain": beside_plain(model, sites), "growth": measure_tracing_growth(quick=quick, rounds=rounds)}


def beside_plain(model: LanguageModel, sites: int) -> dict[str, object]:
    """Seconds of one fact's trace, plain and ours, and the largest difference of their effects."""
    prompt = fill(model.text, TEMPLATE, SUBJECT, ANSWER)
    kinds = (*KINDS, *SEVERED)
    settings = TraceSettings(3 * embedding_deviation(model, [prompt]), 3, WINDOW, SEED, kinds)
    fast = replace(model, transformer=packed(model.transformer))
    n_layers = model.transformer.shape.n_layers
    everything = list(product(kinds, range(n_layers), range(_first(prompt), len(prompt.ids))))
    chosen = random.Random(0).sample(everything, min(sites, len(everything)))
    plain = PlainTracing(model, prompt, settings)
    passes, plain_s, effects = time_plain(plain, chosen)
    trace = trace_fact(fast, prompt, settings)
    ours_s = median_of(lambda: trace_fact(fast, prompt, settings), 3, warm_up=False)
    unpacked_s = once(lambda: trace_fact(model, prompt, settings))
    passes_after, plain_after_s, _ = time_plain(plain, chosen)
    a_pass = (plain_s + plain_after_s) / (passes + passes_after)
    runs = len(everything) * settings.draws
    worst = max(abs(trace.effects[kind][layer, at] - effects[kind, layer, at]) for kind, layer, at in chosen)
    size = f"{len(prompt.ids)} tokens, {len(kinds)} kinds, {settings.draws} draws, {runs:,} restored runs"
    say(f"Causal tracing of one fact: {size}")
    rows: list[list[object]] = [
        [f"plain (from {passes + passes_after} of its passes)", duration(runs * a_pass), 1e3 * a_pass, 1.0],
        ["ours", duration(unpacked_s), 1e3 * unpacked_s / runs, runs * a_pass / unpacked_s],
        ["ours, packed", duration(ours_s), 1e3 * ours_s / runs, runs * a_pass / ours_s],
    ]
    table(["", "all runs", "ms per run", "times as fast"], rows)
    say(f"  largest difference of effects on {len(chosen)} sites: {worst:.1e} (probability)\n")
    return {
        "tokens": len(prompt.ids),
        "runs": runs,
        "plain_ms_a_pass": 1e3 * a_pass,
        "plain_passes": passes + passes_after,
        "plain_s": runs * a_pass,
        "ours_s": unpacked_s,
        "ours_packed_s": ours_s,
        "times_as_fast": runs * a_pass / ours_s,
        "difference": worst,
    }


def time_plain(
    plain: PlainTracing, sites: list[tuple[Kind, int, int]]
) -> tuple[int, float, dict[tuple[Kind, int, int], float]]:
    """How many restored passes the plain reference took for sites, their seconds alone, and the effects."""
    clean, seconds = plain.values(), 0.0
    effects = dict.fromkeys(sites, 0.0)
    for noise in plain.noise():
        corrupted, base = plain.values(noise), plain.p(noise)
        for site in sites:
            places, found = plain.places(*site, clean, corrupted), [0.0]
            seconds += once(lambda noise=noise, places=places, found=found: found.append(plain.p(noise, places)))  # type: ignore[misc]
            effects[site] += (found[-1] - base) / plain.settings.draws
    return len(sites) * plain.settings.draws, seconds, effects


def measure_tracing_growth(*, quick: bool, rounds: int) -> list[dict[str, object]]:
    """Ours on random networks, one factor varied at a time; a subject of two tokens at the prompt's start."""
    say("Growth of causal tracing: random Llama networks, all kinds, one factor at a time")
    say("(the exponent is that of time between a factor's least and greatest value)")
    base = {name: values[0] for name, values in GROWTH.items()}
    results: list[dict[str, object]] = []
    rows: list[list[object]] = []
    for factor, values in GROWTH.items():
        chosen = values[:2] if quick else values
        seconds = [_time(**{**base, factor: value}, rounds=rounds) for value in chosen]
        results += [{"factor": factor, **base, factor: v, "seconds": s} for v, s in zip(chosen, seconds, strict=True)]
        rows += [[factor, value, 1e3 * s] for value, s in zip(chosen, seconds, strict=True)]
        exponent = math.log(seconds[-1] / seconds[0], chosen[-1] / chosen[0])
        rows[-1][-1] = f"{1e3 * seconds[-1]:.3g} (^{exponent:.1f})"
    table(["factor", "value", "ms"], rows)
    return results


def _time(layers: int, tokens: int, draws: int, rounds: int) -> float:
    network: Any = random_transformer(Point("llama", layers))
    config = SimpleNamespace(model_type="llama", max_position_embeddings=MOST)
    model = LanguageModel(Weights({}), config, None, packed(network), Path(), network)
    ids = torch.randint(1, 1000, (tokens,), generator=torch.Generator().manual_seed(1))
    prompt = Prompt("", tuple(ids.tolist()), (1, 3), "", (1,))
    settings = TraceSettings(0.3, draws, WINDOW, SEED, (*KINDS, *SEVERED))
    return median_of(lambda: trace_fact(model, prompt, settings), rounds)


def _first(prompt: Prompt) -> int:
    return prompt.span[0] if prompt.span else 0
