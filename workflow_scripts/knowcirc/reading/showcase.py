"""One fact in detail: the drawing of its circuit with what its main heads see and write, and its rank curves."""

import pandas as pd

from knowcirc.circuits.circuit import Circuit
from knowcirc.circuits.drawing import draw
from knowcirc.circuits.evaluation import circuit_answers
from knowcirc.circuits.graph import Graph
from knowcirc.facts.knowledge import answer_prompts
from knowcirc.facts.prompts import Prompt, answer_tokens, token_texts
from knowcirc.models.loading import LanguageModel
from knowcirc.reading.heads import Context, HeadReading, Thresholds, read_heads
from knowcirc.reading.lens import curve_rows, token_curve

SHOWN_HEADS = 4
SHOWN_TOKENS = 5


def describe_head(model: LanguageModel, reading: HeadReading, limits: Thresholds) -> dict[str, object]:
    """A head's attention, the tokens it writes, and its role, as plain values."""
    return {
        "name": reading.name,
        "layer": reading.layer,
        "role": reading.role(limits) or "no role",
        "attention": list(reading.attention),
        "to_subject": reading.to_subject,
        "top_tokens": token_texts(model.text, reading.top[:SHOWN_TOKENS]),
        "answer_rank": reading.rank + 1,
        "attribution": reading.attribution,
    }


def describe_circuit(
    model: LanguageModel,
    graph: Graph,
    circuit: Circuit,
    prompt: Prompt,
    n_drawn: int,
    limits: Thresholds,
    context: Context,
) -> dict[str, object]:
    """All that figure circuit_graph draws: the simplified circuit, its main heads, the whole circuit's outline.

    Main heads are those of the circuit that add most to the answer's logit.
    """
    alive = graph.nodes(circuit.edges)
    readings = [r for r in read_heads(model, prompt, context) if alive[graph.head(r.layer, r.head)]]
    main = sorted(readings, key=lambda reading: -reading.attribution)[:SHOWN_HEADS]
    return {
        "n_edges": circuit.n_edges,
        "edge_share": circuit.n_edges / graph.n_edges,
        "n_nodes": int(alive.sum()),
        "p_model": answer_prompts(model, [prompt])[0].p,
        "p_circuit": circuit_answers(model, graph, circuit.edges, [prompt])[0].p,
        "tokens": token_texts(model.text, prompt.ids),
        "answer_token": token_texts(model.text, prompt.answer[:1])[0],
        "heads": [describe_head(model, reading, limits) for reading in main],
        **draw(graph, circuit, n_drawn),
    }


def rank_curves(model: LanguageModel, prompt: Prompt, subject: str) -> pd.DataFrame:
    """Rank and probability by layer: the answer at the last token and at the subject, the subject at the last."""
    last = len(prompt.ids) - 1
    requested = (
        ("answer_at_last", prompt.answer[0], last),
        ("answer_at_subject", prompt.answer[0], prompt.subject_last),
        ("subject_at_last", answer_tokens(model.text, subject)[0], last),
    )
    rows = [
        row
        for quantity, token, position in requested
        for row in curve_rows(token_curve(model, prompt, token, position), quantity=quantity)
    ]
    return pd.DataFrame(rows)
