"""Figures: each draws from a small input, is written whole as PNG and PDF, and without global state."""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from PIL import Image

from knowcirc.checks import check_image
from knowcirc.editing.editors import EDITORS
from knowcirc.plots import style
from knowcirc.plots.attention import bar_limit
from knowcirc.plots.behaviours import hallucination, icl_attention
from knowcirc.plots.circuit_differences import circuit_differences
from knowcirc.plots.circuits import circuit_graph, component_distribution
from knowcirc.plots.components import average_rank_by_layer, average_rank_of_models, head_ablation_tokens
from knowcirc.plots.edited_ranks import edited_rank_by_layer
from knowcirc.plots.edits import edited_circuits
from knowcirc.plots.heads import special_heads
from knowcirc.plots.layout import place
from knowcirc.plots.methods import faithfulness_curves
from knowcirc.plots.ranks import answer_rank_by_layer
from knowcirc.plots.sequence import looks, sequential_editing
from knowcirc.plots.sweep import editing_sweep
from knowcirc.plots.tracing import causal_trace, causal_trace_facts, causal_trace_severed

SCRIPTS = Path(__file__).parents[2] / "workflow_scripts"
TOKENS = ["<s>", " the", " language", " of", " $Fr_an^ce$", " is"]
ATTENTION = [0.7, 0.05, 0.05, 0.05, 0.1, 0.05]
ROLES = ("subject_first", "subject_last", "last")
KINDS = ("state", "mlp", "attention")
LAYERS = range(4)


def effects() -> pd.DataFrame:
    rows = [
        {"kind": kind, "role": role, "layer": layer, "effect": 0.1 * (i + 1) * (layer + 1) / 4 - 0.02}
        for kind in KINDS
        for i, role in enumerate(ROLES)
        for layer in LAYERS
    ]
    frame = pd.DataFrame([*rows, {"kind": "total", "role": None, "layer": None, "effect": 0.4}])
    frame["layer"] = frame["layer"].astype("Int64")
    return frame.assign(effect_low=frame.effect - 0.05, effect_high=frame.effect + 0.05, n=3)


def trace() -> Figure:
    return causal_trace(effects(), "tiny", 3)


def severed_effects() -> pd.DataFrame:
    rows = [
        {"kind": "state", "severed": severed, "layer": layer, "effect": height * (4 - layer) / 4}
        for severed, height in (("none", 0.4), ("mlp", 0.1), ("attention", 0.3))
        for layer in LAYERS
    ]
    frame = pd.DataFrame(rows)
    return frame.assign(effect_low=frame.effect - 0.05, effect_high=frame.effect + 0.05, n=3)


def severed() -> Figure:
    return causal_trace_severed(severed_effects(), "tiny")


def trace_facts() -> Figure:
    fact = {"prompt": "the language of $Fr_an^ce$ is", "answer": "French", "p_clean": 0.6, "p_corrupted": 0.1}
    rows = [
        {**fact, "case": case, "kind": kind, "layer": layer, "position": i, "token": token, "in_subject": i == 4}
        for case in range(2)
        for kind in KINDS
        for layer in LAYERS
        for i, token in enumerate(TOKENS)
    ]
    frame = pd.DataFrame(rows)
    return causal_trace_facts(frame.assign(effect=np.linspace(-0.05, 0.5, len(frame))), "tiny", 1)


def distribution() -> Figure:
    rows = [
        {"category": category, "relation": f"{category}{i}", "component": component, "layer": layer, "n_relations": 2}
        for category in ("factual", "bias", "own")
        for i in range(2)
        for component in ("head", "mlp")
        for layer in LAYERS
    ]
    frame = pd.DataFrame(rows)
    return component_distribution(frame.assign(edge_share=np.linspace(0, 1, len(frame))), "tiny", "eap")


NODES = [
    {"name": "input", "layer": -1, "kind": "input", "shown": True},
    {"name": "a0.h1", "layer": 0, "kind": "head", "shown": True},
    {"name": "a0.h3", "layer": 0, "kind": "head", "shown": True},
    {"name": "m0", "layer": 0, "kind": "mlp", "shown": True},
    {"name": "a2.h0", "layer": 2, "kind": "head", "shown": True},
    {"name": "m2", "layer": 2, "kind": "mlp", "shown": False},
    {"name": "logits", "layer": 4, "kind": "logits", "shown": True},
]
EDGES = [
    {"src": "input", "dst": "a0.h1", "kind": "q", "score": 0.5, "flow": 0.5},
    {"src": "input", "dst": "a0.h3", "kind": "k", "score": -0.2, "flow": 0.2},
    {"src": "a0.h1", "dst": "m0", "kind": None, "score": 0.1, "flow": 0.1},
    {"src": "a0.h3", "dst": "logits", "kind": None, "score": 0.1, "flow": 0.1},
    {"src": "m0", "dst": "a2.h0", "kind": "v", "score": 0.9, "flow": 0.9},
    {"src": "a2.h0", "dst": "m2", "kind": None, "score": None, "flow": 0.0},
    {"src": "a2.h0", "dst": "logits", "kind": None, "score": 1.5, "flow": 1.5},
]


def graph() -> Figure:
    head = {"name": "a2.h0", "layer": 2, "role": "mover", "attention": ATTENTION, "top_tokens": [" French", " $x$"]}
    layer_edges = [{"src_layer": -1, "dst_layer": 0, "weight": 9, "count": 9}]
    drawing = {
        **{"prompt": "the language of $Fr_an^ce$ is", "answer": "French", "method": "eap", "n_edges": 60},
        **{"edge_share": 0.05, "p_model": 0.6, "p_circuit": 0.00001, "tokens": TOKENS, "nodes": NODES, "edges": EDGES},
        "whole": {"layer_edges": [*layer_edges, {"src_layer": 2, "dst_layer": 4, "weight": 2, "count": 2}]},
        "heads": [{**head, "answer_rank": 1}, {**head, "name": "a0.h1", "role": "no role", "answer_rank": 4321}],
    }
    return circuit_graph(drawing, "tiny")


def ranks() -> Figure:
    rows = [
        {"quantity": quantity, "layer": layer, "rank": 5000 // (layer + 1) ** 3, "probability": layer / 5}
        for quantity in ("answer_at_last", "answer_at_subject", "subject_at_last")
        for layer in range(5)
    ]
    meta = {"prompt": "the language of France is", "answer": " French", "subject": "France"}
    return answer_rank_by_layer(pd.DataFrame(rows), meta, "tiny")


def edits() -> Figure:
    cell = {"head": "a2.h0", "tokens": json.dumps(TOKENS), "attention": json.dumps(ATTENTION)}
    cell |= {"top_tokens": json.dumps([" French", " German"]), "answer_top": " French"}
    places = [(prompt, weights) for prompt in ("edited", "unrelated") for weights in ("none", "rome", "own")]
    heads = [{**cell, "prompt": p, "weights": w, "p_old": 0.6, "p_new": 0.2} for p, w in places]
    counts = {"shared_edges": 40, "lost_edges": 10, "new_edges": 1, "n_edges": 41, "jaccard": 40 / 51}
    overlap = [{**counts, "prompt": p, "weights": w} for p, w in places]
    meta = {"edit": {"subject": "France", "old": "French", "new": "German"}}
    meta["method"] = {"edited": "acdc", "unrelated": "eap"}
    meta |= {"prompts": {"edited": "the language of France is", "unrelated": "the language of Japan is"}}
    return edited_circuits(pd.DataFrame(heads), pd.DataFrame(overlap), {**meta, "right": {"unrelated": "J"}}, "tiny")


def wrong_answer() -> Figure:
    rows, heads, meta = [], [], []
    for case in ("wrong", "right"):
        for token in ("right_answer", "wrong_answer"):
            rows += [{"case": case, "token": token, "layer": i, "rank": 100 - i, "probability": i / 9} for i in LAYERS]
        head = {"case": case, "name": "a1.h2", "layer": 1, "tokens": TOKENS, "attention": ATTENTION, "is_mover": True}
        head["of_relation"] = case == "wrong"
        heads.append({**head, "top_tokens": [" Peru", " Chile"], "right_rank": 3, "wrong_rank": 1})
        fact = {"case": case, "prompt": "Lima lies in", "right": " Peru", "wrong": " Chile", "relation": "city"}
        meta.append({**fact, "p_right": 0.2, "p_wrong": 0.5})
    return hallucination(pd.DataFrame(rows), {"heads": heads, "meta": meta}, "tiny")


def demonstration() -> Figure:
    rows = [
        {"head": head, "position": i, "token": token, "in_demonstration": 1 <= i <= 3, "attention": ATTENTION[i]}
        for head in ("a3.h1", "a0.h2")
        for i, token in enumerate(TOKENS)
    ]
    meta = {"prompt_zero": "of $Fr_an^ce$ is", "prompt_icl": "x", "answer": "French", "p_zero": 0.1, "p_icl": 0.7}
    meta["relation"] = "capital"
    frame = pd.DataFrame(rows).assign(share_on_demonstration=0.15)
    return icl_attention(frame, {**meta, "n_new_heads": 19, "method": "eap", "n_edges": 3000}, "tiny")


def curve_points() -> pd.DataFrame:
    """Two relations; `eap-ig+acdc` has a circuit of the first alone."""
    panels = (("zero", "hit_at_10"), ("mean", "hit_at_10"), ("patch", "faithfulness"))
    rows = [
        {
            "ablation": ablation,
            "measure": measure,
            "method": method,
            "relation": relation,
            "size": size,
            "n_relations": 1,
        }
        for ablation, measure in panels
        for method in ("eap-ig", "random", "eap-ig+acdc")
        for relation in ("all", "capital", "language")
        for size in (0.001, 0.05, 1.0, None)
        if relation != "language" or method != "eap-ig+acdc"
    ]
    frame = pd.DataFrame(rows).assign(edge_share=0.048, n=6)
    both = (frame["relation"] == "all") & (frame["method"] != "eap-ig+acdc")
    frame.loc[both, "n_relations"], frame.loc[both, "n"] = 2, 12
    value = frame["size"].fillna(0.7)
    return frame.assign(value=value, low=value - 0.1, high=value + 0.1)


def curves() -> Figure:
    return faithfulness_curves(curve_points(), "tiny")


def swept() -> Figure:
    rows = [
        {"token": token, "layer": layer, "efficacy": 0.9, "paraphrase": 0.5, "specificity": 0.1 * layer, "score": 0.3}
        | {"EM": 0.6, "PM": -0.2, "NM": 0.1 * layer, "S": 0.4}
        for token, layers in (("subject_last", range(0, 6, 2)), ("last", (0, 4)))
        for layer in layers
    ]
    frame = pd.DataFrame(rows).assign(n=2, clamp=4.0, base=True)
    for name in ("efficacy", "paraphrase", "specificity", "EM", "PM", "NM"):
        frame = frame.assign(**{f"{name}_low": frame[name] - 0.1, f"{name}_high": frame[name] + 0.1})
    return editing_sweep(frame, {"layer": 4, "clamp": 2.0}, "tiny")


def averaged() -> Figure:
    return average_rank_by_layer(average_rows(), "tiny")


def averaged_models() -> Figure:
    rows = average_rows()
    return average_rank_of_models(
        pd.concat([rows.assign(model=name) for name in ("one", "two")])[lambda d: d["category"] == "all"]
    )


def average_rows() -> pd.DataFrame:
    rows = [
        {
            "category": category,
            "position": position,
            "layer": layer,
            "rank": 1000.0 / (1 + layer),
            "n": 24,
            "n_relations": 4,
        }
        for category in ("all", "factual", "own")
        for position in ("subject", "last")
        for layer in range(5)
    ]
    frame = pd.DataFrame(rows).assign(rank_drop_attention=0.1, rank_drop_mlp=-0.05, outranks=0.6)
    for name in ("rank", "rank_drop_attention", "rank_drop_mlp", "outranks"):
        frame = frame.assign(**{f"{name}_low": frame[name] * 0.9, f"{name}_high": frame[name] * 1.1})
    return frame


def ablated() -> Figure:
    rows = [
        {"run": run, "head": head, "has_role": run != "relation", "place": place, "token": f" t{place}", "p_answer": p}
        for run, head, p in (("original", "", 0.9), ("mover", "a2.h1", 0.2), ("relation", "a0.h3", 0.8))
        for place in range(1, 11)
    ]
    frame = pd.DataFrame(rows).assign(is_answer=lambda d: d["place"] == 2, probability=lambda d: 0.5 / d["place"])
    return head_ablation_tokens(frame, {"prompt": "the language of France is", "answer": "French"}, "tiny")


def edited_ranks() -> Figure:
    rows = [
        {"editor": editor, "layer": layer, "position": position, "passed": passed, "rank_new": 100.0 / (1 + passed)}
        for editor, layer in (("none", -1), ("rome", 0), ("rome", 3), ("ft-m", 0), ("ft-m", 3))
        for position in ("last", "subject")
        for passed in range(6)
    ]
    frame = pd.DataFrame(rows).assign(n=5)
    frame = frame.assign(rank_new_low=frame["rank_new"] * 0.5, rank_new_high=frame["rank_new"] * 2)
    return edited_rank_by_layer(frame, "tiny")


def sequence() -> Figure:
    rows = [
        {"editor": editor, "edits": edits, "perplexity": 9.0 + place * edits, "change": 0.01 * place * edits}
        | dict.fromkeys(("made", "ES", "PS", "NS"), 0.9 - 0.05 * place - 0.01 * edits)
        for place, editor in enumerate(("none", "rome", "r-rome", "memit", "ft"))
        for edits in (1, 3, 10)
    ]
    frame = pd.DataFrame(rows).assign(n=10)
    for name in ("made", "ES", "PS", "NS"):
        frame = frame.assign(**{f"{name}_low": frame[name] - 0.1, f"{name}_high": frame[name] + 0.05})
    return sequential_editing(frame, "tiny")


def head_map() -> Figure:
    rows = [
        {"prompt": prompt, "head": f"a{layer}.h{head}", "layer": layer, "attribution": 0.1 * layer - 0.1 * head}
        for prompt in range(2)
        for layer in range(3)
        for head in range(4)
    ]
    texts = {
        "role": "",
        "answer_rank": 7,
        "top_tokens": '[" French", " a"]',
        "attention": "[0.2, 0.8]",
        "tokens": '["<s>", " is"]',
    }
    frame = pd.DataFrame(rows).assign(**texts)
    frame.loc[frame["head"] == "a2.h0", "role"] = "mover"
    return special_heads(frame, "the language is", " French", "tiny")


def differing() -> Figure:
    rows = [
        ("node", "input", "shared"),
        ("node", "a1.h0", "lost"),
        ("node", "m2", "new"),
        ("edge", "input->a1.h0<q>", "lost"),
    ]
    rows += [("edge", "m2->logits", "new"), ("edge", "input->m2", "shared")]
    return circuit_differences(pd.DataFrame(rows, columns=["kind", "name", "status"]), 3, ("before", "after"))


FIGURES = (trace, severed, trace_facts, distribution, graph, ranks, edits, wrong_answer, demonstration, curves, swept)
FIGURES += (averaged, averaged_models, ablated, edited_ranks, head_map, differing, sequence)
Make = Callable[[], Figure]


def words(figure: Figure) -> str:
    """All that is written in a figure, on one line."""
    texts = [text.get_text() for text in figure.findobj(Text)]
    return " ".join(" ".join(texts).replace("\u00a0", " ").split())


@cache
def drawn(make: Make) -> Figure:
    """The figure, drawn once for all tests: drawing is what takes their time."""
    return make()


@pytest.mark.parametrize("make", FIGURES, ids=lambda make: make.__name__)
def test_a_figure_is_written_whole_and_changes_no_setting_of_the_caller(tmp_path: Path, make: Make) -> None:
    before = dict(mpl.rcParams)
    style.save(drawn(make), tmp_path / "deep" / "one.png", tmp_path / "one.pdf")
    assert dict(mpl.rcParams) == before
    check_image(tmp_path / "deep" / "one.png")
    assert (tmp_path / "one.pdf").read_bytes().startswith(b"%PDF")
    assert {path.name for path in tmp_path.iterdir()} == {"deep", "one.pdf"}


@pytest.mark.parametrize("make", FIGURES, ids=lambda make: make.__name__)
def test_the_text_beneath_a_title_fits_in_two_lines(make: Make) -> None:
    below = [text.get_text() for text in drawn(make).artists if isinstance(text, Annotation)]
    assert len(below) == 1
    assert len(below[0].splitlines()) <= style.LINES
    assert not below[0].endswith("…")


def test_what_does_not_fit_beneath_a_title_ends_in_an_ellipsis() -> None:
    figure = style.new_figure(4.0, 3.0)
    style.heading(figure, "A title", "many words " * 50)
    (below,) = [text.get_text() for text in figure.artists if isinstance(text, Annotation)]
    assert len(below.splitlines()) == style.LINES
    assert below.endswith("…")


def test_a_figure_drawn_again_is_the_same_whatever_the_caller_has_set(tmp_path: Path) -> None:
    style.save_one(graph(), tmp_path / "one.png")
    with mpl.rc_context({"font.size": 30, "text.parse_math": True, "axes.spines.top": True}):
        style.save_one(graph(), tmp_path / "two.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_a_figure_is_as_large_as_it_says(tmp_path: Path) -> None:
    style.save(style.new_figure(4.0, 3.0), tmp_path / "x.png", tmp_path / "x.pdf")
    with Image.open(tmp_path / "x.png") as image:
        assert image.size == (4 * style.DPI, 3 * style.DPI)
        assert "Software" not in image.info


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (trace, ["n = 3 facts", "average total effect 40.0 pp [35.0, 45.0]", "MLP, window of 3 layers"]),
        (trace, ["peak 28.0 pp: last token, layer 3", "then 18.0 pp: last subject token, layer 3"]),
        (severed, ["n = 3 facts", "run above intact (peak 40.0 pp, layer 0)", "MLPs severed above (peak 10.0 pp"]),
        (trace_facts, ["Causal traces of 2 facts", "60.0 % clean, 10.0 % with", "MLP, single layer", "$Fr_an^ce$*"]),
        (distribution, ["factual (n = 2 relations)", "(eap) holds", "own (n = 2 relations)", "out of the MLP"]),
        (graph, ["a2.h0, mover: answer at rank 1", "a0.h1, no role: answer at rank 4,321", "circuit: 11 edges"]),
        (ranks, ["At the last position the answer's best rank is 40, with 4 layers passed."]),
        (edits, ["France, French → German", "ROME: answers ␣French", "Jaccard 0.78", "p(J) 60.0 %"]),
        (wrong_answer, ["wrong: Chile (p = 50.0 %)", "mover head a1.h2: right at rank 3, wrong at 1"]),
        (
            curves,
            ["circuits of tiny do", "mean of 2 relations (n = 12 prompts)", "the answer is among the 10 likeliest"],
        ),
        (curves, ["capital (n = 6)", "eap-ig+acdc (1 of 2 relations: not in the mean)", "faithfulness"]),
        (swept, ["n = 2 counterfactual edits a point", "The study edits layer 4, clamp 2.", "last subject token"]),
        (sequence, ["Up to 10 counterfactual edits", "R-ROME", "unedited", "perplexity (log)", "norm of the change"]),
        (averaged, ["n = 24 known facts of 4 relations", "the answer at the last position", "attention"]),
        (averaged_models, ["one (n = 24 facts)", "two (n = 24 facts)", "% of the depth"]),
        (ablated, ["without a2.h1, a mover head p(answer) 20.0 %", "without a0.h3, nearest to a relation head", "␣t2"]),
        (edited_ranks, ["ROME, at the last position", "layer 3 edited", "original weights", "n = 5 edits per line"]),
        (head_map, ["a2.h0: mover, answer at rank 7", "no role", "n = 2 prompts", "␣French"]),
        (differing, ["nodes: 1 shared, 1 lost, 1 new; edges: 1 shared, 1 lost, 1 new", "Circuit after against before"]),
        (
            demonstration,
            [
                "French: p(answer) 10.0 % alone, 70.0 % after",
                "19 heads are new in the circuit of demonstrated capital",
                "2 are shown",
            ],
        ),
    ],
)
def test_a_figure_tells_its_numbers(make: Make, told: list[str]) -> None:
    found = words(drawn(make))
    assert [text for text in told if text not in found] == []


def test_every_editor_has_a_look_of_its_own() -> None:
    found = looks(["none", *EDITORS])
    assert len({(each["color"], each["linestyle"], each["marker"]) for each in found.values()}) == 1 + len(EDITORS)


def test_a_study_with_fewer_roles_and_kinds_is_drawn() -> None:
    few = effects()
    few = few[(few["kind"] == "mlp") & (few["role"] == "last")]
    assert "n = 3 facts." in words(causal_trace(few, "tiny", 1))


def test_severed_runs_may_be_absent_or_alone() -> None:
    few = severed_effects()
    assert "severed above" not in words(causal_trace_severed(few[few["severed"] == "none"], "tiny"))
    fact = {"prompt": "the language is", "answer": "French", "p_clean": 0.6, "p_corrupted": 0.1, "in_subject": False}
    sites = [(layer, position) for layer in LAYERS for position in range(2)]
    rows = [{**fact, "case": 0, "layer": layer, "position": at, "token": " is", "effect": 0.1} for layer, at in sites]
    frame = pd.DataFrame(rows).assign(kind="severed_attention")
    assert "state, attention severed: max 20 % at layer 0" in words(causal_trace_facts(frame, "tiny", 1))
    said = words(causal_trace_facts(frame, "tiny", 1, "with another subject in place of its own"))
    assert "in the run with another subject in place of its own." in said
    assert "noise" not in said


def test_components_have_a_thin_line_a_relation_and_a_bold_one_for_their_mean() -> None:
    axes = drawn(distribution).axes
    assert len(axes) == 2 * 3  # heads and MLPs of three categories
    for axis in axes:
        *thin, bold = axis.get_lines()
        assert len(thin) == 2
        assert bold.get_linewidth() > max(line.get_linewidth() for line in thin)
        values = [np.asarray(line.get_ydata(), dtype=float) for line in thin]
        assert np.asarray(bold.get_ydata(), dtype=float) == pytest.approx(np.mean(values, axis=0))
    assert float(axes[-1].get_lines()[-2].get_ydata()[-1]) == 100.0  # percent


def test_a_method_that_lacks_a_relation_is_drawn_beside_the_mean_alone() -> None:
    lines = [len(axis.get_lines()) for axis in drawn(curves).axes]
    assert lines == [2 + 2] * 3 + [2 + 3] * 3 + [2 + 2] * 3  # the lines at 0 and 1, and one a method; panel by panel
    titles = [axis.get_title(loc="left").split("\n")[0] for axis in drawn(curves).axes[:3]]
    assert titles == [
        "all other edges deliver nothing",
        "all other edges deliver means",
        "all other edges: another fact's run",
    ]


def test_shares_are_drawn_in_percent_and_faithfulness_as_it_is() -> None:
    tops = [axis.get_lines()[1].get_ydata()[0] for axis in drawn(curves).axes[:3]]
    assert tops == [100.0, 100.0, 1.0]


def test_one_relation_needs_no_mean() -> None:
    points = curve_points()
    points = points[points["relation"] == "capital"]
    both = pd.concat([points.assign(relation="all"), points])
    assert "one relation (n = 6 prompts)" in words(faithfulness_curves(both, "tiny"))


def test_an_answer_that_comes_first_is_said_to_since_when() -> None:
    frame = pd.DataFrame(
        {"layer": range(5), "rank": [90, 1, 2, 1, 1], "probability": 0.1, "quantity": "answer_at_last"}
    )
    found = words(answer_rank_by_layer(frame, {"prompt": "p", "answer": "a", "subject": "s"}, "tiny"))
    assert "the answer is on top once 3 layers are passed" in found


def test_the_layout_stacks_layers_and_parts_nodes_and_is_the_same_each_time() -> None:
    placed = place(NODES, EDGES)
    assert set(placed) == {node["name"] for node in NODES if node["shown"]}
    heights = [placed[name].y for name in ("input", "a0.h1", "m0", "a2.h0", "logits")]
    assert heights == sorted(set(heights))
    assert placed["a0.h1"].y == placed["a0.h3"].y
    assert abs(placed["a0.h1"].x - placed["a0.h3"].x) >= 0.9
    assert placed == place(NODES, EDGES)
    with pytest.raises(ValueError, match="no node is shown"):
        place([{**node, "shown": False} for node in NODES], EDGES)


def test_more_heads_than_columns_are_still_apart() -> None:
    heads = [{"name": f"a0.h{i}", "layer": 0, "kind": "head", "shown": True} for i in range(14)]
    edges = [{"src": "input", "dst": head["name"], "kind": "q", "score": 1.0, "flow": 1.0} for head in heads]
    placed = place([NODES[0], *heads, NODES[-1]], edges)
    xs = sorted(placed[str(head["name"])].x for head in heads)
    assert min(np.diff(xs)) >= 0.9


def test_attention_on_the_first_token_does_not_squeeze_the_rest() -> None:
    assert bar_limit([[0.9, 0.1, 0.04], [0.2, 0.2, 0.05]]) == pytest.approx(25.0)  # the rest's largest, and a quarter
    assert bar_limit([[0.3, 0.25, 0.2]]) == pytest.approx(37.5)
    assert bar_limit([[1.0, 0.0]]) == pytest.approx(125.0)


def test_text_is_no_markup_and_what_the_font_lacks_is_escaped() -> None:
    assert style.token_label("  a$_2$ ") == "␣␣a$_2$␣"
    assert style.token_label("\n") == "\\n"
    assert style.token_label("中国") == "\\u4e2d\\u56fd"
    assert style.token_label("abcdefghijklmnop", 5) == "abcd…"
    assert style.percent(float("nan")) == "–"
    assert [style.percent(p) for p in (0.0, 0.0004, 0.0006, 0.999, 0.9996)] == [
        *("0.0 %", "<0.1 %", "0.1 %", "99.9 %", "100 %"),
    ]


def test_figures_need_neither_pyplot_nor_torch() -> None:
    names = sorted(f"knowcirc.plots.{path.stem}" for path in (SCRIPTS / "knowcirc/plots").glob("[!_]*.py"))
    assert len(names) > 5
    code = f"import sys, {', '.join(names)}; print(*[m for m in ('matplotlib.pyplot', 'torch') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(SCRIPTS)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
