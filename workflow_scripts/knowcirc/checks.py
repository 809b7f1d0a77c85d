"""Check a finished study: every promised figure and table exists, opens, has its columns, is finite and in range.

What a study promises stands in its `manifest.json`; the columns that readers and other tools rely on stand here.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from knowcirc.files import read_json, read_table

MIN_PIXELS = 300
KEYS = ("models", "figures", "figures_of_all", "tables", "methods", "compared", "editors")
COLUMNS: dict[str, tuple[str, ...]] = {
    "known_facts": ("model", "category", "relation", "n", "hit_at_1", "p_answer", "n_val", "n_test"),
    "causal_effects": ("model", "kind", "role", "layer", "effect", "effect_low", "effect_high", "n"),
    "causal_effects_severed": (
        *("model", "kind", "severed", "role", "layer", "effect", "effect_low", "effect_high", "n"),
    ),
    "circuit_hit_at_10": (
        *("model", "category", "relation", "method", "ablation", "tau", "n_edges", "n_edges_merged", "edge_share"),
        *("d_val_original", "d_val_circuit", "d_val_random", "d_val_kept", "d_val_among_circuit"),
        *("d_test_original", "d_test_random", "d_test_circuit", "d_test_kept", "d_test_among_circuit"),
        *("d_test_hit_at_1_circuit", "d_test_p_circuit", "d_test_others_original", "d_test_others_circuit"),
        *("constant", "n_objects", "n_val", "n_test", "n_relations"),
    ),
    "method_comparison": (
        *("model", "method", "relation", "ablation", "n_edges", "edge_share", "faithfulness", "completeness"),
        *("cpr", "cmd"),
        *("n_dropped", "n_constant", "seconds", "n", "n_test", "n_relations"),
    ),
    "editing_scores": (
        *("model", "editor", "layer", "S", "ES", "EM", "PS", "PM", "NS", "NM", "GE", "RS"),
        *("seconds_per_edit", "n"),
    ),
    "zsre_scores": ("model", "editor", "efficacy", "paraphrase", "specificity", "n"),
    "editing_generations": ("model", "editor", "edit", "prompt", "sample", "text"),
    "hallucination_heads": (
        *("model", "relation", "overtaken_from", "right_ever_on_top", "attends_wrong", "attends_right"),
        *(
            "writes_said_wrong",
            "writes_right_wrong",
            "writes_said_right",
            "said_by_wrong",
            "right_by_wrong",
            "same_head",
        ),
        *("n_right", "n_mover", "n"),
    ),
    "hops": (
        *("model", "composition", "hit_first", "hit_second", "hit_integrated", "hit_left_out"),
        *("nodes_integrated_first", "edges_integrated_first", "edges_integrated_second", "edges_first_second"),
        *("edges_integrated_unrelated", "edges_first_again", "edges_second_again", "n_prompts", "n_known", "n"),
    ),
    "reverse_relations": (
        *("model", "relation", "hit_forward", "hit_reverse", "nodes_both_ways", "edges_both_ways", "edges_unrelated"),
        *("edges_same_way", "n_prompts", "n_known", "n"),
    ),
    "special_components": ("model", "category", "relation", "head", "layer", "role", "role_share", "facts", "n"),
    "head_ablation": (
        *("model", "relation", "role", "original", "ablated", "random", "p_original", "p_ablated", "p_random"),
        *("n_heads", "n"),
    ),
    "edited_circuit_overlap": (
        *("model", "method", "editor", "layer", "prompt", "jaccard_edges", "jaccard_nodes", "kept_share", "n"),
    ),
    "claims": ("model", "claim", "section", "measure", "value", "low", "high", "bound", "holds", "n"),
    "icl_head_ablation": (
        *("model", "relation", "original", "icl_heads_ablated", "random_heads_ablated", "n_heads"),
        *("n_heads_again", "n"),
    ),
}
SHARES = {
    *("efficacy", "paraphrase", "specificity"),
    *("hit_at_1", "hit_at_10", "p_answer", "edge_share", "original", "icl_heads_ablated", "random_heads_ablated"),
    *(f"{split}_{name}" for split in ("d_val", "d_test") for name in ("original", "circuit", "random", "kept")),
    *(
        f"{split}_{measure}_{side}"
        for split in ("d_val", "d_test")
        for measure in ("hit_at_1", "p", "among", "others")
        for side in ("original", "circuit")
    ),
    "constant",
    *("role_share", "to_subject", "to_relation", "ablated", "random", "p_original", "p_ablated", "p_random"),
    *("jaccard_edges", "jaccard_nodes", "kept_share"),
    *("overtaken_from", "leads_from", "right_ever_on_top", "attends_wrong", "attends_right", "writes_said_wrong"),
    *("hit_first", "hit_second", "hit_integrated", "hit_left_out", "hit_forward", "hit_reverse"),
    *(
        f"{kind}_{name}"
        for kind in ("nodes", "edges")
        for name in (
            *("integrated_first", "integrated_second", "first_second", "integrated_unrelated", "first_again"),
            *("second_again", "both_ways", "unrelated", "same_way"),
        )
    ),
    *("attention_new", "attention_others"),
    *("S", "ES", "PS", "NS", "RS", "zero_shot"),
}
ONE_ROW_FOR: dict[str, tuple[str, ...]] = {
    "circuit_hit_at_10": ("relation", "method", "ablation"),
    "method_comparison": ("relation", "method", "ablation"),
    "special_components": ("relation", "head"),
    "edited_circuit_overlap": ("method", "editor", "layer", "prompt"),
    "claims": ("claim",),
    "hallucination_heads": ("relation",),
    "hops": ("composition",),
    "reverse_relations": ("relation",),
    "causal_effects": ("kind", "role", "layer"),
    "causal_effects_severed": ("kind", "severed", "role", "layer"),
}
SIGNED = {"effect", "EM", "PM", "NM"}
MAY_BE_EMPTY = {
    "causal_effects": {"role", "layer"},
    "circuit_hit_at_10": {
        *("tau", "faithfulness", "faithfulness_random", "d_val_kept", "d_test_kept"),
        *(f"{split}_others_{side}" for split in ("d_val", "d_test") for side in ("original", "circuit")),
    },
    "method_comparison": {"faithfulness", "completeness", "cpr", "cmd", "seconds", "hit_at_10"},
    "editing_scores": {"layer", "seconds_per_edit"},
    "zsre_scores": {"paraphrase", "specificity"},
    "edited_circuit_overlap": {"to_subject", "writes_new", "writes_true"},
    "claims": {"value", "low", "high"},
    "hallucination_heads": {
        *("to_subject_wrong", "to_subject_right", "attends_wrong", "attends_right", "writes_said_wrong", "head"),
        *("writes_right_wrong", "prefers_said_wrong", "writes_said_right", "said_by_right", "said_by_right_share"),
    },
    "hops": {
        f"{kind}_{name}"
        for kind in ("nodes", "edges")
        for name in ("integrated_unrelated", "first_again", "second_again")
    },
    "reverse_relations": {f"{kind}_{name}" for kind in ("nodes", "edges") for name in ("unrelated", "same_way")},
    "icl_head_ablation": {"attention_new", "attention_others", "n_heads_again"},
}


OUTSIDE = re.compile(r"<(?:link|script|iframe)\b[^>]*(?:href|src)=|src=[\"']?https?:|url\(\s*[\"']?https?:|@import")


class ArtifactError(ValueError):
    """An artifact is not what the study promises; the message says why."""


def check_results(results: Path) -> list[dict[str, object]]:
    """A row for each promised artifact: name, ok, reason (empty where it is sound).

    Raises:
        ValueError: if the folder or its manifest is missing.
    """
    path = results / "manifest.json"
    if not path.is_file():
        raise ValueError(f"{path} does not exist; give the folder of a finished study (its config's outdir)")
    try:
        manifest = read_json(path)
    except (ValueError, TypeError):
        raise ValueError(f"{path} is no JSON object; run the study again") from None
    for key in KEYS:
        if not (isinstance(manifest.get(key), list) and all(isinstance(name, str) for name in manifest[key])):
            raise ValueError(f"{path}: {key} is no list of names; run the study again")
    return [_row(name, problem) for name, problem in _problems(results, manifest)]


def _row(name: str, problem: str) -> dict[str, object]:
    return {"name": name, "ok": not problem, "reason": problem}


def _problems(results: Path, manifest: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    models, figures, tables = (manifest[key] for key in ("models", "figures", "tables"))
    for name in manifest["figures_of_all"]:
        yield from _figure_problems(results, "all", name)
    for model in models:
        for name in tables:
            path = results / model / "tables" / f"{name}.csv"
            yield str(path.relative_to(results)), _try(check_table, path)
            tex = path.with_suffix(".tex")
            yield str(tex.relative_to(results)), _try(check_start, tex, b"\\begin{tabular}")
        for name in figures:
            yield from _figure_problems(results, model, name)
        rows = (
            ("editors", "editing_scores", "editor", manifest["editors"]),
            ("editors on questions", "zsre_scores", "editor", manifest["editors"]),
            ("methods", "circuit_hit_at_10", "method", manifest["methods"]),
            ("compared methods", "method_comparison", "method", [*manifest["compared"], "random"]),
        )
        for what, table, column, names in rows:
            if table in tables:
                yield f"{model}: {what}", _try(check_rows, results / model / f"tables/{table}.csv", column, names)
    report = results / "report.html"
    anchors = [f"{model}-{name}" for model in models for name in (*figures, *tables)]
    anchors += [f"all-{name}" for name in manifest["figures_of_all"]]
    yield "report.html", _try(check_report, report, anchors)


def _figure_problems(results: Path, model: str, name: str) -> Iterator[tuple[str, str]]:
    path = results / model / "figures" / f"{name}.png"
    yield str(path.relative_to(results)), _try(check_image, path)
    pdf = path.with_suffix(".pdf")
    yield str(pdf.relative_to(results)), _try(check_start, pdf, b"%PDF")
    yield f"{model}/figures/{name} (data)", _try(check_data, path)


def _try(check: object, *arguments: object) -> str:
    try:
        check(*arguments)  # type: ignore[operator]
    except (ArtifactError, OSError, ValueError, SyntaxError) as error:
        return str(error).splitlines()[0]
    return ""


def _exists(path: Path) -> None:
    if not path.is_file():
        raise ArtifactError("missing")
    if path.stat().st_size == 0:
        raise ArtifactError("empty file")


def check_table(path: Path) -> None:
    """Check a table's columns, and that its numbers are finite, in range, and inside their intervals.

    Raises:
        ArtifactError: saying what is wrong.
    """
    _exists(path)
    frame = read_table(path)
    if frame.empty:
        raise ArtifactError("no rows")
    if missing := [name for name in COLUMNS.get(path.stem, ("model",)) if name not in frame]:
        raise ArtifactError(f"columns missing: {', '.join(missing)}")
    optional = MAY_BE_EMPTY.get(path.stem, set())
    bases = {name: name.removesuffix("_low").removesuffix("_high") for name in map(str, frame.columns)}
    numeric = set(frame.select_dtypes("number").columns)
    if words := [
        n for n, b in bases.items() if (b in SHARES | SIGNED or b != n) and n not in numeric and b not in optional
    ]:
        raise ArtifactError(f"column {words[0]}: a value is no number")
    for name in frame.select_dtypes("number"):
        base = name.removesuffix("_low").removesuffix("_high")
        values = frame[name].to_numpy(dtype=float, na_value=np.nan)
        if base not in optional and not np.isfinite(values).all():
            raise ArtifactError(f"column {name}: {int((~np.isfinite(values)).sum())} values are missing or not finite")
        low, high = (0.0, 1.0) if base in SHARES else (-1.0, 1.0) if base in SIGNED else (-np.inf, np.inf)
        if (values < low - 1e-9).any() or (values > high + 1e-9).any():
            raise ArtifactError(f"column {name}: a value is outside {low:g} to {high:g}")
    _check_intervals(frame)
    if (keys := ONE_ROW_FOR.get(path.stem)) and frame.duplicated(list(keys)).any():
        raise ArtifactError(f"more than one row for a {', '.join(keys[:-1])} and {keys[-1]}")


def _check_intervals(frame: pd.DataFrame) -> None:
    for name in frame.columns:
        if not {f"{name}_low", f"{name}_high"} <= set(frame.columns):
            continue
        inside = frame[f"{name}_low"].le(frame[name] + 1e-9) & frame[name].le(frame[f"{name}_high"] + 1e-9)
        if not inside[frame[name].notna()].all():
            raise ArtifactError(f"column {name}: a value lies outside its own interval")


def check_image(path: Path) -> None:
    """Check that a figure opens, is of a size to be read, and is not one flat colour.

    Raises:
        ArtifactError: saying what is wrong.
    """
    _exists(path)
    with Image.open(path) as image:
        image.load()
        if min(image.size) < MIN_PIXELS:
            raise ArtifactError(f"only {image.size[0]} x {image.size[1]} pixels")
        low, high = image.convert("L").getextrema()
    if low == high:
        raise ArtifactError("one flat colour")


def check_start(path: Path, start: bytes) -> None:
    """Check that a file exists and begins as its kind does.

    Raises:
        ArtifactError: saying what is wrong.
    """
    _exists(path)
    with path.open("rb") as handle:
        if not handle.read(len(start)) == start:
            raise ArtifactError(f"does not begin with {start.decode()}")


def check_data(figure: Path) -> None:
    """Check that the data behind a figure stands beside it and can be read.

    Raises:
        ArtifactError: saying what is wrong.
    """
    table, document = figure.with_suffix(".csv"), figure.with_suffix(".json")
    if table.is_file():
        if read_table(table).empty and not document.is_file():
            raise ArtifactError("the data have no rows")
    elif document.is_file():
        json.loads(document.read_text("utf-8"))
    else:
        raise ArtifactError("no data beside the figure")


def check_rows(path: Path, column: str, names: list[str]) -> None:
    """Check that a table has a row for each name in a column.

    Raises:
        ArtifactError: naming those without one.
    """
    _exists(path)
    frame = read_table(path)
    if column not in frame:
        raise ArtifactError(f"columns missing: {column}")
    if missing := [name for name in names if name not in set(frame[column])]:
        raise ArtifactError(f"no row for {', '.join(missing)}")


def check_report(path: Path, anchors: list[str]) -> None:
    """Check that the report holds every item and refers to nothing outside itself.

    Raises:
        ArtifactError: saying what is wrong.
    """
    _exists(path)
    text = path.read_text("utf-8")
    if missing := [anchor for anchor in anchors if f'id="{anchor}"' not in text]:
        raise ArtifactError(f"items missing: {', '.join(missing)}")
    if found := OUTSIDE.search(text):
        raise ArtifactError(f"refers to something outside itself ({found[0]})")
