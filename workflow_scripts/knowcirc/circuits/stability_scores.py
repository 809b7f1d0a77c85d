"""Circuits of a relation found again: what they share, and what they, their consensus and its own one do on D_test.

Groups of runs (`resampling.py`): resampled ones; reworded ones, with the relation's own circuit as the first wording's.
Scores are hit@k under zero ablation, and faithfulness under patching. Two consensus circuits are scored: the edges in
at least a share of the runs, and the most frequent edges, as many as the relation's own circuit has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy import ndarray

from knowcirc.circuits.circuit import Circuit
from knowcirc.circuits.evaluation import circuit_logits, faithfulness, live_part
from knowcirc.circuits.graph import EdgeMatrix, Graph
from knowcirc.circuits.resampling import RESAMPLED, REWORDED
from knowcirc.circuits.settings import Resampling
from knowcirc.circuits.stability import agreement, all_pairs, consensus, curve, frequencies, sized_consensus
from knowcirc.facts.knowledge import read_answers
from knowcirc.facts.prompts import Prompt
from knowcirc.models.loading import LanguageModel
from knowcirc.statistics import bootstrap, columns, proportion

ALL = "all"


@dataclass(frozen=True, slots=True)
class Group:
    """Circuits that are compared with each other, in which pairs, and their consensus: by share, and by size."""

    name: str
    circuits: list[EdgeMatrix]
    pairs: Sequence[tuple[int, int]]
    by_share: EdgeMatrix
    by_size: EdgeMatrix


def groups_of(graph: Graph, own: Circuit, runs: Mapping[str, EdgeMatrix], how: Resampling, share: float) -> list[Group]:
    """The groups that have two circuits or more; halves are compared with their own other half alone."""
    found = []
    for name, first in ((RESAMPLED, []), (REWORDED, [own.edges])):
        circuits = [*first, *(edges for run, edges in runs.items() if run.partition(" ")[0] == name)]
        pairs = all_pairs(len(circuits))
        if name == RESAMPLED and how == "halves":
            pairs = _halves(list(runs))
        if len(circuits) > 1:
            by_size = sized_consensus(graph, circuits, own.n_edges, own.scores)
            found.append(Group(name, circuits, pairs, consensus(graph, circuits, share), by_size))
    return found


def _halves(names: Sequence[str]) -> list[tuple[int, int]]:
    """The places, among the resampled runs, of the two halves of a split; a half may have been left out."""
    numbers = [int(name.partition(" ")[2]) for name in names if name.startswith(RESAMPLED)]
    return [
        (place, numbers.index(number + 1))
        for place, number in enumerate(numbers)
        if number % 2 == 0 and number + 1 in numbers
    ]


@dataclass(frozen=True, slots=True)
class Scored:
    """What circuits do on D_test: whether the answer is among the k likeliest, and faithfulness by pair."""

    hits: dict[bytes, Bool[ndarray, " prompt"]]
    faithfulness: dict[bytes, Float[ndarray, " pair"]]

    def means(self, circuits: Sequence[EdgeMatrix], name: str) -> dict[str, float]:
        """Columns of the means over circuits."""
        hits, kept = (
            [float(np.mean(found[one.tobytes()])) if len(found[one.tobytes()]) else np.nan for one in circuits]
            for found in (self.hits, self.faithfulness)
        )
        return {f"hit_{name}": float(np.mean(hits)), f"faithfulness_{name}": float(np.mean(kept))}

    def columns(self, edges: EdgeMatrix, name: str) -> dict[str, float]:
        """Columns of one circuit, with intervals over prompts."""
        hits, kept = self.hits[edges.tobytes()].tolist(), self.faithfulness[edges.tobytes()].tolist()
        return columns(f"hit_{name}", proportion(hits)) | columns(f"faithfulness_{name}", bootstrap(kept))


def score(
    model: LanguageModel,
    graph: Graph,
    circuits: Sequence[EdgeMatrix],
    prompts: Sequence[Prompt],
    pairs: Sequence[tuple[int, int]],
    k: int,
) -> Scored:
    """The scores of circuits on prompts, and on pairs of these; equal circuits are run once."""
    distinct = list({one.tobytes(): one for one in circuits}.values())
    live = [live_part(graph, one) for one in distinct]
    logits = circuit_logits(model, graph, [one.edges for one in live], prompts)
    hits = {
        one.tobytes(): np.array([answer.rank < k and not part.constant for answer in read_answers(row, prompts)])
        for one, part, row in zip(distinct, live, logits, strict=True)
    }
    kept = faithfulness(model, graph, distinct, prompts, pairs)
    return Scored(hits, {one.tobytes(): row for one, row in zip(distinct, kept, strict=True)})


def stability_rows(
    graph: Graph, own: Circuit, groups: Sequence[Group], scored: Scored, about: Mapping[str, object]
) -> list[dict[str, object]]:
    """One row per group; `about` stands in each."""
    rows = []
    for group in groups:
        counts, others = frequencies(group.circuits), [one for one in group.circuits if one is not own.edges]
        row: dict[str, object] = {**about, "runs": group.name, "n_runs": len(group.circuits)}
        row |= {"n_edges": float(np.mean([one.sum() for one in group.circuits])), "n_own": own.n_edges}
        row |= agreement(graph, group.circuits, group.pairs, own.edges)
        row |= {"in_every_run": int((counts == len(group.circuits)).sum()), "in_any_run": int((counts > 0).sum())}
        row |= {"n_consensus": int(group.by_share.sum()), "n_sized": int(group.by_size.sum())}
        row |= scored.columns(own.edges, "own") | scored.means(others, "runs")
        row |= scored.columns(group.by_share, "consensus") | scored.columns(group.by_size, "sized")
        rows.append(row)
    return rows


def curve_rows(graph: Graph, groups: Sequence[Group], about: Mapping[str, object]) -> list[dict[str, object]]:
    """How many edges are in so many runs or more, by group."""
    return [{**about, "runs": group.name, **point} for group in groups for point in curve(graph, group.circuits)]


def circuits_to_score(own: Circuit, groups: Sequence[Group]) -> list[EdgeMatrix]:
    """Every circuit that the rows of the groups are about."""
    return [own.edges, *(edges for each in groups for edges in (*each.circuits, each.by_share, each.by_size))]


def circuit_stability(rows: pd.DataFrame, model: str) -> pd.DataFrame:
    """Table circuit_stability: the rows of relations, and their means by method and group where there are several."""
    means = []
    for (method, runs), part in rows.groupby(["method", "runs"], sort=False):
        if len(part) < 2:
            continue
        row: dict[str, object] = {"relation": ALL, "method": method, "runs": runs, "n_relations": len(part)}
        for name in part.columns.difference(["relation", "method", "runs", "n_relations"], sort=False):
            if f"{name}_low" in part:
                row |= columns(str(name), bootstrap(part[name].dropna().tolist()))
            elif not str(name).endswith(("_low", "_high")):
                row[str(name)] = part[name].sum() if str(name) in ("n_test", "n_pairs") else part[name].mean()
        means.append(row)
    table = pd.concat([rows, pd.DataFrame(means, columns=rows.columns)] if means else [rows], ignore_index=True)
    table.insert(0, "model", model)
    return table


def frequency_curves(rows: pd.DataFrame) -> pd.DataFrame:
    """The data of figure edge_frequencies: shares of the runs, and edges in so many or more over those of a circuit."""
    shares = {"share": rows["at_least"] / rows["n_runs"]}
    shares |= {name: rows[column] / rows["size"] for name, column in (("found", "n_edges"), ("random", "chance"))}
    return rows.assign(**shares)
