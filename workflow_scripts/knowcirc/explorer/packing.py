"""What the explorer's page holds, as plain values: circuits as compact arrays, readings of prompts, traces of facts.

Arrays are little-endian and in base64: an edge takes eight bytes (sender, receiver: uint16; score: float32). What a
page may hold is bounded, so that a browser opens it: `MOST_EDGES` of a circuit, the strongest; `MOST_IN_ALL` of all
circuits and `MOST_TRACES` facts, the first. What was left out is said on the page.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy import ndarray

from knowcirc.circuits.circuit import Circuit
from knowcirc.circuits.export import expanded
from knowcirc.circuits.graph import Graph

MOST_EDGES = 50_000
MOST_IN_ALL = 1_500_000  # about 16 MB of the page
MOST_TRACES = 60


@dataclass(frozen=True, slots=True)
class Shown:
    """A circuit of the page: a name that links use (`id`), a title, the heading that it stands under, and remarks.

    `relation` says whose named heads are its heads' roles; `about` are the page's further lines on it.
    """

    id: str
    title: str
    group: str
    graph: Graph
    circuit: Circuit
    relation: str | None = None
    about: tuple[tuple[str, str], ...] = ()


def encoded(values: ndarray, kind: str) -> str:
    """An array as base64 of little-endian numbers of a kind such as `u2` or `f4`.

    >>> encoded(np.array([1, 258]), "u2")
    'AQACAQ=='
    """
    return base64.b64encode(np.ascontiguousarray(values, dtype=f"<{kind}").tobytes()).decode("ascii")


def one_view(circuits: Sequence[Shown]) -> tuple[Graph, list[Shown]]:
    """The circuits' common graph and the circuits in it: with K/V inputs of query heads, where some have these.

    Raises:
        ValueError: if there is none, two share an id, or they are of models of different sizes.
    """
    if not circuits:
        raise ValueError("there is no circuit to show; give a file that holds one")
    ids = [one.id for one in circuits]
    if twice := sorted({name for name in ids if ids.count(name) > 1}):
        raise ValueError(f"two circuits are called {twice[0]!r}; give each file once, or rename one")
    if len({one.graph.kv for one in circuits}) > 1:
        wide = [(one, expanded(one.graph, one.circuit)) for one in circuits]
        circuits = [
            Shown(one.id, one.title, one.group, graph, circuit, one.relation, one.about)
            for one, (graph, circuit) in wide
        ]
    graph = circuits[0].graph
    for one in circuits:
        if one.graph != graph:
            sizes = [f"{each.n_layers} layers of {each.n_heads} heads ({each.n_kv} K/V)" for each in (graph, one.graph)]
            raise ValueError(f"{ids[0]} has {sizes[0]}, {one.id} {sizes[1]}: show circuits of one model")
    return graph, list(circuits)


def packed_circuits(circuits: Sequence[Shown]) -> dict[str, Any]:
    """The page's `graph`, `circuits` and `left_out` (titles of circuits beyond `MOST_IN_ALL`).

    Raises:
        ValueError: if they cannot stand on one page (`one_view`).
    """
    graph, circuits = one_view(circuits)
    packed: list[dict[str, Any]] = []
    left_out: list[str] = []
    total = 0
    for one in circuits:
        size = min(one.circuit.n_edges, MOST_EDGES)
        if total + size > MOST_IN_ALL:
            left_out.append(f"{one.group}: {one.title}")
            continue
        total += size
        packed.append(_packed(one))
    sizes = {"layers": graph.n_layers, "heads": graph.n_heads, "kv": graph.n_kv, "edges": graph.n_edges}
    return {"graph": sizes, "circuits": packed, "left_out": left_out}


def _packed(one: Shown) -> dict[str, Any]:
    src, dst = np.nonzero(one.circuit.edges & one.graph.valid)
    found = one.circuit.scores
    scores = np.zeros(len(src)) if found is None else np.nan_to_num(found[src, dst], posinf=0.0, neginf=0.0)
    strongest = np.argsort(-np.abs(scores), kind="stable")[:MOST_EDGES]
    return {
        "id": one.id,
        "title": one.title,
        "group": one.group,
        "method": one.circuit.method,
        "relation": one.relation,
        "about": [list(line) for line in one.about],
        "edges": len(src),
        "held": len(strongest),
        "scored": bool(np.any(scores)),
        "src": encoded(src[strongest], "u2"),
        "dst": encoded(dst[strongest], "u2"),
        "score": encoded(scores[strongest], "f4"),
    }


def packed_reading(reading: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A prompt's reading (`reading/nodes.py`), its attention as numbers of which 65,535 is all of it."""
    heads: dict[str, list[list[float]]] = reading["attention"]
    flat = [share for rows in heads.values() for row in rows for share in row]
    packed = encoded(np.round(65_535 * np.clip(np.asarray(flat, dtype=float), 0, 1)), "u2")
    return {**reading, "name": name, "attention": packed, "attention_heads": list(heads)}


def packed_heads(named: pd.DataFrame) -> list[dict[str, Any]]:
    """The heads that relations are named for (`reading/special_heads.py`), one row for each relation and head."""
    wanted = ["relation", "head", "role", "role_share", "to_subject", "to_relation", "attribution", "facts", "n"]
    if named.empty or not {"relation", "head", "role"} <= set(named.columns):
        return []
    rows = named[[name for name in wanted if name in named.columns]].astype(object)
    return [
        {str(key): _plain(value) for key, value in row.items()}
        for row in rows.where(rows.notna(), None).to_dict("records")
    ]


def _plain(value: object) -> object:
    if isinstance(value, float):
        return round(value, 4)
    return value.item() if isinstance(value, np.generic) else value


def packed_traces(rows: pd.DataFrame) -> dict[str, Any]:
    """The page's `traces` (facts with their tokens, and effects by kind: layer x token) and `n_traced`, before the cut.

    `rows` are those of `traces/facts.parquet`. Sites that were not run have no number (NaN).

    Raises:
        ValueError: naming the columns that are missing.
    """
    wanted = {"case", "prompt", "answer", "p_clean", "p_corrupted", "kind", "layer", "position", "token", "effect"}
    if missing := sorted(wanted - set(rows.columns)):
        raise ValueError(f"traces lack the column(s) {', '.join(missing)}; give those of traces/facts.parquet")
    cases = rows["case"].drop_duplicates().tolist()
    return {"traces": [_trace(rows[rows["case"] == case]) for case in cases[:MOST_TRACES]], "n_traced": len(cases)}


def _trace(rows: pd.DataFrame) -> dict[str, Any]:
    sites = rows[rows["layer"] >= 0]
    first = rows.iloc[0]
    tokens = sites.drop_duplicates("position").sort_values("position")
    kinds, n_layers, n_tokens = sites["kind"].drop_duplicates().tolist(), int(sites["layer"].max()) + 1, len(tokens)
    effects = np.full((len(kinds), n_layers, n_tokens), np.nan)
    places = (sites["kind"].map(kinds.index), sites["layer"], sites["position"].map(tokens["position"].tolist().index))
    effects[tuple(np.asarray(place, dtype=int) for place in places)] = sites["effect"]
    inside = tokens["in_subject"].tolist() if "in_subject" in tokens else [False] * n_tokens
    texts = {name: str(first[name]) for name in ("prompt", "answer")}
    texts |= {name: str(first[name]) if name in rows.columns else "" for name in ("relation", "subject")}
    return {
        **texts,
        "tokens": [str(token) for token in tokens["token"]],
        "in_subject": [bool(value) for value in inside],
        "clean": float(first["p_clean"]),
        "corrupted": float(first["p_corrupted"]),
        "kinds": kinds,
        "layers": n_layers,
        "effects": encoded(effects, "f4"),
    }
