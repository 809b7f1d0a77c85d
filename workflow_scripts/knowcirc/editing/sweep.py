"""ROME at every layer and token (ROME Fig. 5), and the layer that suits a model best.

| measure | of one edit |
|---|---|
| efficacy | probability of the new object after the request |
| paraphrase | the same, mean over paraphrases |
| specificity | probability of the true object after neighbours, as a share of what it was, at most 1; mean |
| score | harmonic mean of the three means over records |
| ES, EM, PS, PM, NS, NM, S | as ROME's figure has them (`evaluation.py`) |

The layer is chosen by `score`, of probabilities: with few records shares of successes tie. It is chosen for the
subject's last token, then the clamp at that layer, on records that no table judges.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pandas as pd

from knowcirc.editing.editors import ROME_ITSELF
from knowcirc.editing.edits import Material, applied, request
from knowcirc.editing.evaluation import SCORES, Pair, harmonic, judge, scores
from knowcirc.editing.making import make_edit
from knowcirc.editing.values import Token
from knowcirc.facts.records import Record
from knowcirc.models.loading import LanguageModel
from knowcirc.statistics import bootstrap, columns

CHOSEN: Token = "subject_last"
MEASURES = ("efficacy", "paraphrase", "specificity")
SUCCESSES = ("ES", "PS", "NS")
ROW = ("case", "token", "layer", "clamp", *MEASURES, *SCORES)


@dataclass(frozen=True, slots=True)
class Cell:
    """One place of the sweep: where ROME edits, and how far the value may move (norms of the present one)."""

    token: Token
    layer: int
    clamp: float


def cells(n_layers: int, step: int, other_step: int, other_tokens: Sequence[Token], clamp: float) -> list[Cell]:
    """The sweep's first cells: the subject's last token each `step` layers, other tokens more coarsely.

    >>> [(cell.token, cell.layer) for cell in cells(5, 2, 4, ["last"], 4.0)]
    [('subject_last', 0), ('subject_last', 2), ('subject_last', 4), ('last', 0), ('last', 4)]
    """
    found = [Cell(CHOSEN, layer, clamp) for layer in range(0, n_layers, step)]
    return found + [Cell(token, layer, clamp) for token in other_tokens for layer in range(0, n_layers, other_step)]


def sweep_record(
    model: LanguageModel,
    record: Record,
    places: Sequence[Cell],
    settings: dict[str, object],
    material: Material,
) -> list[dict[str, object]]:
    """One row per place: the three measures of the record's edit by ROME there.

    Places whose token the request does not have are left out.
    """
    before = judge(model, record)["neighbourhood"]
    requested = request(model, record.template, record.subject, record.target_new)
    after_subject = len(requested.prompt.ids) - 1 - requested.prompt.subject_last
    rows: list[dict[str, object]] = []
    for cell in places:
        if cell.token == "first_subsequent" and not after_subject:
            continue
        edit = make_edit(ROME_ITSELF, model, requested, {**settings, **asdict(cell)}, material)
        with applied(model, edit) as edited:
            pairs = judge(edited, record)
        rows.append({"case": record.case, **asdict(cell), **measures(pairs, before), **scores(pairs)})
    return rows


def measures(pairs: dict[str, list[Pair]], before: list[Pair]) -> dict[str, float]:
    """The three measures, from a record's probabilities after the edit and its neighbours' before it.

    >>> measures({"request": [Pair(0.5, 0.1)], "paraphrase": [], "neighbourhood": [Pair(0.0, 0.2)]}, [Pair(0.0, 0.8)])
    {'efficacy': 0.5, 'paraphrase': 0.0, 'specificity': 0.25}
    """
    kept = [min(1.0, now.true / old.true) for now, old in zip(pairs["neighbourhood"], before, strict=True)]
    return {
        "efficacy": _mean([pair.new for pair in pairs["request"]]),
        "paraphrase": _mean([pair.new for pair in pairs["paraphrase"]]),
        "specificity": _mean(kept),
    }


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def summarise(rows: pd.DataFrame, model: str) -> pd.DataFrame:
    """One row per token, layer and clamp: means of both kinds of measures with intervals, score and S, n records."""
    found = []
    for (token, layer, clamp), group in rows.groupby(["token", "layer", "clamp"], sort=False):
        row: dict[str, object] = {"model": model, "token": token, "layer": layer, "clamp": clamp}
        for name in (*MEASURES, *SCORES):
            row |= columns(name, bootstrap(group[name].tolist()))
        row |= {"score": harmonic(group[list(MEASURES)].mean().tolist())}
        found.append({**row, "S": harmonic(group[list(SUCCESSES)].mean().tolist()), "n": len(group)})
    return pd.DataFrame(found)


def best(summary: pd.DataFrame) -> Cell:
    """The cell of the highest score at the subject's last token; of several the lowest layer, then the least clamp."""
    rows = summary[summary["token"] == CHOSEN].sort_values(["layer", "clamp"])
    row = rows.loc[rows["score"].idxmax()]
    return Cell(CHOSEN, int(row["layer"]), float(row["clamp"]))
