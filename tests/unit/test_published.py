"""The papers' printed numbers beside a run's: what is set beside what, and the verdicts."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from knowcirc.files import read_table
from knowcirc.statistics import bootstrap
from knowcirc.tables.published import IN_KIND, LEVELS, harmonic_gap, paper_comparison

ROOT = Path(__file__).parents[2]
SOURCES = {"relations": "lre", "records": "counterfact", "traced": "known_1000"}


def results(**changes: Any) -> dict[str, Any]:
    """A run's tables with numbers made up."""
    interval = {"hit_at_10": 0.8, "hit_at_10_low": 0.7, "hit_at_10_high": 0.9}
    alone = {"d_val_circuit": 0.9, "d_test_circuit": 0.4, "d_test_random": 0.0, "n_edges_merged": 573.0}
    alone |= {"d_val_original": 0.8, "d_val_original_low": 0.6, "d_val_original_high": 1.0, "d_test_original": 0.5}
    circuits = pd.DataFrame(
        {"relation": ["adj_antonym", "work_location", *"abc"] * 2, "method": ["standing"] * 5 + ["acdc"] * 5}
    ).assign(ablation="zero", n_val=20, n_test=20, **alone)
    effects = pd.DataFrame(
        [("total", np.nan, np.nan, 0.4, 0.3, 0.5)]
        + [
            (kind, "subject_last", layer, peak - layer / 10, peak - layer / 10 - 0.02, peak - layer / 10 + 0.02)
            for kind, peak in (("state", 0.2), ("mlp", 0.1), ("attention", 0.05))
            for layer in (0, 1)
        ],
        columns=["kind", "role", "layer", "effect", "effect_low", "effect_high"],
    ).assign(n=20)
    frame = {
        name: pd.DataFrame(
            {"case": list("abcde"), "ES": es, "PS": ps, "NS": ns, "question_efficacy": es, "question_paraphrase": ps}
        )
        for name, es, ps, ns in (
            *(
                ("none", 0.1, 0.1, 0.9),
                ("rome", 1.0, [0.9, 0.8, 1.0, 0.7, 0.8], 0.8),
                ("ft-l", 1.0, 0.5, [0.9, 0.8, 0.7, 0.9, 0.8]),
            ),
        )
    }
    editing = pd.DataFrame({"editor": ["none", "rome"], "S": [0.15, 0.89], "S_low": [0.1, 0.88], "S_high": [0.2, 0.9]})
    found = {
        "known": pd.DataFrame({"relation": ["adj_antonym"], **interval, "n": 100}),
        "circuits": circuits,
        "effects": effects,
        "editing": editing.assign(**dict.fromkeys(("ES", "EM", "PS", "PM", "NS", "NM", "GE", "RS"), 0.5), n=4),
        "questions": {},
        "icl": pd.DataFrame({"p_random_heads_ablated": [0.9, 0.8], "p_icl_heads_ablated": 0.5}),
        "hops": pd.DataFrame(
            {f"reused_{of}_{hop}": [0.5, 0.7] for of in ("nodes", "edges") for hop in ("first", "second")}
            | {"reused_nodes_direct": [float("nan"), 0.7], "reused_edges_direct": float("nan")}
        ),
        "both_ways": pd.DataFrame({"reused_nodes_both_ways": [0.6, 0.8]}),
        "edits": frame,
        **SOURCES,
    }
    return {**found, **changes}


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    return read_table(ROOT / "config/published.csv")


def rows(table: pd.DataFrame, **where: str) -> pd.DataFrame:
    for column, value in where.items():
        table = table[table[column] == value]
    return table


def test_every_printed_number_has_a_reader(published: pd.DataFrame) -> None:
    kinds = published.groupby("comparison")
    assert set(kinds.groups) == {"in kind", "same model"}
    assert set(kinds.get_group("in kind")["measure"]) == set(IN_KIND)
    assert set(kinds.get_group("same model")["paper"]) == set(LEVELS)
    assert published["value"].notna().all()
    shares = published[~published["measure"].isin(["n_edges", "GE"])]
    assert shares["value"].between(-1, 1).all()


def test_averages_of_the_file_are_those_of_its_rows(published: pd.DataFrame) -> None:
    """KC prints the averages of Table 1; they are also in the rows that they are averages of."""
    own = rows(published, paper="KC Table 1", comparison="same model")
    for measure in ("d_val_circuit", "d_test_circuit", "d_test_random"):
        printed = rows(published, paper="KC Table 1", comparison="in kind", measure=measure)["value"].item()
        assert rows(own, measure=measure)["value"].mean() == pytest.approx(printed, abs=0.006)


def test_a_model_of_the_paper_is_compared_number_by_number(published: pd.DataFrame) -> None:
    table = paper_comparison("gpt2-medium", published, **results())
    same = rows(table, comparison="same model")
    antonyms = rows(same, paper="KC Table 6", about="adj_antonym").iloc[0]
    assert (antonyms["published"], antonyms["ours"], antonyms["verdict"]) == (0.8, 0.8, "within")
    score = rows(same, paper="ROME Table 5", about="rome", measure="S").iloc[0]
    assert (score["published"], score["verdict"]) == (0.874, "outside")
    assert score["difference"] == pytest.approx(0.89 - 0.874)
    edges = rows(same, paper="KC Table 1", about="adj_antonym", measure="n_edges").iloc[0]
    assert (edges["ours"], edges["published"], edges["verdict"]) == (573, 573, "within")
    assert rows(same, paper="KC Table 1", about="name_religion")["verdict"].eq("not run").all()
    assert rows(same, paper="ROME Table 6")["verdict"].eq("other facts").all()  # zsRE's own questions are not edited
    assert same["published_model"].eq("gpt2-medium").all()


def test_edits_of_zsre_are_compared_where_the_study_has_them(published: pd.DataFrame) -> None:
    asked = pd.DataFrame({"editor": ["rome"], "efficacy": 0.966, "paraphrase": 0.7, "specificity": 0.2, "n": 4})
    table = paper_comparison("gpt2-medium", published, **results(questions={"zsre_scores": asked}))
    found = rows(table, comparison="same model", paper="ROME Table 6")
    assert rows(found, about="rome").set_index("measure")["verdict"].to_dict() == {
        "efficacy": "within",
        "paraphrase": "outside",
        "specificity": "outside",
    }
    assert rows(found, about="ft-l")["verdict"].eq("not run").all()


def test_tables_of_other_models_stand_in_one_row_and_are_empty(published: pd.DataFrame) -> None:
    table = paper_comparison("mine", published, **results())
    assert not len(rows(table, comparison="same model"))
    others = rows(table, comparison="none")
    assert others["verdict"].eq("another model").all()
    assert others[["ours", "published", "difference"]].isna().all(axis=None)
    xl = rows(others, paper="ROME Table 4", published_model="gpt2-xl").iloc[0]
    assert xl["measure"] == "81 numbers"


def test_numbers_on_other_facts_are_not_set_beside(published: pd.DataFrame) -> None:
    table = paper_comparison("gpt2-xl", published, **results(records="builtin", traced="builtin"))
    same = rows(table, comparison="same model")
    assert same["verdict"].eq("other facts").all()
    assert same["ours"].isna().all()


def test_in_kind_a_difference_is_judged_by_its_sign(published: pd.DataFrame) -> None:
    shown = results()
    kind = rows(paper_comparison("mine", published, **shown), comparison="in kind")
    gap = rows(kind, measure="PS_gap", about="rome less ft-l").iloc[0]
    expected = bootstrap((shown["edits"]["rome"]["PS"] - 0.5).tolist())
    assert (gap["ours"], gap["ours_low"], gap["verdict"]) == (expected.value, expected.low, "same sign")
    assert rows(kind, measure="NS_gap", about="none less rome")["verdict"].item() == "same sign"
    assert rows(kind, measure="NS_gap", about="rome less ft")["verdict"].item() == "not run"
    assert rows(kind, measure="reused_nodes_first_less_second")["verdict"].item() == "unclear"
    assert rows(kind, measure="icl_heads")["ours"].item() == pytest.approx(0.35)
    turned = shown["edits"] | {"rome": shown["edits"]["rome"].assign(PS=0.1)}
    again = rows(paper_comparison("mine", published, **results(edits=turned)), comparison="in kind")
    assert rows(again, measure="PS_gap")["verdict"].item() == "opposite sign"
    few = shown["edits"] | {name: frame.iloc[:4] for name, frame in shown["edits"].items()}
    again = rows(paper_comparison("mine", published, **results(edits=few)), comparison="in kind")
    assert rows(again, measure="PS_gap")["verdict"].item() == "unclear"  # of four records


def test_in_kind_a_level_is_higher_lower_or_no_different(published: pd.DataFrame) -> None:
    kind = rows(paper_comparison("mine", published, **results()), comparison="in kind").set_index("measure")
    assert kind.loc["d_val_circuit", "verdict"] == "higher"  # 0.9 of one method, printed 0.73
    assert kind.loc["d_test_circuit", "verdict"] == "lower"
    assert kind.loc["d_test_random", "verdict"] == "no different"
    assert kind.loc["reused_nodes_both_ways", "verdict"] == "no different"
    assert kind.loc["reused_nodes_direct", "n"] == 1
    assert kind.loc["reused_edges_direct", "verdict"] == "not run"
    peak = kind.loc["peak_mlp_less_attention"]
    assert (peak["ours"], peak["ours_low"], peak["ours_high"]) == pytest.approx((0.05, 0.01, 0.09))
    assert kind.loc["peak_state_of_total", "ours"] == pytest.approx(0.5)
    unsure = results()["effects"].assign(effect_low=-0.1)
    kind = paper_comparison("mine", published, **results(effects=unsure)).set_index("measure")
    assert kind.loc["peak_state_of_total", "verdict"] == "not run"  # a share of what may be nothing


def test_the_gap_of_harmonic_means_resamples_records_in_pairs() -> None:
    one, other = np.array([[1.0, 0.5, 0.5], [1.0, 1.0, 0.5]]), np.array([[1.0, 0.5, 0.25], [1.0, 0.5, 0.25]])
    gap = harmonic_gap(one, other)
    assert gap.value == pytest.approx(3 / (1 + 1 / 0.75 + 2) - 3 / (1 + 2 + 4))
    assert gap.low < gap.value < gap.high
    same = harmonic_gap(one, one)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)  # pairs: an editor does not differ from itself
    assert harmonic_gap(other, other * 0).value == pytest.approx(3 / 7)  # a mean of zero makes S zero
