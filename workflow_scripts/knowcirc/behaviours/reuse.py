"""How much of one circuit another uses again: equation 4 of KC (appendix C.1; C.3 for a fact and its reverse).

| column | of the circuit | the share in the circuit |
|---|---|---|
| first, second | of the first, of the second hop | of the question through both hops |
| direct | of the relation that asks the same without a hop | of the question through both hops |
| unrelated | of first hops of compositions that share no relation | of the question through both hops |
| both_ways | asked forward | asked backward |
| unrelated | forward, of relations without a common subject | asked backward |

The paper counts nodes, and prints edges beside them. Unlike the Jaccard index it does not fall where the other circuit
is larger; here all circuits of a study have one size. `unrelated` is what any two of them share.
"""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pandas as pd

from knowcirc.behaviours.hops import Chains
from knowcirc.behaviours.reverse import BothWays
from knowcirc.circuits.graph import EdgeMatrix, Graph
from knowcirc.statistics import bootstrap, columns

SETS = ("nodes", "edges")


def reused(graph: Graph, single: EdgeMatrix, other: EdgeMatrix) -> dict[str, float]:
    """The share of the nodes, and of the edges, of circuit `single` that `other` holds (0 to 1; NaN if it has none)."""
    sets = (("nodes", graph.nodes(single), graph.nodes(other)), ("edges", single, other))
    return {name: float((one & two).sum() / one.sum()) if one.any() else math.nan for name, one, two in sets}


def reuse_columns(graph: Graph, pairs: Mapping[str, tuple[Sequence[EdgeMatrix], EdgeMatrix]]) -> dict[str, float]:
    """The columns reused_nodes_NAME and reused_edges_NAME: the mean over the circuits of a pair, NaN with none."""
    row: dict[str, float] = {}
    for name, (singles, other) in pairs.items():
        found = [reused(graph, single, other) for single in singles]
        row |= {f"reused_{of}_{name}": float(np.mean([one[of] for one in found])) if found else math.nan for of in SETS}
    return row


def hops_reuse(
    graph: Graph, studies: Sequence[Chains], direct: Mapping[str, Sequence[EdgeMatrix]] = MappingProxyType({})
) -> pd.DataFrame:
    """One row per composition with circuits: what the question through both hops uses of single questions' circuits.

    `direct` has, by composition, the circuit of the relation that asks the same without a hop, where there is one.
    """
    searched = [study for study in studies if study.circuits]
    rows = []
    for study in searched:
        own = {study.composition.first, study.composition.second}
        edges = {name: circuit.edges for name, circuit in study.circuits.items()}
        others = [other for other in searched if not own & {other.composition.first, other.composition.second}]
        unrelated = [other.circuits["first"].edges for other in others]
        singles = {"first": [edges["first"]], "second": [edges["second"]], "unrelated": unrelated}
        singles["direct"] = list(direct.get(study.composition.name, ()))
        row = reuse_columns(graph, {name: (circuits, edges["integrated"]) for name, circuits in singles.items()})
        row |= columns("left_out_gap", bootstrap(_gaps(study)))
        rows.append({"composition": study.composition.name, **row})
    return pd.DataFrame(rows)


def _gaps(study: Chains) -> list[float]:
    """Of each chain of known hops: whether it ranks first with the first hop left out, less with it (1, 0, -1)."""
    out, both = study.answers["left_out"], study.answers["integrated"]
    return [float((out[i].rank == 0) - (both[i].rank == 0)) for i in study.known]


def reverse_reuse(graph: Graph, studies: Sequence[BothWays]) -> pd.DataFrame:
    """One row per relation with circuits: what the reverse question uses of forward questions' circuits."""
    searched = [study for study in studies if study.circuits]
    rows = []
    for study in searched:
        forward, backward = (study.circuits[way].edges for way in ("forward", "reverse"))
        unrelated = [other.circuits["forward"].edges for other in searched if not study.subjects & other.subjects]
        singles = {"both_ways": [forward], "unrelated": unrelated}
        row = reuse_columns(graph, {name: (circuits, backward) for name, circuits in singles.items()})
        rows.append({"relation": study.relation, **row})
    return pd.DataFrame(rows)
