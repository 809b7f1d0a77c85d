"""GPUs are leased, and passes shrink where memory runs out. No GPU is needed: what torch says of them is made up."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from knowcirc.circuits import attribution, evaluation
from knowcirc.circuits.acdc import Criterion, acdc
from knowcirc.circuits.discovery import attribute
from knowcirc.circuits.evaluation import circuit_logits
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.masked import Change, MaskedModel
from knowcirc.circuits.metrics import make_task
from knowcirc.circuits.random_circuits import random_circuit
from knowcirc.circuits.state import CircuitState
from knowcirc.errors import message_of
from knowcirc.facts.prompts import Prompt, tokenise
from knowcirc.files import read_json
from knowcirc.models import checking, gpu, memory
from knowcirc.models.fetching import fetch
from knowcirc.models.loading import LanguageModel, choose_device
from knowcirc.models.memory import halved, in_parts
from knowcirc.models.table import FetchRow
from knowcirc.tracing import causal
from knowcirc.tracing.causal import TraceSettings, trace_fact

Loader = Callable[..., LanguageModel]
ROWS = [[0, 5, 17, 4, 33], [0, 5, 18], [0, 5], [9, 5, 17]]
HOLDER = """
import sys
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """torch shows two GPUs; the folder of their locks."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    named = [SimpleNamespace(uuid="GPU-a", name="a"), SimpleNamespace(uuid="GPU-b", name="b")]
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: named[number])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(gpu, "_held", {})
    monkeypatch.setattr(gpu, "PAUSE", 0.01)
    monkeypatch.delenv("KNOWCIRC_JOBS_PER_GPU", raising=False)
    monkeypatch.delenv("KNOWCIRC_DEVICE", raising=False)
    yield gpu._folder()
    for lock, _ in gpu._held.values():
        lock.release()


@pytest.fixture
def hold(two_gpus: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Lets another process hold a GPU's place until it is told to end."""
    others: list[subprocess.Popen[str]] = []

    def holder(place: str) -> subprocess.Popen[str]:
        two_gpus.mkdir(exist_ok=True)
        command = [sys.executable, "-c", HOLDER, str(two_gpus / f"{place}.lock")]
        other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        others.append(other)
        return other

    yield holder
    for other in others:
        other.kill()
        other.communicate()


def test_a_process_gets_the_first_free_gpu_and_keeps_it(hold: Callable[[str], object]) -> None:
    hold("GPU-a-0")
    assert [choose_device("auto"), choose_device("cuda"), choose_device("cuda")] == [torch.device("cuda:1")] * 3


def test_a_gpu_by_number_is_waited_for(
    hold: Callable[[str], subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other, waits = hold("GPU-a-0"), []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        other.kill()
        other.wait()

    monkeypatch.setattr(gpu.time, "sleep", wait)
    assert choose_device("cuda:0") == torch.device("cuda:0")
    assert waits == [0.01]
    assert "waiting for one" in caplog.text


def test_jobs_that_may_share_gpus_spread_over_them(
    hold: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KNOWCIRC_JOBS_PER_GPU", "2")
    hold("GPU-a-0")
    assert choose_device("cuda") == torch.device("cuda:1")
    hold("GPU-a-1")
    assert choose_device("cuda:1") == torch.device("cuda:1")


@pytest.mark.parametrize("name", ["cuda:2", "cuda:x", "cuda:-1"])
def test_a_gpu_that_is_not_there_is_refused(two_gpus: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"device '{name}' does not exist; this machine shows cuda:0 to cuda:1"):
        choose_device(name)


def test_without_gpus_cuda_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no GPU is visible"):
        choose_device("cuda:0")


def test_products_on_a_gpu_are_exact(two_gpus: Path) -> None:
    torch.backends.cuda.matmul.allow_tf32 = True
    choose_device("cuda")
    assert not torch.backends.cuda.matmul.allow_tf32


# -- memory --------------------------------------------------------------------------------------------------------


def test_sizes_are_halved_until_they_fit() -> None:
    tried = []

    def attempt(size: int) -> str:
        tried.append(size)
        if size > 3:
            raise torch.OutOfMemoryError
        return "done"

    assert halved(attempt, 20) == "done"
    assert tried == [20, 10, 5, 2]
    with pytest.raises(ValueError, match="too small even for the smallest pass"):
        halved(attempt, 20, least=4)


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    def attempt(_: int) -> None:
        raise RuntimeError("sizes differ")

    with pytest.raises(RuntimeError, match="sizes differ"):
        halved(attempt, 8)


def test_a_group_that_does_not_fit_is_cut_in_two_in_order() -> None:
    def work(group: list[int]) -> int:
        if len(group) > 2:
            raise torch.OutOfMemoryError
        return sum(group)

    found = list(in_parts([[4, 5, 6, 7, 8], [1]], work))
    assert found == [([4, 5], 9), ([6], 6), ([7, 8], 15), ([1], 1)]

    def never(group: list[int]) -> None:
        raise torch.OutOfMemoryError

    with pytest.raises(ValueError, match="GPU's memory is too small"):
        list(in_parts([[3]], never))


def test_a_pass_on_a_gpu_takes_a_quarter_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4000, 9000))
    assert memory.room(torch.device("cuda", 0)) == 1000
    assert memory.room(torch.device("cpu"), 77) == 77


def scarce(monkeypatch: pytest.MonkeyPatch, place: object, name: str, rows: Callable[..., int], most: int) -> list[int]:
    """Lets a function run out of memory where it is given more than `most` rows; the sizes that it was given."""
    whole, sizes = getattr(place, name), []

    def limited(*args: object, **named: object) -> object:
        sizes.append(rows(*args, **named))
        if sizes[-1] > most:
            raise torch.OutOfMemoryError
        return whole(*args, **named)

    monkeypatch.setattr(place, name, limited)
    return sizes


def test_acdc_decides_alike_in_smaller_batches(load_tiny: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_tiny("llama").transformer
    graph, task = Graph.of(model.shape, "grouped"), make_task("nll", [[0, 1, 2, 3, 4]], [9])
    whole = acdc(model, graph, task, Criterion(0.01))
    sizes = scarce(monkeypatch, CircuitState, "propagate", lambda self, layer, deltas, rows: rows, 3)
    small = acdc(model, graph, task, Criterion(0.01))
    assert [(test.src, test.dst, test.kept) for test in small.tests] == [
        (test.src, test.dst, test.kept) for test in whole.tests
    ]
    assert max(sizes) > 3
    assert sum(size > 3 for size in sizes) < 5, "what did not fit once is not tried again and again"


def test_a_trace_has_the_same_effects_in_smaller_passes(load_tiny: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_tiny("llama")
    prompt = tokenise(model.text, "the capital of New Zealand is in", "Wellington", "New Zealand")
    settings = TraceSettings(noise=0.7, draws=2, window=2, seed=1)
    whole = trace_fact(model, prompt, settings, memory=2**30)
    sizes = scarce(monkeypatch, causal, "restore", lambda *args: args[-1], 2**24)
    small = trace_fact(model, prompt, settings, memory=2**30)
    assert max(sizes) > 2**24 >= min(sizes)
    for kind, effects in whole.effects.items():
        np.testing.assert_allclose(small.effects[kind], effects, rtol=0, atol=1e-12)


def test_scores_and_circuits_are_the_same_in_smaller_groups(load_tiny: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_tiny("gpt2")
    graph = Graph.of(model.transformer.shape, "per_head")
    prompts = [Prompt("", tuple(row), None, "", (20 + i,)) for i, row in enumerate(ROWS)]
    circuit = random_circuit(graph, graph.n_edges // 2, 0)
    partners = [None] * len(prompts)
    before = attribute(model, graph, prompts, partners, "eap-ig-zero"), circuit_logits(model, graph, [circuit], prompts)
    nodes = lambda *args, **named: len(args[2].leaf_of)  # noqa: E731
    sizes = scarce(monkeypatch, attribution, "score_edges", nodes, 1)
    runs = scarce(monkeypatch, evaluation, "run_circuit", lambda *args, **named: len(args[3].leaf_of), 2)
    np.testing.assert_allclose(attribute(model, graph, prompts, partners, "eap-ig-zero"), before[0], atol=1e-8)
    torch.testing.assert_close(circuit_logits(model, graph, [circuit], prompts), before[1], rtol=0, atol=1e-10)
    assert sizes == [4, 2, 1, 1, 2, 1, 1]
    assert runs == [4, 2, 2]


def test_changed_circuits_are_the_same_in_smaller_passes(load_tiny: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_tiny("llama").transformer
    graph = Graph.of(model.shape, "grouped")
    network = MaskedModel(model, graph, make_task("nll", ROWS, [20, 21, 22, 23]).tree)
    part = network.part(range(len(ROWS)))
    edges = random_circuit(graph, graph.n_edges // 2, 0)
    run = network.run(edges, part, grad=False)
    gone = np.argwhere(edges)[:5]
    changes = [Change(gone[i : i + 1, 0], gone[i : i + 1, 1], False) for i in range(len(gone))]
    whole = network.measure(run, changes, part)
    sizes = scarce(monkeypatch, network, "_measure", lambda run, circuits, starts, part: len(circuits), 2)
    torch.testing.assert_close(network.measure(run, changes, part), whole, rtol=0, atol=1e-10)
    assert sizes == [5, 2, 2, 1]


def test_a_lack_of_memory_is_told_in_one_line() -> None:
    assert message_of(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")).startswith(
        "the GPU's memory is too small"
    )
    assert message_of(ValueError("which")) == "which"
    assert message_of(RuntimeError("ours")) == ""


# -- half precision ------------------------------------------------------------------------------------------------


def half_row(folder: Path) -> FetchRow:
    given = {"revision": "main", "sha256": "", "bos": "tokenizer", "n_layers": 3, "licence": "MIT"}
    return FetchRow(model="tiny", family="gpt2", source="local", location=str(folder), **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_held_to_float32_and_what_was_found_is_kept(
    folders: dict[str, Path], tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "AGREEING", 0.8)  # drawn weights make all tokens about equally likely
    fetch(half_row(folders["gpt2"]), tmp_path / "out", half=dtype, mirror=None, offline=True)
    found = read_json(tmp_path / "out/provenance.json")[dtype]
    assert 0.8 <= found["same_first_token"] <= 1
    assert 0 < found["mean_kl"] < (1e-4 if dtype == "float16" else 1e-2)
    fetch(half_row(folders["gpt2"]), tmp_path / "plain", mirror=None, offline=True)
    assert dtype not in read_json(tmp_path / "plain/provenance.json")


def test_a_model_that_overflows_in_half_precision_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    wild = tmp_path / "wild"
    shutil.copytree(folders["gpt2"], wild)
    weights = load_file(wild / "model.safetensors")
    weights["transformer.wte.weight"] *= 1e5
    save_file(weights, wild / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"not finite in float16 .* compute in float32"):
        fetch(half_row(wild), tmp_path / "out", half="float16", mirror=None, offline=True)
    assert not (tmp_path / "out/provenance.json").exists()
