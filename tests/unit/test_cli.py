"""The command line, through `main`, on small random models: what it writes, prints, and refuses."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from knowcirc import cli
from knowcirc.checks import check_image
from knowcirc.circuits.export import expanded, read_circuit
from knowcirc.circuits.graph import Graph
from knowcirc.commands import arguments
from knowcirc.configuration.study import default
from knowcirc.editing.editors import EDITORS
from knowcirc.editing.moments import find_moments, moment_path, save_moment
from knowcirc.facts.prompts import answer_tokens, tokenise, word_positions
from knowcirc.files import write_json
from knowcirc.models.loading import DTYPES, load, weights_digest
from knowcirc.reading.heads import Context, read_heads
from knowcirc.reading.lens import token_curve
from knowcirc.tracing.causal import KINDS, SEVERED

WORDS = (
    "<s>",
    "</s>",
    "the",
    "language",
    "of",
    "is",
    "a",
    "France",
    "Italy",
    "New",
    "York",
    "French",
    "Italian",
    "city",
)
IDS = ["--ids", "5,6,7,8", "--answer-id", "9"]
CORRUPTED = ["--corrupted-ids", "5,6,11,8", "--wrong-answer-id", "12"]
TEXT = ["--prompt", "the language of France is", "--answer", "French"]
FACT = ["--prompt", "the language of France is", "--subject", "France", "--answer", "French"]
REQUEST = ["--prompt", "a city of {}", "--subject", "France", "--target", "Italian"]
Errors = Callable[..., str]


def _save(folder: Path, *, family: str, tokenizer: bool = False) -> Path:
    torch.manual_seed(0)
    if family == "llama":
        sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "max_position_embeddings": 64}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": 0, "eos_token_id": 1}
        config = LlamaConfig(vocab_size=100, **sizes, **heads, initializer_range=0.5)
        network = LlamaForCausalLM(config)
    else:
        sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32, "bos_token_id": 0, "eos_token_id": 1}
        network = GPT2LMHeadModel(GPT2Config(vocab_size=100, **sizes, initializer_range=0.5))
    network.save_pretrained(folder)
    if tokenizer:
        words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="</s>"))
        words.pre_tokenizer = pre_tokenizers.Whitespace()
        words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
        PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama folder without a tokenizer."""
    return _save(tmp_path_factory.mktemp("models") / "llama", family="llama")


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 folder without a tokenizer."""
    return _save(tmp_path_factory.mktemp("models") / "gpt2", family="gpt2")


@pytest.fixture(scope="module")
def speaking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama folder with a tokenizer of words, `<s>` in front."""
    return _save(tmp_path_factory.mktemp("models") / "speaking", family="llama", tokenizer=True)


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test works in its own folder, cache included."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def refuse(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Errors:
    """Run the arguments, which must fail with exit code 2, one line, and no file touched; returns the line."""

    def files() -> dict[Path, int]:
        """All but what was found out about the model: that is true whatever becomes of the command."""
        checked = tmp_path / "cache/knowcirc/checked"
        found = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if checked not in (path, *path.parents)}
        return {path: when for path, when in found.items() if path not in checked.parents}

    def run(*args: str | Path) -> str:
        before = files()
        capsys.readouterr()
        assert cli.main([*map(str, args), "--quiet"]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("knowcirc: error: "), err
        assert err.count("\n") == 1, err
        assert files() == before
        return err

    return run


def run(*args: str | Path) -> None:
    """Run the arguments, which must succeed."""
    assert cli.main([*map(str, args), "--quiet"]) == 0


def _no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("knowcirc.commands.models.load", lambda *_, **__: pytest.fail("the weights were read"))


def _nll(folder: Path, ids: list[int], answer: int) -> float:
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([ids])).logits[0, -1].double()
    return -float(logits.log_softmax(-1)[answer])


def test_choices_are_the_librarys() -> None:
    """The options repeat these names so as not to import torch; they must not drift apart."""
    assert set(arguments.DTYPES) == set(DTYPES)


def test_help_imports_no_heavy_library() -> None:
    code = "import sys; from knowcirc.cli import main; main(['edit', '--help']); print(sorted(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "example:" in out
    assert {f"knowcirc.commands.{command}" for command in cli.COMMANDS} <= set(out.split("'"))
    assert not {"torch", "transformers", "numpy", "pandas", "matplotlib"} & set(out.split("'"))


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "--help"]) == 0
    assert f"knowcirc {command} " in capsys.readouterr().out.split("example:")[1]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("knowcirc ")


@pytest.mark.parametrize(("family", "kv"), [("llama", "grouped"), ("llama", "per_head"), ("gpt2", "grouped")])
def test_circuit_of_all_edges_has_the_models_nll(
    family: str, kv: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = request.getfixturevalue(family)
    graph = Graph.of(load(folder, device="cpu").transformer.shape, kv)  # type: ignore[arg-type]
    run("discover", folder, *IDS, "--method", "eap", "--out", "c.json", "--edges", str(graph.n_edges), "--kv", kv)
    run("evaluate", folder, "c.json", *IDS, "--out", "m.json")
    measures = json.loads(Path("m.json").read_text())
    expected = _nll(folder, [5, 6, 7, 8], 9)
    assert measures["share"] == 1
    assert measures["n_prompts"] == 1
    assert measures["model"]["nll_nats"] == pytest.approx(expected, rel=1e-4)
    assert measures["circuit"]["nll_nats"] == pytest.approx(expected, rel=1e-4)
    assert measures["circuit"]["hit@10"] == measures["model"]["hit@10"]
    assert f"NLL, circuit     {measures['circuit']['nll_nats']:.4f} nats" in capsys.readouterr().out


def test_discover_writes_the_strongest_edges(llama: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("discover", llama, *IDS, *CORRUPTED, "--out", "c.json", "--dot", "c.dot", "--edges", "20")
    graph, circuit = read_circuit(Path("c.json"))
    assert 0 < circuit.n_edges <= 20
    assert circuit.scores is not None
    strength = np.abs(circuit.scores)
    assert strength[circuit.edges].min() >= np.sort(strength[graph.valid])[-20]
    document = json.loads(Path("c.json").read_text())
    assert document["weights_sha256"] == weights_digest(llama)
    assert document["prompts"][0]["corrupted_ids"] == [5, 6, 11, 8]
    assert Path("c.dot").read_text().count("->") == expanded(graph, circuit)[1].n_edges
    assert f"{circuit.n_edges} of {graph.n_edges}" in capsys.readouterr().out


def test_default_size_is_the_studys(llama: Path) -> None:
    run("discover", llama, *IDS, "--method", "eap", "--out", "c.json")
    graph, _ = read_circuit(Path("c.json"))
    assert json.loads(Path("c.json").read_text())["edges_asked"] == round(default("circuits/share") * graph.n_edges)


def test_partner_changes_the_scores_and_means_are_over_prompts(llama: Path) -> None:
    scores = []
    prompts = {"a.csv": ["5 6 7 8"], "b.csv": ["5 6 13 8 4"], "ab.csv": ["5 6 7 8", "5 6 13 8 4"]}
    for name, rows in prompts.items():
        Path(name).write_text("ids,answer_id\n" + "".join(f"{row},9\n" for row in rows))
        run("discover", llama, "--prompts", name, "--method", "eap", "--out", "c.json", "--dtype", "float64")
        scores.append(read_circuit(Path("c.json"))[1].scores)
    np.testing.assert_allclose(scores[2], (scores[0] + scores[1]) / 2, rtol=1e-4, atol=1e-7)
    run("discover", llama, *IDS, *CORRUPTED, "--method", "eap", "--out", "c.json")
    assert not np.allclose(read_circuit(Path("c.json"))[1].scores, scores[0])


def test_random_circuit_is_seeded_connected_and_reads_no_weights(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _no_weights(monkeypatch)
    for name, seed in (("a.json", "1"), ("b.json", "1"), ("c.json", "2")):
        run("discover", llama, "--method", "random", "--edges", "15", "--seed", seed, "--out", name)
    circuits = {name: read_circuit(Path(f"{name}.json")) for name in "abc"}
    graph, first = circuits["a"]
    assert first.n_edges == 15
    assert (graph.connected(first.edges) == first.edges).all()
    assert (circuits["b"][1].edges == first.edges).all()
    assert (circuits["c"][1].edges != first.edges).any()


def test_evaluate_takes_the_processing_of_the_circuit(gpt2: Path) -> None:
    run("discover", gpt2, *IDS, "--method", "eap", "--processing", "folded", "--out", "c.json", "--edges", "10")
    run("evaluate", gpt2, "c.json", *IDS, "--out", "said.json")
    run("evaluate", gpt2, "c.json", *IDS, "--out", "none.json", "--processing", "none")
    said, none = (json.loads(Path(f"{name}.json").read_text()) for name in ("said", "none"))
    assert said["processing"] == "folded"
    assert said["model"]["nll_nats"] == pytest.approx(none["model"]["nll_nats"], 1e-4)


def test_a_circuit_too_small_to_reach_the_input_scores_nothing_and_is_called_constant(
    llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("discover", llama, *IDS, "--out", "c.json", "--edges", "5")
    assert read_circuit(Path("c.json"))[1].n_edges == 0
    run("evaluate", llama, "c.json", *IDS, "--out", "m.json")
    measures = json.loads(Path("m.json").read_text())
    assert (measures["circuit"]["hit@10"], measures["constant"], measures["edges_dropped"]) == (0.0, True, 0)
    printed = capsys.readouterr().out
    assert "its output is constant" in printed
    assert "hit@10, circuit  0.0 %" in printed


def test_edges_of_a_file_on_no_path_are_dropped_and_counted(gpt2: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("discover", gpt2, "--method", "random", "--edges", "12", "--out", "c.json")
    run("evaluate", gpt2, "c.json", *IDS, "--out", "m.json")
    document = json.loads(Path("c.json").read_text())
    assert "dropped" not in capsys.readouterr().out
    for edge in document["edges"].values():
        edge["in_graph"] = False
    for name in ("m0->logits", "m0->m1", "input->a1.h0<q>"):  # nothing enters m0; nothing leaves a1.h0
        document["edges"][name]["in_graph"] = True
    Path("loose.json").write_text(json.dumps(document))
    run("evaluate", gpt2, "loose.json", *IDS, "--out", "m.json")
    measures = json.loads(Path("m.json").read_text())
    assert (measures["edges"], measures["edges_dropped"], measures["constant"]) == (3, 3, True)
    assert measures["circuit"]["hit@10"] == 0
    printed = capsys.readouterr().out
    assert "3 edge(s) that lie on no path from the input to the logits" in printed
    assert "its output is constant" in printed


def test_compare_counts_and_names_what_circuits_share(llama: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, seed in (("a.json", "1"), ("b.json", "2")):
        run("discover", llama, "--method", "random", "--edges", "30", "--seed", seed, "--out", name)
        run("export", name, "--out", f"wide_{name}")
    capsys.readouterr()
    run("compare", "a.json", "b.json", "--out", "d.csv", "--figure", "d.png")
    check_image(Path("d.png"))
    printed = capsys.readouterr().out
    (_, before), (_, after) = (read_circuit(Path(name)) for name in ("a.json", "b.json"))
    with Path("d.csv").open() as handle:
        rows = [row for row in csv.DictReader(handle) if row["kind"] == "edge"]
    shared = int((before.edges & after.edges).sum())
    counts = {status: sum(row["status"] == status for row in rows) for status in ("shared", "lost", "new")}
    assert counts == {"shared": shared, "lost": before.n_edges - shared, "new": after.n_edges - shared}
    assert f"{shared} shared, {counts['lost']} lost, {counts['new']} new" in printed
    run("compare", "a.json", "wide_a.json")
    wide = read_circuit(Path("wide_a.json"))[1]
    assert wide.n_edges > before.n_edges
    assert f"{wide.n_edges} shared, 0 lost, 0 new; Jaccard index 1.000" in capsys.readouterr().out


def test_compare_refuses_circuits_of_two_models(llama: Path, gpt2: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, folder in (("a.json", llama), ("b.json", gpt2)):
        run("discover", folder, "--method", "random", "--edges", "15", "--out", name, "--kv", "per_head")
    assert cli.main(["compare", "a.json", "b.json", "--out", "d.csv"]) == 2
    assert "a.json has 2 layers of 4 heads (4 K/V), b.json 2 layers of 2 heads" in capsys.readouterr().err
    assert not Path("d.csv").exists()
    assert cli.main(["compare", "a.json", "b.json", "--out", "a.json"]) == 2
    assert "--out would replace the circuit a.json" in capsys.readouterr().err


def test_heads_are_read_named_and_looked_up_in_a_circuit(speaking: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("discover", speaking, *FACT[:2], *FACT[4:], "--method", "random", "--edges", "20", "--out", "c.json")
    capsys.readouterr()
    limits = ["--attention", "0", "--tokens", "1000", "--type-answers", "Italian", "--relation-words", "language"]
    run("heads", speaking, *FACT, *limits, "--circuit", "c.json", "--out", "heads.csv", "--figure", "heads.png")
    check_image(Path("heads.png"))
    table = pd.read_csv("heads.csv")
    model = load(speaking)
    prompt = tokenise(model.text, FACT[1], FACT[5], FACT[3])
    words = word_positions(model.text, prompt, ("language",))
    kind = frozenset(answer_tokens(model.text, text)[0] for text in ("Italian", "French"))
    expected = read_heads(model, prompt, Context(words, kind))
    assert table["head"].tolist() == [one.name for one in expected]
    assert table["attribution"].tolist() == pytest.approx([one.attribution for one in expected], rel=1e-4)
    assert table["to_relation"].tolist() == pytest.approx([one.to_relation for one in expected], rel=1e-4)
    assert table["answer_rank"].tolist() == [one.rank + 1 for one in expected]
    assert set(table["role"]) == {"mixture"}  # with these thresholds every head is one
    graph, circuit = expanded(*read_circuit(Path("c.json")))
    alive = {name for name, inside in zip(graph.src_names, graph.nodes(circuit.edges), strict=True) if inside}
    assert table["in_circuit"].tolist() == [name in alive for name in table["head"]]
    assert "mixture" in capsys.readouterr().out


def test_no_head_with_a_role_is_said(speaking: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("heads", speaking, *FACT, "--attention", "1", "--out", "heads.csv")
    assert "no head meets the thresholds" in capsys.readouterr().out


def test_the_lens_follows_the_answer_step_by_step(speaking: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("lens", speaking, *FACT, "--out", "lens.csv", "--figure", "lens.png")
    check_image(Path("lens.png"))
    table = pd.read_csv("lens.csv")
    model = load(speaking)
    prompt = tokenise(model.text, FACT[1], FACT[5], FACT[3])
    for quantity, position in (("answer_at_last", len(prompt.ids) - 1), ("answer_at_subject", prompt.subject_last)):
        part = table[table["quantity"] == quantity]
        curve = token_curve(model, prompt, prompt.answer[0], position)
        assert part["rank"].tolist() == [rank for rank, _ in curve]
        assert part["probability"].tolist() == pytest.approx([p for _, p in curve], rel=1e-4)
        total = np.log10(curve[0][0]) - np.log10(curve[-1][0])
        assert part[["rank_drop_attention", "rank_drop_mlp"]].to_numpy().sum() == pytest.approx(total)
    assert "best rank" in capsys.readouterr().out
    run("lens", speaking, "--ids", "1,2,3", "--answer-id", "4", "--out", "ids.csv", "--figure", "ids.pdf")
    assert set(pd.read_csv("ids.csv")["quantity"]) == {"answer_at_last"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["heads", "--prompt", "the language is", "--answer", "French", "--out", "h.csv"], "--subject is missing"),
        (["heads", *FACT, "--out", "h.csv", "--circuit", "no.json"], "circuit file no.json does not exist"),
        (["heads", *FACT, "--out", "h.csv", "--figure", "h.gif"], "must end in .png or .pdf"),
        (["heads", *FACT, "--out", "h.csv", "--relation-words", ","], "holds no word"),
        (["lens", "--prompt", "the language is", "--out", "l.csv"], "without --answer"),
        (["lens", *FACT, "--out", "l.png", "--figure", "l.png"], "would replace the table"),
    ],
)
def test_bad_heads_and_lens_are_refused(
    given: list[str], said: str, speaking: Path, refuse: Errors, monkeypatch: pytest.MonkeyPatch
) -> None:
    _no_weights(monkeypatch)
    assert said in refuse(given[0], speaking, *given[1:])


def test_trace_writes_every_site(llama: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(
        "trace",
        llama,
        *IDS,
        "--subject-span",
        "1:3",
        "--kind",
        "mlp",
        "--out",
        "t.csv",
        "--draws",
        "3",
        "--window",
        "1",
    )
    with Path("t.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == ["kind", "layer", "position", "token", "effect"]
    assert rows[0]["kind"] == "total"
    assert {row["kind"] for row in rows[1:]} == {"mlp"}
    assert len(rows) == 1 + 2 * 4
    assert [row["token"] for row in rows[1:5]] == ["5", "6", "7", "8"]
    effects = {(int(row["layer"]), int(row["position"])): float(row["effect"]) for row in rows[1:]}
    assert effects[0, 0] == effects[1, 0] == 0
    assert max(map(abs, effects.values())) > 1e-6
    out = capsys.readouterr().out
    best = max(effects, key=effects.__getitem__)
    assert f"mlp, layer {best[0]}, position {best[1]}" in out
    assert f"{effects[best]:.4g}" in out
    clean = float(out.split("p clean")[1].split()[0])
    assert clean == pytest.approx(np.exp(-_nll(llama, [5, 6, 7, 8], 9)), rel=1e-3)
    total = clean - float(out.split("p corrupted")[1].split()[0])
    assert float(rows[0]["effect"]) == pytest.approx(total, abs=1e-3 * clean)


def test_trace_writes_several_kinds_under_every_setting_and_a_figure(
    llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--distribution", "uniform", "--extra", "1", "--window", "1", "--draws", "2", "--noise-seed", "5"]
    run("trace", llama, *IDS, "--subject-span", "1:3", "--kind", "all", *options, "--out", "t.csv", "--figure", "t.png")
    with Path("t.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert list(dict.fromkeys(row["kind"] for row in rows)) == ["total", *KINDS, *SEVERED]
    assert len(rows) == 1 + 5 * 2 * 4
    out = capsys.readouterr().out
    assert all(f"{kind}, layer " in out for kind in (*KINDS, *SEVERED))
    check_image(Path("t.png"))
    run("trace", llama, *IDS, "--subject-span", "1:3", "--kind", "mlp, state", "--out", "u.csv", "--figure", "u.pdf")
    with Path("u.csv").open() as handle:
        plain = list(csv.DictReader(handle))
    assert list(dict.fromkeys(row["kind"] for row in plain)) == ["total", "state", "mlp"]
    assert plain[0]["effect"] != rows[0]["effect"]
    assert Path("u.pdf").read_bytes().startswith(b"%PDF")


def test_trace_takes_noise_like_the_subjects_embeddings(llama: Path, refuse: Errors) -> None:
    options = ["--distribution", "multivariate", "--noise-multiplier", "1", "--draws", "2"]
    effects = []
    for distribution in (options, options[2:]):
        run("trace", llama, *IDS, "--subject-span", "1:3", *distribution, "--out", "t.csv")
        with Path("t.csv").open() as handle:
            effects.append([float(row["effect"]) for row in csv.DictReader(handle)])
    assert effects[0] != effects[1]
    assert max(map(abs, effects[0])) > 0
    said = refuse("trace", llama, *IDS, "--subject-span", "1:2", *options, "--out", "t.csv")
    assert "multivariate noise is fitted to the embeddings of 2 tokens or more, not of 1" in said


@pytest.mark.parametrize("kind", ["state", "mlp", "attention", "severed_mlp", "severed_attention"])
def test_trace_without_noise_has_no_effects(llama: Path, kind: str) -> None:
    options = ["--noise-multiplier", "0", "--kind", kind, "--draws", "2"]
    run("trace", llama, *IDS, "--subject-span", "1:3", *options, "--out", "t.csv", "--dtype", "float64")
    with Path("t.csv").open() as handle:
        assert max(abs(float(row["effect"])) for row in csv.DictReader(handle)) < 1e-12


def test_trace_of_a_file_numbers_its_prompts(speaking: Path) -> None:
    Path("p.csv").write_text(
        "prompt,answer,subject\nthe language of France is,French,France\nthe city of New York is,Italian,New York\n"
    )
    run("trace", speaking, "--prompts", "p.csv", "--out", "t.csv", "--draws", "2")
    with Path("t.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [row["token"] for row in rows if row["prompt"] == "1" and row["layer"] == "0"] == [
        "<s>", "the", "city", "of", "New", "York", "is",
    ]  # fmt: skip
    moved = {int(row["position"]) for row in rows if row["prompt"] == "1" and float(row["effect"]) != 0}
    assert min(moved - {-1}) == 4


def test_texts_are_the_ids_of_the_tokenizer(speaking: Path) -> None:
    run("discover", speaking, *TEXT, "--method", "eap", "--out", "text.json")
    run("discover", speaking, "--ids", "0,2,3,4,7,5", "--answer-id", "11", "--method", "eap", "--out", "ids.json")
    text, ids = (json.loads(Path(f"{name}.json").read_text()) for name in ("text", "ids"))
    assert text["prompts"][0]["ids"] == [0, 2, 3, 4, 7, 5]
    assert text["edges"] == ids["edges"]


def _changed(before: Path, after: Path) -> set[str]:
    old, new = (AutoModelForCausalLM.from_pretrained(folder, dtype="auto").state_dict() for folder in (before, after))
    assert set(old) == set(new)
    assert all(tensor.dtype == torch.float32 for tensor in new.values())
    return {name for name in old if not torch.equal(old[name], new[name])}


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_fine_tuning_edits_one_module(
    family: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture
) -> None:
    folder = request.getfixturevalue(family)
    options = ["--editor", "ft-m", "--layer", "1", "--learning-rate", "0.05", "--steps", "60"]
    run("edit", folder, "--ids", "5,6,7,8", "--answer-id", "9,10", *options, "--out", "new/edited")
    module = "transformer.h.1.mlp.c_proj."
    names = {"llama": ["model.layers.1.mlp.down_proj.weight"], "gpt2": [f"{module}weight", f"{module}bias"]}[family]
    assert _changed(folder, Path("new/edited")) == set(names)
    out = capsys.readouterr().out
    assert ", ".join(names) in out
    edit = json.loads(Path("new/edited/provenance.json").read_text())["edit"]
    chosen = [_nll(Path("new/edited"), [5, 6, 7, 8], 9), _nll(Path("new/edited"), [5, 6, 7, 8, 9], 10)]
    assert edit["p_after"] == pytest.approx(np.exp(-np.mean(chosen)), rel=1e-3)
    assert edit["p_after"] > edit["p_before"]


def test_rome_estimates_moments_once_and_keeps_them(speaking: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--layer", "0", "--moment-tokens", "300"]
    run("edit", speaking, *REQUEST, *options, "--out", "first")
    assert _changed(speaking, Path("first")) == {"model.layers.0.mlp.down_proj.weight"}
    assert (Path("first") / "tokenizer.json").read_bytes() == (speaking / "tokenizer.json").read_bytes()
    assert AutoTokenizer.from_pretrained("first")("the language")["input_ids"] == [0, 2, 3]
    origin = json.loads(Path("first/provenance.json").read_text())
    assert origin["edited_from"] == weights_digest(speaking)
    assert origin["weights_sha256"] == weights_digest(Path("first"))
    assert origin["edit"]["p_after"] > origin["edit"]["p_before"]
    kept = Path("cache/knowcirc/moments") / weights_digest(speaking)
    assert json.loads((kept / "moments.json").read_text())["tokens"] >= 300
    assert [moment_path(kept, layer).is_file() for layer in range(3)] == [True, True, False]
    monkeypatch.setattr("knowcirc.commands.moments.second_moments", lambda *_: pytest.fail("estimated again"))
    run("edit", speaking, *REQUEST, *options, "--out", "second")
    assert weights_digest(Path("second")) == weights_digest(Path("first"))


def test_rome_takes_the_moments_of_the_studys_results(speaking: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("knowcirc.commands.moments.second_moments", lambda *_: pytest.fail("estimated"))
    summary = Path("results/tiny/moments/moments.json")
    write_json(summary, {"weights_sha256": weights_digest(speaking)})
    folder = find_moments(Path("results"), weights_digest(speaking))
    assert folder is not None
    save_moment(moment_path(folder, 0), torch.eye(24), {"layer": "0"})
    run("edit", speaking, *REQUEST, "--layer", "0", "--out", "edited")
    assert _changed(speaking, Path("edited")) == {"model.layers.0.mlp.down_proj.weight"}


def test_layer_and_settings_come_from_the_table(tmp_path: Path) -> None:
    folder = _save(tmp_path / "model", family="llama", tokenizer=True)
    (folder / "provenance.json").write_text('{"model": "tiny"}')
    rows = ["model editor setting value source", *(f"tiny rome {row} x" for row in ("layer 1", "clamp 2.5", "steps 3"))]
    rows.append("tiny rome weight_decay 0.25 x")
    Path("config").mkdir()
    Path("config/editors.tsv").write_text("".join("\t".join(row.split()) + "\n" for row in rows))
    save_moment(Path("c.safetensors"), torch.eye(24), {})
    run("edit", folder, *REQUEST, "--moments", "c.safetensors", "--steps", "2", "--out", "edited")
    origin = json.loads(Path("edited/provenance.json").read_text())
    settings = origin["edit"]["settings"]
    assert origin["model"] == "tiny"
    assert {key: settings[key] for key in ("layer", "clamp", "weight_decay", "steps")} == {
        "layer": 1, "clamp": 2.5, "weight_decay": 0.25, "steps": 2,
    }  # fmt: skip


@pytest.mark.parametrize("place", ["a file", "no home"])
def test_a_cache_that_cannot_be_written_is_a_warning_and_the_edit_is_made(
    place: str, speaking: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    Path("taken").write_text("")
    if place == "a file":
        monkeypatch.setenv("XDG_CACHE_HOME", "taken")
    else:
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", homeless)
    run("edit", speaking, *REQUEST, "--layer", "0", "--moment-tokens", "100", "--steps", "2", "--out", "edited")
    assert Path("edited/model.safetensors").is_file()
    assert "the second moments cannot be kept (" in caplog.text
    assert "the next edit estimates them again" in caplog.text


def test_memit_edits_many_facts_from_a_file(speaking: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["prompt,subject,target", "the language of {} is,France,Italian", "the language of {} is,Italy,French"]
    Path("edits.csv").write_text("\n".join(rows) + "\n")
    save_moment(moment_path(Path("c"), 0), torch.eye(24), {"layer": "0"})
    options = ["--layer", "0", "--span", "1", "--moments", "c", "--moment-weight", "0.01"]
    run("edit", speaking, "--edits", "edits.csv", "--editor", "memit", *options, "--out", "edited")
    assert _changed(speaking, Path("edited")) == {"model.layers.0.mlp.down_proj.weight"}
    found = json.loads(Path("edited/provenance.json").read_text())["edit"]["edits"]
    assert [(fact["subject"], fact["target"]) for fact in found] == [("France", "Italian"), ("Italy", "French")]
    for fact in found:
        answer = AutoTokenizer.from_pretrained("edited")(fact["target"], add_special_tokens=False)["input_ids"][0]
        assert fact["p_before"] == pytest.approx(np.exp(-_nll(speaking, fact["ids"], answer)), rel=1e-3)
        assert fact["p_after"] == pytest.approx(np.exp(-_nll(Path("edited"), fact["ids"], answer)), rel=1e-3)
    out = capsys.readouterr().out
    assert "'the language of France is' -> 'Italian'" in out


def test_attention_is_edited_in_its_three_matrices(speaking: Path) -> None:
    options = ["--editor", "attn-edit", "--layer", "1", "--learning-rate", "0.05", "--bound", "0.1", "--steps", "20"]
    run("edit", speaking, *REQUEST, *options, "--out", "edited")
    names = {f"model.layers.1.self_attn.{part}_proj.weight" for part in "qkv"}
    assert _changed(speaking, Path("edited")) == names
    edit = json.loads(Path("edited/provenance.json").read_text())["edit"]
    assert edit["p_after"] > edit["p_before"]


@pytest.mark.parametrize("editor", EDITORS)
def test_every_editor_is_told_and_saved(editor: str, speaking: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = EDITORS[editor]
    options = ["--layer", "0"] if entry.layered else []
    options += ["--steps", "2"] if "steps" in entry.chosen else []
    save_moment(moment_path(Path("c"), 0), torch.eye(24), {"layer": "0"})
    options += ["--moments", "c"] if entry.moments else []
    options += ["--span", "1"] if "span" in entry.chosen else []
    options += ["--nullspace-threshold", "2"] if "nullspace_threshold" in entry.chosen else []  # the moments are 1
    run("edit", speaking, *REQUEST, "--editor", editor, *options, "--out", "edited")
    assert f"{editor}, " in capsys.readouterr().out
    assert json.loads(Path("edited/provenance.json").read_text())["edit"]["editor"] == editor
    if entry.in_context:
        assert Path("edited/before.txt").read_text().endswith("France Italian\nPrompt: ")
    else:
        assert _changed(speaking, Path("edited"))


@pytest.mark.parametrize("editor", [name for name, entry in EDITORS.items() if entry.contexts])
def test_what_nothing_reads_is_not_written(
    editor: str, speaking: Path, refuse: Errors, monkeypatch: pytest.MonkeyPatch
) -> None:
    _no_weights(monkeypatch)
    command = ["edit", speaking, "--prompt", "a city of {} is", *REQUEST[2:], "--editor", editor, "--out", "edited"]
    spans = "span" in EDITORS[editor].chosen
    said = refuse(*command, "--layer", "1", *(["--span", "2"] if spans else []))
    assert "layer 1 is the last, and what is written there at the subject is not read" in said
    assert ("a smaller --span" in said) == spans
    if spans:
        assert "--span 3 is more layers than this model has (2)" in refuse(*command, "--layer", "1", "--span", "3")


@pytest.mark.parametrize("editor", [name for name, entry in EDITORS.items() if entry.texts])
def test_an_editor_that_samples_contexts_needs_texts(
    editor: str, refuse: Errors, monkeypatch: pytest.MonkeyPatch
) -> None:
    _no_weights(monkeypatch)
    ids = ["--ids", "5,6", "--answer-id", "9", "--editor", editor]
    assert f"{editor} needs texts" in refuse("edit", "absent", *ids, "--layer", "0", "--out", "edited")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "missing columns 'prompt', 'subject', 'target'"),
        ("prompt,subject,target\n", "holds no requests"),
        ("prompt,target\nx {} is,y\n", "missing columns 'subject'"),
        ("prompt,subject,target,note\nx {} is,a,b,c\n", "unknown columns 'note'"),
        ("prompt,subject,target\nx is,a,b\n", "edits.csv, line 2: --prompt 'x is' must hold {} once"),
        ("prompt,subject,target\n{} is by,a,Marlowe, Christopher\n", "line 2: the number of cells differs"),
        ("prompt,subject,target\n{} is,a\n", "line 2: the number of cells differs"),
        ('prompt,subject,target\n{} is,a,"b\n', "edits.csv is no CSV file"),
        ("prompt,subject,target\n{} is,a,b\n{} is,a,c\n", "'a is' is asked for twice"),
    ],
)
def test_bad_files_of_edits_are_refused(
    text: str, said: str, speaking: Path, refuse: Errors, monkeypatch: pytest.MonkeyPatch
) -> None:
    _no_weights(monkeypatch)
    Path("edits.csv").write_text(text)
    assert said in refuse("edit", speaking, "--edits", "edits.csv", "--layer", "0", "--out", "edited")


def test_layer_and_clamp_come_from_the_studys_sweep(speaking: Path) -> None:
    write_json(Path("results/tiny/moments/moments.json"), {"weights_sha256": weights_digest(speaking)})
    write_json(Path("results/tiny/edits/edit_layer.json"), {"layer": 1, "clamp": 1.5, "from": "sweep"})
    save_moment(Path("c.st"), torch.eye(24), {})
    for given, layer, clamp in (([], 1, 1.5), (["--layer", "0"], 0, 4.0)):
        run("edit", speaking, *REQUEST, *given, "--moments", "c.st", "--steps", "1", "--out", f"edited{layer}")
        settings = json.loads(Path(f"edited{layer}/provenance.json").read_text())["edit"]["settings"]
        assert (settings["layer"], settings["clamp"]) == (layer, clamp)


def test_edit_to_the_present_answer_is_made_and_said(llama: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with torch.no_grad():
        top = int(AutoModelForCausalLM.from_pretrained(llama)(torch.tensor([[5, 6, 7, 8]])).logits[0, -1].argmax())
    for target, said in ((top, True), ((top + 1) % 100, False)):
        options = ["--editor", "ft-m", "--layer", "0", "--steps", "1", "--out", f"to_{target}"]
        run("edit", llama, "--ids", "5,6,7,8", "--answer-id", str(target), *options)
        assert ("already answers" in capsys.readouterr().err) == said


def test_check_lists_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    found = [{"name": "tables", "ok": True, "reason": ""}, {"name": "figures", "ok": False, "reason": "3 are missing"}]
    monkeypatch.setitem(sys.modules, "knowcirc.checks", SimpleNamespace(check_results=lambda path: found))
    assert cli.main(["check", str(tmp_path)]) == 1
    assert capsys.readouterr().out == "FAILED figures: 3 are missing\n2 checks, 1 failed\n"
    found.pop()
    assert cli.main(["check", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "1 checks, 0 failed\n"
    found.clear()
    assert cli.main(["check", str(tmp_path)]) == 2
    assert cli.main(["check", str(tmp_path / "absent")]) == 2


PROMPT_FAULTS = [
    ([], "no prompt given"),
    (["--ids", "1,x", "--answer-id", "2"], "'1,x' is no list of token ids"),
    (["--ids", "1,2", "--answer-id", "2,3"], "holds 2 token ids"),
    (["--ids", "1,2"], "--ids without --answer-id"),
    (["--answer-id", "2"], "--answer-id without --ids"),
    (["--prompt", "a", "--answer", ""], "--prompt without --answer"),
    (["--prompt", "a", "--answer-id", "2"], "exclude each other"),
    (["--prompts", "absent.csv"], "absent.csv does not exist"),
    ([*IDS, "--prompts", "absent.csv"], "exclude each other"),
    ([*IDS, "--corrupted-ids", "1,2,3,4"], "--corrupted-ids without --wrong-answer-id"),
    ([*IDS, "--corrupted-ids", "1,2,3", "--wrong-answer-id", "2"], "has 4 tokens, the corrupted one 3"),
    ([*IDS, "--corrupted-ids", "1,2,3,4", "--wrong-answer-id", "9"], "same first token 9"),
    (["--ids", "1,200", "--answer-id", "2"], "token id 200 is outside"),
    (["--ids", "1,2", "--answer-id", "100"], "token id 100 is outside"),
    (["--ids", ",".join(["1"] * 65), "--answer-id", "2"], "65 tokens, this model reads 64"),
    (TEXT, "holds no tokenizer"),
    ([*IDS, "--edges", "0"], "'0' is no whole number from 1 up"),
    ([*IDS, "--edges", "999"], "--edges 999 is more than the 82 edges"),
    ([*IDS, "--method", "acdcc"], "invalid choice: 'acdcc'"),
    ([*IDS, "--edge", "3"], "unrecognized arguments: --edge 3"),
    ([*IDS, "--dot", "c.json"], "both name c.json"),
    ([*IDS, "--dot", "a_file/x.dot"], "a_file is no folder"),
]


@pytest.mark.parametrize(("options", "said"), PROMPT_FAULTS)
def test_bad_prompts_are_refused_before_the_weights_are_read(
    options: list[str], said: str, llama: Path, refuse: Errors, monkeypatch: pytest.MonkeyPatch
) -> None:
    _no_weights(monkeypatch)
    Path("a_file").touch()
    assert said in refuse("discover", llama, *options, "--out", "c.json")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            [*TEXT, "--corrupted", "the language of New York is", "--wrong-answer", "Italian"],
            "6 tokens, the corrupted one 7",
        ),
        (["--prompt", "the", "--answer", " French"], "give it without spaces around it"),
    ],
)
def test_bad_texts_are_refused_before_the_weights_are_read(
    options: list[str], said: str, speaking: Path, refuse: Errors, monkeypatch: pytest.MonkeyPatch
) -> None:
    _no_weights(monkeypatch)
    assert said in refuse("discover", speaking, *options, "--out", "c.json")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prompt,answer,colour\na,b,c\n", "p.csv: unknown columns 'colour'"),
        ("prompt\na\n", "p.csv: missing columns 'answer'"),
        ("prompt,prompt,answer\na,a,b\n", "repeated columns 'prompt'"),
        ("prompt,answer\n", "p.csv holds no prompts"),
        ("", "p.csv: missing columns 'prompt', 'answer'"),
        ("prompt,answer\na,b,c\n", "line 2: the number of cells"),
        ("prompt,answer\na,b\nc,\n", "line 3: column prompt without column answer"),
        ("ids,answer_id\n1 2,3\n1 z,3\n", "line 3, column ids: '1 z' is no list"),
        ("ids,answer_id\n1 2,3\n1 100,3\n", "line 3: token id 100 is outside"),
        ("prompt,answer,corrupted\na,b,c\n", "line 2: column corrupted without column wrong_answer"),
    ],
)
def test_bad_files_of_prompts_are_refused(text: str, said: str, llama: Path, refuse: Errors) -> None:
    Path("p.csv").write_text(text)
    assert said in refuse("discover", llama, "--prompts", "p.csv", "--out", "c.json")


def test_bad_models_are_refused(tmp_path: Path, llama: Path, refuse: Errors) -> None:
    assert "absent does not exist" in refuse("discover", "absent", *IDS, "--out", "c.json")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text((llama / "config.json").read_text())
    (broken / "model.safetensors").write_bytes(b"nothing")
    assert "broken/model.safetensors is no readable safetensors file" in refuse(
        "discover", broken, *IDS, "--out", "c.json"
    )
    (broken / "config.json").write_text('{"model_type": "bert"}')
    assert "'bert' has no adapter" in refuse("discover", broken, *IDS, "--out", "c.json")
    assert (
        "no GPU" in refuse("discover", llama, *IDS, "--out", "c.json", "--device", "cuda") or torch.cuda.is_available()
    )


def test_outputs_that_cannot_be_written_are_refused(llama: Path, tmp_path: Path, refuse: Errors) -> None:
    assert "is a folder" in refuse("discover", llama, *IDS, "--out", tmp_path)
    (tmp_path / "file").touch()
    assert "file is no folder" in refuse("trace", llama, *IDS, "--subject-span", "0:1", "--out", "file/t.csv")


def test_circuits_that_do_not_fit_are_refused(llama: Path, gpt2: Path, refuse: Errors) -> None:
    run("discover", gpt2, *IDS, "--method", "random", "--out", "gpt2.json")
    assert "2 heads (the model: 4)" in refuse("evaluate", llama, "gpt2.json", *IDS)
    assert "absent.json does not exist" in refuse("evaluate", llama, "absent.json", *IDS)
    for text in ("nothing", "[]", '{"cfg": {"n_layers": "2", "n_heads": 4}, "edges": {}}'):
        Path("bad.json").write_text(text)
        assert "bad.json is no circuit file" in refuse("evaluate", llama, "bad.json", *IDS)
    document = json.loads(Path("gpt2.json").read_text())
    document["edges"] = {"input->m0": {}}
    Path("bad.json").write_text(json.dumps(document))
    assert "bad.json is no circuit file" in refuse("evaluate", gpt2, "bad.json", *IDS)
    assert "replace the circuit" in refuse("evaluate", gpt2, "gpt2.json", *IDS, "--out", "gpt2.json")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (IDS, "--subject-span is missing"),
        ([*IDS, "--subject-span", "3:2"], "'3:2' is no token range"),
        ([*IDS, "--subject-span", "2:9"], "goes beyond the prompt's 4 tokens"),
        ([*IDS, "--subject-span", "1:2", "--draws", "0"], "'0' is no whole number"),
        ([*IDS, "--subject-span", "1:2", "--noise-multiplier", "nan"], "'nan' is no number from 0 up"),
        ([*IDS, "--subject-span", "1:2", "--noise-seed", "-1"], "--noise-seed"),
        ([*IDS, "--subject-span", "1:2", "--extra", "3"], "has 2 tokens after its subject; 3 are to be corrupted"),
        ([*IDS, "--subject-span", "1:2", "--kind", "state,heads"], "'heads' is none of state, mlp, attention, severed"),
        ([*IDS, "--subject-span", "1:2", "--distribution", "normal"], "invalid choice: 'normal'"),
        ([*IDS, "--subject-span", "1:2", "--figure", "t.svg"], "must end in .png or .pdf"),
    ],
)
def test_bad_traces_are_refused(options: list[str], said: str, llama: Path, refuse: Errors) -> None:
    assert said in refuse("trace", llama, *options, "--out", "t.csv")


def test_subject_outside_the_prompt_is_refused(speaking: Path, refuse: Errors) -> None:
    assert "'Italy' does not occur" in refuse("trace", speaking, *TEXT, "--subject", "Italy", "--out", "t.csv")


IDS_EDIT = ["--ids", "5,6,7", "--answer-id", "9"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([*IDS_EDIT, "--editor", "rome", "--layer", "0"], "rome needs texts"),
        ([*IDS_EDIT, "--target", "x", "--editor", "ft-m"], "exclude each other"),
        (["--ids", "5", "--editor", "ft-m"], "belong together"),
        ([*IDS_EDIT, "--editor", "ft-m"], "give --layer"),
        ([*IDS_EDIT, "--editor", "ft-m", "--layer", "2"], "layers 0 to 1"),
        ([*IDS_EDIT, "--editor", "ft-m", "--layer", "1", "--clamp", "2"], "--clamp: no setting of --editor ft-m"),
        ([*IDS_EDIT, "--editor", "ft-m", "--layer", "1", "--moments", "x"], "exclude each other"),
        ([*REQUEST, "--edits", "e.csv", "--layer", "0"], "--prompt, --subject, --target and --edits exclude"),
        (["--edits", "absent.csv", "--layer", "0"], "edits absent.csv does not exist"),
        ([*REQUEST, "--editor", "memit", "--layer", "1", "--moments", "other.st"], "a file of one layer"),
        ([*REQUEST, "--editor", "ft", "--layer", "1", "--bound", "1"], "--bound: no setting of --editor ft"),
        ([*REQUEST[2:], "--layer", "0"], "--prompt missing"),
        (["--prompt", "no braces", *REQUEST[2:], "--layer", "0"], "must hold {} once"),
        ([*REQUEST[:4], "--target", " Italian", "--layer", "0"], "--target ' Italian'"),
        ([*REQUEST, "--layer", "0", "--moments", "absent"], "second moments absent does not exist"),
        ([*REQUEST, "--layer", "0", "--moments", "bad"], "bad is no safetensors file"),
        ([*REQUEST, "--layer", "0", "--moments", "other.st"], "of layer 1, this edit needs 0"),
        ([*REQUEST, "--layer", "1", "--moments", "small.st"], "belongs to another model"),
        ([*REQUEST, "--layer", "0", "--moment-tokens", "10"], "--moment-tokens 10 is below 24"),
        ([*REQUEST, "--layer", "0", "--steps", "0"], "'0' is no whole number"),
    ],
)
def test_bad_edits_are_refused_before_the_weights_are_read(
    options: list[str], said: str, speaking: Path, refuse: Errors, monkeypatch: pytest.MonkeyPatch
) -> None:
    _no_weights(monkeypatch)
    Path("bad").write_text("nothing")
    save_moment(Path("other.st"), torch.eye(24), {"layer": "1"})
    save_moment(Path("small.st"), torch.eye(8), {"layer": "1"})
    assert said in refuse("edit", speaking, *options, "--out", "edited")


def test_singular_moments_are_refused_and_leave_nothing(speaking: Path, refuse: Errors) -> None:
    save_moment(Path("zero.st"), torch.zeros(24, 24), {})
    said = refuse("edit", speaking, *REQUEST, "--layer", "0", "--moments", "zero.st", "--out", "edited")
    assert "second moments are singular" in said


def test_edit_never_writes_into_a_folder_with_files(llama: Path, tmp_path: Path, refuse: Errors) -> None:
    options = ["--editor", "ft-m", "--layer", "0", "--steps", "1"]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert "is not empty" in refuse("edit", "absent", *IDS_EDIT, *options, "--out", "full")
    assert "is a file" in refuse("edit", "absent", *IDS_EDIT, *options, "--out", "full/file")
    (tmp_path / "empty").mkdir()
    run("edit", llama, *IDS_EDIT, *options, "--out", "empty")
    assert (tmp_path / "empty" / "model.safetensors").is_file()


def test_our_own_mistakes_keep_their_traceback(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("knowcirc.commands.ranking.random_circuit", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["discover", str(llama), "--method", "random", "--out", "c.json"])
