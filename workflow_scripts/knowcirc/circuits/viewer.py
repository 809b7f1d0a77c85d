"""A circuit as an attribution graph, the JSON that Neuronpedia and circuit-tracer's viewer show.

That format (schema "Anthropic Attribution Graph" 1.0.0 of Neuronpedia) is made for features at the tokens of a prompt.
Heads and MLPs stand there as nodes of types of their own. What it cannot hold:

- A circuit is the same at all positions. All of its nodes stand in one column behind the prompt, named `ALL`.
- A pair of nodes has one link. An edge into a head's query, key and value are up to three: the link's weight is the sum
  of their scores, and its `inputs` lists them. Where no edge has a score, a weight counts edges.
- The viewers read a probability from the output's label; a circuit file has none, so the label has `p=?`.
"""

import re
from pathlib import Path

from knowcirc.circuits.circuit import Circuit
from knowcirc.circuits.graph import Graph

ALL = "(all positions)"
NO_SLUG = re.compile(r"[^a-z0-9]+")


def attribution_graph(graph: Graph, circuit: Circuit, about: dict[str, object], name: str) -> dict[str, object]:
    """The nodes and links, with their scores, of a circuit in the per-head view.

    `about` is its file, for model, prompt and answer; `name` that of the file to write.

    Raises:
        ValueError: if the circuit has no edge, or is of the grouped view.
    """
    if graph.kv != "per_head":
        raise ValueError("the viewers know query heads alone; expand the circuit first")
    if not circuit.n_edges:
        raise ValueError("the circuit has no edge: there is nothing to show")
    prompts, answers = _said(about)
    prompt = prompts[0] if len(prompts) == 1 else f"{prompts[0]} (and {len(prompts) - 1} more prompts)"
    links = _links(graph, circuit)
    used = {end for link in links for end in (link["source"], link["target"])}
    nodes = [_node(graph, sender, answers[0]) for sender in [*graph.src_names, "logits"]]
    scored = circuit.scores is not None
    return {
        "metadata": {
            "slug": NO_SLUG.sub("-", Path(name).stem.lower()).strip("-") or "circuit",
            "scan": str(about.get("model", "unknown")),
            "transcoder_list": [],
            "prompt_tokens": [prompt, ALL],
            "prompt": prompt,
            "info": {
                "description": (
                    f"A circuit of heads and MLPs, found by {circuit.method}. It holds at all positions, so that its "
                    "nodes stand in one column. A link's weight is the "
                    + ("sum of its edges' scores." if scored else "number of its edges (they have no scores).")
                ),
                "generator": {"name": "knowcirc"},
            },
        },
        "qParams": {"pinnedIds": [], "supernodes": [], "linkType": "both", "clickedId": "", "sg_pos": ""},
        "nodes": [node for node in nodes if node["node_id"] in used],
        "links": links,
    }


def _said(about: dict[str, object]) -> tuple[list[str], list[str]]:
    """Prompts and answers of a circuit file; what is not known says so."""
    rows = about.get("prompts") or [about]
    rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    prompts = [str(row.get("prompt", "unknown prompt")) for row in rows] or ["unknown prompt"]
    return prompts, [str(row.get("answer", "unknown answer")) for row in rows] or ["unknown answer"]


def _place(graph: Graph, name: str) -> tuple[str, int]:
    """The layer of a node as the format writes it, and its number there: heads first, then the MLP."""
    if name == "input":
        return "E", 0
    if name == "logits":
        return str(graph.n_layers), 0
    layer, _, head = name[1:].partition(".h")
    return layer, int(head) if head else graph.n_heads


def _id(graph: Graph, name: str) -> str:
    layer, number = _place(graph, name)
    return f"{layer}_{number}_1"


def _node(graph: Graph, name: str, answer: str) -> dict[str, object]:
    layer, number = _place(graph, name)
    kinds = {"input": "embedding", "logits": "logit"}
    labels = {"input": "embedding", "logits": f'Output " {answer}" (p=?)'}
    return {
        "node_id": _id(graph, name),
        "feature": number,
        "layer": layer,
        "ctx_idx": 1,
        "feature_type": kinds.get(name, "attention head" if name.startswith("a") else "mlp"),
        "jsNodeId": f"{layer}_{number}-1",
        "clerp": labels.get(name, name),
        "is_target_logit": name == "logits",
    }


def _links(graph: Graph, circuit: Circuit) -> list[dict[str, object]]:
    """One link for each sender and head, MLP or output that it reaches, with the scores of its edges."""
    found: dict[tuple[str, str], dict[str, float | None]] = {}
    for src, dst in graph.edges(circuit.edges):
        receiver, _, kind = graph.dst_names[dst].rstrip(">").partition("<")
        score = None if circuit.scores is None else float(circuit.scores[src, dst])
        known = None if score is None or score != score else score
        found.setdefault((graph.src_names[src], receiver), {})[kind or "all"] = known
    return [
        {
            "source": _id(graph, sender),
            "target": _id(graph, receiver),
            "weight": float(len(inputs)) if circuit.scores is None else sum(value or 0.0 for value in inputs.values()),
            "inputs": inputs,
        }
        for (sender, receiver), inputs in found.items()
    ]
