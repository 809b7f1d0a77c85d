"""The numbers that captions state, and the table of causal effects, against small tables reckoned by hand."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from knowcirc.files import write_json
from knowcirc.tables.findings import collect
from knowcirc.tracing.averages import causal_effects, causal_effects_severed, peaks

EFFECTS = (
    ("state", "subject_last", 0, 0.20),
    ("state", "subject_last", 1, 0.10),
    ("state", "last", 1, 0.40),
    ("mlp", "subject_last", 0, 0.15),
    ("mlp", "subject_last", 1, 0.25),
    ("mlp", "further", 0, 0.30),
    ("attention", "subject_last", 0, 0.50),
    ("attention", "last", 0, 0.05),
    ("attention", "last", 1, 0.35),
    ("total", None, None, 0.45),
)
CIRCUITS = (
    # method, relation, original, circuit, random, faithfulness and its low end, random faithfulness and its high end
    ("eap", "capital", 1.0, 0.5, 0.0, 0.9, 0.8, 0.1, 0.2),
    ("eap", "language", 0.8, 0.3, 0.1, 0.5, 0.1, 0.2, 0.3),
    ("eap", "currency", 0.6, 0.1, 0.2, np.nan, np.nan, np.nan, np.nan),
    ("eap-ig", "capital", 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0),
)


def tables() -> dict[str, pd.DataFrame]:
    """One small table of each that `collect` reads, as the study's rules write them."""
    known = {"relation": ["capital", "language"], "n": [10, 30], "hit_at_1": [0.5, 0.9], "hit_at_10": [0.6, 1.0]}
    effects = pd.DataFrame(EFFECTS, columns=["kind", "role", "layer", "effect"]).astype({"layer": "Int64"})
    cut = [("none", 0, 0.2), ("none", 1, 0.3), ("mlp", 0, 0.0), ("mlp", 1, 0.05), ("attention", 1, 0.25)]
    severed = pd.DataFrame(cut, columns=["severed", "layer", "effect"]).astype({"layer": "Int64"})
    names = ["method", "relation", "d_test_original", "d_test_circuit", "d_test_random"]
    names += ["faithfulness", "faithfulness_low", "faithfulness_random", "faithfulness_random_high"]
    ranks = {
        "answer_at_last": [(900, 0.0), (1, 0.3), (4, 0.1), (1, 0.5), (1, 0.9)],
        "answer_at_subject": [(800, 0.0), (70, 0.0), (6, 0.0), (9, 0.0), (6, 0.0)],
        "subject_at_last": [(3, 0.2), (1, 0.8), (1, 0.4), (1, 0.3), (1, 0.2)],
    }
    editing = {"editor": ["none", "rome", "kn"], "layer": [np.nan, 3.0, np.nan], "S": [0.0, 0.9, 0.1]}
    editing |= {"ES": [0.1, 1.0, 0.2], "ES_low": [0.0, 0.8, 0.1], "ES_high": [0.2, 1.0, 0.3], "PS": [0.2, 0.7, 0.1]}
    editing |= {"NS": [0.95, 0.85, 0.9], "n": [20, 20, 20]}
    edited = {"prompt": ["edited", "edited"], "weights": ["none", "rome"], "head": ["a5.h1", "a5.h1"]}
    edited |= {"answer_top": [" French", " German"], "p_old": [0.6, 0.0], "p_new": [0.0, 0.9]}
    icl = {"original": [0.9, 0.7], "icl_heads_ablated": [0.5, 0.4], "random_heads_ablated": [0.8, 0.75]}
    icl |= {f"p_{name}": [0.1, 0.3] for name in list(icl)}
    return {
        "known": pd.DataFrame({**known, "n_wrong_of_right_type": [2, 3]}),
        "effects": effects.assign(effect_low=effects.effect - 0.03, effect_high=effects.effect + 0.04, n=7),
        "severed": severed.assign(effect_low=severed.effect - 0.03, effect_high=severed.effect + 0.04),
        "circuits": pd.DataFrame(CIRCUITS, columns=names).assign(
            edge_share=[0.04, 0.05, 0.06, 0.9],
            hit_at_10_beats_random=["yes", "unclear", "yes", "no"],
            ablation="zero",
            n_objects=[30, 5, 12, 30],
            **dict.fromkeys(("d_val_kept", "d_test_among_original", "d_test_among_circuit"), 0.9),
            d_test_kept=[0.4, np.nan, 0.8, 1.0],
            d_test_others_original=0.1,
            d_test_others_circuit=0.2,
        ),
        "ranks": pd.DataFrame(
            [(q, layer, *pair) for q, pairs in ranks.items() for layer, pair in enumerate(pairs)],
            columns=["quantity", "layer", "rank", "probability"],
        ),
        "editing": pd.DataFrame({**editing, "seconds_per_edit": [np.nan, 5.5, 0.5]}),
        "questions": pd.DataFrame(
            {"editor": ["none", "rome"], "efficacy": [0.0, 1.0], "paraphrase": [0.0, 0.6], "specificity": 0.5, "n": 20}
        ),
        "sweep": pd.DataFrame(
            {
                "token": ["subject_last", "subject_last", "last"],
                "layer": [0, 2, 2],
                "efficacy": [0.5, 0.9, 1.0],
                "paraphrase": [0.4, 0.6, 0.1],
                "specificity": [0.3, 0.7, 0.2],
                "score": [0.38, 0.71, 0.9],
                "base": True,
                "n": 2,
            }
        ),
        "edited": pd.DataFrame(edited),
        "heads": pd.DataFrame(
            {
                "relation": ["capital", "language", "language"],
                "head": ["a5.h1", "a5.h1", "a2.h0"],
                "layer": [5, 5, 2],
                "role": ["mover", "mover", "relation"],
                "in_circuit": [True, False, True],
            }
        ),
        "ablation": pd.DataFrame(
            {
                **{"role": ["mover", "mover"], "original": 1.0, "ablated": [0.5, 0.7], "random": 0.9},
                **{"p_original": 0.6, "p_ablated": [0.1, 0.3], "p_random": 0.5},
            }
        ),
        "portability": pd.DataFrame(
            {
                "question": ["two hops", "two hops", "two hops", "reverse"],
                "relation": ["all", "all", "city+language", "all"],
                **{"editor": ["none", "rome", "rome", "rome"], "n": [8, 8, 8, 3]},
                **{
                    "takes": [0.0, 1.0, 0.7, 1.0],
                    "says_old": [1.0, 0.5, 0.4, 0.0],
                    "says_follows": [0.0, 0.25, 0.3, 0.9],
                },
                "says_object": [0.0, 0.125, 0.1, 0.2],
            }
        ),
        "overlap": pd.DataFrame(
            {
                **{"editor": "rome", "layer": [3, 12], "prompt": "request", "jaccard_edges": [0.2, 0.4]},
                **{"jaccard_nodes": 0.8, "kept_share": 0.5, "n": 5},
            }
        ),
        "claims": pd.DataFrame(
            {"claim": ["x rises", "y falls", "z"], "value": [0.4, 0.1, np.nan], "holds": ["yes", "no", "unclear"]}
        ),
        "wrong": pd.DataFrame(
            {
                **{
                    "relation": ["capital", "all"],
                    "head": ["a1.h1", ""],
                    "overtaken_from": 0.8,
                    "right_ever_on_top": 0.1,
                },
                **{"attends_wrong": 0.7, "attends_right": 0.9, "writes_said_wrong": 0.4, "writes_right_wrong": 0.2},
                **{"writes_said_right": 0.6, "same_head": 0.3, "n_mover": [3, 90], "n_right": 5, "n": [3, 120]},
            }
        ),
        "hops": pd.DataFrame(
            {
                "composition": ["a+b"],
                "hit_first": 0.9,
                "hit_second": 0.8,
                "hit_integrated": 0.7,
                "hit_left_out": 0.6,
                "n": 30,
            }
        ),
        "both_ways": pd.DataFrame({"relation": ["capital"], "hit_forward": [1.0], "hit_reverse": [0.25], "n": [40]}),
        "published": pd.DataFrame(
            {
                "comparison": ["in kind"] * 3 + ["same model", "same model", "none"],
                "ours": [0.1, 0.2, np.nan, 0.3, 0.4, np.nan],
                "verdict": ["same sign", "higher", "not run", "within", "outside", "another model"],
            }
        ),
        "tokens": pd.DataFrame(
            {
                "run": ["original", "original", "mover"],
                "head": ["", "", "a5.h1"],
                "has_role": True,
                "p_answer": [0.9, 0.9, 0.2],
            }
        ),
        "icl": pd.DataFrame({**icl, "n_heads": [10, 13], "n_heads_again": [8.0, np.nan]}),
    }


def documents() -> dict[str, dict[str, object]]:
    """The data of the figures that are no tables."""
    prompt = "The language of France is"
    case = {"prompt": "Lima lies in", "relation": "capital", "right": " Peru", "wrong": " Chile"}
    drawing = {"prompt": prompt, "answer": "French", "p_model": 0.6, "p_circuit": 0.01, "n_edges": 3000}
    attention = {"prompt_icl": prompt, "answer": "Korean", "p_zero": 0.1, "p_icl": 0.7, "n_new_heads": 19}
    return {
        "drawing": {**drawing, "edge_share": 0.05, "method": "eap", "nodes": [], "edges": []},
        "hallucination": {"heads": [], "meta": [{"case": name, **case} for name in ("wrong", "right")]},
        "attention": attention,
        "token_meta": {"prompt": prompt, "answer": "French"},
    }


@pytest.fixture
def found() -> dict[str, Any]:
    return collect(tables(), documents())


def test_findings_are_plain_values_by_topic(found: dict[str, Any], tmp_path: object) -> None:
    write_json(f"{tmp_path}/findings.json", found)  # refuses NaN and what numpy and pandas leave behind
    topics = {"showcase", "known", "tracing", "circuits", "ranks", "editing", "edited", "hallucination", "icl"}
    topics |= {"questions", "sweep", "components", "ablation", "showcase_tokens", "overlap", "claims", "verdicts"}
    topics |= {"wrong", "hops", "reverse", "published", "portability"}
    assert set(found) == topics
    assert "nodes" not in found["showcase"]


def test_what_follows_from_edits_is_that_of_all_compositions(found: dict[str, Any]) -> None:
    assert list(found["portability"]) == ["none", "rome"]
    assert (found["portability"]["rome"]["says_follows"], found["portability"]["rome"]["n"]) == (0.25, 8)


def test_printed_numbers_beside_ours_are_counted(found: dict[str, Any]) -> None:
    assert found["published"] == {"in_kind": 2, "agree": 1, "same_model": 2, "within": 1}


def test_shares_of_known_facts_weigh_every_fact_alike(found: dict[str, Any]) -> None:
    known = found["known"]
    assert (known["relations"], known["facts"], known["wrong_of_right_type"]) == (2, 40, 5)
    assert known["hit_at_1"] == pytest.approx((0.5 * 10 + 0.9 * 30) / 40)
    assert known["hit_at_10"] == pytest.approx((0.6 * 10 + 1.0 * 30) / 40)


def test_a_study_with_another_number_of_hits_has_no_hit_at_10() -> None:
    changed = {**tables(), "known": tables()["known"].rename(columns={"hit_at_10": "hit_at_5"})}
    assert collect(changed, documents())["known"]["hit_at_10"] is None  # type: ignore[index]


def test_tracing_names_each_kinds_peak_and_the_papers_two_sites(found: dict[str, Any]) -> None:
    tracing = found["tracing"]
    assert tracing["n"] == 7
    assert tracing["total"] == pytest.approx({"effect": 0.45, "effect_low": 0.42, "effect_high": 0.49})
    places = {kind: (tracing[kind]["role"], tracing[kind]["layer"]) for kind in ("state", "mlp", "attention")}
    assert places == {"state": ("last", 1), "mlp": ("further", 0), "attention": ("subject_last", 0)}
    assert tracing["mlp"]["where"] == "the further tokens"
    assert tracing["mlp"]["effect_low"] == pytest.approx(0.27)
    assert tracing["state_at_subject"] == {"layer": 0, "effect": 0.2}
    assert tracing["mlp_at_subject"] == {"layer": 1, "effect": 0.25}
    assert tracing["attention_at_last"] == {"layer": 1, "effect": 0.35}


def test_severed_runs_are_compared_where_the_intact_effect_is_largest(found: dict[str, Any]) -> None:
    severed = found["tracing"]["severed"]
    effects = {name: (numbers["layer"], numbers["effect"]) for name, numbers in severed.items()}
    assert effects == {"none": (1, 0.3), "mlp": (1, 0.05), "attention": (1, 0.25)}
    assert severed["mlp"]["effect_high"] == pytest.approx(0.09)


def test_circuits_are_those_of_the_first_method(found: dict[str, Any]) -> None:
    circuits = found["circuits"]
    means = {"d_test_original": 0.8, "d_test_circuit": 0.3, "d_test_random": 0.1, "edge_share": 0.05}
    assert {name: circuits[name] for name in means} == pytest.approx(means)
    assert (circuits["method"], circuits["relations"]) == ("eap", 3)


def test_every_method_has_its_hits_and_where_they_beat_random_ones(found: dict[str, Any]) -> None:
    methods = found["circuits"]["methods"]
    assert list(methods) == ["eap", "eap-ig"]
    assert (methods["eap"]["relations"], methods["eap"]["beats_random"]) == (3, 2)
    assert methods["eap"]["d_test_circuit"] == pytest.approx(0.3)
    assert (methods["eap-ig"]["d_test_circuit"], methods["eap-ig"]["beats_random"]) == (1.0, 0)


def test_what_is_kept_is_a_mean_over_relations_and_over_those_of_many_objects(found: dict[str, Any]) -> None:
    kept = found["circuits"]["methods"]["eap"]
    assert (kept["kept"], kept["kept_open"], kept["open"]) == (pytest.approx(0.6), pytest.approx(0.6), 2)
    assert kept["kept_val"] == pytest.approx(0.9)
    assert kept["kept_mean"] is None  # no rows under mean ablation here
    assert kept["d_test_others_circuit"] == pytest.approx(0.2)


def test_summary_rows_and_other_ablations_are_not_counted_twice() -> None:
    given = tables()
    circuits = given["circuits"]
    more = [circuits.assign(ablation="mean", d_test_kept=0.5), circuits.assign(relation="all", d_test_circuit=0.0)]
    given["circuits"] = pd.concat([circuits, *more], ignore_index=True)
    found: Any = collect(given, documents())["circuits"]
    assert (found["relations"], found["d_test_circuit"]) == (3, pytest.approx(0.3))
    assert found["methods"]["eap"]["kept_mean"] == pytest.approx(0.5)


def test_faithfulness_is_a_mean_over_the_relations_that_have_one(found: dict[str, Any]) -> None:
    circuits = found["circuits"]
    assert circuits["faithfulness"] == pytest.approx(0.7)
    assert circuits["faithfulness_random"] == pytest.approx(0.15)
    assert circuits["faithfulness_low"] == pytest.approx(0.5)  # of two values, the bootstrap's ends are the values
    assert circuits["faithfulness_high"] == pytest.approx(0.9)


def test_a_circuit_beats_random_ones_where_the_intervals_do_not_overlap(found: dict[str, Any]) -> None:
    assert found["circuits"]["beats_random"] == 1
    assert found["circuits"]["not_beating"] == ["language", "currency"]


def test_the_answer_comes_first_from_the_layer_after_the_last_at_which_it_does_not(found: dict[str, Any]) -> None:
    assert found["ranks"] == {"first_from_layer": 3, "best_at_subject": 6, "best_at_subject_layer": 2}


def test_an_answer_that_is_always_first_is_first_from_the_embedding() -> None:
    ranks = tables()["ranks"].assign(rank=1)
    assert collect({**tables(), "ranks": ranks}, documents())["ranks"]["first_from_layer"] == 0  # type: ignore[index]


def test_editing_has_seconds_and_layer_of_edits_alone(found: dict[str, Any]) -> None:
    assert set(found["editing"]) == {"none", "rome", "kn"}
    assert (found["editing"]["kn"]["seconds"], found["editing"]["kn"]["layer"]) == (0.5, None)
    assert "seconds" not in found["editing"]["none"]
    assert "layer" not in found["editing"]["none"]
    assert found["editing"]["none"]["ES"] == 0.1
    assert (found["editing"]["rome"]["seconds"], found["editing"]["rome"]["layer"]) == (5.5, 3)
    assert (found["editing"]["rome"]["ES_low"], found["editing"]["rome"]["n"]) == (0.8, 20)


def test_the_sweeps_best_layer_is_that_of_the_subjects_last_token(found: dict[str, Any]) -> None:
    assert (found["sweep"]["layer"], found["sweep"]["layers"], found["sweep"]["n"]) == (2, 2, 2)
    assert found["sweep"]["specificity"] == 0.7
    assert found["questions"]["rome"] == {"efficacy": 1.0, "paraphrase": 0.6, "specificity": 0.5, "n": 20.0}


def test_components_claims_and_edits_are_summed_up(found: dict[str, Any]) -> None:
    mover = {"heads": 1, "relations": 2, "first": 5, "last": 5, "median": 5, "in_circuit": 0.5}
    assert found["components"]["mover"] == mover
    assert found["ablation"]["mover"]["p_ablated"] == pytest.approx(0.2)
    assert found["ablation"]["mover"]["relations"] == 2
    assert found["showcase_tokens"]["runs"] == {"mover": {"head": "a5.h1", "has_role": True, "p_answer": 0.2}}
    assert found["showcase_tokens"]["p_original"] == 0.9
    assert found["overlap"]["rome/request"]["jaccard_edges"] == pytest.approx(0.3)
    assert found["claims"] == {"x rises": {"value": 0.4, "holds": "yes"}, "y falls": {"value": 0.1, "holds": "no"}}
    assert (found["wrong"]["n"], found["wrong"]["attends_right"]) == (120, 0.9)
    assert found["hops"]["a+b"]["hit_left_out"] == 0.6
    assert found["reverse"]["capital"]["hit_reverse"] == 0.25
    assert found["verdicts"] == {"yes": 1, "no": 1, "unclear": 1}


def test_edited_views_and_cases_are_found_by_name(found: dict[str, Any]) -> None:
    assert found["edited"]["edited/rome"] == {"head": "a5.h1", "answer_top": " German", "p_old": 0.0, "p_new": 0.9}
    assert set(found["hallucination"]) == {"wrong", "right"}


def test_icl_numbers_are_means_over_relations(found: dict[str, Any]) -> None:
    icl = {key: value for key, value in found["icl"].items() if key != "showcase"}
    means = {
        "original": 0.8,
        "icl_heads_ablated": 0.45,
        "random_heads_ablated": 0.775,
        **{"p_original": 0.2, "p_icl_heads_ablated": 0.2, "p_random_heads_ablated": 0.2},
        "new_heads": 11.5,
        "new_heads_again": 8.0,
    }
    assert icl == pytest.approx({"relations": 2, **means})
    assert found["icl"]["showcase"]["answer"] == "Korean"


def traces() -> pd.DataFrame:
    """Three facts; two with middle subject tokens, the first with two of these, the last with a subject alone."""
    rows: list[tuple[int, str, str | None, int, int, float]] = []
    for case, total in enumerate((0.5, 0.3, 0.1)):
        rows.append((case, "total", None, -1, -1, total))
        rows.append((case, "state", None, 0, 0, 0.0))  # a position before the subject has no role
    for layer, factor in ((0, 1.0), (1, 0.5)):
        rows.append((0, "state", "subject_middle", layer, 2, 0.2 * factor))
        rows.append((0, "state", "subject_middle", layer, 3, 0.4 * factor))
        rows.append((1, "state", "subject_middle", layer, 2, 0.1 * factor))
        rows += [(case, "mlp", "last", layer, 5, value) for case, value in ((0, -0.1 * factor), (1, 0.3 * factor))]
        rows += [(case, "attention", "subject_last", layer, 4, 0.2 - 0.1 * layer * factor) for case in range(3)]
    return pd.DataFrame(rows, columns=["case", "kind", "role", "layer", "position", "effect"])


def effect_row(table: pd.DataFrame, kind: str, role: str, layer: int) -> pd.Series:
    return table[(table.kind == kind) & (table.role == role) & (table.layer == layer)].iloc[0]


def test_positions_of_one_role_are_averaged_within_a_fact_first() -> None:
    row = effect_row(causal_effects(traces(), "tiny"), "state", "subject_middle", 0)
    assert row["effect"] == pytest.approx((0.3 + 0.1) / 2)
    assert (row["effect_low"], row["effect_high"]) == pytest.approx((0.1, 0.3))
    assert row["n"] == 2


def test_facts_are_counted_where_they_have_the_role() -> None:
    table = causal_effects(traces(), "tiny")
    counts = {row.kind: row.n for row in table[table.kind != "total"].itertuples()}
    assert counts == {"state": 2, "mlp": 2, "attention": 3}
    assert effect_row(table, "mlp", "last", 1)["effect"] == pytest.approx(0.05)


def test_there_is_one_row_for_each_kind_role_and_layer_and_one_for_the_total() -> None:
    table = causal_effects(traces(), "tiny")
    assert not table.duplicated(["kind", "role", "layer"]).any()
    assert len(table) == 3 * 2 + 1
    assert set(table.model) == {"tiny"}
    total = table[table.kind == "total"].iloc[0]
    assert total["effect"] == pytest.approx(0.3)
    assert total["n"] == 3
    assert pd.isna(total["role"])
    assert pd.isna(total["layer"])


def severed_traces() -> pd.DataFrame:
    """The traces with states and severed runs at the subject's last token, and states elsewhere."""
    values = {"state": 0.4, "severed_mlp": 0.1, "severed_attention": 0.3}
    rows = [
        (case, kind, "subject_last", layer, 4, value + 0.1 * case * layer)
        for kind, value in values.items()
        for case in range(2)
        for layer in range(2)
    ]
    return pd.concat([traces(), pd.DataFrame(rows, columns=list(traces().columns))])


def test_severed_runs_have_a_table_of_their_own() -> None:
    table = causal_effects_severed(severed_traces(), "tiny")
    named = {(row.severed, row.layer): (row.effect, row.n) for row in table.itertuples()}
    assert named == {
        (name, layer): (pytest.approx(value + 0.05 * layer), 2)
        for name, value in (("none", 0.4), ("mlp", 0.1), ("attention", 0.3))
        for layer in range(2)
    }
    assert set(table.kind) == {"state"}
    assert set(table.role) == {"subject_last"}
    assert set(causal_effects(severed_traces(), "tiny").kind) == {"state", "mlp", "attention", "total"}
    assert list(table.columns[:5]) == ["model", "kind", "severed", "role", "layer"]


def test_a_study_without_severed_runs_has_the_intact_ones_in_their_table() -> None:
    traces = severed_traces()
    table = causal_effects_severed(traces[~traces.kind.str.startswith("severed")], "tiny")
    assert table.severed.tolist() == ["none", "none"]


def test_the_order_of_the_traces_changes_nothing() -> None:
    shuffled = traces().sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(causal_effects(traces(), "tiny"), causal_effects(shuffled, "tiny"))


def test_peaks_are_the_largest_mean_effects_with_their_place() -> None:
    found = peaks(causal_effects(traces(), "tiny"))
    places = {kind: (peak["role"], peak["layer"], peak["n"]) for kind, peak in found.items()}
    assert places == {
        "state": ("subject_middle", 0, 2),
        "mlp": ("last", 0, 2),
        "attention": ("subject_last", 0, 3),
    }
    assert found["mlp"]["effect"] == pytest.approx(0.1)
    assert (found["mlp"]["effect_low"], found["mlp"]["effect_high"]) == pytest.approx((-0.1, 0.3))
