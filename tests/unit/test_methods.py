"""Table method_comparison and the points of its figure, from rows reckoned by hand."""

import numpy as np
import pandas as pd
import pytest

from knowcirc.circuits.method_tables import curve_points, method_comparison
from knowcirc.statistics import bootstrap, pooled, wilson

SIZES = (0.1, 0.5, 1.0)
OWN = {("eap", "capital"): 40, ("eap", "language"): 60, ("acdc", "capital"): 10, ("random", "capital"): 40}
OWN |= {("random", "language"): 60}
DROPPED = {("eap", "capital"): 40, ("eap", "language"): 10}
WHOLE, EMPTY = (2.0, 4.0, 6.0), -1.0
KEPT = {"eap": 0.8, "acdc": 0.6, "random": 0.0}
SECONDS = {"eap": {"capital": 3.0, "language": 5.0, "currency": 99.0}, "acdc": {"capital": 70.0}}
COSTS = {
    method: {relation: {"seconds": spent, "passes": 10 * spent} for relation, spent in each.items()}
    for method, each in SECONDS.items()
}


def comparison() -> pd.DataFrame:
    """Two relations of three and two prompts; `acdc` has a circuit of the first alone."""
    rows: list[dict[str, object]] = []
    for (method, relation), n_edges in OWN.items():
        shift = 0.1 if relation == "language" else 0.0

        def add(ablation: str, measure: str, prompt: int, value: float, size: float | None = None) -> None:
            held = n_edges if size is None else 1000 * size  # noqa: B023
            place = {"method": method, "relation": relation, "ablation": ablation, "measure": measure}  # noqa: B023
            share = {"edge_share": held / 1000, "n_dropped": DROPPED.get((method, relation), 0)}  # noqa: B023
            rows.append({**place, "size": size, "n_edges": held, **share, "prompt": prompt, "value": value})

        for prompt in range(2 if relation == "language" else 3):
            add("patch", "faithfulness", prompt, KEPT[method] + shift + 0.1 * prompt)
            add("patch", "completeness", prompt, 0.01 * prompt)
            add("patch", "hit_at_10", prompt, 1.0)
            for size in SIZES:
                kept = 1.0 if size == 1.0 else KEPT[method] + 0.1 * prompt
                add("patch", "faithfulness", prompt, kept, size)
                add("patch", "logit_diff", prompt, EMPTY + (WHOLE[prompt] - EMPTY) * kept, size)
                if method == "eap":
                    add("patch", "logit_diff_signed", prompt, EMPTY + (WHOLE[prompt] - EMPTY) * (kept + 0.2), size)
            add("patch", "logit_diff_model", prompt, WHOLE[prompt])
            add("patch", "logit_diff_empty", prompt, EMPTY)
        for prompt in range(4):
            add("zero", "hit_at_10", prompt, float(prompt < 2 and method != "random"))
            add("mean", "hit_at_10", prompt, float(method != "random"))
            add("zero", "hit_at_10", prompt, float(prompt < 1), 0.1)
        for ablation, kept in (("zero", 0.5), ("mean", 0.7)):
            for prompt in range(2 if relation == "language" else 3):
                add(ablation, "logit_diff", prompt, EMPTY + (WHOLE[prompt] - EMPTY) * (kept + shift), 0.1)
                add(ablation, "logit_diff_model", prompt, WHOLE[prompt])
                add(ablation, "logit_diff_empty", prompt, EMPTY)
    return pd.DataFrame(rows)


@pytest.fixture
def table() -> pd.DataFrame:
    return method_comparison(comparison(), COSTS, "tiny")


def row_of(table: pd.DataFrame, method: str, relation: str, ablation: str = "patch") -> pd.Series:
    return table[(table.method == method) & (table.relation == relation) & (table.ablation == ablation)].iloc[0]


def test_there_is_a_row_a_method_for_all_relations_then_one_for_each_that_it_has(table: pd.DataFrame) -> None:
    assert table.ablation.tolist() == ["zero", "mean", "patch"] * 8
    assert table[table.ablation == "zero"].n_test.tolist() == [8, 4, 8, 4, 4, 4, 4, 4]
    assert table[table.ablation != "patch"].n.tolist() == [5, 5, 3, 3, 5, 5, *[3] * 6, *[2] * 4]
    table = table[table.ablation == "patch"]
    assert list(zip(table.relation, table.method, strict=True)) == [
        *(("all", "eap"), ("all", "acdc"), ("all", "random")),
        *(("capital", "eap"), ("capital", "acdc"), ("capital", "random")),
        *(("language", "eap"), ("language", "random")),
    ]
    assert set(table.model) == {"tiny"}
    assert table.n_relations.tolist() == [2, 1, 2, 1, 1, 1, 1, 1]
    assert table.n.tolist() == [5, 3, 5, 3, 3, 3, 2, 2]
    assert table.n_test.tolist() == [5, 3, 5, 3, 3, 3, 2, 2]


def test_edges_on_no_path_and_constant_circuits_are_counted(table: pd.DataFrame) -> None:
    counts = {(row.relation, row.method): (row.n_dropped, row.n_constant) for row in table.itertuples()}
    assert counts["capital", "eap"] == (40, 1)
    assert counts["language", "eap"] == (10, 0)
    assert counts["all", "eap"] == (25, 1)
    assert counts["all", "random"] == (0, 0)


def test_one_relations_intervals_are_over_its_prompts(table: pd.DataFrame) -> None:
    row = row_of(table, "eap", "capital")
    kept, hit = bootstrap([0.8, 0.9, 1.0]), wilson(2, 4)
    assert (row.faithfulness, row.faithfulness_low, row.faithfulness_high) == pytest.approx(kept[:3])
    alone = row_of(table, "eap", "capital", "zero")
    assert (alone.hit_at_10, alone.hit_at_10_low, alone.hit_at_10_high) == pytest.approx(hit[:3])
    assert (alone["hit_at_10_size_0.1"], row_of(table, "eap", "capital", "mean").hit_at_10) == (0.25, 1.0)
    assert alone[["faithfulness", "cpr", "cmd"]].isna().all()
    assert row.completeness == pytest.approx(0.01)
    single = row_of(table, "acdc", "all")
    assert single.faithfulness_low < single.faithfulness < single.faithfulness_high
    assert single.drop("relation").equals(row_of(table, "acdc", "capital").drop("relation"))


def test_pooled_relations_weigh_alike_and_are_resampled(table: pd.DataFrame) -> None:
    row = row_of(table, "eap", "all")
    expected = pooled([0.8, 0.9, 1.0, 0.9, 1.0], ["a", "a", "a", "b", "b"])
    assert row.faithfulness == pytest.approx((0.9 + 0.95) / 2)
    assert (row.faithfulness, row.faithfulness_low, row.faithfulness_high) == pytest.approx(expected[:3])
    assert (row.n_edges, row.edge_share) == (50, 0.05)


def test_areas_are_those_of_the_ratio_of_means_as_mib_has_it(table: pd.DataFrame) -> None:
    weights = np.array([3.0, 5.0, 7.0])  # model minus empty
    kept = float((np.array([0.6, 0.7, 0.8]) * weights).sum() / weights.sum())
    row = row_of(table, "acdc", "capital")
    assert row.cpr == pytest.approx(0.4 * kept + 0.25 * (kept + 1))
    assert row.cmd == pytest.approx(0.4 * (1 - kept) + 0.25 * (1 - kept))
    picks = np.random.default_rng(0).integers(0, 3, (2000, 3))
    drawn = (np.array([0.6, 0.7, 0.8]) * weights)[picks].sum(1) / weights[picks].sum(1)
    assert (row.cpr_low, row.cpr_high) == pytest.approx(tuple(np.percentile(0.65 * drawn + 0.25, [2.5, 97.5])))


def test_faithfulness_at_a_size_is_of_means_under_every_ablation(table: pd.DataFrame) -> None:
    for ablation, kept in (("zero", 0.5), ("mean", 0.7)):
        row = row_of(table, "eap", "capital", ablation)
        assert row["faithfulness_size_0.1"] == pytest.approx(kept)
        assert row_of(table, "eap", "all", ablation)["faithfulness_size_0.1"] == pytest.approx(kept + 0.05)
        assert np.isnan(row.cpr)
        assert np.isnan(row.faithfulness)
    weights = np.array([3.0, 5.0, 7.0])
    expected = float((np.array([0.8, 0.9, 1.0]) * weights).sum() / weights.sum())
    assert row_of(table, "eap", "capital")["faithfulness_size_0.1"] == pytest.approx(expected)


def test_cpr_is_of_the_edges_of_the_highest_scores_and_cmd_of_the_strongest(table: pd.DataFrame) -> None:
    weights = np.array([3.0, 5.0, 7.0])
    kept = float((np.array([0.8, 0.9, 1.0]) * weights).sum() / weights.sum())
    row = row_of(table, "eap", "capital")
    assert row.cpr == pytest.approx(0.4 * (kept + 0.2) + 0.25 * (kept + 0.2 + 1.2))
    assert row.cmd == pytest.approx(0.4 * (1 - kept) + 0.25 * (1 - kept))
    others = (0.8 * 3 + 0.9 * 5) / 8
    both = [kept, others]
    pool = row_of(table, "eap", "all")
    assert pool.cmd == pytest.approx(np.mean([0.65 * (1 - one) for one in both]))
    assert pool.cmd_low < pool.cmd < pool.cmd_high


def test_seconds_are_the_median_of_the_compared_relations_and_random_has_none(table: pd.DataFrame) -> None:
    assert row_of(table, "eap", "all").seconds == 4.0
    assert row_of(table, "eap", "language").seconds == 5.0
    assert row_of(table, "acdc", "all").seconds == 70.0
    assert row_of(table, "eap", "language").passes == 50.0
    assert table[table.method == "random"][["seconds", "passes"]].isna().all(axis=None)
    with pytest.raises(KeyError):
        method_comparison(comparison(), {**COSTS, "eap": {}}, "tiny")


def test_a_relation_without_pairs_has_hits_and_empty_cells() -> None:
    rows = comparison()
    rows = rows[(rows.relation == "capital") | (rows.measure == "hit_at_10")]
    table = method_comparison(rows[(rows.ablation != "patch") | (rows.relation == "capital")], COSTS, "tiny")
    alone = row_of(table, "eap", "language", "zero")
    assert (alone.n, alone.n_test, alone.hit_at_10) == (0, 4, 0.5)
    row = row_of(table, "eap", "language")
    assert (row.n, row.n_test) == (0, 0)
    assert row[["faithfulness", "faithfulness_low", "completeness", "cpr", "cmd"]].isna().all()


def test_the_figure_has_a_point_a_size_and_the_own_circuit() -> None:
    points = curve_points(comparison())
    assert set(zip(points.ablation, points.measure, strict=True)) == {
        *(("zero", "hit_at_10"), ("mean", "hit_at_10"), ("patch", "faithfulness")),
    }
    alone = points[(points.ablation == "zero") & (points.method == "eap") & (points.relation == "capital")]
    assert alone["value"].tolist() == [0.25, 0.5]
    assert alone["size"].isna().tolist() == [False, True]
    points = points[points.ablation == "patch"]
    part = points[(points.method == "eap") & (points.relation == "all")]
    assert part["size"].isna().sum() == 1
    assert sorted(part["size"].dropna()) == list(SIZES)
    own = part[part["size"].isna()].iloc[0]
    assert (own.edge_share, own.n_edges, own.n, own.n_relations) == (0.05, 50, 5, 2)
    assert own.value == pytest.approx((0.9 + 0.95) / 2)
    half = points[(points.method == "acdc") & (points.relation == "capital") & (points["size"] == 0.5)].iloc[0]
    assert half.value == pytest.approx(0.7)
    assert half.low <= 0.7 <= half.high
    assert len(points) == (3 + 5) * 4
