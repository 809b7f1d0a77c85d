"""How the search's time grows with layers, heads, prompt length and prompts, on random networks made in place."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from benchmarks.timing import median_of, say, table
from knowcirc.circuits.acdc import Criterion, Search, acdc
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.metrics import make_task
from knowcirc.models import gpt2, llama
from knowcirc.models.packing import packed
from knowcirc.models.transformer import Transformer

D_MODEL, VOCAB = 256, 1000
MOST = 64  # tokens that a network reads
SPREAD = 0.1  # of the random weights: large enough for edges that matter
TAU = 0.05
FACTORS = {"layers": (4, 8, 16), "heads": (4, 8, 16), "length": (8, 16, 32), "prompts": (1, 2, 4)}
QUICK = {"layers": (2, 3, 4), "heads": (4, 8, 16), "length": (8, 16, 32), "prompts": (1, 2, 4)}


@dataclass(frozen=True, slots=True)
class Point:
    """A random network and its prompts."""

    family: str
    layers: int
    heads: int = 8
    length: int = 8
    prompts: int = 1


def measure_growth(*, quick: bool, rounds: int) -> list[dict[str, object]]:
    """The search's time at each point, one factor varied at a time, and how it grows from the factor's ends."""
    factors = QUICK if quick else FACTORS
    say(f"Growth: random networks of d_model {D_MODEL}, tau {TAU} nats, zero ablation, one factor at a time")
    say("(the exponent is that of time a test or a row, between a factor's least and greatest value)")
    results: list[dict[str, object]] = []
    rows: list[list[object]] = []
    for family in ("llama", "gpt2"):
        base = Point(family, factors["layers"][0])
        done: dict[Point, dict[str, float]] = {}
        for factor, values in factors.items():
            points = [replace(base, **dict[str, Any]({factor: value})) for value in values]
            for point in points:
                if point not in done:
                    done[point] = _time(point, rounds)
                results.append({"factor": factor, **asdict(point), **done[point]})
            rows += [_cells(factor, value, family, done[p]) for value, p in zip(values, points, strict=True)]
            first, last, ratio = done[points[0]], done[points[-1]], values[-1] / values[0]
            for key, place in (("ms_a_test", -2), ("ms_a_row", -1)):
                rows[-1][place] = f"{rows[-1][place]} (^{math.log(last[key] / first[key], ratio):.1f})"
    table(["factor", "value", "family", "edges", "tests", "kept", "seconds", "ms per test", "ms per row"], rows)
    return results


def _cells(factor: str, value: int, family: str, found: dict[str, float]) -> list[object]:
    counts = [round(found[key]) for key in ("edges", "tests", "kept")]
    return [factor, value, family, *counts, found["seconds"], f"{found['ms_a_test']:.3f}", f"{found['ms_a_row']:.3f}"]


def _time(point: Point, rounds: int) -> dict[str, float]:
    """Seconds of a whole search, a test and a row; the answers are what the network says."""
    model = random_transformer(point)
    graph = Graph.of(model.shape, "grouped")
    ids = torch.randint(1, VOCAB, (point.prompts, point.length), generator=torch.Generator().manual_seed(1))
    task = make_task("nll", ids.tolist(), model.logits(ids).argmax(-1).tolist())
    fast = packed(model)
    found: list[Search] = []
    seconds = median_of(lambda: found.append(acdc(fast, graph, task, Criterion(TAU))), rounds)
    tests, rows = len(found[-1].tests), found[-1].rows
    return {
        "edges": graph.n_edges,
        "tests": tests,
        "rows": rows,
        "kept": int(found[-1].edges.sum()),
        "seconds": seconds,
        "ms_a_test": 1e3 * seconds / tests,
        "ms_a_row": 1e3 * seconds / rows,
    }


def random_transformer(point: Point) -> Transformer:
    """A seeded network of the point's family and size."""
    torch.manual_seed(0)
    ends: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 0}
    if point.family == "gpt2":
        sizes: dict[str, Any] = {"n_positions": MOST, "n_embd": D_MODEL, "n_layer": point.layers, "n_head": point.heads}
        network = GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, initializer_range=SPREAD, **sizes, **ends))
        return gpt2.adapt(network.config, network.state_dict())
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=D_MODEL,
        intermediate_size=2 * D_MODEL,
        num_hidden_layers=point.layers,
        num_attention_heads=point.heads,
        num_key_value_heads=point.heads // 2,
        max_position_embeddings=MOST,
        initializer_range=SPREAD,
        **ends,
    )
    return llama.adapt(config, LlamaForCausalLM(config).state_dict())
