"""`knowcirc discover` with ACDC, on small random models: against the search edge by edge, killed, and refused."""

import csv
import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from knowcirc import cli, job
from knowcirc.circuits import searching as library
from knowcirc.circuits.acdc import PROJECTION, Criterion, Progress, Search
from knowcirc.circuits.attribution import top_edges
from knowcirc.circuits.choices import METRICS, UNITS
from knowcirc.circuits.discovery import Scoring, attribute
from knowcirc.circuits.export import read_circuit
from knowcirc.circuits.graph import EdgeMatrix, Graph
from knowcirc.circuits.metrics import make_task
from knowcirc.circuits.patched import record
from knowcirc.circuits.settings import TAU
from knowcirc.commands import meter
from knowcirc.configuration.study import default
from knowcirc.facts.prompts import Prompt
from knowcirc.models.loading import LanguageModel, load
from sequential import sequential_acdc

IDS = (5, 6, 7, 8)
PROMPT = ["--ids", "5,6,7,8", "--answer-id", "9"]
WRONG = ["--wrong-answer-id", "12"]
CORRUPTED = ["--corrupted-ids", "5,6,11,8"]
EXACT = ["--dtype", "float64"]
ACDC = ["--method", "acdc"]
Errors = Callable[..., str]
Interrupt = Callable[[int], None]


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def refuse(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Errors:
    """Run the arguments, which must fail with exit code 2, one line, and no file touched; returns the line."""

    def run(*args: str | Path) -> str:
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        capsys.readouterr()
        assert cli.main([*map(str, args), "--quiet"]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("knowcirc: error: "), err
        assert err.count("\n") == 1, err
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        return err

    return run


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Interrupt:
    """Have searches interrupted after a layer has been kept, the last (0) included; a negative one: none."""
    save = library.save_search

    def arm(layer: int) -> None:
        def save_and_stop(path: Path, search: Search) -> None:
            save(path, search)
            if search.next_layer + 1 == layer:
                raise KeyboardInterrupt

        monkeypatch.setattr(library, "save_search", save_and_stop if layer >= 0 else save)

    return arm


def run(*args: str | Path) -> None:
    """Run the arguments, which must succeed."""
    assert cli.main([*map(str, args), "--quiet"]) == 0


def discover(folder: Path, *options: str, out: str = "c.json", tests: str = "t.csv") -> None:
    """Search with ACDC, writing circuit and tests."""
    run("discover", folder, "--out", out, "--tests", tests, *([] if "--method" in options else ACDC), *options)


def read_tests(name: str = "t.csv") -> list[tuple[str, str, float, int]]:
    """The rows of a table of tests."""
    with Path(name).open(newline="") as handle:
        rows = list(csv.reader(handle))
    assert rows[0] == ["receiver", "sender", "score", "kept"]
    return [(receiver, sender, float(score), int(kept)) for receiver, sender, score, kept in rows[1:]]


@dataclass(frozen=True)
class Run:
    """A case for both searches: the command's options, and what they mean."""

    options: tuple[str, ...]
    tau: float
    metric: str = "nll"
    rows: tuple[tuple[int, ...], ...] = (IDS,)
    answers: tuple[int, ...] = (9,)
    wrong: tuple[int, ...] | None = None
    ablation: str = "zero"
    references: tuple[tuple[int, ...], ...] | None = None
    absolute: bool = False


def absent_of(model: LanguageModel, graph: Graph, case: Run) -> torch.Tensor | None:
    """What absent edges deliver, each prompt's recorded at its own length."""
    if case.ablation == "zero":
        return None
    references = case.rows if case.references is None else case.references
    outputs = [record(model.transformer, graph, torch.tensor([ids])).outputs[:, 0] for ids in references]
    longest = max(map(len, case.rows))
    absent = outputs[0].new_zeros(graph.n_src, len(case.rows), longest, outputs[0].shape[-1])
    for row, ids in enumerate(case.rows):
        alike = [output for output in outputs if output.shape[1] == len(ids)]
        absent[:, row, : len(ids)] = outputs[row] if case.ablation == "patch" else torch.stack(alike).mean(0)
    return absent


def one_by_one(
    folder: Path, case: Run, kv: str, processing: str, edges: EdgeMatrix | None = None
) -> tuple[list[tuple[str, str, float, int]], EdgeMatrix, set[str]]:
    """The tests with names, the edges and the projections of the search that runs the model anew for each edge."""
    model = load(folder, device="cpu", dtype="float64", processing=processing)
    graph = Graph.of(model.transformer.shape, kv)  # type: ignore[arg-type]
    task = make_task(case.metric, case.rows, case.answers, case.wrong)  # type: ignore[arg-type]
    absent, rule = absent_of(model, graph, case), Criterion(case.tau, case.absolute)
    tests, left, projections = sequential_acdc(model.transformer, graph, task, rule, absent=absent, edges=edges)
    rows = []
    for test in tests:
        node, kind = (*graph.dst_names[test.dst].rstrip(">").split("<"), "")[:2]
        receiver = {"logits": "final"}.get(node, f"{node}.{kind}_in" if kind else f"{node}.in")
        sender = ["embed", *graph.src_names[1:]][test.src]
        pair = (f"{node}.{kind}", receiver) if test.src == PROJECTION else (receiver, sender)
        rows.append((*pair, test.score, int(test.kept)))
    return rows, left, {graph.dst_names[i] for i in np.flatnonzero(projections)}


def check(folder: Path, case: Run, kv: str, processing: str = "none", edges: EdgeMatrix | None = None) -> None:
    """Make sure that the files `c.json` and `t.csv` hold what the search edge by edge finds."""
    tests, left, projections = one_by_one(folder, case, kv, processing, edges)
    found = read_tests()
    assert [(*row[:2], row[3]) for row in found] == [(*row[:2], row[3]) for row in tests]
    np.testing.assert_allclose([row[2] for row in found], [row[2] for row in tests], rtol=0, atol=1e-9)
    assert 0 < sum(row[3] for row in tests) < len(tests)
    document = json.loads(Path("c.json").read_text())
    graph, circuit = read_circuit(Path("c.json"))
    assert graph.kv == kv
    assert (circuit.edges == left).all()
    scores = {(receiver, sender): score for receiver, sender, score, _ in found}
    senders, receivers = graph.node_names
    assert circuit.scores is not None
    for src, dst in graph.edges():
        np.testing.assert_equal(circuit.scores[src, dst], scores.get((receivers[dst], senders[src]), np.nan))
    assert set(document.get("projections", ())) == projections
    assert ("projections" in document) == (kv == "per_head")
    said = {"tau": case.tau, "metric": case.metric, "ablation": case.ablation, "tests": len(tests)}
    assert {name: document[name] for name in said} == said
    assert document["absolute"] == case.absolute


BOTH = (*PROMPT, *CORRUPTED, *WRONG)
RUNS = {
    "nll": Run((*PROMPT,), 0.05),
    "kc-nll": Run((*PROMPT, "--metric", "kc-nll"), 0.01, "kc-nll"),
    "kl": Run((*PROMPT, "--metric", "kl", "--tau", "0.02"), 0.02, "kl"),
    "nll+kl": Run((*PROMPT, "--metric", "nll+kl", "--tau", "0.02"), 0.02, "nll+kl"),
    "absolute": Run((*PROMPT, "--absolute", "--tau", "0.1"), 0.1, absolute=True),
    "wrong answer": Run((*PROMPT, *WRONG, "--metric", "logit-diff", "--tau", "0.3"), 0.3, "logit-diff", wrong=(12,)),
    "patch": Run((*PROMPT, *CORRUPTED, "--ablation", "patch"), 0.05, ablation="patch", references=((5, 6, 11, 8),)),
    "pair": Run(
        (*BOTH, "--ablation", "patch", "--metric", "logit-diff", "--tau", "0.01"),
        0.01,
        "logit-diff",
        wrong=(12,),
        ablation="patch",
        references=((5, 6, 11, 8),),
    ),
}


@pytest.mark.parametrize("kv", ["grouped", "per_head"])
@pytest.mark.parametrize("case", RUNS.values(), ids=RUNS)
def test_the_search_is_the_one_by_one_search(folders: dict[str, Path], case: Run, kv: str) -> None:
    discover(folders["llama"], *case.options, "--kv", kv, *EXACT)
    check(folders["llama"], case, kv)


@pytest.mark.parametrize("kv", ["grouped", "per_head"])
def test_folded_weights_are_searched(folders: dict[str, Path], kv: str) -> None:
    options = ["--metric", "kc-nll", "--processing", "folded", "--kv", kv]
    discover(folders["gpt2"], *PROMPT, *options, *EXACT)
    check(folders["gpt2"], Run((), 0.01, "kc-nll"), kv, "folded")
    assert json.loads(Path("c.json").read_text())["processing"] == "folded"


def test_prompts_of_different_lengths_are_searched_together(folders: dict[str, Path]) -> None:
    Path("p.csv").write_text("ids,answer_id,wrong_answer_id\n5 6 7 8,9,12\n3 4 20 5 6 30,10,40\n")
    rows, answers, wrong = (IDS, (3, 4, 20, 5, 6, 30)), (9, 10), (12, 40)
    for metric, tau in (("kc-nll", 0.005), ("logit-diff", 0.2)):
        options = ["--metric", metric, "--tau", str(tau), *EXACT]
        if metric == "kc-nll":
            Path("q.csv").write_text("ids,answer_id\n5 6 7 8,9\n3 4 20 5 6 30,10\n")
        discover(folders["llama"], "--prompts", "q.csv" if metric == "kc-nll" else "p.csv", *options)
        check(folders["llama"], Run((), tau, metric, rows, answers, wrong), "grouped")
    written = json.loads(Path("c.json").read_text())["prompts"]
    assert [(row["ids"], row["wrong_answer_id"]) for row in written] == [
        ([5, 6, 7, 8], 12),
        ([3, 4, 20, 5, 6, 30], 40),
    ]
    assert all("corrupted" not in row for row in written)


ROWS = (IDS, (5, 6, 13, 8), (3, 4, 20, 5, 6), (3, 4, 21, 5, 6))
OTHERS = ((5, 6, 11, 8), (5, 6, 14, 8), (3, 4, 22, 5, 6), (3, 4, 23, 5, 6))


@pytest.mark.parametrize("corrupted", [False, True])
def test_means_are_of_the_prompts_or_of_their_corrupted_ones(folders: dict[str, Path], corrupted: bool) -> None:
    lines = [
        f"{' '.join(map(str, row))},9" + (f",{' '.join(map(str, other))}" if corrupted else "")
        for row, other in zip(ROWS, OTHERS, strict=True)
    ]
    header = "ids,answer_id" + (",corrupted_ids" if corrupted else "")
    Path("p.csv").write_text("\n".join([header, *lines, ""]))
    discover(folders["llama"], "--prompts", "p.csv", "--ablation", "mean", "--tau", "0.02", *EXACT)
    references = OTHERS if corrupted else None
    check(
        folders["llama"],
        Run((), 0.02, rows=ROWS, answers=(9,) * 4, ablation="mean", references=references),
        "grouped",
    )


@pytest.mark.parametrize("ablation", ["zero", "patch"])
@pytest.mark.parametrize("edges", [None, 60])
def test_the_strongest_edges_alone_are_searched(
    folders: dict[str, Path], ablation: str, edges: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Strongest against what absent edges deliver: the pair's other prompt where that is patched in."""
    folder = folders["llama"]
    options = [] if edges is None else ["--edges", str(edges)]
    pair = [*CORRUPTED, *WRONG, "--ablation", ablation]
    discover(folder, *PROMPT, *pair, "--method", "eap-ig+acdc", *options, *EXACT)
    model = load(folder, device="cpu", dtype="float64")
    graph = Graph.of(model.transformer.shape, "grouped")
    requested = round(default("circuits/acdc/share") * graph.n_edges) if edges is None else edges
    partner = Prompt("", (5, 6, 11, 8), None, "", (12,)) if ablation == "patch" else None
    scores = attribute(model, graph, [Prompt("", IDS, None, "", (9,))], [partner], "eap-ig")
    strongest = top_edges(graph, scores, requested)
    references = ((5, 6, 11, 8),) if ablation == "patch" else None
    check(folder, Run((), 0.05, ablation=ablation, references=references), "grouped", edges=strongest)
    document = json.loads(Path("c.json").read_text())
    assert document["edges_asked"] == requested
    assert document["method"] == "eap-ig+acdc"
    assert f"among the {requested} strongest" in capsys.readouterr().out
    assert not (read_circuit(Path("c.json"))[1].edges & ~strongest).any()


def test_halves_of_a_pair_leave_the_ranking_as_it_is(folders: dict[str, Path]) -> None:
    options = ["--method", "eap-ig+acdc", "--metric", "logit-diff", "--tau", "0.3"]
    discover(folders["llama"], *PROMPT, *WRONG, *options, *EXACT)
    model = load(folders["llama"], device="cpu", dtype="float64")
    graph = Graph.of(model.transformer.shape, "grouped")
    scores = attribute(model, graph, [Prompt("", IDS, None, "", (9,))], [None], "eap-ig")
    strongest = top_edges(graph, scores, round(default("circuits/acdc/share") * graph.n_edges))
    check(folders["llama"], Run((), 0.3, "logit-diff", wrong=(12,)), "grouped", edges=strongest)


def test_texts_are_searched_and_the_report_says_what_was_found(
    folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ["--prompt", "the language spoken in France is", "--answer", "French"]
    run("discover", folders["gpt2"], *texts, *ACDC, "--out", "c.json", "--dot", "c.dot", "--tests", "t.csv")
    rows = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    rows = {name: value.strip() for name, value in rows.items()}
    document = json.loads(Path("c.json").read_text())
    tests = read_tests()
    graph, circuit = read_circuit(Path("c.json"))
    assert rows["method"] == "acdc"
    assert rows["prompts"] == "1"
    assert rows["tests"] == str(len(tests)) == str(document["tests"])
    assert rows["edges"].startswith(f"{circuit.n_edges} of {graph.n_edges} (")
    assert rows["tau"] == f"0.05 nats, {0.05 / 7:.4g} nats / (T - 1)"
    assert rows["nll, before"] == f"{document['metric_start']:.6g} nats"
    assert rows["nll, after"] == f"{document['metric_circuit']:.6g} nats"
    assert rows["closest call"] == f"{min(abs(test[2] - 0.05) for test in tests):.3g} nats from tau"
    assert (rows["circuit"], rows["graphviz"], rows["table of tests"]) == ("c.json", "c.dot", "t.csv")
    assert Path("c.dot").read_text().count("->") == circuit.n_edges
    assert sorted(path.name for path in Path().iterdir()) == ["c.dot", "c.json", "t.csv"]
    assert "edges_asked" not in document
    assert all(entry["score"] == 0 for entry in document["edges"].values() if not entry["tested"])
    untested = [entry for entry in document["edges"].values() if not entry["tested"]]
    assert len(untested) == graph.n_edges - len(tests) > 0
    assert not any(entry["in_graph"] for entry in untested)


def test_the_circuit_file_is_evaluated(folders: dict[str, Path]) -> None:
    discover(folders["llama"], *PROMPT, "--processing", "folded", "--kv", "per_head", *EXACT)
    run("evaluate", folders["llama"], "c.json", *PROMPT, "--out", "m.json", *EXACT)
    document, measures = (json.loads(Path(name).read_text()) for name in ("c.json", "m.json"))
    assert measures["processing"] == "folded"
    assert measures["edges"] == sum(entry["in_graph"] for entry in document["edges"].values())
    assert measures["model"]["nll_nats"] == pytest.approx(document["metric_start"], abs=1e-9)
    assert measures["circuit"]["nll_nats"] == pytest.approx(document["metric_circuit"], abs=1e-9)


@pytest.mark.parametrize("layer", [3, 1, 0])
@pytest.mark.parametrize("options", [[], ["--kv", "per_head", "--method", "eap-ig+acdc"]], ids=["acdc", "eap-ig+acdc"])
def test_an_interrupted_search_goes_on_and_ends_alike(
    folders: dict[str, Path],
    options: list[str],
    layer: int,
    interrupt: Interrupt,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = folders["llama"]
    discover(folder, *PROMPT, *options, out="whole.json", tests="whole.csv")
    command = ["discover", str(folder), *PROMPT, *(options or ACDC), "--out", "c.json", "--tests", "t.csv"]
    interrupt(layer)
    assert cli.main(command) == 130
    assert not Path("c.json").exists()
    interrupt(-1)
    monkeypatch.setattr("knowcirc.circuits.searching.attribute", lambda *_: pytest.fail("ranked again"))
    capsys.readouterr()
    assert cli.main(command) == 0
    assert f"going on from {f'layer {layer - 1}' if layer else 'the end'}" in capsys.readouterr().err
    assert Path("t.csv").read_bytes() == Path("whole.csv").read_bytes()
    one, other = (json.loads(Path(name).read_text()) for name in ("c.json", "whole.json"))
    for name in ("edges", "nodes", "metric_start", "metric_circuit", "tests", "min_abs_score_minus_tau"):
        assert one[name] == other[name], name
    assert not list(Path().glob("*.parts"))


def test_other_options_begin_anew(
    folders: dict[str, Path], interrupt: Interrupt, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["discover", str(folders["gpt2"]), *PROMPT, *ACDC, "--out", "c.json", "--tests", "t.csv"]
    changes = (["--tau", "0.06"], ["--kv", "per_head"], ["--metric", "kc-nll"], ["--absolute"], [*EXACT])
    for change in (*changes, ["--processing", "folded"], ["--answer-id", "10"]):
        interrupt(2)
        assert cli.main(command) == 130
        interrupt(-1)
        capsys.readouterr()
        assert cli.main([*command, *change]) == 0
        assert "going on" not in capsys.readouterr().err
        found = Path("t.csv").read_bytes()
        discover(folders["gpt2"], *PROMPT, *change)
        assert Path("t.csv").read_bytes() == found


def test_numbers_that_overflow_are_refused_and_leave_nothing(
    folders: dict[str, Path], tmp_path: Path, refuse: Errors
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in folders["gpt2"].iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    weights = load_file(broken / "model.safetensors")
    weights["transformer.wte.weight"][5] = float("inf")
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    assert "the metric is nan; search in float64" in refuse("discover", broken, *PROMPT, *ACDC, "--out", "c.json")
    assert "scores are not finite" in refuse("discover", broken, *PROMPT, "--method", "eap-ig+acdc", "--out", "c.json")


REFUSED = [
    ([*PROMPT, "--tau", "0.1"], "--tau: no setting of --method eap-ig; take --method acdc"),
    ([*PROMPT, "--method", "eap", "--tau", "0", "--metric", "kl"], "--tau: no setting of --method eap"),
    (["--method", "random", "--absolute", "--tests", "t.csv"], "--absolute, --tests: no setting of --method random"),
    (["--method", "random", "--metric", "nll"], "--metric: no setting of --method random"),
    (["--method", "random", "--ablation", "zero"], "--ablation: no setting of --method random"),
    ([*PROMPT, "--ablation", "mean"], "--ablation mean: no baseline of --method eap-ig; take zero or patch"),
    ([*PROMPT, "--method", "eap", "--metric", "kl"], "its gradient is zero on the clean prompt; take --method eap-ig"),
    ([*PROMPT, "--metric", "logit-diff"], "metric logit-diff needs --wrong-answer-id; give it, or take --metric nll"),
    ([*PROMPT, *CORRUPTED, "--metric", "logit-diff"], "metric logit-diff needs --wrong-answer-id"),
    ([*PROMPT, "--ablation", "patch"], "patch ablation needs --corrupted-ids; give it, or take --ablation zero"),
    ([*PROMPT, *WRONG, "--metric", "nll"], "--wrong-answer-id without --corrupted-ids has no use here; add --metric"),
    ([*PROMPT, *CORRUPTED, "--ablation", "zero"], "--corrupted-ids without --wrong-answer-id has no use here; add"),
    ([*PROMPT, *BOTH[4:], "--method", "eap-ig-zero", "--ablation", "patch"], "eap-ig-zero has the zero baseline"),
    ([*PROMPT, *WRONG, "--corrupted-ids", "5,6,7,8"], "the corrupted prompt has the prompt's own tokens"),
    ([*PROMPT, *ACDC, "--edges", "5"], "--edges: no setting of --method acdc"),
    ([*PROMPT, "--method", "eap-ig+acdc", "--edges", "999"], "--edges 999 is more than the 262 edges"),
    ([*PROMPT, "--method", "eap-ig+acdc", "--edges", "1"], "the 1 strongest edges form no path"),
    ([*PROMPT, *ACDC, "--dtype", "float16"], "--method acdc needs --dtype float32 or float64; float16"),
    ([*PROMPT, "--method", "eap-ig+acdc", "--dtype", "bfloat16"], "float32 or float64; bfloat16"),
    ([*PROMPT, *ACDC, "--tau", "nan"], "'nan' is no number from 0 up"),
    ([*PROMPT, *ACDC, "--tau", "inf"], "'inf' is no number from 0 up"),
    ([*PROMPT, *ACDC, "--tau", "-0.1"], "'-0.1' is no number from 0 up"),
    ([*PROMPT, *ACDC, "--tau", "0", "--absolute"], "keeps every edge"),
    ([*PROMPT, *ACDC, "--metric", "kl"], "--metric kl without --tau"),
    ([*PROMPT, *ACDC, "--metric", "nll+kl"], "--metric nll+kl without --tau"),
    ([*PROMPT, *WRONG, *ACDC, "--metric", "logit-diff"], "--metric logit-diff without --tau"),
    ([*PROMPT, *ACDC, "--metric", "accuracy"], "invalid choice: 'accuracy'"),
    ([*PROMPT, *ACDC, "--metric", "logit-diff", "--tau", "1"], "metric logit-diff needs --wrong-answer-id"),
    ([*PROMPT, *CORRUPTED, *ACDC, "--metric", "logit-diff", "--tau", "1"], "metric logit-diff needs --wrong-answer"),
    ([*PROMPT, *ACDC, "--ablation", "patch"], "patch ablation needs --corrupted-ids"),
    (
        [*PROMPT, *WRONG, *ACDC, "--metric", "logit-diff", "--tau", "1", "--ablation", "patch"],
        "patch ablation needs --corrupted-ids",
    ),
    ([*PROMPT, *WRONG, *ACDC], "--wrong-answer-id without --corrupted-ids has no use here; add --metric logit-diff"),
    ([*PROMPT, *CORRUPTED, *ACDC], "--corrupted-ids without --wrong-answer-id has no use here; add --ablation"),
    ([*PROMPT, *CORRUPTED], "--corrupted-ids without --wrong-answer-id; the metric is"),
    ([*PROMPT, *WRONG, "--method", "eap"], "--wrong-answer-id without --corrupted-ids; the metric is"),
    ([*PROMPT, "--wrong-answer-id", "9", *ACDC, "--metric", "logit-diff", "--tau", "1"], "same first token 9"),
    (
        [*PROMPT, "--corrupted-ids", "1,2,3", *ACDC, "--ablation", "patch"],
        "has 4 tokens, the corrupted one 3",
    ),
    ([*PROMPT, *ACDC, "--ablation", "mean"], "needs at least 2 prompts of 4 tokens, and there is 1; give more"),
    ([*PROMPT, *CORRUPTED, *ACDC, "--ablation", "mean"], "take --ablation patch"),
    (["--prompts", "three.csv", *ACDC, "--ablation", "mean"], "at least 2 prompts of 5 tokens"),
    (["--prompts", "half.csv", *ACDC, "--ablation", "mean"], "only some of the prompts have a corrupted one"),
    (["--prompts", "half.csv", *ACDC, "--ablation", "patch"], "half.csv, line 3: patch ablation needs column corr"),
    (["--prompts", "half.csv"], "half.csv, line 2: column corrupted_ids without column wrong_answer_id"),
    ([*PROMPT, *ACDC, "--tests", "c.json"], "--out and --tests both name c.json"),
    ([*PROMPT, *ACDC, "--tests", "t.csv", "--dot", "t.csv"], "--dot and --tests both name t.csv"),
    ([*PROMPT, *ACDC, "--tests", "a_file/t.csv"], "a_file is no folder"),
    (ACDC, "no prompt given"),
]


@pytest.mark.parametrize(("options", "said"), REFUSED)
def test_what_cannot_be_searched_is_refused_in_one_line(
    options: list[str], said: str, folders: dict[str, Path], refuse: Errors, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "form no path" not in said:
        monkeypatch.setattr("knowcirc.commands.models.load", lambda *_, **__: pytest.fail("the weights were read"))
    Path("a_file").touch()
    Path("three.csv").write_text("ids,answer_id\n1 2 3 4,9\n1 2 3 5,9\n1 2 3 4 5,9\n")
    Path("half.csv").write_text("ids,answer_id,corrupted_ids,wrong_answer_id\n1 2 3 4,9,1 2 3 5,\n1 2 3 6,9,,\n")
    assert said in refuse("discover", folders["gpt2"], *options, "--out", "c.json")


MEASURED = [  # options, what is expected of attribution: method, metric, ablation, a partner's ids and answer
    ([*PROMPT], ("eap-ig", "nll", "zero", None)),
    ([*PROMPT, "--metric", "kl"], ("eap-ig", "kl", "zero", None)),
    ([*PROMPT, "--metric", "nll+kl"], ("eap-ig", "nll+kl", "zero", None)),
    ([*PROMPT, "--metric", "kc-nll", "--method", "eap"], ("eap", "kc-nll", "zero", None)),
    ([*PROMPT, *WRONG, "--metric", "logit-diff"], ("eap-ig", "logit-diff", "zero", (IDS, 12))),
    ([*PROMPT, *CORRUPTED, "--metric", "nll"], ("eap-ig", "nll", "patch", ((5, 6, 11, 8), 9))),
    ([*PROMPT, *CORRUPTED, "--ablation", "patch"], ("eap-ig", "nll", "patch", ((5, 6, 11, 8), 9))),
    ([*PROMPT, *CORRUPTED, *WRONG], ("eap-ig", "logit-diff", "patch", ((5, 6, 11, 8), 12))),
    ([*PROMPT, *CORRUPTED, *WRONG, "--metric", "kl"], ("eap-ig", "kl", "patch", ((5, 6, 11, 8), 12))),
    (
        [*PROMPT, *CORRUPTED, *WRONG, "--metric", "logit-diff", "--method", "eap"],
        ("eap", "logit-diff", "patch", ((5, 6, 11, 8), 12)),
    ),
    ([*PROMPT, *CORRUPTED, *WRONG, "--ablation", "zero"], ("eap-ig", "logit-diff", "zero", ((5, 6, 11, 8), 12))),
    ([*PROMPT, *CORRUPTED, *WRONG, "--method", "eap-ig-zero"], ("eap-ig-zero", "nll", "zero", ((5, 6, 11, 8), 12))),
    (
        [*PROMPT, *WRONG, "--method", "eap-ig-zero", "--metric", "logit-diff"],
        ("eap-ig-zero", "logit-diff", "zero", (IDS, 12)),
    ),
]


@pytest.mark.parametrize(("options", "expected"), MEASURED)
def test_attribution_measures_what_is_asked_or_what_the_prompt_has(
    options: list[str], expected: tuple[str, str, str, tuple[tuple[int, ...], int] | None], folders: dict[str, Path]
) -> None:
    method, metric, ablation, partner = expected
    run("discover", folders["llama"], *options, *EXACT, "--edges", "190", "--out", "c.json")
    written = json.loads(Path("c.json").read_text())
    assert (written["metric"], written["ablation"]) == (metric, ablation)
    model = load(folders["llama"], device="cpu", dtype="float64")
    graph, circuit = read_circuit(Path("c.json"))
    other = None if partner is None else Prompt("", partner[0], None, "", (partner[1],))
    scores = attribute(
        model,
        graph,
        [Prompt("", IDS, None, "", (9,))],
        [other],
        method,
        Scoring(metric, ablation),  # type: ignore[arg-type]
    )
    np.testing.assert_allclose(circuit.scores, scores, atol=1e-12)
    assert np.abs(scores).max() > 0


def test_a_file_may_hold_prompts_with_and_without_a_pair(
    folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mixed.csv").write_text("ids,answer_id,corrupted_ids,wrong_answer_id\n5 6 7 8,9,5 6 11 8,12\n5 6 7,9,,\n")
    run("discover", folders["llama"], "--prompts", "mixed.csv", "--edges", "190", "--out", "c.json")
    written = json.loads(Path("c.json").read_text())
    assert (written["metric"], written["ablation"]) == (["logit-diff", "nll"], ["patch", "zero"])
    printed = capsys.readouterr().out
    assert "logit-diff (logits), against the corrupted prompt, 1 prompt(s)" in printed
    assert "nll (nats), against zero, 1 prompt(s)" in printed


def test_a_pair_that_nothing_reads_is_said(folders: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    said = "metric nll with zero ablation reads no corrupted prompts"
    for options, warned in (
        ([*ACDC], True),
        ([*ACDC, "--ablation", "patch"], False),
        (["--method", "eap-ig+acdc"], True),
        (["--method", "eap-ig+acdc", "--ablation", "patch"], False),
        (["--method", "eap", "--metric", "nll", "--ablation", "zero"], True),
        (["--method", "eap-ig", "--ablation", "zero"], False),
        (["--method", "eap-ig-zero"], True),
    ):
        run("discover", folders["gpt2"], *BOTH, *options, "--out", "c.json")
        assert (said in capsys.readouterr().err) == warned
    written = json.loads(Path("c.json").read_text())["prompts"][0]
    assert (written["corrupted_ids"], written["wrong_answer_id"]) == ([5, 6, 11, 8], 12)


def test_progress_is_a_line_now_and_then(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(job, "STEP", 0.0)
    command = ["discover", str(folders["gpt2"]), *PROMPT, *ACDC, "--out", "c.json"]
    assert cli.main(command) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "edges decided" in line]
    document = json.loads(Path("c.json").read_text())
    kept = sum(entry["in_graph"] for entry in document["edges"].values())
    assert lines[-1].startswith(f"knowcirc: ACDC: 262 of 262 edges decided, {kept} kept, in ")
    assert cli.main([*command, "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_progress_is_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    shown = meter.Meter(quiet=False)
    shown(Progress(40, 1, 100, 41, 0.2))
    shown(Progress(100, 3, 100, 90, 1.0))
    shown.close()
    assert "100/100" in terminal.getvalue()
    assert "kept=3, tests=90" in terminal.getvalue()
    terminal.truncate(0)
    silent = meter.Meter(quiet=True)
    silent(Progress(40, 1, 100, 41, 0.2))
    silent.close()
    assert terminal.getvalue() == ""


def test_every_metric_has_a_unit_and_defaults_are_of_metrics_and_methods_that_are_there() -> None:
    assert set(UNITS) == set(METRICS)
    assert set(TAU) < set(METRICS)
