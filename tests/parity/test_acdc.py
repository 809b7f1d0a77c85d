"""Exact ACDC against complete recorded runs of zjunlp/KnowledgeCircuits (commit bda3d22) on two tiny random models.

`fixtures/acdc_tiny/*/acdc*.json` list every test of a run in order with its score: GPT-2 with the paper's weight
processing and without any, and Llama with one K/V input a query head; signed and absolute scores.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from knowcirc.circuits.acdc import PROJECTION, Criterion, acdc
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.metrics import make_task
from knowcirc.models.loading import load

FOLDER = Path(__file__).parent / "fixtures" / "acdc_tiny"
CASES = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.glob("*/acdc*.json"))
TOLERANCE = {"float64": 1e-6, "float32": 1e-5}


def test_all_recorded_runs_are_there() -> None:
    assert len(CASES) == 5


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_every_recorded_test_is_reproduced(case: str, fast: bool, dtype: str) -> None:
    recorded: dict[str, Any] = json.loads((FOLDER / case).read_text("utf-8"))
    processing = "folded" if recorded["processing"]["fold_ln"] else "none"
    folder = (FOLDER / case).parent / "model"
    model = load(folder, device="cpu", dtype=dtype, processing=processing, fast=fast).transformer
    graph = Graph.of(model.shape, "per_head")
    assert graph.n_edges == recorded["edges_total"]["ADDITION"]
    assert graph.projections.sum() == recorded["edges_total"]["DIRECT_COMPUTATION"]
    task = make_task("kc-nll", [recorded["prompt"]], [recorded["target"]])
    found = acdc(model, graph, task, Criterion(recorded["tau"], recorded["abs_value_threshold"]))

    senders, receivers = graph.node_names
    tests = []
    for test in found.tests:
        receiver = receivers[test.dst]
        if test.src == PROJECTION:
            tests.append((receiver.removesuffix("_in"), receiver, test.kept))
        else:
            tests.append((receiver, senders[test.src], test.kept))
    assert tests == [(test["receiver"], test["sender"], test["kept"]) for test in recorded["tests"]]
    scores = [test["score"] for test in recorded["tests"]]
    np.testing.assert_allclose([test.score for test in found.tests], scores, rtol=0, atol=TOLERANCE[dtype])

    kept = {(receivers[dst], senders[src]) for src, dst in graph.edges(found.edges)}
    kept |= {(receivers[dst].removesuffix("_in"), receivers[dst]) for dst in np.flatnonzero(found.projections)}
    assert kept == {(receiver, sender) for receiver, sender, _ in recorded["kept_edges"]}
    assert found.metric_circuit == pytest.approx(recorded["final_metric"], abs=TOLERANCE[dtype])
