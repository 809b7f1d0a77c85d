"""Causal tracing of the default model against plain runs of the Hugging Face network at a few sites."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from knowcirc.facts.prompts import Prompt, fill
from knowcirc.models.loading import LanguageModel, load
from knowcirc.tracing.causal import KINDS, SEVERED, TraceSettings, embedding_deviation, trace_fact
from plain_tracing import PlainTracing

LAYERS = (0, 6, 20, 29)
ROME_WINDOW = 10


@pytest.fixture(scope="module")
def model(real_model_folder: Path) -> LanguageModel:
    return load(real_model_folder, device="cpu", fast=True)


@pytest.fixture(scope="module")
def prompt(model: LanguageModel) -> Prompt:
    return fill(model.text, "In {}, the official language is", "Sri Lanka", "Sinhala")


@pytest.mark.parametrize(("distribution", "extra"), [("gaussian", 0), ("uniform", 1)])
def test_effects_are_those_of_plain_runs(model: LanguageModel, prompt: Prompt, distribution: str, extra: int) -> None:
    noise = 3 * embedding_deviation(model, [prompt])
    settings = TraceSettings(noise, 2, ROME_WINDOW, 1, (*KINDS, *SEVERED))
    settings = replace(settings, distribution=distribution, extra=extra)  # type: ignore[arg-type]
    trace, plain = trace_fact(model, prompt, settings), PlainTracing(model, prompt, settings)
    assert trace.p_clean == pytest.approx(plain.p(), abs=1e-4)
    assert trace.total > 0.1
    sites = [(layer, position) for layer in LAYERS for position in (prompt.subject_last, len(prompt.ids) - 1)]
    for kind in settings.kinds:
        ours = [trace.effects[kind][site] for site in sites]
        np.testing.assert_allclose(ours, plain.effects(kind, sites), rtol=0, atol=1e-4)
    assert trace.effects["state"][-1, -1] == pytest.approx(trace.total, abs=1e-6)
