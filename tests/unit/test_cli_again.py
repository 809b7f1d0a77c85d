"""`knowcirc trace` of heads and with another subject, and `knowcirc compare` of several circuits, on tiny models."""

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from knowcirc import cli
from knowcirc.checks import check_image
from knowcirc.circuits.export import read_circuit
from knowcirc.facts.prompts import tokenise
from knowcirc.models.loading import LanguageModel
from knowcirc.tracing.causal import TraceSettings, trace_fact
from knowcirc.tracing.heads import trace_heads

FACT = ["--prompt", "people in New Zealand speak", "--subject", "New Zealand", "--answer", "English"]
OTHER = ["--corruption", "subject", "--corrupted", "people in Papua Guinea speak"]
DOUBLE = ["--dtype", "float64", "--device", "cpu"]


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*words: object) -> None:
    assert cli.main([*map(str, words), "--quiet"]) == 0


def test_heads_with_another_subject(
    folders: dict[str, Path], name: str, model: LanguageModel, capsys: pytest.CaptureFixture[str]
) -> None:
    layers = ["--heads", "--layers", "1:3"]
    run("trace", folders[name], *FACT, *OTHER, *layers, *DOUBLE, "--out", "t.csv", "--figure", "t.png")
    prompt = tokenise(model.text, FACT[1], "English", "New Zealand")
    other = tokenise(model.text, OTHER[3], "English", "Papua Guinea")
    expected = trace_heads(model, prompt, TraceSettings(0.0, 1, 1, 1), layers=(1, 3), other=other)
    table = pd.read_csv("t.csv")
    assert list(table) == ["kind", "layer", "head", "position", "token", "effect"]
    sites = table[table["kind"] == "head"].sort_values(["layer", "head", "position"])
    np.testing.assert_allclose(sites["effect"], expected.effects.ravel(), rtol=0, atol=1e-5)
    assert table.loc[table["kind"] == "total", "effect"].tolist() == pytest.approx([expected.total], abs=1e-5)
    best = sites.loc[sites["effect"].idxmax()]
    printed = capsys.readouterr().out
    assert f"head a{best['layer']}.h{best['head']}, position {best['position']}" in printed
    assert "another subject" in printed
    check_image(Path("t.png"))


def test_a_file_gives_each_prompt_its_other_subject(folders: dict[str, Path], load_tiny: object) -> None:
    lines = ["prompt,answer,subject,corrupted", "people in Peru speak,Spanish,Peru,people in Italy speak"]
    Path("p.csv").write_text("\n".join([*lines, "people in Italy speak,Italian,Italy,people in France speak", ""]))
    run("trace", folders["llama"], "--prompts", "p.csv", "--corruption", "subject", *DOUBLE, "--out", "t.csv")
    table = pd.read_csv("t.csv")
    model = load_tiny("llama")  # type: ignore[operator]
    for case, (name, answer, other) in enumerate((("Peru", "Spanish", "Italy"), ("Italy", "Italian", "France"))):
        prompt, corrupted = (tokenise(model.text, f"people in {one} speak", answer, one) for one in (name, other))
        trace = trace_fact(model, prompt, TraceSettings(0.0, 1, 1, 1, kinds=("state",)), other=corrupted)
        found = table[(table["prompt"] == case) & (table["kind"] == "state")].sort_values(["layer", "position"])
        np.testing.assert_allclose(found["effect"], trace.effects["state"].ravel(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--heads", "--kind", "mlp"], "--heads and --kind exclude each other"),
        (["--layers", "0:1"], "--layers without --heads"),
        (["--heads", "--layers", "1:9"], "layers 1:9: the model has 0:3"),
        (["--corruption", "subject"], "--corrupted is missing"),
        (OTHER[2:], "a corrupted prompt is given and --corruption is noise"),
        ([*OTHER[:3], "city in Papua Guinea speak"], "differ outside the subject, at position 1"),
    ],
)
def test_what_does_not_go_together_is_refused(
    options: list[str], said: str, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["trace", str(folders["llama"]), *FACT, *options, "--out", "t.csv"]) == 2
    assert said in capsys.readouterr().err


@pytest.fixture
def circuits(folders: dict[str, Path]) -> list[str]:
    """Three random circuits as files."""
    names = ["a.json", "b.json", "c.json"]
    for seed, name in enumerate(names):
        run("discover", folders["llama"], "--method", "random", "--edges", 60, "--seed", seed, "--out", name)
    return names


def test_several_circuits_are_compared_and_agree_on_one(
    circuits: list[str], folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    run("compare", *circuits, "--out", "f.csv", "--consensus", "all.json", "--share", "0.6")
    printed = capsys.readouterr().out
    read = [read_circuit(Path(name)) for name in circuits]
    graph, edges = read[0][0], [circuit.edges for _, circuit in read]
    counts = np.sum(edges, 0)
    table = pd.read_csv("f.csv")
    listed = table[table["kind"] == "edge"].set_index("name")
    assert len(listed) == (counts > 0).sum()
    for src, dst in graph.edges(counts > 0):
        assert listed.loc[graph.edge_name(src, dst), "count"] == counts[src, dst]
    assert listed["share"].tolist() == pytest.approx((listed["count"] / 3).tolist())
    values = [(one & other).sum() / (one | other).sum() for one, other in itertools.combinations(edges, 2)]
    assert f"a.json, b.json: edges {values[0]:.3f} (chance " in printed
    assert f"edges {np.mean(values):.3f} (chance " in printed
    assert f"in all     {(counts == 3).sum()} edges" in printed
    _, found = read_circuit(Path("all.json"))
    assert (found.edges == graph.connected(counts >= 2)).all()
    assert found.method == "consensus"
    assert found.scores is not None
    np.testing.assert_allclose(found.scores[graph.valid], counts[graph.valid] / 3)
    run("compare", *circuits, "--consensus", "sized.json", "--edges", "60")
    sized = read_circuit(Path("sized.json"))[1]
    assert 0 < sized.n_edges <= 60
    run("evaluate", folders["llama"], "sized.json", *FACT[:2], *FACT[4:], "--out", "m.json")
    assert json.loads(Path("m.json").read_text())["edges"] == sized.n_edges


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["c.json", "--figure", "f.png"], "--figure shows two circuits, 3 are given"),
        (["--share", "0.5"], "--share and --edges are of the consensus circuit"),
        (["--consensus", "a.json"], "--consensus would replace the circuit a.json"),
        (["--consensus", "x", "--out", "x"], "--out and --consensus both name x"),
        (["graph.gv"], "released circuits (.gv) are compared two at a time"),
    ],
)
def test_options_of_a_comparison_that_do_not_go_together(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.json", "b.json", "c.json", "graph.gv"):
        Path(name).write_text("{}")
    assert cli.main(["compare", "a.json", "b.json", *options]) == 2
    assert said in capsys.readouterr().err
