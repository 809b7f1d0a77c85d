"""What several prompts with a common beginning cost: exact search against one prompt, all else against no sharing."""

import contextlib
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from benchmarks.timing import say, side_by_side, table
from knowcirc.circuits.acdc import Criterion, Search, acdc, begin
from knowcirc.circuits.attribution import Targets, score_edges
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.metrics import make_task
from knowcirc.circuits.patched import record, run_circuit
from knowcirc.facts.prompts import Prompt
from knowcirc.models.token_tree import TokenTree, apart, grow
from knowcirc.models.transformer import Transformer

TAU = 0.05  # nats


class _EnoughError(Exception):
    """The search has gone as far down as it is to."""


def measure_sharing(
    model: Transformer, graph: Graph, prompts: Sequence[Prompt], partners: Sequence[Prompt], *, first: int, rounds: int
) -> dict[str, object]:
    """Seconds of exact ACDC down to the layer `first` on one prompt and on all; of attribution and of the circuit of
    all edges on all prompts, sharing what they share and apart."""
    rows, others = ([list(prompt.ids) for prompt in side] for side in (prompts, partners))
    trees = {"shared": grow(rows, beside=others), "apart": grow(rows, beside=apart(rows))}
    sizes = {name: len(tree) for name, tree in {**trees, "tokens alone": grow(rows)}.items()}
    say(f"Sharing: {len(rows)} prompts of {len(rows[0])} tokens are {sizes['tokens alone']} positions, ")
    say(f"  {sizes['shared']} with their partners, {sizes['apart']} apart; layers from {first}, NLL, zero ablation")
    search = [_searched(model, graph, prompts[:n], first) for n in (1, len(prompts))]
    table(
        ["exact search", "seconds", "tests", "ms per test"],
        [[f"{n} prompts", s, t, 1e3 * s / t] for n, (s, t) in zip((1, len(prompts)), search, strict=True)],
    )
    targets = Targets(*(torch.tensor([prompt.answer[0] for prompt in side]) for side in (prompts, partners)))
    parts: dict[str, dict[str, Callable[[], object]]] = {
        "eap-ig (5 steps)": {
            name: partial(_score, model, graph, tree, others, targets) for name, tree in trees.items()
        },
        "circuit, patched": {name: partial(_patched, model, graph, tree, others) for name, tree in trees.items()},
    }
    seconds = {
        part: {name: float(np.median(times)) for name, times in side_by_side(calls, rounds).items()}
        for part, calls in parts.items()
    }
    table(
        ["", "shared", "apart", "apart / shared"],
        [[p, *s.values(), s["apart"] / s["shared"]] for p, s in seconds.items()],
    )
    exact = [{"prompts": n, "seconds": s, "tests": t} for n, (s, t) in zip((1, len(prompts)), search, strict=True)]
    return {"positions": sizes, "first_layer": first, "search": exact, "seconds": seconds}


def _searched(model: Transformer, graph: Graph, prompts: Sequence[Prompt], first: int) -> tuple[float, int]:
    """Seconds and tests of the exact search down to the layer `first`."""

    def stop(search: Search) -> None:
        if search.next_layer < first:
            raise _EnoughError

    task = make_task("nll", [prompt.ids for prompt in prompts], [prompt.answer[0] for prompt in prompts])
    search, start = begin(graph), time.perf_counter()
    with contextlib.suppress(_EnoughError):
        acdc(model, graph, task, Criterion(TAU), search=search, after_layer=stop)
    return time.perf_counter() - start, len(search.tests)


def _score(model: Transformer, graph: Graph, tree: TokenTree, others: list[list[int]], targets: Targets) -> object:
    return score_edges(model, graph, tree, tree.with_tokens(others), targets, steps=5)


def _patched(model: Transformer, graph: Graph, tree: TokenTree, others: list[list[int]]) -> object:
    absent = record(model, graph, tree.with_tokens(others)).outputs
    return run_circuit(model, graph, graph.valid, tree, ablated=absent)
