"""The report: captions filled and set, every item in one page that loads nothing, texts escaped."""

import base64
import html
import re
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from knowcirc.files import write_json, write_table
from knowcirc.report.captions import render_caption
from knowcirc.report.markdown import results_page
from knowcirc.report.page import build
from knowcirc.report.parts import claims_of, comparisons_of
from knowcirc.tables.findings import collect
from unit import test_findings as study

CAPTIONS = sorted((Path(__file__).parents[2] / "rules" / "captions").glob("*.rst"))
MODELS = ("tiny", "other")
MANIFEST: dict[str, Any] = {
    "models": list(MODELS),
    "figures": ["circuit_graph"],
    "tables": ["known_facts", "editing_generations"],
}
MANIFEST["figures_of_all"] = ["average_rank_by_layer"]
TEXTS = {
    "circuit_graph": '**Fig.** The circuit of "{{ prompt }}" in {{ model }}.',
    "known_facts": "{{ known.facts }} facts, {{ pct(known.share) }} known.",
    "editing_generations": "Plain words.",
    "all_average_rank_by_layer": "One line per model.",
}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The files of a small study of two models."""
    for number, model in enumerate(MODELS):
        findings = {"prompt": f"prompt {number}", "known": {"facts": 12 + number, "share": 0.5}}
        write_json(tmp_path / model / "findings.json", findings)
        origin = {"location": f"{model}/<repository>", "source": "hub", "licence": "MIT", "weights_sha256": "ab" * 32}
        write_json(tmp_path / "models" / model / "provenance.json", origin)
        figure = tmp_path / model / "figures" / "circuit_graph.png"
        figure.parent.mkdir(parents=True)
        Image.new("RGB", (4, 3), (10 * number, 20, 30)).save(figure)
        known = {"model": model, "relation": ["<script>alert(1)</script>", "b & c"], "n": [3, 4], "layer": [2, np.nan]}
        known |= {"hit_at_1": [0.25, 0.5], "hit_at_1_low": [0.125, np.nan], "hit_at_1_high": [0.75, np.nan]}
        write_table(tmp_path / model / "tables" / "known_facts.csv", pd.DataFrame(known))
        scores = {"model": model, "text": ["short", "long " * 30], "S": [1.0, 0.0]}
        write_table(tmp_path / model / "tables" / "editing_generations.csv", pd.DataFrame(scores))
    (tmp_path / "all/figures").mkdir(parents=True)
    Image.new("RGB", (4, 3), (90, 90, 90)).save(tmp_path / "all/figures/average_rank_by_layer.png")
    return tmp_path


@pytest.fixture
def page(results: Path) -> str:
    return build(results, MANIFEST, TEXTS, {"outdir": "a <b> & ü", "seed": 3})


def plain(text: str) -> str:
    """HTML without its tags, on one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def test_placeholders_are_filled_and_markup_is_set() -> None:
    text = render_caption("**Fig. 2.** {{ a.b }} of {{ c }}: {{ 'x' if c > 2 else 'y' }}.", {"a": {"b": 3}, "c": 5})
    assert "<strong>Fig. 2.</strong>" in text
    assert plain(text) == "Fig. 2. 3 of 5: x."


@pytest.mark.parametrize(
    ("share", "text"), [(0.1234, "12.3 %"), (1, "100.0 %"), (0.0, "0.0 %"), (-0.0567, "-5.7 %"), (0.0004, "0.0 %")]
)
def test_shares_are_given_in_percent(share: float, text: str) -> None:
    assert plain(render_caption("{{ pct(share) }}", {"share": share})) == text


def test_differences_of_shares_are_given_in_percentage_points() -> None:
    assert plain(render_caption("{{ pp(effect) }}", {"effect": -0.0314})) == "-3.1 pp"


@pytest.mark.parametrize("text", ["{{ absent }}", "{{ known.absent }}", "{{ pct(absent.facts) }}"])
def test_a_caption_that_names_an_unknown_value_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(ValueError, match="absent"):
        render_caption(text, {"known": {"facts": 3}})


@pytest.mark.parametrize("text", ["**never closed", ".. nonsense:: x", "`text", ".. include:: /etc/hostname"])
def test_a_caption_that_is_no_markup_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"[Cc]aption|line 1|<string>:1"):
        render_caption(text, {})


@pytest.mark.parametrize("value", ["*NSYNC", "a `quoted` word", "name_", "R&B <b>", "x ** y", "|bars|", "a\\b"])
def test_a_value_stands_in_a_caption_as_it_is(value: str) -> None:
    """Subjects, answers and tokens are any text; none is markup."""
    assert plain(render_caption('Of "{{ prompt }}".', {"prompt": value})) == f'Of "{value}".'


@pytest.mark.parametrize("path", CAPTIONS, ids=lambda path: path.stem)
def test_every_caption_is_filled_from_a_runs_findings(path: Path) -> None:
    findings = {"model": "tiny", **collect(study.tables(), study.documents())}
    text = plain(render_caption(path.read_text("utf-8"), findings))
    assert len(text) > 60
    assert not re.search(r"\{\{|\}\}|\{%|None|nan|\*\*", text)


@pytest.mark.parametrize("path", CAPTIONS, ids=lambda path: path.stem)
def test_every_caption_stands_without_a_run_as_snakemakes_own_report_sets_it(path: Path) -> None:
    text = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(path.read_text("utf-8")).render()
    assert re.match(r"\*\*[^*]+\*\* \w", text)
    assert "{" not in text
    assert text.rstrip().endswith((".", ")"))


def test_captions_state_the_numbers_of_the_run() -> None:
    findings = {"model": "tiny", **collect(study.tables(), study.documents())}
    texts = {path.stem: plain(render_caption(path.read_text("utf-8"), findings)) for path in CAPTIONS}
    assert "40 facts of 2 relations" in texts["known_facts"]
    assert "rome at layer 3: 100.0 % of the edits take (20 edits, median 5.5 s)" in texts["editing_scores"]
    assert "none at" not in texts["editing_scores"]
    assert "kn: 20.0 % of the edits take (20 edits" in texts["editing_scores"]
    assert "rome: 100.0 %, 60.0 %, 50.0 %" in texts["question_scores"]
    assert "layer 2 is best of 2" in texts["editing_sweep"]
    assert "largest effect of MLPs at the subject's last token is 25.0 pp (layer 1)" in texts["causal_effects"]
    assert "on 1 of 3 relations" in texts["circuit_hit_at_10"]
    assert "mover: 1 in 2 relations, layers 5 to 5, median 5" in texts["special_components"]
    assert "p(answer) goes from 60.0 % to 20.0 % (random: 50.0 %)" in texts["head_ablation"]
    assert "1 hold, 1 do not, 1 are unclear" in texts["claims"]


def test_a_caption_stands_for_every_figure_and_table_of_the_study() -> None:
    rules = "\n".join(path.read_text("utf-8") for path in (CAPTIONS[0].parents[1]).glob("*.smk"))
    used = set(re.findall(r"captions/(\w+)\.rst", rules))
    assert used <= {path.stem for path in CAPTIONS}


def test_the_page_loads_nothing_but_the_explorers_beside_it_once_they_are_opened(page: str) -> None:
    beside = {f"{model}/explorer.html" for model in MODELS}
    assert set(re.findall(r"""(?:src|href)\s*=\s*["']((?!data:|#)[^"']*)""", page)) == beside
    assert not re.search(r"@import|url\(|<script |<link|https?:", page)
    frames = re.findall(r"<iframe [^>]*>", page)
    assert [re.findall(r'src="([^"]+)" loading="lazy"', frame) for frame in frames] == [
        [path] for path in sorted(beside, reverse=True)
    ]
    assert page.count("<script>") == 1  # the page's own


def test_figures_are_in_the_page_bit_by_bit(page: str, results: Path) -> None:
    images = [base64.b64decode(text) for text in re.findall(r'src="data:image/png;base64,([^"]+)"', page)]
    paths = [*(results / model / "figures/circuit_graph.png" for model in MODELS)]
    paths.append(results / "all/figures/average_rank_by_layer.png")
    assert images == [path.read_bytes() for path in paths]


def test_the_data_of_each_item_can_be_downloaded(page: str, results: Path) -> None:
    found = re.findall(r'<a href="data:text/csv;base64,([^"]+)" download="([^"]+)"', page)
    expected = [(model, name) for model in MODELS for name in ("known_facts.csv", "editing_generations.csv")]
    assert [name for _, name in found] == [name for _, name in expected]
    for (data, _), (model, name) in zip(found, expected, strict=True):
        assert base64.b64decode(data) == (results / model / "tables" / name).read_bytes()


def test_data_that_are_large_are_named_where_they_lie(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("knowcirc.report.parts.EMBEDDED", 10)
    assert 'href="tiny/tables/known_facts.csv" download="known_facts.csv"' in build(results, MANIFEST, TEXTS, {})


def test_every_item_of_every_model_has_an_anchor_and_each_chapter_a_link(page: str) -> None:
    names = [f"{model}-{name}" for model in MODELS for name in ("known_facts", "circuit_graph", "editing_generations")]
    assert re.findall(r'<article id="([^"]+)"', page) == [*names, "all-average_rank_by_layer"]  # in the papers' order
    anchors = re.findall(r'id="([^"]+)"', page)
    assert len(anchors) == len(set(anchors))
    assert set(re.findall(r'<a href="#([^"]+)"', page)) <= set(anchors)
    assert {f"{model}-{chapter}" for model in MODELS for chapter in ("facts", "circuits", "editing")} < set(anchors)


def test_each_model_has_its_own_numbers_and_origin(page: str) -> None:
    first, second = page.split('<section id="other">')
    assert "prompt 0" in first
    assert "12 facts, 50.0 % known" in plain(first)
    assert "prompt 1" in second
    assert "13 facts" in plain(second)
    assert "tiny: from tiny/<repository> (hub), licence MIT, weights sha256 abab" in plain(second)
    assert "<repository>" not in page


def test_texts_of_tables_and_settings_are_escaped(page: str) -> None:
    assert "<script>alert" not in page
    assert ">&lt;script&gt;alert(1)&lt;/script&gt;</td>" in page
    assert "b &amp; c" in page
    assert "a &lt;b&gt; &amp; ü" in page


def test_a_tables_cells_hold_numbers_with_their_intervals(page: str) -> None:
    tables = re.findall(r"<table>(.*?)</table>", page, re.DOTALL)
    assert [plain(head) for head in re.findall(r"<th[^>]*>(.*?)</th>", tables[0], re.DOTALL)] == [
        *("relation", "n", "layer", "hit_at_1")
    ]
    assert re.search(r'title="[^"]+ \(share\)"><button type="button">hit_at_1<', tables[0])
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", tables[0], re.DOTALL)[1:]]
    assert [plain(cell) for cell in rows[0][1:]] == ["3", "2", "0.250 [0.125, 0.750]"]
    assert [plain(cell) for cell in rows[1][1:]] == ["4", "", "0.500"]  # no interval, no brackets
    assert re.findall(r'<td class="(\w+)" data-value="([^"]*)"', tables[0])[1:4] == [
        *(("number", "3.0"), ("number", "2.0"), ("number", "0.25"))
    ]
    assert re.findall(r'<td class="(text|long)"', tables[1]) == ["text", "long"]
    assert plain(tables[1]).endswith("0.000")


def test_a_missing_caption_or_figure_is_an_error(results: Path) -> None:
    with pytest.raises(KeyError, match="editing_generations"):
        build(results, MANIFEST, {name: TEXTS[name] for name in ("circuit_graph", "known_facts")}, {})
    (results / "other" / "figures" / "circuit_graph.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"other/figures/circuit_graph\.png"):
        build(results, MANIFEST, TEXTS, {})


CLAIMS = {
    "claim": ["a <b>", "b", "c"],
    "section": "KC 4",
    "quote": "the paper's words",
    "measure": "a number",
    "value": [0.8, 0.1, np.nan],
    "low": [0.7, 0.0, np.nan],
    "high": [0.9, 0.3, np.nan],
    "bound": [0.5, 0.5, 0.5],
    "fails": "it is small",
    "holds": ["yes", "no", "unclear"],
    "n": [4, 5, 0],
}
COMPARED = {
    "comparison": "in kind",
    "paper": "KC Table 1",
    "published_model": "gpt2-medium",
    "measure": "d_val_circuit",
    "about": ["mean", np.nan],
    "printed": ["0.73", None],
    "published": [0.7, np.nan],
    "ours": [0.9, 0.5],
    "ours_low": [0.8, 0.4],
    "ours_high": [1.0, 0.6],
    "difference": [0.2, np.nan],
    "verdict": ["higher", "none"],
    "n": [26, 26],
}


def test_the_page_opens_with_what_holds(results: Path) -> None:
    for model in MODELS:
        for name, rows in (("claims", CLAIMS), ("paper_comparison", COMPARED)):
            write_table(results / model / "tables" / f"{name}.csv", pd.DataFrame({"model": model, **rows}))
    tables = [*MANIFEST["tables"], "claims", "paper_comparison"]
    page = build(
        results, MANIFEST | {"tables": tables}, TEXTS | {"claims": "Claims.", "paper_comparison": "Numbers."}, {}
    )
    section = page[page.index('id="tiny-holds"') : page.index('id="tiny-facts"')]
    assert plain(section[section.index('<p class="counts">') :]).startswith("1 holds 1 does not hold 1 unclear")
    assert re.findall(r'<details class="claim (\w+)">', section) == ["yes", "no", "unclear"]
    assert "0.8 [0.7, 0.9] over 4 cases; bound 0.5" in plain(section)
    assert "a &lt;b&gt;" in section
    assert section.count('class="bar"') == 3  # an empty claim has none; the comparison has one
    assert "0.7 0.9 [0.8, 1]" in plain(section)
    assert "in kind: none" not in section


def test_a_strips_middle_is_the_bound() -> None:
    places = [claim["place"] for claim in claims_of(pd.DataFrame(CLAIMS))]
    assert places[0] == {"value": pytest.approx(83.75), "low": pytest.approx(72.5), "high": pytest.approx(95)}
    assert places[1]["low"] == pytest.approx(5)
    assert places[1]["high"] < 50
    assert places[2] == {}


def test_a_comparisons_strip_spans_both_numbers() -> None:
    (found,) = comparisons_of(pd.DataFrame(COMPARED))
    assert found["place"]["published"] == pytest.approx(5)
    assert found["place"]["ours_high"] == pytest.approx(95)


# -- the page in Markdown ------------------------------------------------------------------------------------------


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    folder = tmp_path / "captions"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / f"{name}.rst").write_text(text, "utf-8")
    return folder


def test_the_markdown_page_has_every_item_with_its_numbers(results: Path, captions: Path) -> None:
    (captions / "circuit_graph.rst").write_text("Edges{% if run is defined %}: {{ lost.n }}{% endif %}.", "utf-8")
    write_json(results / "manifest.json", MANIFEST)
    page = results_page(results, captions)
    assert "12 facts, 50.0 % known." in page
    assert "13 facts, 50.0 % known." in page
    assert page.count("Edges. (This run's findings lack a number that the caption states") == 2
    images = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page)
    assert all(Path(path).is_file() for path in images)
    assert len(images) == 3
    assert all(Path(path).is_file() for path in re.findall(r"\]\(([^)]+\.csv)\)", page))


def test_the_reference_results_page_is_that_of_the_reference_run() -> None:
    root = Path(__file__).parents[2]
    made = results_page(Path("results/reference"), CAPTIONS[0].parent) if Path.cwd() == root else None
    assert (
        made is None or (root / "RESULTS.md").read_text("utf-8") == made
    )  # python -m knowcirc.report results/reference
