"""In-context learning (KC section 6): the heads that a demonstration brings into the circuit, and what they do."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from knowcirc.circuits.graph import EdgeMatrix, Graph
from knowcirc.facts.prompts import Prompt, tokenise
from knowcirc.facts.relations import Fact, Relation
from knowcirc.reading.ablation import Head
from knowcirc.seeding import derive
from knowcirc.wording import fill_in, place_in

SEPARATOR = ". "


@dataclass(frozen=True, slots=True)
class Demonstrated:
    """A prompt behind demonstrations; `demonstration` is the token range of these."""

    prompt: Prompt
    demonstration: tuple[int, int]


def demonstrate(tokenizer: Tokenizer, template: str, facts: Sequence[Fact], query: Fact) -> Demonstrated:
    """The query's prompt behind completed prompts of other facts, sentence by sentence."""
    shown = "".join(f"{fill_in(template, fact.subject)} {fact.object}{SEPARATOR}" for fact in facts)
    text = shown + fill_in(template, query.subject)
    prompt = tokenise(tokenizer, text, query.object, query.subject, len(shown) + place_in(template))
    offsets = tokenizer.encode(text).offsets
    inside = [index for index, (low, high) in enumerate(offsets) if low < high <= len(shown.rstrip())]
    return Demonstrated(prompt, (inside[0], inside[-1] + 1) if inside else (0, 0))


def choose_demonstrations(
    relation: Relation, query: Fact, known: set[str], n: int, seed: int, order: str = "drawn"
) -> list[Fact]:
    """`n` known facts of the relation with other objects than the query's, drawn by seed; fewer if it has no more.

    They stand as drawn, or the other way round (`order: reversed`): the same facts in another order.
    """
    rng = np.random.default_rng(derive(seed, relation.name, query.subject, "demonstrations"))
    fit = [fact for fact in relation.facts if fact.subject in known and fact.object != query.object]
    chosen = [fit[i] for i in rng.permutation(len(fit))[:n]]
    return chosen[::-1] if order == "reversed" else chosen


def new_heads(graph: Graph, zero_shot: EdgeMatrix, demonstrated: EdgeMatrix) -> list[Head]:
    """Heads of the demonstrated prompt's circuit that are not in the zero-shot one's, layer by layer."""
    fresh = graph.nodes(demonstrated) & ~graph.nodes(zero_shot)
    places = [(layer, head) for layer in range(graph.n_layers) for head in range(graph.n_heads)]
    return [place for place in places if fresh[graph.head(*place)]]
