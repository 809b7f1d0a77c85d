"""Seconds of edge attribution patching, plain and with integrated gradients."""

from collections import Counter
from functools import partial
from pathlib import Path

from benchmarks.timing import median_of, say, table
from knowcirc.circuits.discovery import attribute, choose_partners
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.methods import METHODS
from knowcirc.facts.prompts import Prompt, fill
from knowcirc.facts.relations import read_relation
from knowcirc.models.loading import LanguageModel

RELATION = Path(__file__).resolve().parents[2] / "config/facts/country_language.yaml"


def prompt_pairs(model: LanguageModel, n: int) -> tuple[list[Prompt], list[Prompt]]:
    """`n` prompts of one relation and of equal length, and their corrupted partners."""
    relation = read_relation(RELATION)
    prompts = [fill(model.text, relation.templates[0], fact.subject, fact.object) for fact in relation.facts]
    length = Counter(len(prompt.ids) for prompt in prompts).most_common(1)[0][0]
    prompts = [prompt for prompt in prompts if len(prompt.ids) == length]
    partners = choose_partners(prompts, seed=0)
    pairs = [(prompt, prompts[at]) for prompt, at in zip(prompts, partners, strict=True) if at is not None][:n]
    return [prompt for prompt, _ in pairs], [partner for _, partner in pairs]


def measure_attribution(
    model: LanguageModel, graph: Graph, prompts: list[Prompt], partners: list[Prompt], *, rounds: int
) -> list[dict[str, object]]:
    """Seconds of EAP and EAP-IG on one prompt and on all."""
    say(f"Edge attribution: prompts of {len(prompts[0].ids)} tokens, each with a partner, {graph.n_edges:,} edges")
    found: list[dict[str, object]] = []
    rows: list[list[object]] = []
    steps_of = {name: method.attribution.steps for name, method in METHODS.items() if method.attribution}
    for method, steps in steps_of.items():
        for n in (1, len(prompts)):
            call = partial(attribute, model, graph, prompts[:n], partners[:n], method)
            seconds = median_of(call, rounds, warm_up=n == 1)
            found.append({"method": method, "steps": steps, "prompts": n, "seconds": seconds})
            rows.append([method, steps, n, f"{seconds:.3f}", f"{seconds / n:.3f}"])
    table(["method", "steps", "prompts", "seconds", "a prompt"], rows)
    return found
