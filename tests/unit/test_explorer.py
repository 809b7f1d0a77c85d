"""The circuit explorer: its page holds what was given, texts are escaped, and what cannot be shown is refused."""

import base64
import json
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import explore
from conftest import Loader
from knowcirc import cli
from knowcirc.circuits.circuit import Circuit
from knowcirc.circuits.export import save_circuits, write_circuit
from knowcirc.circuits.graph import Graph
from knowcirc.explorer import packing
from knowcirc.explorer.packing import Shown, encoded, packed_circuits, packed_heads, packed_reading, packed_traces
from knowcirc.explorer.page import FOLDER, as_json, build_page, scripts
from knowcirc.facts.prompts import token_texts, tokenise
from knowcirc.files import write_json, write_table
from knowcirc.models.shape import Shape
from knowcirc.reading import nodes
from knowcirc.reading.heads import Context, Thresholds, read_heads

ROOT = Path(__file__).resolve().parents[2]
SHAPE = Shape("llama", 3, 4, 2, 32, 8, 48, 101)  # of the tiny model llama
GROUPED, WIDE = (Graph.of(SHAPE, kv) for kv in ("grouped", "per_head"))
EVIL = "</script><script>alert(1)</script>"
LIMITS = Thresholds(0.1, 20)
NOTHING: dict[str, Any] = {"heads": [], "readings": [], "traces": [], "n_traced": 0}


def circuit(graph: Graph, n_edges: int, seed: int = 0, *, scored: bool = True) -> Circuit:
    scores = np.random.default_rng(seed).standard_normal(graph.valid.shape) * graph.valid
    edges = np.zeros_like(graph.valid)
    edges.flat[np.argsort(-np.abs(scores), axis=None)[:n_edges]] = True
    return Circuit("eap-ig", edges, scores if scored else None)


def shown(name: str, graph: Graph = GROUPED, n_edges: int = 30, seed: int = 0) -> Shown:
    return Shown(name, f"title of {name}", "Files", graph, circuit(graph, n_edges, seed))


def numbers(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype=f"<{kind}")


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return dict(json.loads(found[1]))


def test_a_packed_circuit_holds_its_edges_the_strongest_first() -> None:
    one = shown("a", n_edges=30)
    (packed,) = packed_circuits([one])["circuits"]
    src, dst, score = numbers(packed["src"], "u2"), numbers(packed["dst"], "u2"), numbers(packed["score"], "f4")
    edges = np.zeros_like(GROUPED.valid)
    edges[src, dst] = True
    assert (edges == one.circuit.edges).all()
    assert one.circuit.scores is not None
    np.testing.assert_allclose(score, one.circuit.scores[src, dst], rtol=1e-6)
    assert (np.diff(np.abs(score)) <= 0).all()
    assert (packed["edges"], packed["held"], packed["scored"]) == (30, 30, True)


def test_a_circuit_without_scores_says_so() -> None:
    one = Shown("a", "a", "Files", GROUPED, circuit(GROUPED, 30, scored=False))
    (packed,) = packed_circuits([one])["circuits"]
    assert (packed["edges"], packed["scored"]) == (30, False)
    assert not numbers(packed["score"], "f4").any()


def test_a_large_circuit_keeps_its_strongest_edges_and_says_how_many_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MOST_EDGES", 10)
    one = shown("a", n_edges=30)
    (packed,) = packed_circuits([one])["circuits"]
    assert one.circuit.scores is not None
    strongest = np.sort(np.abs(one.circuit.scores[one.circuit.edges]))[::-1][:10]
    np.testing.assert_allclose(np.abs(numbers(packed["score"], "f4")), strongest, rtol=1e-6)
    assert (packed["edges"], packed["held"]) == (30, 10)


def test_circuits_beyond_the_page_are_left_out_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MOST_IN_ALL", 70)
    found = packed_circuits([shown("a"), shown("b", seed=1), shown("c", seed=2)])
    assert [one["id"] for one in found["circuits"]] == ["a", "b"]
    assert found["left_out"] == ["Files: title of c"]


def test_circuits_of_both_views_stand_in_that_of_query_heads() -> None:
    found = packed_circuits([shown("a", GROUPED), shown("b", WIDE)])
    assert found["graph"] == {"layers": 3, "heads": 4, "kv": 4, "edges": WIDE.n_edges}
    dst = numbers(found["circuits"][0]["dst"], "u2")
    assert dst.max() < WIDE.n_dst
    assert found["circuits"][0]["edges"] > 30  # what enters a K/V head enters both query heads of its group


def test_circuits_of_other_sizes_and_names_given_twice_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a has 3 layers of 4 heads \(2 K/V\), b 2 layers"):
        packed_circuits([shown("a"), shown("b", Graph(2, 4, 2, "grouped"))])
    with pytest.raises(ValueError, match="two circuits are called 'a'"):
        packed_circuits([shown("a"), shown("a")])
    with pytest.raises(ValueError, match="no circuit to show"):
        packed_circuits([])


def traces() -> pd.DataFrame:
    shared = {"case": 0, "prompt": EVIL, "answer": "French", "p_clean": 0.9, "p_corrupted": 0.1, "subject": EVIL}
    sites = [
        {"kind": kind, "layer": layer, "position": position, "token": f"t{position}", "effect": effect}
        for kind, effect in (("state", 0.25), ("severed_mlp", 0.5))
        for layer in range(3)
        for position in range(2)
        if kind == "state" or position == 1
    ]
    total = {"kind": "total", "layer": -1, "position": -1, "token": "", "effect": 0.8}
    rows = pd.DataFrame([{**shared, **row, "in_subject": row["position"] == 1} for row in [total, *sites]])
    rows.loc[(rows.kind == "state") & (rows.layer == 2) & (rows.position == 1), "effect"] = -0.125
    return rows


def test_packed_traces_hold_every_site_and_no_number_where_nothing_was_run() -> None:
    found = packed_traces(pd.concat([traces(), traces().assign(case=1)]))
    assert found["n_traced"] == 2
    one = found["traces"][0]
    assert (one["tokens"], one["in_subject"], one["kinds"]) == (["t0", "t1"], [False, True], ["state", "severed_mlp"])
    effects = numbers(one["effects"], "f4").reshape(2, 3, 2)
    np.testing.assert_array_equal(effects[0], [[0.25, 0.25], [0.25, 0.25], [0.25, -0.125]])
    np.testing.assert_array_equal(effects[1], [[np.nan, 0.5]] * 3)
    with pytest.raises(ValueError, match="lack the column"):
        packed_traces(traces().drop(columns="effect"))


def test_named_heads_without_a_number_are_null_and_a_relation_without_any_has_no_row() -> None:
    row = {"relation": "r", "head": "a1.h2", "role": "mover", "role_share": 0.75, "to_subject": np.nan, "n": 4}
    assert packed_heads(pd.DataFrame([row])) == [row | {"to_subject": None}]
    assert packed_heads(pd.DataFrame(columns=["relation"])) == []


def test_no_text_ends_the_data_and_the_page_loads_nothing() -> None:
    one = Shown(EVIL, EVIL, EVIL, GROUPED, circuit(GROUPED, 5), EVIL, ((EVIL, EVIL),))
    page = build_page(EVIL, NOTHING | packed_circuits([one]) | packed_traces(traces()))
    assert "<script>alert(1)" not in page
    assert data_of(page)["circuits"][0]["title"] == EVIL
    assert data_of(page)["traces"][0]["prompt"] == EVIL
    assert page.count("</script>") == 3
    assert re.findall(r"(?:src|href)=\"(?!data:)[^\"]*\"", page) == []
    assert "https:" not in page


def test_numbers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_json({"a": float("nan")})


def test_scripts_put_texts_into_the_page_by_text_content_alone_and_are_short() -> None:
    assert {path.stem for path in scripts()} >= {"main", "graph", "scene", "picture", "traces"}
    for path in scripts():
        text = path.read_text("utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)
        assert len(text.splitlines()) <= 400
        imported = set(re.findall(r'from "explorer/(\w+)"', text))
        assert imported <= {other.stem for other in scripts()}


def test_an_installed_package_carries_what_the_page_is_made_of() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["knowcirc.explorer"]
    others = [path.name for path in FOLDER.iterdir() if path.is_file() and path.suffix != ".py"]
    assert len(others) > 10
    assert [name for name in others if not any(fnmatch(name, pattern) for pattern in patterns)] == []


@pytest.fixture
def prompt(load_tiny: Loader) -> Any:
    return tokenise(load_tiny("llama").text, "the capital of France is", "Paris", "France")


def test_nodes_are_read_as_single_heads_and_the_lens_ends_with_the_models_answer(
    load_tiny: Loader, exact_networks: None, prompt: Any
) -> None:
    model = load_tiny("llama")
    context = Context((1,), frozenset(prompt.answer))
    names = lambda ids: token_texts(model.text, ids)  # noqa: E731
    found: dict[str, Any] = nodes.read_nodes(model, prompt, names, LIMITS, context)
    readings = read_heads(model, prompt, context)
    assert any(one.role(LIMITS) for one in readings)
    for one in readings:
        node = found["nodes"][one.name]
        assert (node["role"], node["rank"], node["top"]) == (one.role(LIMITS), one.rank + 1, names(one.top))
        assert node["attribution"] == pytest.approx(one.attribution, abs=1e-4)
        assert found["attention"][one.name][-1] == pytest.approx(one.attention, abs=1e-4)
    assert [len(row) for row in found["attention"]["a0.h0"]] == list(range(1, len(prompt.ids) + 1))
    p = model.transformer.logits(model.batch([prompt.ids]))[0].softmax(-1)
    assert found["lens"][-1]["p"] == pytest.approx(float(p[prompt.answer[0]]), abs=1e-5)
    assert found["lens"][-1]["top"][0][0] == names([int(p.argmax())])[0]
    assert set(found["nodes"]) == {*GROUPED.src_names[1:]}


def test_what_heads_and_mlps_add_sums_to_the_answers_logit(
    load_tiny: Loader, exact_networks: None, prompt: Any
) -> None:
    """Without biases, stream and attribution are linear: embedding, heads and MLPs make up the final stream."""
    model = load_tiny("llama")
    found: dict[str, Any] = nodes.read_nodes(model, prompt, lambda ids: [str(i) for i in ids], LIMITS)
    network = model.transformer
    ids = model.batch([prompt.ids])
    *_, final = network.stream(ids)
    direction = network.unembedding[prompt.answer[0]] - network.unembedding.mean(0)
    scaled = network.final_norm.linear(final[0, -1], direction)
    rest = float((final[0, -1] - network.embed(ids)[0, -1]) @ scaled)
    total = sum(node["attribution"] for node in found["nodes"].values())
    assert total == pytest.approx(rest, abs=1e-4 * len(found["nodes"]))


def test_a_long_prompt_keeps_attention_from_its_last_position_alone(
    load_tiny: Loader, monkeypatch: pytest.MonkeyPatch, prompt: Any
) -> None:
    monkeypatch.setattr(nodes, "MOST_ROWS", 3)
    model = load_tiny("llama")
    found: dict[str, Any] = nodes.read_nodes(model, prompt, lambda ids: [str(i) for i in ids], LIMITS)
    assert found["first_row"] == len(prompt.ids) - 1
    packed = packed_reading(found, "it")
    values = numbers(packed["attention"], "u2").reshape(12, len(prompt.ids))
    np.testing.assert_allclose(values.sum(1) / 65_535, 1.0, atol=0.001)
    assert packed["attention_heads"][:2] == ["a0.h0", "a0.h1"]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    paths = {name: tmp_path / name for name in ("one.json", "arrays.npz", "page.html")}
    write_circuit(paths["one.json"], GROUPED, SHAPE, circuit(GROUPED, 30), {"prompt": EVIL, "answer": "Paris"})
    save_circuits(paths["arrays.npz"], {"capital": circuit(GROUPED, 20, 1), "language": circuit(GROUPED, 25, 2)})
    return paths


def test_the_command_writes_circuits_and_what_nodes_do_on_the_prompt(
    files: dict[str, Path], folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(files["one.json"]), str(files["arrays.npz"]), "-o", str(files["page.html"]), "--quiet"]
    asked = ["--prompt", "the capital of France is", "--answer", "Paris", "--subject", "France"]
    assert cli.main(["explore", *given, "--model", str(folders["llama"]), *asked]) == 0
    assert str(files["page.html"]) in capsys.readouterr().out
    data = data_of(files["page.html"].read_text("utf-8"))
    assert [(one["title"], one["edges"]) for one in data["circuits"]] == [
        ("one", 30),
        ("capital", 20),
        ("language", 25),
    ]
    assert [one["method"] for one in data["circuits"]] == ["eap-ig", "arrays", "arrays"]
    assert data["readings"][0]["tokens"][-1] == "is"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["{arrays.npz}", "-o", "{page.html}"], "give --model, or a circuit.json"),
        (["{one.json}", "-o", "{one.json}"], "would replace the circuit"),
        (["{one.json}", "-o", "{page.html}", "--prompt", "a", "--answer", "b"], "a prompt without --model"),
        (["absent.json", "-o", "{page.html}"], "does not exist"),
        (["{one.json}", "{one.json}", "-o", "{page.html}"], "two circuits are called"),
        (["{one.json}", "-o", "{page.html}", "--traces", "{one.json}"], "give those of traces/facts.parquet"),
    ],
)
def test_the_command_refuses_in_one_line(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    filled = [re.sub(r"\{(.+)\}", lambda found: str(files[found[1]]), text) for text in arguments]
    assert cli.main(["explore", *filled]) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1
    assert not files["page.html"].exists()


def test_arrays_of_another_model_are_refused(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    other = Graph(2, 4, 2, "grouped")
    save_circuits(files["arrays.npz"], {"capital": circuit(other, 20)})
    assert (
        cli.main(["explore", *map(str, (files["one.json"], files["arrays.npz"])), "-o", str(files["page.html"])]) == 2
    )
    assert "capital has 11 senders and 19 receivers, the model 16 and 28" in capsys.readouterr().err


def study(folder: Path) -> SimpleNamespace:
    """A job of the script with a small study's files."""
    paths = {name: folder / name for name in ("showcase.json", "nodes.json", "meta.json", "heads.csv", "facts.parquet")}
    write_circuit(paths["showcase.json"], GROUPED, SHAPE, circuit(GROUPED, 30), {"prompt": EVIL, "answer": "French"})
    reading = {"prompt": EVIL, "attention": {"a0.h0": [[1.0]]}, "first_row": 0}
    write_json(paths["nodes.json"], reading)
    meta = {"edit": {"subject": EVIL, "old": " French", "new": "German"}, "prompts": {"edited": EVIL, "unrelated": "x"}}
    write_json(paths["meta.json"], meta | {"method": {"edited": "acdc", "unrelated": "eap"}})
    write_table(paths["heads.csv"], pd.DataFrame([{"relation": "r", "head": "a1.h2", "role": "mover"}]))
    write_table(paths["facts.parquet"], traces())
    edited = [folder / "none.npz", folder / "rome.npz"]
    for seed, path in enumerate(edited):
        save_circuits(path, {"edited": circuit(GROUPED, 20, seed), "unrelated": circuit(GROUPED, 21, seed)})
    save_circuits(folder / "standing.npz", {"r": circuit(GROUPED, 22)})
    given = {"showcase": paths["showcase.json"], "nodes": paths["nodes.json"], "meta": paths["meta.json"]}
    given |= {"heads": paths["heads.csv"], "traces": paths["facts.parquet"]}
    params = {"showcase": {"relation": "r"}, "methods": ["standing"], "weights": ["none", "rome"]}
    return SimpleNamespace(
        input=SimpleNamespace(**given, edited=edited, circuits=[folder / "standing.npz"]),
        output=SimpleNamespace(page=folder / "explorer.html"),
        params=SimpleNamespace(**params, labels={"rome": "ROME"}),
        wildcards=SimpleNamespace(model="tiny"),
    )


def test_the_studys_page_holds_the_showcase_the_edits_and_the_relations(tmp_path: Path) -> None:
    job = study(tmp_path)
    explore.main(job)
    data = data_of(job.output.page.read_text("utf-8"))
    ids = ["showcase", "edits/none/edited", "edits/rome/edited", "edits/none/unrelated", "edits/rome/unrelated"]
    assert [one["id"] for one in data["circuits"]] == [*ids, "standing/r"]
    assert [one["method"] for one in data["circuits"]] == ["eap-ig", "acdc", "acdc", "eap", "eap", "standing"]
    assert data["circuits"][2]["about"] == [
        ["prompt", EVIL],
        ["weights", "ROME"],
        ["edit", f"{EVIL}: French → German"],
    ]
    assert data["heads"][0]["head"] == "a1.h2"
    assert data["readings"][0]["attention"] == encoded(np.array([65_535]), "u2")


def test_packing_a_studys_page_loads_no_torch() -> None:
    code = "import sys, explore; sys.exit('torch' in sys.modules)"
    folder = Path(explore.__file__).parent
    assert subprocess.run([sys.executable, "-c", code], cwd=folder, check=False).returncode == 0
