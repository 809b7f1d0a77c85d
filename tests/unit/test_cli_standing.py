"""`knowcirc discover --method standing` on small random models: files, printed rows, resuming, refusals."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from knowcirc import cli
from knowcirc.circuits import standing_files as library
from knowcirc.circuits.circuit_settings import CircuitSettings
from knowcirc.circuits.export import read_circuit
from knowcirc.circuits.finding import find_circuit
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.patched import run_circuit
from knowcirc.circuits.standing import StandingSearch
from knowcirc.circuits.standing_files import search_standing, settings_for
from knowcirc.facts.prompts import Prompt
from knowcirc.models.loading import LanguageModel, load
from knowcirc.models.token_tree import grow

STANDING = ["--method", "standing", "--dtype", "float64"]
ONE = ["--ids", "5,6,7,8", "--answer-id", "9"]
ROWS, ANSWERS = ([5, 6, 7, 8], [5, 6, 13, 8], [3, 4, 20, 5, 6]), (9, 10, 11)
Loader = Callable[..., LanguageModel]


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [
        f"{' '.join(map(str, row))},{answer},{' '.join(map(str, [*row[:-1], row[-1] + 40]))},{answer + 40}"
        for row, answer in zip(ROWS, ANSWERS, strict=True)
    ]
    Path("pairs.csv").write_text("\n".join(["ids,answer_id,corrupted_ids,wrong_answer_id", *lines, ""]))
    alone = [line.rsplit(",", 2)[0] for line in lines]
    Path("p.csv").write_text("\n".join(["ids,answer_id", *alone, ""]))


def run(folder: Path, *options: str, out: str = "c.json") -> int:
    return cli.main(["discover", str(folder), *STANDING, "--out", out, *options, "--quiet"])


def test_the_circuit_and_what_stands_beside_it(folders: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folders["llama"], "--prompts", "p.csv", "--edges", "60", "--seed", "3") == 0
    document = json.loads(Path("c.json").read_text())
    graph, circuit = read_circuit(Path("c.json"))
    assert (graph.connected(circuit.edges) == circuit.edges).all()
    assert 0 < circuit.n_edges <= 60 == document["edges_asked"] == document["edges_limit"]
    expected = {"method": "standing", "metric": "nll+kl", "ablation": "zero", "seed": 3}
    assert {name: document[name] for name in expected} == expected
    assert document["settings"]["seed"] == 3
    assert all(entry["tested"] for entry in document["edges"].values())

    model = load(folders["llama"], device="cpu", dtype="float64").transformer
    values = []
    for edges in (graph.valid, circuit.edges):
        found = run_circuit(model, graph, edges, grow(ROWS)).log_softmax(-1)
        whole = run_circuit(model, graph, graph.valid, grow(ROWS)).log_softmax(-1)
        nll = -np.mean([float(found[row, answer]) for row, answer in enumerate(ANSWERS)])
        values.append((nll + float((whole.exp() * (whole - found)).sum(-1).mean())) / 2)
    assert [document["metric_model"], document["metric_circuit"]] == pytest.approx(values, abs=1e-10)

    text = capsys.readouterr().out
    assert f"{circuit.n_edges} of {graph.n_edges} (" in text
    assert f"{document['metric_circuit']:.6g} nats" in text
    assert not list(Path().glob("*.parts"))


def test_a_tenth_of_the_edges_by_default(folders: dict[str, Path]) -> None:
    assert run(folders["gpt2"], *ONE) == 0
    graph, circuit = read_circuit(Path("c.json"))
    assert json.loads(Path("c.json").read_text())["edges_asked"] == round(0.1 * graph.n_edges)
    assert 0 < circuit.n_edges <= round(0.1 * graph.n_edges)


@pytest.mark.parametrize("ablation", ["zero", "mean", "patch"])
@pytest.mark.parametrize("metric", ["nll", "kc-nll", "logit-diff", "kl"])
def test_metrics_and_ablations_are_the_librarys(
    folders: dict[str, Path], load_tiny: Loader, metric: str, ablation: str
) -> None:
    options = ["--prompts", "pairs.csv", "--metric", metric, "--ablation", ablation, "--edges", "70"]
    if ablation == "mean":
        content = Path("pairs.csv").read_text() + "3 4 21 5 6,12,3 4 21 5 47,52\n"
        Path("pairs.csv").write_text(content)
    assert run(folders["llama"], *options) == 0
    document = json.loads(Path("c.json").read_text())
    assert (document["metric"], document["ablation"]) == (metric, ablation)
    prompts, partners = (
        [Prompt("", tuple(row[ids]), None, "", (row[answer],)) for row in document["prompts"]]
        for ids, answer in (("ids", "answer_id"), ("corrupted_ids", "wrong_answer_id"))
    )
    model = load_tiny("llama")
    graph, written = read_circuit(Path("c.json"))
    circuit, details = search_standing(
        model,
        graph,
        prompts,
        partners,
        settings_for(graph, 70),
        metric=metric,  # type: ignore[arg-type]
        ablation=ablation,  # type: ignore[arg-type]
    )
    assert (circuit.edges == written.edges).all()
    assert document["metric_circuit"] == pytest.approx(details["metric_circuit"], abs=1e-12)


def test_an_interrupted_search_goes_on_and_ends_alike(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--prompts", "p.csv", "--edges", "60"]
    assert run(folders["llama"], *options, out="whole.json") == 0
    monkeypatch.setattr(library, "KEPT", 0.0)
    save = library.save_standing

    def stop(path: Path, search: StandingSearch) -> None:
        save(path, search)
        if search.step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(library, "save_standing", stop)
    assert run(folders["llama"], *options) == 130
    assert not Path("c.json").exists()
    assert list(Path().glob("*.parts"))
    monkeypatch.setattr(library, "save_standing", save)
    monkeypatch.setattr(library, "attribute", lambda *_: pytest.fail("scored again"))
    assert cli.main(["discover", str(folders["llama"]), *STANDING, "--out", "c.json", *options]) == 0
    assert "going on from step 3" in capsys.readouterr().err
    assert json.loads(Path("c.json").read_text()) == json.loads(Path("whole.json").read_text())
    assert not list(Path().glob("*.parts"))


REFUSED = [
    ([*ONE, "--tau", "0.1"], "--tau: no setting of --method standing"),
    ([*ONE, "--absolute", "--tests", "t.csv"], "--absolute, --tests: no setting of --method standing"),
    ([*ONE, "--edges", "999"], "--edges 999 is more than the 262 edges"),
    ([*ONE, "--dtype", "float16"], "--method standing needs --dtype float32 or float64; float16"),
    ([*ONE, "--metric", "logit-diff"], "metric logit-diff needs --wrong-answer-id"),
    ([*ONE, "--ablation", "patch"], "patch ablation needs --corrupted-ids"),
    ([*ONE, "--ablation", "mean"], "needs at least 2 prompts of 4 tokens, and there is 1"),
    ([*ONE, "--corrupted-ids", "5,6,7,9", "--metric", "nll"], "has no use here; add --ablation patch or mean"),
    ([], "no prompt given"),
]


@pytest.mark.parametrize(("options", "said"), REFUSED)
def test_what_cannot_be_searched_is_refused_before_the_model_is_read(
    options: list[str],
    said: str,
    folders: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("knowcirc.commands.models.load", lambda *_, **__: pytest.fail("the weights were read"))
    assert run(folders["gpt2"], *options) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1
    assert not Path("c.json").exists()
    assert not list(Path().glob("*.parts"))


def test_a_size_without_a_circuit_leaves_nothing(folders: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folders["gpt2"], *ONE, "--edges", "1") in (0, 2)
    assert not list(Path().glob("*.parts"))


@pytest.mark.parametrize("n_edges", [1, 7, 29, 57, 113, 190])
def test_the_limit_is_what_was_asked_for(load_tiny: Loader, n_edges: int) -> None:
    graph = Graph.of(load_tiny("llama").transformer.shape, "grouped")
    assert int(settings_for(graph, n_edges).size * graph.n_edges) == n_edges


def test_the_circuit_of_a_single_prompt(load_tiny: Loader) -> None:
    model = load_tiny("llama")
    graph = Graph.of(model.transformer.shape, "grouped")
    prompt, partner = Prompt("", (5, 6, 7, 8), None, "", (9,)), Prompt("", (5, 6, 11, 8), None, "", (12,))
    measures = {"metric": "kl", "ablation": "patch"}
    circuit, found = find_circuit(
        model, graph, [prompt], [partner], CircuitSettings("standing", share=0.3, standing=measures)
    )
    assert circuit.method == "standing"
    assert 0 < circuit.n_edges <= round(0.3 * graph.n_edges)
    assert (found["metric"], found["ablation"]) == ("kl", "patch")
    with pytest.raises(ValueError, match="method standing needs a share of the edges"):
        find_circuit(model, graph, [prompt], [partner], CircuitSettings("standing"))
