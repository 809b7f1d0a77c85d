"""An edit seen through circuits: the same prompt's circuit and mover head under the original and the edited weights."""

import json
from dataclasses import dataclass, replace

from knowcirc.circuits.circuit import Circuit
from knowcirc.circuits.finding import Find
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.overlap import compare
from knowcirc.editing.editors import UNEDITED
from knowcirc.facts.knowledge import Answer, read_answers
from knowcirc.facts.prompts import Prompt, token_texts
from knowcirc.models.loading import LanguageModel
from knowcirc.reading.heads import HeadReading, Thresholds, check_bare, find_head, observe, read_outputs

SHOWN_TOKENS = 8


@dataclass(frozen=True, slots=True)
class EditedView:
    """One prompt under one set of weights. The circuit is that of `said`: the prompt with the token that the weights
    answer with.

    `old` and `new` are the answers read for the prompt's true object and for the edit's new one. `heads` are read for
    the true object; `new_ranks` holds the new one's rank (from 0) among the tokens that each head raises.
    """

    prompt: str
    weights: str
    said: Prompt
    circuit: Circuit
    heads: dict[str, HeadReading]
    new_ranks: dict[str, int]
    old: Answer
    new: Answer


def said_by(model: LanguageModel, prompt: Prompt) -> Prompt:
    """The prompt with the token that the weights in place answer with."""
    answer = read_answers(model.transformer.logits(model.batch([prompt.ids])), [prompt])[0]
    return replace(prompt, answer=(answer.top,))


def read_view(
    model: LanguageModel, find: Find, name: str, weights: str, prompt: Prompt, new: int, *, heads: bool = True
) -> EditedView:
    """The prompt's circuit (of its likeliest token), heads (if asked for) and answers under the weights in place.

    Raises:
        ValueError: after an edit in context, as `check_bare` does.
    """
    check_bare(model)
    logits = model.transformer.logits(model.batch([prompt.ids]))
    old_answer, new_answer = (read_answers(logits, [one])[0] for one in (prompt, replace(prompt, answer=(new,))))
    said = said_by(model, prompt)
    readings: dict[str, HeadReading] = {}
    new_ranks: dict[str, int] = {}
    if heads:
        true, other = read_outputs(model, prompt, observe(model, prompt), (prompt.answer[0], new))
        readings = {reading.name: reading for reading in true}
        new_ranks = {reading.name: reading.rank for reading in other}
    return EditedView(name, weights, said, find(model, said), readings, new_ranks, old_answer, new_answer)


def view_rows(
    model: LanguageModel,
    graph: Graph,
    views: list[EditedView],
    prompts: dict[str, Prompt],
    new: int,
    limits: Thresholds,
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Rows of figure edited_circuits: the original's mover head under all weights, and overlaps with the original.

    The mover head is that of the original model for the prompt's true answer.
    """
    originals = {view.prompt: view for view in views if view.weights == UNEDITED}
    movers = {name: find_head(view.heads.values(), "mover", limits) for name, view in originals.items()}
    heads: list[dict[str, object]] = []
    overlaps: list[dict[str, object]] = []
    for view in views:
        mover, is_mover = movers[view.prompt]
        reading, prompt = view.heads[mover.name], prompts[view.prompt]
        heads.append(
            {
                "prompt": view.prompt,
                "weights": view.weights,
                "head": reading.name,
                "is_mover": is_mover,
                "tokens": json.dumps(token_texts(model.text, prompt.ids)),
                "attention": json.dumps(list(reading.attention)),
                "top_tokens": json.dumps(token_texts(model.text, reading.top[:SHOWN_TOKENS])),
                "p_old": view.old.p,
                "p_new": view.new.p,
                "answer_top": token_texts(model.text, [view.old.top])[0],
                "old_token": token_texts(model.text, prompt.answer[:1])[0],
                "new_token": token_texts(model.text, [new])[0],
            }
        )
        measured = compare(graph, originals[view.prompt].circuit.edges, view.circuit.edges)
        overlaps.append(
            {
                "prompt": view.prompt,
                "weights": view.weights,
                **measured,
                "n_edges": view.circuit.n_edges,
                "jaccard": measured["jaccard_edges"],
            }
        )
    return heads, overlaps
