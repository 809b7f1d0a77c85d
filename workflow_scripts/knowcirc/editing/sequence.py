"""Edits one after the other on one model (sequential editing), judged after some of them.

1. Each edit is made on the weights that the edits before it have left: its keys and its value are those of the model
   as it is then. What the edits before it left for it (`Edit.left`) stands in `Material.past`.
2. Right after it its request is asked (`made`). After as many edits as are asked for, all so far are judged: requests,
   paraphrases and neighbours (ES, PS, NS of `evaluation.py`), perplexity, and how far the weights have moved.
3. A neighbour whose own fact has been edited is not asked (`unedited_neighbours` of `facts/records.py`).

What has been done is one file, weights and scores together, so that a job that was stopped goes on after its last edit.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from knowcirc.editing.edits import Edit, Material, Matrix, Request, applied, request
from knowcirc.editing.evaluation import Pair, harmonic, judge, read_said
from knowcirc.editing.perplexity import Row, perplexity
from knowcirc.facts.records import Record, unedited_neighbours
from knowcirc.files import atomic
from knowcirc.models.loading import LanguageModel
from knowcirc.seeding import derive
from knowcirc.statistics import bootstrap, columns

SHARES = ("made", "ES", "PS", "NS")
MakeEdit = Callable[[LanguageModel, Request, Material], Edit]
log = logging.getLogger(__name__)


@dataclass(slots=True)
class Done:
    """What has been done of a sequence: the weights that its edits have left, and what was read off them.

    `past` is what they have left for the next one (`Material.past`). `made` has an entry for each edit: whether it
    took, the new object's probability, and its seconds. `rows` are those of the finished judgements.
    """

    weights: dict[Matrix, Tensor] = field(default_factory=dict)
    past: dict[int, Tensor] = field(default_factory=dict)
    made: list[dict[str, float]] = field(default_factory=list)
    rows: list[dict[str, object]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write all of it to one file, whole or not at all."""
        tensors = {json.dumps(asdict(matrix)): weight for matrix, weight in self.weights.items()}
        tensors |= {str(layer): rows for layer, rows in self.past.items()}
        tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        with atomic(path) as part:
            save_file(tensors, part, metadata={"made": json.dumps(self.made), "rows": json.dumps(self.rows)})

    @classmethod
    def load(cls, path: Path, model: LanguageModel) -> "Done":
        """What a file of `save` holds; nothing done where there is none, or it cannot be read."""
        if not path.is_file():
            return cls()
        try:
            with safe_open(path, "pt") as file:
                about = file.metadata()
                found = {name: file.get_tensor(name).to(model.device) for name in list(file.keys())}
            past = {int(name): rows for name, rows in found.items() if name.isdigit()}
            weights = {Matrix(**json.loads(name)): each for name, each in found.items() if not name.isdigit()}
            return cls(weights, past, json.loads(about["made"]), json.loads(about["rows"]))
        except (SafetensorError, ValueError):
            log.warning("%s cannot be read; its edits are made again", path)
            path.unlink()
            return cls()


def shuffled(records: Sequence[Record], n: int, seed: int) -> list[Record]:
    """`n` records in an order that goes by the seed alone, so that relations are mixed.

    Raises:
        ValueError: if there are fewer.
    """
    if len(records) < n:
        raise ValueError(f"editing.sequential.edits: {n} asked for, there are {len(records)} records; ask for fewer")
    order = np.random.default_rng(derive(seed, "sequence")).permutation(n)
    return [records[int(i)] for i in order]


def edit_in_sequence(
    model: LanguageModel,
    records: Iterable[Record],
    make: MakeEdit | None,
    material: Material,
    *,
    text: Sequence[Row],
    at: Sequence[int],
    kept: Path,
) -> list[dict[str, object]]:
    """The rows of one editor (None: no edit is made): for each number of edits in `at` one per record so far.

    `kept` is the file of what has been done; the model's own weights are back at the end.
    """
    done = Done.load(kept, model)
    before = None if make else perplexity(model, text)
    sofar: list[Record] = []
    for record in records:
        sofar.append(record)
        if len(sofar) <= len(done.made):
            continue
        seconds = 0.0
        if make is not None:
            start = time.perf_counter()
            with applied(model, Edit(done.weights, {})) as current:
                asked = request(current, record.template, record.subject, record.target_new)
                given = replace(material, past=done.past)
                last = make(current, asked, given)
            done.weights = {**done.weights, **last.weights}
            done.past = dict(given.after(last).past)
            seconds = time.perf_counter() - start
        with applied(model, Edit(done.weights, {})) as edited:
            pair = _pair(edited, record)
            done.made.append({"took": float(pair.new > pair.true), "p_new": pair.new, "seconds": seconds})
            if len(sofar) in at:
                whole = {"perplexity": perplexity(edited, text) if before is None else before}
                judged = [judge_again(edited, one, sofar) for one in sofar]
        if len(sofar) in at:
            whole |= {"change": moved(model, done.weights)}
            done.rows += [
                {"edits": len(sofar), "case": one.case, **row, **made, **whole}
                for one, row, made in zip(sofar, judged, done.made, strict=True)
            ]
        done.save(kept)
    return done.rows


def _pair(model: LanguageModel, record: Record) -> Pair:
    new, true = read_said(model, [(record.prompt, record.target_new), (record.prompt, record.target_true)])
    return Pair(new.p, true.p)


def judge_again(model: LanguageModel, record: Record, sofar: Sequence[Record]) -> dict[str, float | None]:
    """ES, PS and NS of one record; neighbours that have been edited are left out, and NS is None if none is left."""
    pairs = judge(model, replace(record, neighbours=unedited_neighbours(record, sofar)))
    return {
        "ES": _share(pairs["request"], 1),
        "PS": _share(pairs["paraphrase"], 1),
        "NS": _share(pairs["neighbourhood"], -1),
    }


def _share(pairs: Sequence[Pair], sign: int) -> float | None:
    return float(np.mean([sign * (pair.new - pair.true) > 0 for pair in pairs])) if pairs else None


def moved(model: LanguageModel, weights: dict[Matrix, Tensor]) -> float:
    """The Frobenius norm of all changes together, over that of the same matrices before any edit; 0 without a change.

    The model must hold its own weights.
    """
    old = {matrix: matrix.view(model.own).double() for matrix in weights}
    change = sum(float((weights[matrix].double() - each).square().sum()) for matrix, each in old.items())
    size = sum(float(each.square().sum()) for each in old.values())
    return (change / size) ** 0.5 if size else 0.0


def sequential_edits(sequences: dict[str, pd.DataFrame], model: str) -> pd.DataFrame:
    """Table sequential_edits: one row per editor and number of edits, the unedited model first.

    Intervals are over the records edited so far; S is the harmonic mean of ES, PS and NS.
    """
    rows = []
    for editor, frame in sequences.items():
        for edits, group in frame.groupby("edits"):
            row: dict[str, object] = {"model": model, "editor": editor, "edits": edits}
            row |= {"last": float(group["took"].iloc[-1]), "p_last": float(group["p_new"].iloc[-1])}
            for name in SHARES:
                values = group["took" if name == "made" else name].dropna().tolist()
                row |= columns(name, bootstrap([float(value) for value in values]))
            row |= {"S": harmonic([float(str(row[name])) for name in SHARES[1:]])}
            row |= {name: float(group[name].iloc[0]) for name in ("perplexity", "change")}
            seconds = float(group["seconds"].median())
            rows.append({**row, "seconds_per_edit": seconds or None, "n": len(group)})
    return pd.DataFrame(rows)
