"""Editing many records with one editor: a row of scores each, and the table over all editors."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer

from knowcirc.editing.editors import EDITORS, SWEEP, UNEDITED
from knowcirc.editing.edits import Edit, Material, applied, request
from knowcirc.editing.evaluation import SCORES, fluency_and_consistency, harmonic, judge, question_scores, scores
from knowcirc.editing.making import default_layer, make_edit
from knowcirc.editing.moments import load_moment, moment_path
from knowcirc.facts.records import Record
from knowcirc.files import read_json
from knowcirc.models.loading import LanguageModel
from knowcirc.statistics import bootstrap, columns

QUESTIONS = ("efficacy", "paraphrase", "specificity")


def read_records(path: Path, which: str = "records") -> tuple[list[Record], list[tuple[int, ...]]]:
    """The records and ROME's prefixes from a file of the rule build_records.

    `sweep_records` are those of the sweep, `more_records` those that edits one after the other need besides.
    """
    data = read_json(path)
    records = [Record.from_json(record) for record in data[which]]  # type: ignore[attr-defined]
    return records, [tuple(prefix) for prefix in data["prefixes"]]  # type: ignore[attr-defined]


def read_material(
    model: LanguageModel, folder: Path, prefixes: list[tuple[int, ...]], records: Sequence[Record] = ()
) -> Material:
    """What editors draw on, from a folder of second moments; in-context editing takes demonstrations of the records."""
    return Material(
        lambda layer: load_moment(moment_path(folder, layer), model.transformer.shape.d_mlp), lambda: prefixes, records
    )


def placed(editor: str, settings: dict[str, object], chosen: dict[str, Any], n_layers: int) -> dict[str, object]:
    """The settings with the editor's layer, if it has one, and the sweep's clamp; none for the unedited model.

    `chosen` is where ROME edits: its `layer` and `clamp`, and what they are from. Settings that have a layer or a clamp
    keep theirs: the model's own, or what the configuration gives (`settings_before_sweep` leaves out the others).
    """
    if editor == UNEDITED:
        return {}
    swept = EDITORS[editor].swept and chosen["from"] == SWEEP
    clamp = {"clamp": chosen["clamp"]} if swept else {}
    layer = {"layer": default_layer(editor, int(chosen["layer"]), n_layers)} if EDITORS[editor].layered else {}
    return {**layer, **clamp, **settings}


def placed_editors(job: Any, model: LanguageModel) -> dict[str, dict[str, object]]:
    """The settings of a job's editors by name, each with its layer."""
    chosen, n_layers = read_json(job.input.edit_layer), model.transformer.shape.n_layers
    return {name: placed(name, given, chosen, n_layers) for name, given in job.params.settings.items()}


def edit_record(
    model: LanguageModel,
    record: Record,
    editor: str,
    settings: dict[str, object],
    material: Material,
    *,
    generation: dict[str, int] | None,
    vectorizer: TfidfVectorizer,
) -> dict[str, object]:
    """The scores of one record under one editor (`none`: the model as it is); GE and RS where `generation` is given."""
    start = time.perf_counter()
    edit = _edit(model, record, editor, settings, material)
    seconds = time.perf_counter() - start
    with applied(model, edit) as edited:
        pairs = judge(edited, record)
        row: dict[str, object] = {
            "case": record.case,
            "relation": record.relation,
            "target_true": record.target_true,
            "target_new": record.target_new,
            **scores(pairs),
            **question_scores(edited, record),
            "p_new": pairs["request"][0].new,
            "p_true": pairs["request"][0].true,
            "p_neighbour": sum(pair.true for pair in pairs["neighbourhood"]) / len(pairs["neighbourhood"]),
            "layer": settings.get("layer"),
            "seconds": seconds if edit is not None else None,
            **{f"report_{key}": value for key, value in (edit.report if edit else {}).items()},
        }
        if generation is not None:
            row |= fluency_and_consistency(edited, record, vectorizer, **generation)
    return row


def edit_question(
    model: LanguageModel, record: Record, editor: str, settings: dict[str, object], material: Material
) -> dict[str, object]:
    """The scores of one of zsRE's questions under one editor (`none`: the model as it is)."""
    with applied(model, _edit(model, record, editor, settings, material)) as edited:
        return {"case": record.case, "target_new": record.target_new, **question_scores(edited, record)}


def _edit(
    model: LanguageModel, record: Record, editor: str, settings: dict[str, object], material: Material
) -> Edit | None:
    """The edit that a record asks for; None by `none`."""
    if editor == UNEDITED:
        return None
    requested = request(model, record.template, record.subject, record.target_new)
    return make_edit(editor, model, requested, settings, material)


def editing_scores(scores: dict[str, pd.DataFrame], model: str) -> pd.DataFrame:
    """Table editing_scores: one row per editor, the unedited model first.

    The interval of S takes S of resampled records' means; n counts records, n_generation those of GE and RS.
    """
    rows = []
    for editor, frame in scores.items():
        row: dict[str, object] = {"model": model, "editor": editor, "layer": frame["layer"].iloc[0], **_harmonic(frame)}
        for name in SCORES:
            row |= columns(name, bootstrap(frame[name].tolist()))
        generated = frame.dropna(subset=["GE"]) if "GE" in frame else frame.iloc[:0]
        for name in ("GE", "RS"):
            row |= columns(name, bootstrap(generated[name].dropna().tolist() if len(generated) else []))
        seconds = frame["seconds"].dropna()
        row |= {"seconds_per_edit": float(seconds.median()) if len(seconds) else None, "n": len(frame)}
        rows.append({**row, "n_generation": len(generated)})
    result = pd.DataFrame(rows)
    result["layer"] = result["layer"].astype("Int64")
    return result


def question_table(scores: dict[str, pd.DataFrame], model: str) -> pd.DataFrame:
    """Tables question_scores and zsre_scores (ROME Table 1): one row per editor, the unedited model first.

    n counts records.
    """
    rows = []
    for editor, frame in scores.items():
        row: dict[str, object] = {"model": model, "editor": editor}
        for name in QUESTIONS:
            row |= columns(name, bootstrap(frame[f"question_{name}"].dropna().tolist()))
        rows.append({**row, "n": len(frame)})
    return pd.DataFrame(rows)


def _harmonic(frame: pd.DataFrame) -> dict[str, float]:
    means = [harmonic(frame[["ES", "PS", "NS"]].mean().tolist())]
    for draw in range(500):
        resampled = frame[["ES", "PS", "NS"]].sample(frac=1, replace=True, random_state=draw)
        means.append(harmonic(resampled.mean().tolist()))
    low, high = pd.Series(means[1:]).quantile([0.025, 0.975])
    return {"S": means[0], "S_low": float(low), "S_high": float(high)}
