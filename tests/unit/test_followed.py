"""Edits of many facts followed through layers and circuits, and the papers' claims read off tables."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from knowcirc.circuits.circuit_settings import CircuitSettings
from knowcirc.circuits.finding import find_circuit, finder
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.overlap import compare
from knowcirc.edited.followed import Finders, follow, prompts_of_record
from knowcirc.editing.edits import Edit, Matrix, Request, applied, request
from knowcirc.facts.knowledge import answer_prompts
from knowcirc.facts.prompts import tokenise
from knowcirc.facts.records import Record
from knowcirc.models.loading import LanguageModel
from knowcirc.reading.heads import Thresholds, find_head, read_heads
from knowcirc.reading.lens import step_ranks
from knowcirc.statistics import Interval, bootstrap
from knowcirc.tables.averages import edited_overlap, edited_ranks
from knowcirc.tables.claims import CLAIMS, claims_table, verdict
from knowcirc.tables.evidence import Evidence, arrival, sites, without_first_hop

Loader = Callable[..., LanguageModel]
LIMITS = Thresholds(0.05, 50)
RECORD = Record(
    case="capital/Peru",
    relation="capital",
    subject="Peru",
    template="the capital of {} is",
    target_true="Lima",
    target_new="Paris",
    paraphrases=(),
    neighbours=("the capital of Papua is",),
    generation=(),
    references=(),
    unrelated=(("people in Italy speak", "Italian"),),
)


def test_a_record_is_followed_at_every_place(editable: LanguageModel) -> None:
    model = editable
    graph = Graph.of(model.transformer.shape, "grouped")
    find = finder(graph, CircuitSettings("eap", share=60 / graph.n_edges))
    other = finder(graph, CircuitSettings("eap", share=30 / graph.n_edges))  # stands for a search from another seed
    requested = request(model, RECORD.template, RECORD.subject, RECORD.target_new)
    made: list[tuple[str, int, str]] = []

    def make(editor: str, layer: int, queried: Request) -> Edit:
        made.append((editor, layer, queried.subject))
        old = model.transformer.blocks[layer].mlp.w_out
        noise = torch.randn(old.shape, generator=torch.Generator().manual_seed(layer), dtype=old.dtype)
        return Edit({Matrix(layer): old + noise * old.std()}, {})

    places = [("rome", 0), ("rome", 2), ("ft-m", 2)]
    kept = model.transformer.blocks[0].mlp.w_out.clone()
    found = follow(model, graph, RECORD, requested, places, make, Finders("eap", find, (find, other)), LIMITS)
    assert made == [("rome", 0, "Peru"), ("rome", 2, "Peru"), ("ft-m", 2, "Peru")]
    assert torch.equal(model.transformer.blocks[0].mlp.w_out, kept)
    every, prompts = pd.DataFrame(found.circuits), prompts_of_record(model, RECORD, requested.prompt)
    assert list(prompts) == ["request", "neighbour", "unrelated"]
    table, standing = every[every["method"] == "eap"], every[every["method"] == "standing"]
    assert standing["prompt"].tolist() == ["request", "unrelated"] * (1 + len(places))
    assert table[["editor", "layer"]].drop_duplicates().to_numpy().tolist() == [["none", -1], *map(list, places)]
    before = {name: find(model, replace(prompt, answer=_top(model, prompt))) for name, prompt in prompts.items()}
    mover, is_mover = find_head(read_heads(model, prompts["request"]), "mover", LIMITS)
    p_before = {name: answer_prompts(model, [prompt])[0].p for name, prompt in prompts.items()}
    unedited = standing[(standing["editor"] == "none") & (standing["prompt"] == "request")].iloc[0]
    queried = replace(prompts["request"], answer=_top(model, prompts["request"]))
    assert unedited["shared_edges"] == (before["request"].edges & other(model, queried).edges).sum() < 60
    with applied(model, make("rome", 2, requested)) as edited:
        for name, prompt in prompts.items():
            row = table[(table["editor"] == "rome") & (table["layer"] == 2) & (table["prompt"] == name)].iloc[0]
            circuit = find(edited, replace(prompt, answer=_top(edited, prompt)))
            measured = compare(graph, before[name].edges, circuit.edges)
            assert {key: row[key] for key in measured} == pytest.approx(measured)
            same = standing[(standing["editor"] == "rome") & (standing["layer"] == 2) & (standing["prompt"] == name)]
            assert same["shared_edges"].tolist() == [measured["shared_edges"]] * (name != "neighbour")
            answer = answer_prompts(edited, [prompt])[0]
            assert row["p_true"] == pytest.approx(answer.p)
            assert row["kept_share"] == pytest.approx(min(1.0, answer.p / p_before[name]))
        row = table[(table["editor"] == "rome") & (table["layer"] == 2) & (table["prompt"] == "request")].iloc[0]
        reading = next(one for one in read_heads(edited, prompts["request"]) if one.name == mover.name)
        assert (row["mover"], row["is_mover"]) == (mover.name, is_mover)
        assert row["to_subject"] == pytest.approx(reading.to_subject)
        as_new = replace(prompts["request"], answer=requested.target[:1])
        raised = next(one.rank for one in read_heads(edited, as_new) if one.name == mover.name)
        assert row["writes_new"] == (raised < LIMITS.tokens)
        places_read = {"subject": requested.prompt.subject_last, "last": len(requested.prompt.ids) - 1}
        tokens = {"new": requested.target[0], "true": prompts["request"].answer[0]}
        (ranks,) = step_ranks(edited, [requested.prompt], [tokens], [places_read])
    curves = pd.DataFrame(found.ranks)
    for place in places_read:
        part = curves[(curves["editor"] == "rome") & (curves["layer"] == 2) & (curves["position"] == place)]
        assert part["rank_new"].tolist() == ranks["new", place][::2].tolist()
        assert part["rank_true"].tolist() == ranks["true", place][::2].tolist()
        orders = -np.diff(np.log10(ranks["new", place]))
        assert part["rank_drop_mlp"].tolist() == pytest.approx([0.0, *orders[1::2]])


def _top(model: LanguageModel, prompt: object) -> tuple[int, ...]:
    return (answer_prompts(model, [prompt])[0].top,)  # type: ignore[list-item]


def test_a_record_without_an_unrelated_fact_has_two_prompts(load_tiny: Loader) -> None:
    model = load_tiny("gpt2")
    prompt = tokenise(model.text, "the capital of Peru is", "Paris", "Peru")
    found = prompts_of_record(model, replace(RECORD, unrelated=()), prompt)
    assert {name: one.answer_text for name, one in found.items()} == {"request": "Lima", "neighbour": "Lima"}


def test_overlaps_are_means_over_records_of_edited_rows_alone() -> None:
    shared = {"layer": 3, "shared_edges": 5, "lost_edges": 1, "new_edges": 2, "kept_share": 0.5, "p_true": 0.1}
    shared |= {"p_new": 0.2, "says_same": True, "jaccard_nodes": 1.0}
    rows = pd.DataFrame(
        {**shared, "case": case, "editor": editor, "prompt": prompt, "jaccard_edges": value, "writes_new": writes}
        for case, editor, prompt, value, writes in (
            ("a", "none", "request", 1.0, False),
            ("a", "rome", "request", 0.2, True),
            ("b", "rome", "request", 0.6, False),
            ("a", "rome", "neighbour", 0.9, None),
        )
    ).assign(to_subject=0.3, writes_true=False, method="eap")
    rows["is_mover"] = [True, True, False, None]
    twice = rows[rows["editor"] == "none"].assign(method="standing", jaccard_edges=0.7)
    table = edited_overlap(pd.concat([twice, rows]), "tiny")
    assert table[["method", "editor", "layer", "prompt", "jaccard_edges", "n"]].to_numpy().tolist() == [
        ["eap", "rome", 3, "request", pytest.approx(0.4), 2],
        ["eap", "rome", 3, "neighbour", pytest.approx(0.9), 1],
        ["standing", "none", 3, "request", pytest.approx(0.7), 1],
    ]
    first = table.iloc[0]
    assert (first["jaccard_edges_low"], first["jaccard_edges_high"]) == (0.2, 0.6)
    assert (first["writes_new"], first["says_same"], first["method"]) == (1.0, 1.0, "eap")  # one has a mover


def test_edited_ranks_are_geometric_means() -> None:
    rows = pd.DataFrame({"editor": "rome", "layer": 3, "position": "last", "passed": 4, "rank_new": [1, 100]})
    table = edited_ranks(rows.assign(rank_true=[10, 10]), "tiny")
    assert table[["rank_new", "rank_true", "n"]].to_numpy().tolist() == [[pytest.approx(10.0), pytest.approx(10.0), 2]]


# One prompt's circuit


def test_methods_without_what_they_need_are_refused(load_tiny: Loader) -> None:
    model = load_tiny("gpt2")
    graph = Graph.of(model.transformer.shape, "per_head")
    prompt = tokenise(model.text, "the capital of Peru is", "Lima")
    for settings, missing in (
        (CircuitSettings("acdc"), "acdc needs a criterion"),
        (CircuitSettings("eap"), "eap needs a share"),
        (CircuitSettings("eap-ig+acdc", criterion={"tau": 0.1}), "needs a"),
    ):
        with pytest.raises(ValueError, match=missing):
            find_circuit(model, graph, [prompt], [None], settings)
    criterion: dict[str, object] = {"tau": 0.01}
    found, _ = find_circuit(model, graph, [prompt], [None], CircuitSettings("eap-ig+acdc", criterion, 0.3))
    exact, about = find_circuit(model, graph, [prompt], [None], CircuitSettings("acdc", criterion))
    assert (found.method, exact.method) == ("eap-ig+acdc", "acdc")
    assert 0 < found.n_edges <= round(0.3 * graph.n_edges)
    assert about["tau"] == 0.01


# Claims


def evidence() -> Evidence:
    layers = range(4)
    rank_rows = [
        {
            **{"relation": relation, "subject": "s", "position": position, "layer": layer},
            "rank": rank,
            "rank_drop_attention": 0.1 if position == "subject" else 0.5,
            "rank_drop_mlp": 0.3,
            "outranks": 0.9 if layer == 2 else 0.1,
        }
        for relation in "abcde"
        for position, ranks in (("subject", (900, 50, 40, 30)), ("last", (900, 500, 8, 1)))
        for layer, rank in zip(layers, ranks, strict=True)
    ]
    heads = pd.DataFrame({"relation": ["a", "b", "b"], "role": ["mover", "mixture", "relation"], "layer": [2, 1, 0]})
    ablation = pd.DataFrame(
        {"role": ["mover"] * 6 + ["relation"] * 6, "p_random": 0.5, "p_ablated": [0.2, 0.3] * 3 + [0.6] * 6}
    )
    traces = pd.DataFrame(
        {"kind": kind, "layer": layer, "relation": f"r{case}", "case": case, "role": role, "effect": effect}
        for role, kind, effects in (
            *(("subject_last", "mlp", (0.2, 0.4)), ("subject_last", "attention", (0.1, 0.0))),
            *(("last", "mlp", (0.1, 0.1)), ("last", "attention", (0.0, 0.3))),
            *(("subject_last", "severed_mlp", (0.1, 0.7, 0.7)), ("subject_last", "severed_attention", (0.3, 0.2, 0.1))),
        )
        for case in (0, 1)
        for layer, effect in enumerate(effects)
    )
    circuits = pd.DataFrame(
        {"case": case, "editor": editor, "layer": layer, "prompt": prompt, "kept_share": kept, "writes_new": writes}
        | {"is_mover": case != "z"}
        for case in ("x", "y", "z")
        for editor, layer, kept, writes in (("none", -1, 1.0, False), ("rome", 0, 0.9, True), ("ft-m", 0, 0.4, False))
        for prompt in ("request", "unrelated")
    )
    edited_ranks = pd.DataFrame(
        {
            **{"case": case, "editor": editor, "layer": layer, "position": "last", "passed": passed},
            "rank_new": 1 if passed >= arrives else 500,
            "rank_drop_mlp": 1.5 if editor == "ft-m" and passed == 1 else 0.5,
        }
        for case in ("x", "y")
        for editor, layer, arrives in (("rome", 0, 2), ("rome", 1, 3), ("rome", 2, 9), ("ft-m", 0, 1))
        for passed in layers
    )
    edits = {
        name: pd.DataFrame({"case": ["x", "y"], "NS": ns, "ES": es, "PS": ps})
        for name, ns, es, ps in (
            *(("none", 0.8, 0.0, 0.0), ("rome", 0.6, 1.0, 1.0), ("ft-m", 0.2, 1.0, 0.9), ("attn-edit", 0.7, 1.0, 0.1)),
            *(("ft", 0.1, 1.0, 1.0), ("ft-l", 0.7, 1.0, 0.3)),
        )
    }
    wrong = pd.DataFrame(
        {
            "kind": kind,
            "relation": relation,
            "writes_rival": 1.0,
            "writes_right": 0.0,
            "leads_from": 0.8,
            "gathers": gathers,
        }
        for kind, relation, gathers in (("wrong", "a", 0.4), ("wrong", "b", 0.2), ("right", "b", 0.9))
    )
    icl = pd.DataFrame({"p_random_heads_ablated": [0.8, 0.9], "p_icl_heads_ablated": 0.5}).assign(
        attention_new=0.4, attention_others=0.1
    )
    hops = pd.DataFrame({"reused_nodes_first": [0.3, 0.4], "reused_nodes_unrelated": 0.2}).assign(
        reused_nodes_second=0.6,
        left_out_gap=[-0.3, -0.1],
        left_out_gap_low=[-0.6, -0.5],
        left_out_gap_high=0.1,
        n_known=9,
    )
    both_ways = pd.DataFrame({"reused_nodes_unrelated": [0.2, 0.2], "reused_nodes_both_ways": [0.3, 0.5]})
    alone = pd.DataFrame({"method": ["standing"] * 4 + ["eap-ig"], "ablation": ["zero"] * 3 + ["mean", "zero"]})
    alone = alone.assign(edge_share=[0.1, 0.09, 0.3, 0.1, 0.1], d_val_kept=[0.9, 1.0, 0.0, 0.0, 0.0])
    alone["d_test_kept"] = [0.5, np.nan, 0.0, 0.0, 0.0]  # the model has no hit on the second relation's D_test
    tables = (pd.DataFrame(rank_rows), heads, ablation, traces, circuits, edited_ranks, wrong, icl, hops, both_ways)
    alone = alone.assign(d_test_circuit=[0.5, 0.3, 0.0, 0.0, 0.0], d_test_random=0.1)
    components = pd.DataFrame(
        {"relation": relation, "component": component, "layer": layer, "frequency": frequency}
        for relation in "ab"
        for component, frequencies in (("head", (0.6, 0.4, 0.2)), ("mlp", (0.0, 1.0, 1.0)))
        for layer, frequency in enumerate(frequencies)
    )
    tables = (*tables, alone, components)
    return Evidence(*tables, edits)


EXPECTED = {
    "a circuit of under 10 % of the edges keeps over 70 % of the model's hit@10 on D_val": 0.95,
    "a circuit of under 10 % of the edges keeps over 70 % of the model's hit@10 on D_test": 0.5,
    "a random circuit of the same size does not keep it": 0.3,
    "heads are more active in the lower layers": 0.5 - 0.2,
    "MLPs are more active in the lower layers": 0.5 - 1.0,
    "early and middle layers gather the answer at the subject": 0.9 - 0.1,
    "at the last position the answer arrives in middle to late layers": 2 / 3,
    "MLPs recall the answer at the subject": 4 * (0.3 - 0.1),
    "attention copies the answer to the last position": 4 * (0.5 - 0.3),
    "the heads that move the answer are in high layers": 0.75,
    "the answer depends on mover heads": 0.25,
    "the answer depends on relation heads": -0.1,
    "at the subject's last token MLPs carry facts, not attention": 0.4 - 0.1,
    "at the last token attention carries facts, not MLPs": 0.3 - 0.1,
    "low layers work through the MLPs above them": 0.3 - 0.1,
    "the answer rises some layers after the one that ROME edits": 1.0,
    "FT-M writes the answer straight into the stream": 1.0,
    "after ROME the mover head writes the new object": 1.0,
    "ROME's edits carry over to other facts": 0.8 - 0.6,
    "FT-M's edits carry over to other facts": 0.8 - 0.2,
    "ROME stays specific where FT does not": 0.6 - 0.1,
    "ROME generalizes where FT+L does not": 1.0 - 0.3,
    "knowing is not saying: AttnEdit's edits generalize less than ROME's": 0.9,
    "in wrong answers the mover head selects the wrong object": 1.0,
    "in wrong answers the right one gathers, too": 0.3,
    "the wrong answer takes the lead in the upper half of the layers": 0.8,
    "in-context answers depend on the heads that demonstrations bring in": 0.35,
    "the new heads attend to the demonstrations": 0.3,
    "a question through two hops reuses the circuit of its first hop": 0.15,
    "a question through two hops reuses the first hop more than the second": 0.35 - 0.6,
    "the model answers two hops as well where the first is left out": -0.2,
    "a fact and its reverse share their circuit": 0.2,
}


def test_every_claim_is_the_number_that_it_says() -> None:
    table = claims_table(evidence(), "tiny").set_index("claim")
    assert set(table.index) == {claim.claim for claim in CLAIMS} == set(EXPECTED)
    for claim, value in EXPECTED.items():
        assert table.loc[claim, "value"] == pytest.approx(value), claim
    assert set(table["holds"]) <= {"yes", "no", "unclear"}
    assert table.loc["the answer depends on relation heads", "holds"] == "no"
    assert table.loc["the answer depends on mover heads", "holds"] == "yes"


def test_a_claim_that_the_data_speak_against_does_not_hold() -> None:
    shown = evidence()
    worse = replace(shown, ranks=shown.ranks.assign(outranks=0.9 - 0.1 * shown.ranks["layer"]))
    table = claims_table(worse, "tiny").set_index("claim")
    assert table.loc["early and middle layers gather the answer at the subject", "holds"] == "no"


def test_an_arrival_is_for_good() -> None:
    assert arrival(pd.Series([5, 50, 3, 1])) == 2
    assert arrival(pd.Series([1, 1])) == 0
    assert arrival(pd.Series([1, 99])) == 2


def test_claims_about_editors_that_were_not_run_are_left_out_by_name(caplog: pytest.LogCaptureFixture) -> None:
    shown = evidence()
    edits = {name: frame for name, frame in shown.edits.items() if name != "attn-edit"}
    table = claims_table(replace(shown, edits=edits), "tiny")
    assert len(table) == len(CLAIMS) - 1
    assert "knowing is not saying" in caplog.text
    assert "attn-edit" in caplog.text


def test_claims_about_severed_runs_that_were_not_traced_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    shown = evidence()
    plain = replace(shown, traces=shown.traces[shown.traces["kind"] != "severed_mlp"])
    assert len(claims_table(plain, "tiny")) == len(CLAIMS) - 1
    assert "severed_mlp" in caplog.text


def test_every_claim_quotes_its_paper_and_says_what_would_make_it_fail() -> None:
    assert all(claim.section.startswith(("KC ", "ROME ")) for claim in CLAIMS)
    assert all(10 < len(claim.quote) < 150 and claim.fails for claim in CLAIMS)
    printed = {"1", "3", "3.3", "4", "5", "6", "B", "C", "D", "2.2", "2.3", "3.4", "I"}  # sections that the papers have
    for claim in CLAIMS:
        first = claim.section.split()[1].rstrip(",")
        assert first in printed or first.split(".")[0] in {"B", "C", "D"}, claim.section


def test_a_claim_without_a_case_is_unclear() -> None:
    shown = evidence()
    table = claims_table(replace(shown, heads=shown.heads.iloc[2:]), "tiny").set_index("claim")
    row = table.loc["the heads that move the answer are in high layers"]
    assert (row["holds"], row["n"]) == ("unclear", 0)
    assert np.isnan(row["value"])


def test_claims_about_movers_are_unclear_where_no_relation_has_one() -> None:
    shown = evidence()
    table = claims_table(replace(shown, wrong=shown.wrong.drop(columns=["writes_rival", "writes_right"])), "tiny")
    row = table.set_index("claim").loc["in wrong answers the mover head selects the wrong object"]
    assert (row["holds"], row["n"]) == ("unclear", 0)


def test_verdicts_go_by_the_whole_interval() -> None:
    assert verdict(bootstrap([1.0, 2.0] * 3), 0.9) == "yes"
    assert verdict(bootstrap([1.0, 2.0]), 0.9) == "unclear"  # of too few
    assert verdict(Interval(0.5, 0.4, 0.6, 5), 0.7) == "no"
    assert verdict(Interval(0.5, 0.4, 0.6, 5), 0.5) == "unclear"


def test_the_best_layer_is_chosen_anew_in_every_draw() -> None:
    """Two kinds of noise alone, where one has a layer and the other has thirty: fixed layers would differ for sure."""
    rng = np.random.default_rng(0)
    rows = [
        {"kind": kind, "layer": layer, "relation": f"r{case}", "case": case, "role": "last", "effect": rng.normal()}
        for kind, layers in (("mlp", 30), ("attention", 1))
        for case in range(8)
        for layer in range(layers)
    ]
    traces = pd.DataFrame(rows)
    found = sites("last", "mlp", "attention")(replace(evidence(), traces=traces))
    means = traces.groupby(["kind", "layer"])["effect"].mean()
    assert found.value == pytest.approx(means["mlp"].max() - means["attention"].max())
    assert (found.n, found.low < found.value < found.high) == (8, True)


def test_chains_without_their_first_hop_are_put_together_by_composition() -> None:
    found = without_first_hop(evidence())
    assert found.n == 18
    assert found.low == pytest.approx(-0.2 - np.hypot(0.3, 0.4) / 2)
    assert found.high == pytest.approx(-0.2 + np.hypot(0.4, 0.2) / 2)


def test_captions_look_up_claims_that_there_are() -> None:
    names = {claim.claim for claim in CLAIMS}
    folder = Path(__file__).parents[2] / "rules/captions"
    asked = [
        found for path in folder.glob("*.rst") for found in re.findall(r'claims\.get\("([^"]+)"\)', path.read_text())
    ]
    assert len(asked) >= 4
    assert set(asked) <= names
