"""The search `standing` on tiny models: what it promises of its circuit, its file, and that it beats attribution."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from knowcirc.circuits import kept, standing_files
from knowcirc.circuits.acdc import Progress
from knowcirc.circuits.attribution import top_edges
from knowcirc.circuits.choices import ABLATIONS, METRICS, Ablation, Metric
from knowcirc.circuits.circuit_settings import CircuitSettings
from knowcirc.circuits.discovery import Circuit, NoCircuitError, Scoring, attribute
from knowcirc.circuits.evaluation import sized_circuits
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.kept import KeptCircuits
from knowcirc.circuits.masked import MaskedModel
from knowcirc.circuits.random_circuits import random_circuit
from knowcirc.circuits.searching import absent_outputs, task_of
from knowcirc.circuits.standing import Standing, StandingSearch, StandingSettings, begin_standing
from knowcirc.circuits.standing_files import load_standing, measure_afresh, save_standing, search_standing
from knowcirc.facts.prompts import Prompt
from knowcirc.files import Parts
from knowcirc.job import Progress as Protocol
from knowcirc.models.families import FAMILIES
from knowcirc.models.loading import LanguageModel
from knowcirc.models.transformer import Transformer
from unit.tiny import FIRST, family_of, random_network

Loader = Callable[..., LanguageModel]
ROWS = [[0, 5, 17, 4], [0, 5, 18], [0, 6, 17, 4], [0, 5, 19]]
PROMPTS = [Prompt("", tuple(row), None, "", (20 + i,)) for i, row in enumerate(ROWS)]
PARTNERS = [Prompt("", (*row[:-1], row[-1] + 40), None, "", (40 + i,)) for i, row in enumerate(ROWS)]
FAINT = 0.02
SETTINGS = StandingSettings(size=0.3, groups=4, return_groups=2, prompts=3, probes=2, polish=3, steps=60)


@pytest.fixture
def model(load_tiny: Loader) -> LanguageModel:
    return load_tiny("llama")


@pytest.fixture
def graph(model: LanguageModel) -> Graph:
    return Graph.of(model.transformer.shape, "grouped")


def find(
    model: LanguageModel, graph: Graph, settings: StandingSettings = SETTINGS, **how: object
) -> tuple[Circuit, dict[str, object]]:
    return search_standing(model, graph, PROMPTS, PARTNERS, settings, **how)  # type: ignore[arg-type]


def same(found: StandingSearch, expected: StandingSearch) -> None:
    """Make sure that two searches stand at the same point."""
    for name in ("edges", "scores", "mean", "square", "best", "before"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    for name in ("step", "level", "polished", "rows", "best_metric", "refused", "caution"):
        np.testing.assert_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    assert found.path.keys() == expected.path.keys()
    assert all((found.path[size] == expected.path[size]).all() for size in found.path)
    assert [(*c.src, *c.dst, c.present) for c in found.accepted] == [
        (*c.src, *c.dst, c.present) for c in expected.accepted
    ]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_circuits_are_connected_and_small_and_their_metric_is_theirs(
    model: LanguageModel, graph: Graph, metric: Metric, ablation: Ablation, tmp_path: Path
) -> None:
    state = tmp_path / "state.npz"
    circuit, details = find(model, graph, metric=metric, ablation=ablation, sizes=(0.6,), state=state)
    assert (graph.connected(circuit.edges) == circuit.edges).all()
    assert 0 < circuit.n_edges <= details["edges_limit"] == int(0.3 * graph.n_edges)  # type: ignore[operator]
    assert details["metric_circuit"] == pytest.approx(load_standing(state).best_metric, abs=1e-10)
    if metric in ("kl", "kc-nll"):
        assert details["metric_model"] == pytest.approx(0.0, abs=1e-10)
    assert list(circuit.path) == [0.6]  # at 0.3, the size asked for, it is the circuit itself
    assert circuit.n_edges < circuit.path[0.6].sum() <= 0.6 * graph.n_edges
    assert np.isfinite(circuit.scores[graph.valid]).all()  # type: ignore[index]
    assert np.isnan(circuit.scores[~graph.valid]).all()  # type: ignore[index]


def test_a_search_goes_on_below_its_size_and_after_an_interruption(
    model: LanguageModel, graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = {"groups": 4, "return_groups": 2, "prompts": 3, "probes": 2, "polish": 3, "steps": 60}
    settings = CircuitSettings("standing", share=0.3, standing=steps)
    prompts = [replace(prompt, text=str(i)) for i, prompt in enumerate(PROMPTS)]
    finder = KeptCircuits(model, graph, settings, Parts(tmp_path / "circuits.npz", "test"))
    circuit = finder.find_with_partners("capital", prompts, 0)
    below = finder.shrink("capital", circuit, prompts, 0, (0.15, 0.2, 0.5))
    assert (below.edges == circuit.edges).all()
    assert below.path.keys() == circuit.path.keys() | {0.2, 0.15}
    assert all(0 < below.path[size].sum() <= size * graph.n_edges < circuit.n_edges for size in (0.15, 0.2))
    assert all((graph.connected(below.path[size]) == below.path[size]).all() for size in (0.15, 0.2))
    task = task_of(model, prompts, [None] * 4, "nll+kl", "zero")
    strongest = Circuit("standing", circuit.edges, circuit.scores)
    for size in (0.15, 0.2):
        (ranked,) = sized_circuits(graph, strongest, [size], 0)
        found, guessed = (measure_afresh(model, graph, task, edges) for edges in (below.path[size], ranked))
        assert found < guessed
    monkeypatch.setattr(kept, "find_circuit", lambda *_, **__: pytest.fail("searched again"))
    again = finder.shrink("capital", circuit, prompts, 0, (0.15, 0.2, 0.5))
    assert all((again.path[size] == below.path[size]).all() for size in below.path)


def test_where_no_smaller_circuit_is_left_the_search_ends(
    model: LanguageModel,
    graph: Graph,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise NoCircuitError("none is left")

    finder = KeptCircuits(model, graph, CircuitSettings("standing"), Parts(tmp_path / "circuits.npz", "test"))
    monkeypatch.setattr(kept, "find_circuit", fails)
    circuit = Circuit("standing", graph.valid, graph.valid.astype(float), {0.9: graph.valid})
    assert list(finder.shrink("capital", circuit, PROMPTS, 0, (0.1, 0.2)).path) == [0.9]
    assert caplog.messages == ["capital, 20 % of the edges: none is left"]


@pytest.mark.parametrize("name", ["gpt2", "llama_biased"])
@pytest.mark.parametrize("kv", ["grouped", "per_head"])
def test_other_families_and_views(load_tiny: Loader, name: str, kv: str) -> None:
    model = load_tiny(name)
    graph = Graph.of(model.transformer.shape, kv)  # type: ignore[arg-type]
    circuit, details = find(model, graph)
    assert (graph.connected(circuit.edges) == circuit.edges).all()
    task = task_of(model, PROMPTS, PARTNERS, "nll+kl", "zero")
    assert details["metric_circuit"] == pytest.approx(measure_afresh(model, graph, task, circuit.edges), abs=1e-12)


@pytest.mark.parametrize("stop", [1, 2, 4])
def test_a_killed_search_goes_on_as_if_it_had_not_been(
    model: LanguageModel, graph: Graph, stop: int, tmp_path: Path
) -> None:
    task = task_of(model, PROMPTS, PARTNERS, "nll", "patch")
    absent = absent_outputs(model, graph, task, PARTNERS, "patch")
    scores = attribute(model, graph, PROMPTS, PARTNERS, "eap-ig")

    def begin(search: StandingSearch) -> Standing:
        return Standing(model.transformer, graph, task, SETTINGS, search, absent, (0.6,))

    whole, cut = begin(begin_standing(graph, scores)), begin(begin_standing(graph, scores))
    while not whole.finished:
        whole.step()
    while not cut.finished:
        if cut.search.step == stop:
            save_standing(tmp_path / "state.npz", cut.search)
            kept = load_standing(tmp_path / "state.npz", graph)
            same(kept, cut.search)
            cut = begin(kept)
        cut.step()
    assert whole.search.step > stop
    same(cut.search, whole.search)


class KilledError(Exception):
    """Stands for a kill between two steps."""


def test_a_search_is_kept_and_its_edges_not_scored_again(
    model: LanguageModel, graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, seen = tmp_path / "state.npz", []
    monkeypatch.setattr(standing_files, "KEPT", 0.0)

    def stop(progress: Progress) -> None:
        seen.append(progress)
        if len(seen) == 5:
            raise KilledError

    whole, details = find(model, graph)
    with pytest.raises(KilledError):
        find(model, graph, state=state, report=stop)
    assert load_standing(state).step == 5
    monkeypatch.setattr(standing_files, "attribute", lambda *_: pytest.fail("scored again"))
    again, more = find(model, graph, state=state)
    assert (again.edges == whole.edges).all()
    assert more == details
    assert (find(model, graph, state=state)[0].edges == whole.edges).all()  # a finished one is read off


def test_a_seed_gives_one_circuit(model: LanguageModel, graph: Graph) -> None:
    first, again, other = (find(model, graph, SETTINGS.model_copy(update={"seed": seed}))[0] for seed in (1, 1, 2))
    assert (first.edges == again.edges).all()
    np.testing.assert_array_equal(first.scores, again.scores)
    assert (first.scores != other.scores).any()


def test_progress_rises_to_the_whole(model: LanguageModel, graph: Graph) -> None:
    seen: list[Progress] = []
    find(model, graph, report=seen.append)
    work = [progress.work for progress in seen]
    assert isinstance(seen[0], Protocol)
    assert work == sorted(work)
    assert 0 < work[0] < 1
    assert work[-1] == 1.0
    assert all(progress.decided + progress.kept == progress.total == graph.n_edges for progress in seen)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04cut", b"no archive"])
def test_a_broken_file_is_refused(graph: Graph, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="delete it to begin anew"):
        load_standing(path, graph)


def test_a_file_of_another_graph_is_refused(graph: Graph, load_tiny: Loader, tmp_path: Path) -> None:
    wide = Graph.of(load_tiny("llama").transformer.shape, "per_head")
    save_standing(tmp_path / "state.npz", begin_standing(wide, wide.valid.astype(float)))
    with pytest.raises(ValueError, match=r"its edges have shape .* delete it to begin anew"):
        load_standing(tmp_path / "state.npz", graph)


def test_what_finds_no_circuit_says_so(model: LanguageModel, graph: Graph) -> None:
    with pytest.raises(ValueError, match="no circuit of at most 1 edges that joins input and output was found"):
        find(model, graph, SETTINGS.model_copy(update={"size": 0.001}))
    with pytest.raises(ValueError, match="needs a corrupted prompt for each prompt"):
        search_standing(model, graph, PROMPTS, [None] * len(PROMPTS), SETTINGS, ablation="patch")


def test_a_search_that_would_go_on_for_long_ends_at_its_size(
    model: LanguageModel, graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("knowcirc.circuits.standing.JUMP", -1e9)  # every step is taken back to a third of its changes
    settings = SETTINGS.model_copy(update={"first": 0.02, "later": 0.02, "returned": 0.5})
    steps = []
    for patience in (3, 30):
        circuit, details = find(model, graph, settings.model_copy(update={"steps": patience}))
        assert 0 < circuit.n_edges <= 57
        steps.append(int(str(details["steps"])))
    assert 3 < steps[0] < steps[1]


def test_steps_try_less_after_several_in_a_row_were_taken_back_and_more_again_later(
    model: LanguageModel, graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_of(model, PROMPTS, PARTNERS, "nll", "zero")
    settings = SETTINGS.model_copy(update={"first": 0.1, "size": 0.05, "nodes": 0})
    search = Standing(model.transformer, graph, task, settings, begin_standing(graph, graph.valid.astype(float)))
    found = []
    for jump in (1e9, -1e9, 1e9, -1e9, -1e9, -1e9, -1e9, -1e9, -1e9, 1e9, 1e9):
        monkeypatch.setattr("knowcirc.circuits.standing.JUMP", jump)
        search.step()
        found.append(search.search.caution)
    assert found == [1.0, 1.0, 1.0, 1.0, 0.5, 0.25, 0.125, 0.0625, 0.0625, 0.078125, 0.09765625]
    careful, bold = (begin_standing(graph, graph.valid.astype(float)) for _ in range(2))
    careful.caution = 0.25
    tried = [sum(map(len, Standing(model.transformer, graph, task, settings, at)._weakest())) for at in (careful, bold)]
    assert tried == [int(190 * 0.1 * 0.25) + 4, int(190 * 0.1) + 4]


@pytest.mark.parametrize(
    ("present", "low", "expected"),
    [
        (190, False, 76 + 4),  # int(0.4 x 190) and one per group; 2 x (152 too many + 19 that may return) are more
        (96, False, 38 + 4),
        (95, False, 28 + 4),  # half of the edges: from here on 0.3 of them
        (95, True, 38 + 4),
        (42, False, 12 + 4),  # 2 x (4 + 4) are more
        (40, False, 12 + 4),  # 2 x (2 + 4)
        (39, False, 8 + 4),  # 2 x (1 + 3)
        (38, False, 6 + 4),  # as many as asked for: 2 x 3
        (30, False, 6 + 4),
    ],
)
def test_as_many_edges_may_go_as_the_size_and_what_returns_leave(
    model: LanguageModel, graph: Graph, present: int, low: bool, expected: int
) -> None:
    task = task_of(model, PROMPTS, PARTNERS, "nll", "zero")
    shares = {"size": 0.2, "first": 0.4, "later": 0.3, "returned": 0.1, "turn": 0.5, "ease": 0.5}
    settings = SETTINGS.model_copy(update=shares)
    standing = Standing(model.transformer, graph, task, settings, begin_standing(graph, graph.valid.astype(float)))
    assert (graph.n_edges, standing.limit) == (190, 38)
    standing.search.level = standing.whole + (0.5 if low else 0.6)
    standing.search.edges.ravel()[np.flatnonzero(graph.valid)[present:]] = False
    groups = standing._weakest()
    assert sum(map(len, groups)) == expected
    assert not any(change.present for change in groups)


def test_passes_are_those_of_the_network(model: LanguageModel, graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    passed = []

    def counted(name: str, prompts: Callable[..., int]) -> None:
        plain = getattr(MaskedModel, name)

        def call(*args: Any, **how: Any) -> object:
            passed.append(prompts(*args))
            return plain(*args, **how)

        monkeypatch.setattr(MaskedModel, name, call)

    counted("run", lambda _, edges, part: len(part.ends))
    counted("gradient", lambda _, run, loss: len(run.part.ends))
    counted("measure", lambda _, run, changes, part: len(changes) * len(part.ends))
    task = task_of(model, PROMPTS, PARTNERS, "nll", "zero")
    search = begin_standing(graph, graph.valid.astype(float), 5.0)
    standing = Standing(model.transformer, graph, task, SETTINGS, search)
    passed.clear()  # the whole model's metric, which is not the search's
    while not standing.finished:
        standing.step()
    assert search.passes == pytest.approx(5.0 + sum(passed) / len(PROMPTS))


def test_a_metric_that_overflows_ends_the_search(model: LanguageModel, graph: Graph) -> None:
    network = replace(model.transformer, unembedding=model.transformer.unembedding * torch.inf)
    with pytest.raises(ValueError, match=r"the whole model's nll is nan; search in float64"):
        find(replace(model, transformer=network), graph, metric="nll")


def planted(name: str) -> Transformer:
    """A tiny model that two heads and an MLP make up; all others write next to nothing."""
    network = random_network(name).double().requires_grad_(False)
    model: Transformer = FAMILIES[family_of(name)].module.adapt(network.config, network.state_dict())
    for layer, block in enumerate(model.blocks):
        attention, mlp = block.attention, block.mlp
        for head, weights in enumerate(attention.w_o):
            weights *= 1.0 if (layer, head) in ((0, 1), (1, 2)) else FAINT
        if attention.b_o is not None:
            attention.b_o.zero_()  # always read, so that little would depend on edges
        for part in (mlp.w_in, mlp.b_in, mlp.w_gate, mlp.b_gate, mlp.w_out, mlp.b_out):
            if part is not None:
                part *= 1.0 if layer == 1 else FAINT
        for norm, strong in ((block.post1, layer < 2), (block.post2, layer == 1)):  # these undo a common factor
            if norm is not None:
                norm.weight.mul_(1.0 if strong else FAINT)
    return model


@pytest.mark.parametrize("name", [*FIRST, "mistral", "olmo2", "gemma2"])  # in others attribution finds it, too
def test_what_is_planted_is_found_where_attribution_fails(load_tiny: Loader, name: str) -> None:
    model = replace(load_tiny(name), transformer=planted(name))
    graph, settings = (
        Graph.of(model.transformer.shape, "grouped"),
        SETTINGS.model_copy(update={"size": 0.15, "steps": 100, "prompts": 4, "probes": 4}),
    )
    circuit, details = find(model, graph, settings, metric="kl")
    task = task_of(model, PROMPTS, PARTNERS, "kl", "zero")
    scores = attribute(model, graph, PROMPTS, PARTNERS, "eap-ig-zero", Scoring("kl"))
    ranked = top_edges(graph, scores, int(settings.size * graph.n_edges))
    drawn = [random_circuit(graph, circuit.n_edges, seed) for seed in range(4)]
    others = [measure_afresh(model, graph, task, edges) for edges in (ranked, *drawn)]
    assert details["metric_circuit"] < 0.4 * min(others)  # type: ignore[operator]
