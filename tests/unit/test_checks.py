"""The check of a finished study: a sound one passes, and each single defect is found and named."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from knowcirc.checks import check_results
from knowcirc.files import read_json, read_table, write_json, write_latex, write_table
from knowcirc.items.tables import TABLES

MODEL = "tiny"
FIGURES = ["causal_trace", "circuit_graph"]
OF_ALL = ["average_rank_by_layer"]


def tables() -> dict[str, pd.DataFrame]:
    """Small sound tables."""
    relations = {"relation": ["capital", "language"]}
    sites = [("mlp", "subject_last", 0), ("mlp", "subject_last", 1), ("state", "last", 1), ("total", None, None)]
    effects = pd.DataFrame(sites, columns=["kind", "role", "layer"]).astype({"layer": "Int64"})
    cuts = [("none", 0), ("none", 1), ("mlp", 0), ("attention", 0)]
    severed = pd.DataFrame(cuts, columns=["severed", "layer"]).assign(kind="state", role="subject_last")
    interval = {"effect": 0.1, "effect_low": -0.1, "effect_high": 0.2}
    unmeasured = {"faithfulness": [0.9, np.nan], "seconds": [1.5, np.nan]}
    editors = {"editor": ["none", "rome"]}
    layers = {"layer": pd.array([pd.NA, 3], dtype="Int64"), "seconds_per_edit": [np.nan, 2.0]}
    return {
        "known_facts": sound("known_facts", **relations, hit_at_1=[0.5, 0.8], hit_at_1_low=0.2, hit_at_1_high=0.9),
        "causal_effects": sound("causal_effects", **{name: effects[name] for name in effects}, **interval),
        "causal_effects_severed": sound("causal_effects_severed", **{n: severed[n] for n in severed}, **interval),
        "circuit_hit_at_10": sound("circuit_hit_at_10", **relations, method="eap", tau=np.nan),
        "method_comparison": sound("method_comparison", method=["eap", "random"], **unmeasured),
        "editing_scores": sound("editing_scores", **editors, **layers),
        "question_scores": sound("question_scores", **editors, specificity=np.nan),
    }


def sound(name: str, **values: object) -> pd.DataFrame:
    """A table with every column of its contract, and a value in range where none is given."""
    table = next(table for table in TABLES if table.name == name)
    usual: dict[str, object] = {}
    for column in table.columns:
        numbers = zip(column.names, (0.5, 0.2, 0.9), strict=False)
        usual |= {name.replace("*", "10"): value if column.numeric else "a word" for name, value in numbers}
    return pd.DataFrame({**usual, "model": MODEL, **values}, index=pd.RangeIndex(_rows(values)))


def _rows(values: dict[str, object]) -> int:
    return max(len(value) for value in values.values() if isinstance(value, list | pd.Series))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A finished study with nothing wrong."""
    manifest = {
        "models": [MODEL],
        "figures": FIGURES,
        "figures_of_all": OF_ALL,
        "tables": list(tables()),
        "methods": ["eap"],
        "compared": ["eap", "random"],
    }
    write_json(tmp_path / "manifest.json", {**manifest, "editors": ["rome"]})
    for name, frame in tables().items():
        write_table(table(tmp_path, name), frame)
        write_latex(table(tmp_path, name).with_suffix(".tex"), frame)
    of_all = tmp_path / "all/figures/average_rank_by_layer.png"
    for path in [*(figure(tmp_path, name) for name in FIGURES), of_all]:
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(0).integers(0, 256, (310, 320, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path, compress_level=1)
        path.with_suffix(".pdf").write_bytes(b"%PDF-1.4\n%%EOF\n")
    write_table(figure(tmp_path, "causal_trace").with_suffix(".csv"), pd.DataFrame({"x": [1, 2]}))
    write_table(of_all.with_suffix(".csv"), pd.DataFrame({"x": [1, 2]}))
    write_json(figure(tmp_path, "circuit_graph").with_suffix(".json"), {"nodes": []})
    items = "".join(f'<h3 id="{MODEL}-{name}">{name}</h3>' for name in [*FIGURES, *tables()])
    items += "".join(f'<h3 id="all-{name}">{name}</h3>' for name in OF_ALL)
    (tmp_path / "report.html").write_text(f"<html>{items}</html>", "utf-8")
    return tmp_path


def table(study: Path, name: str) -> Path:
    return study / MODEL / "tables" / f"{name}.csv"


def figure(study: Path, name: str) -> Path:
    return study / MODEL / "figures" / f"{name}.png"


def problems(study: Path) -> dict[str, str]:
    """What is wrong, by artifact."""
    return {str(row["name"]): str(row["reason"]) for row in check_results(study) if not row["ok"]}


def change(study: Path, name: str, edit: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Rewrite a table, changed."""
    write_table(table(study, name), edit(read_table(table(study, name))))


def put(study: Path, name: str, column: str, value: object, row: int = 1) -> None:
    """Give one cell of a table another value."""

    def edit(frame: pd.DataFrame) -> pd.DataFrame:
        cells = frame[column].astype(object)
        cells.iloc[row] = value
        return frame.assign(**{column: cells})

    change(study, name, edit)


def test_a_sound_study_has_a_row_for_every_artifact_and_no_complaint(study: Path) -> None:
    rows = check_results(study)
    assert problems(study) == {}
    assert all(row["ok"] is True and row["reason"] == "" for row in rows)
    names = {str(row["name"]) for row in rows}
    assert len(names) == len(rows) == 2 * 7 + 3 * 3 + 4 + 1
    assert {f"{MODEL}/tables/{name}{end}" for name in tables() for end in (".csv", ".tex")} < names
    assert {f"{MODEL}/figures/{name}{end}" for name in FIGURES for end in (".png", ".pdf")} < names
    assert "report.html" in names


@pytest.mark.parametrize(
    "path",
    [
        "report.html",
        *(f"{MODEL}/tables/known_facts{end}" for end in (".csv", ".tex")),
        *(f"{MODEL}/figures/causal_trace{end}" for end in (".png", ".pdf")),
    ],
)
def test_a_missing_and_an_empty_file_are_named(study: Path, path: str) -> None:
    (study / path).write_bytes(b"")
    assert problems(study) == {path: "empty file"}
    (study / path).unlink()
    assert problems(study) == {path: "missing"}


def test_a_table_without_rows_is_named(study: Path) -> None:
    change(study, "known_facts", lambda frame: frame.iloc[:0])
    assert problems(study) == {f"{MODEL}/tables/known_facts.csv": "no rows"}


def test_all_missing_columns_are_named(study: Path) -> None:
    change(study, "known_facts", lambda frame: frame.drop(columns=["hit_at_1", "n_val"]))
    assert problems(study) == {f"{MODEL}/tables/known_facts.csv": "columns missing: hit_at_1, n_val"}


@pytest.mark.parametrize(
    ("name", "column"), [("editing_scores", "editor"), ("question_scores", "editor"), ("circuit_hit_at_10", "method")]
)
def test_a_missing_column_of_names_is_a_complaint_and_no_crash(study: Path, name: str, column: str) -> None:
    change(study, name, lambda frame: frame.drop(columns=[column]))
    found = problems(study)
    assert found[f"{MODEL}/tables/{name}.csv"] == f"columns missing: {column}"


@pytest.mark.parametrize("value", [None, "inf"])
def test_a_number_that_is_missing_or_infinite_is_named(study: Path, value: object) -> None:
    put(study, "known_facts", "p_answer", value)
    expected = "column p_answer: 1 values are missing or not finite"
    assert problems(study) == {f"{MODEL}/tables/known_facts.csv": expected}


def test_an_interval_without_an_end_is_named(study: Path) -> None:
    put(study, "known_facts", "hit_at_1_high", None)
    assert list(problems(study)) == [f"{MODEL}/tables/known_facts.csv"]


def test_a_word_among_numbers_is_a_complaint_and_no_crash(study: Path) -> None:
    put(study, "known_facts", "hit_at_1", "many")
    assert list(problems(study)) == [f"{MODEL}/tables/known_facts.csv"]


@pytest.mark.parametrize(
    ("name", "column", "value", "span"),
    [
        ("known_facts", "p_answer", 1.2, "0 to 1"),
        ("known_facts", "hit_at_1_low", -0.1, "0 to 1"),
        ("editing_scores", "NS", -0.2, "0 to 1"),
        ("editing_scores", "EM", -1.5, "-1 to 1"),
        ("question_scores", "efficacy", 1.5, "0 to 1"),
        ("causal_effects", "effect_high", 1.5, "-1 to 1"),
        ("circuit_hit_at_10", "edge_share", 2.0, "0 to 1"),
    ],
)
def test_a_value_out_of_range_is_named(study: Path, name: str, column: str, value: float, span: str) -> None:
    put(study, name, column, value)
    assert problems(study) == {f"{MODEL}/tables/{name}.csv": f"column {column}: a value is outside {span}"}


@pytest.mark.parametrize(("low", "high"), [(0.81, 1.0), (0.4, 0.79)])
def test_a_value_outside_its_own_interval_is_named(study: Path, low: float, high: float) -> None:
    put(study, "known_facts", "hit_at_1_low", low)
    put(study, "known_facts", "hit_at_1_high", high)
    expected = "column hit_at_1: a value lies outside its own interval"
    assert problems(study) == {f"{MODEL}/tables/known_facts.csv": expected}


@pytest.mark.parametrize("row", [0, 3], ids=["site", "total"])
def test_a_second_row_of_a_kind_role_and_layer_is_named(study: Path, row: int) -> None:
    change(study, "causal_effects", lambda frame: pd.concat([frame, frame.iloc[[row]]]))
    expected = "more than one row for a kind, role and layer"
    assert problems(study) == {f"{MODEL}/tables/causal_effects.csv": expected}


def test_a_second_row_of_a_severed_run_is_named(study: Path) -> None:
    change(study, "causal_effects_severed", lambda frame: pd.concat([frame, frame.iloc[[2]]]))
    expected = "more than one row for a kind, severed, role and layer"
    assert problems(study) == {f"{MODEL}/tables/causal_effects_severed.csv": expected}


def test_what_need_not_apply_may_be_empty_but_not_elsewhere(study: Path) -> None:
    """The unedited model has no layer and no seconds, an attribution circuit no tau; an edit has its scores."""
    put(study, "editing_scores", "ES", None)
    assert list(problems(study)) == [f"{MODEL}/tables/editing_scores.csv"]


@pytest.mark.parametrize("keep", [20, 0.3, 0.9])
def test_a_truncated_image_is_named(study: Path, keep: float) -> None:
    data = figure(study, "causal_trace").read_bytes()
    figure(study, "causal_trace").write_bytes(data[: int(keep if keep > 1 else keep * len(data))])
    assert list(problems(study)) == [f"{MODEL}/figures/causal_trace.png"]


def test_a_file_that_is_no_image_is_named(study: Path) -> None:
    figure(study, "causal_trace").write_text("no image", "utf-8")
    assert list(problems(study)) == [f"{MODEL}/figures/causal_trace.png"]


@pytest.mark.parametrize(
    ("size", "complaint"), [((320, 299), "only 320 x 299 pixels"), ((400, 400), "one flat colour")]
)
def test_a_tiny_and_a_flat_image_are_named(study: Path, size: tuple[int, int], complaint: str) -> None:
    Image.new("RGB", size, "white").save(figure(study, "circuit_graph"))
    assert problems(study) == {f"{MODEL}/figures/circuit_graph.png": complaint}


def test_a_file_of_another_kind_is_named(study: Path) -> None:
    figure(study, "causal_trace").with_suffix(".pdf").write_bytes(figure(study, "causal_trace").read_bytes())
    table(study, "known_facts").with_suffix(".tex").write_text("model & n", "utf-8")
    assert problems(study) == {
        f"{MODEL}/figures/causal_trace.pdf": "does not begin with %PDF",
        f"{MODEL}/tables/known_facts.tex": "does not begin with \\begin{tabular}",
    }


def test_a_figure_without_sound_data_is_named(study: Path) -> None:
    figure(study, "causal_trace").with_suffix(".csv").write_text("x\n", "utf-8")
    figure(study, "circuit_graph").with_suffix(".json").write_text('{"nodes": [', "utf-8")
    found = problems(study)
    assert list(found) == [f"{MODEL}/figures/{name} (data)" for name in FIGURES]
    assert found[f"{MODEL}/figures/causal_trace (data)"] == "the data have no rows"
    for end in (".csv", ".json"):
        for name in FIGURES:
            figure(study, name).with_suffix(end).unlink(missing_ok=True)
    assert set(problems(study).values()) == {"no data beside the figure"}


def test_an_editor_and_a_method_without_a_row_are_named(study: Path) -> None:
    manifest = read_json(study / "manifest.json")
    methods = {"methods": ["eap", "eap-ig"], "compared": ["eap", "eap-ig+acdc", "random"]}
    write_json(study / "manifest.json", manifest | {"editors": ["rome", "ft-m"], **methods})
    assert problems(study) == {
        f"{MODEL}: editors of editing_scores": "no row for ft-m",
        f"{MODEL}: editors of question_scores": "no row for ft-m",
        f"{MODEL}: methods of circuit_hit_at_10": "no row for eap-ig",
        f"{MODEL}: compared of method_comparison": "no row for eap-ig+acdc",
    }


def edit_report(study: Path, old: str, new: str) -> None:
    text = (study / "report.html").read_text("utf-8")
    assert old in text
    (study / "report.html").write_text(text.replace(old, new), "utf-8")


def test_a_report_that_lacks_items_is_named(study: Path) -> None:
    for name in ("causal_trace", "editing_scores"):
        edit_report(study, f'id="{MODEL}-{name}"', f'id="{MODEL}-{name}s"')
    assert problems(study) == {"report.html": f"items missing: {MODEL}-causal_trace, {MODEL}-editing_scores"}


def test_a_report_may_show_the_explorer_beside_it_and_no_other_page(study: Path) -> None:
    frame = f'<iframe title="x" src="{MODEL}/explorer.html" loading="lazy"></iframe>'
    edit_report(study, "</html>", f"{frame}</html>")
    assert problems(study) == {}
    edit_report(study, f"{MODEL}/explorer.html", "https://example.org/explorer.html")
    assert "outside itself" in problems(study)["report.html"]


def test_a_report_that_only_links_to_an_item_lacks_it(study: Path) -> None:
    edit_report(study, f'<h3 id="{MODEL}-causal_trace">', f'<a href="#{MODEL}-causal_trace">')
    assert problems(study) == {"report.html": f"items missing: {MODEL}-causal_trace"}


def test_a_report_that_holds_an_item_of_one_model_alone_is_named(study: Path) -> None:
    (study / "other").symlink_to(study / MODEL)
    manifest = read_json(study / "manifest.json")
    write_json(study / "manifest.json", manifest | {"models": [MODEL, "other"]})
    assert list(problems(study)) == ["report.html"]


@pytest.mark.parametrize(
    "mark",
    [
        '<script src="https://cdn.example/plot.js"></script>',
        "<img src='http://example.org/x.png'>",
        '<link rel="stylesheet" href="https://example.org/x.css">',
        '<link href="https://example.org/x.css" rel="stylesheet">',
        "<style>@import 'https://example.org/x.css';</style>",
        "<style>body{background:url(https://example.org/x.png)}</style>",
    ],
)
def test_a_report_that_loads_something_is_named(study: Path, mark: str) -> None:
    edit_report(study, "</html>", f"{mark}</html>")
    assert problems(study)["report.html"].startswith("refers to something outside itself")


def test_a_report_may_link_to_pages(study: Path) -> None:
    edit_report(study, "</html>", '<a href="https://arxiv.org/abs/2202.05262">ROME</a></html>')
    assert problems(study) == {}


def test_several_defects_are_all_found(study: Path) -> None:
    put(study, "known_facts", "p_answer", 7)
    figure(study, "causal_trace").unlink()
    (study / "report.html").unlink()
    found = [f"{MODEL}/tables/known_facts.csv", f"{MODEL}/figures/causal_trace.png", "report.html"]
    assert list(problems(study)) == found


@pytest.mark.parametrize(
    "text",
    [None, "", '{"models": [', "[]", "[1]", json.dumps({"models": [MODEL], "figures": FIGURES})],
    ids=["missing", "empty", "cut", "list", "numbers", "keys"],
)
def test_a_study_without_a_sound_manifest_is_refused_by_its_path(study: Path, text: str | None) -> None:
    (study / "manifest.json").unlink()
    if text is not None:
        (study / "manifest.json").write_text(text, "utf-8")
    with pytest.raises(ValueError, match=r"manifest\.json"):
        check_results(study)
