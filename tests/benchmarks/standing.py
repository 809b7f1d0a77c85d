"""What the search `standing` costs: its steps on several prompts, beside a plain forward pass of the same prompts."""

import time
from collections.abc import Sequence

import numpy as np

from benchmarks.timing import once, say, table
from knowcirc.circuits.discovery import attribute
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.metrics import make_task
from knowcirc.circuits.standing import Standing, begin_standing
from knowcirc.circuits.standing_files import settings_for
from knowcirc.facts.prompts import Prompt
from knowcirc.models.loading import LanguageModel
from knowcirc.models.token_tree import next_logits

SHARE = 0.1  # of the edges, at most in the circuit
QUICK = 4  # steps


def measure_standing(
    model: LanguageModel, graph: Graph, prompts: Sequence[Prompt], *, quick: bool
) -> dict[str, object]:
    """Seconds of the first scores and of the steps, the first few or all, by nll+kl under zero ablation."""
    task = make_task("nll+kl", [prompt.ids for prompt in prompts], [prompt.answer[0] for prompt in prompts])
    passing = once(lambda: next_logits(model.transformer, task.tree))
    start = time.perf_counter()
    scores = attribute(model, graph, prompts, [None] * len(prompts), "eap-ig-zero")
    scoring = time.perf_counter() - start
    settings = settings_for(graph, round(SHARE * graph.n_edges))
    search = Standing(model.transformer, graph, task, settings, begin_standing(graph, scores))
    seconds: list[float] = []
    while not search.finished and not (quick and len(seconds) == QUICK):
        seconds.append(once(search.step))
    found, total = search.search, sum(seconds)
    present = int(found.edges.sum())
    say(f"The search standing: {len(prompts)} prompts, {len(task.tree)} positions, nll+kl, zero ablation")
    rows: list[list[object]] = [
        ["a plain forward pass of the prompts", f"{passing:.2f} s"],
        ["first scores (eap-ig-zero)", f"{scoring:.1f} s"],
        [f"{len(seconds)} steps", f"{total:.1f} s, the median {np.median(seconds):.2f} s"],
        ["changed circuits measured", f"{found.rows}"],
        ["edges left", f"{present:,} of {graph.n_edges:,}"],
    ]
    if found.best is not None:
        rows.append(["nll+kl of the circuit", f"{found.best_metric:.3f} nats at {int(found.best.sum()):,} edges"])
    table(["", ""], rows)
    return {
        "prompts": len(prompts),
        "positions": len(task.tree),
        "forward_s": passing,
        "scoring_s": scoring,
        "steps_s": seconds,
        "rows": found.rows,
        "edges_left": present,
        "nll_kl_circuit": found.best_metric if found.best is not None else None,
    }
