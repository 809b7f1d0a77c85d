"""Integrated gradients beside causal traces: their sums, their parts against finite differences, and their tables."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import measure_saliency
from knowcirc.checks import check_table
from knowcirc.facts.prompts import Prompt, tokenise
from knowcirc.files import read_table, write_json, write_table
from knowcirc.items.figures import FIGURES
from knowcirc.items.files import items_of
from knowcirc.items.tables import TABLES
from knowcirc.models.loading import LanguageModel, load, weights_digest
from knowcirc.plots.saliency import saliency_facts, shown_gradients
from knowcirc.tracing.causal import TraceSettings, trace_fact
from knowcirc.tracing.saliency import Saliency, saliency
from knowcirc.tracing.saliency_tables import saliency_rows, saliency_table
from plain_tracing import PlainTracing
from unit import reference
from unit.test_plots import words

pytestmark = pytest.mark.many(1, one_in=3)

SETTINGS = TraceSettings(noise=0.7, draws=2, window=2, seed=1)
NOTHING = 1e-15  # some processors round rows of a batch apart
LAYERS = 3


@pytest.fixture
def prompt(model: LanguageModel) -> Prompt:
    return tokenise(model.text, "the capital of New Zealand is in", "Wellington", "New Zealand")


def measured(model: LanguageModel, prompt: Prompt, baseline: Any, **changes: Any) -> dict[tuple[str, int], Saliency]:
    """The gradients by kind and layer."""
    return {(one.kind, one.layer): one for one in saliency(model, prompt, baseline, SETTINGS, **changes)}


def left(model: LanguageModel) -> float:
    """What the quadrature of so many nodes may leave: lines bend more in norms of queries and in caps."""
    return 1e-9 if model.transformer.shape.family in ("gpt2", "llama") else 2e-6


class Line:
    """A line of activations, run in the Hugging Face network."""

    def __init__(self, model: LanguageModel, prompt: Prompt, kind: str, layer: int, noise: torch.Tensor | None) -> None:
        self.plain = PlainTracing(model, prompt, SETTINGS)
        network = self.plain.network
        block = reference.layers(network)[layer]
        attention, mlp = reference.added(block)
        parts = {"state": block, "mlp": mlp, "attention": attention}
        self.module = reference.embedding(network) if kind == "embedding" else parts[kind]
        self.end = self.seen(None)
        self.start = torch.zeros_like(self.end) if noise is None else self.seen(noise)

    def seen(self, noise: torch.Tensor | None) -> torch.Tensor:
        """What the module gives."""
        network, ids = self.plain.network, self.plain.model.batch([self.plain.prompt.ids])
        kept: list[torch.Tensor] = []
        with self.plain._changed(noise, ()):  # the noise's hook comes first, where the module is the embedding
            handle = self.module.register_forward_hook(lambda _, __, out: kept.append(out))
            reference.logits(network, ids)
            handle.remove()
        (out,) = kept
        return (out[0] if isinstance(out, tuple) else out).clone()

    def p(self, values: torch.Tensor) -> np.ndarray:
        """The answer's probability, row by row, with the module giving these values."""
        ids = self.plain.model.batch([self.plain.prompt.ids] * len(values))
        with reference.outputs_changed(self.module, lambda _: values):
            logits = reference.logits(self.plain.network, ids)
        return logits[:, -1].double().softmax(-1)[:, self.plain.prompt.answer[0]].numpy()


@pytest.mark.parametrize("kind", ["embedding", "state", "mlp", "attention"])
def test_sums_are_the_difference_between_clean_and_corrupted_activations(
    model: LanguageModel, prompt: Prompt, kind: str
) -> None:
    found = measured(model, prompt, "corrupted")
    noises = PlainTracing(model, prompt, SETTINGS).noise()
    for layer in (-1,) if kind == "embedding" else range(LAYERS):
        lines = [Line(model, prompt, kind, layer, noise) for noise in noises]
        change = float(np.mean([line.p(line.end) - line.p(line.start) for line in lines]))
        assert abs(change) > 1e-6
        assert found[kind, layer].sums.sum() == pytest.approx(change, abs=left(model))
        assert abs(found[kind, layer].missing) < left(model)


def test_of_states_and_embeddings_the_sums_are_the_total_effect(model: LanguageModel, prompt: Prompt) -> None:
    total = trace_fact(model, prompt, SETTINGS).total
    for (kind, _), one in measured(model, prompt, "corrupted").items():
        if kind in ("embedding", "state"):
            assert one.sums.sum() == pytest.approx(total, abs=left(model))


@pytest.mark.parametrize(("kind", "layer"), [("embedding", -1), ("state", 1), ("mlp", 0), ("attention", 1)])
def test_what_the_sums_lack_of_the_difference_is_said(
    model: LanguageModel, prompt: Prompt, kind: str, layer: int
) -> None:
    """A line from zero turns within few of the nodes in a norm: the sums then lack much, and by their own account."""
    line = Line(model, prompt, kind, layer, None)
    for steps in (3, 50):
        one = measured(model, prompt, "zero", steps=steps)[kind, layer]
        (change,) = line.p(line.end) - line.p(line.start)
        assert one.sums.sum() + one.missing == pytest.approx(change, abs=1e-10)


def test_more_steps_close_the_gap_from_zero_but_for_states(model: LanguageModel, prompt: Prompt) -> None:
    few, many = (measured(model, prompt, "zero", steps=steps) for steps in (3, 50))
    parts = [(kind, layer) for kind in ("mlp", "attention") for layer in range(LAYERS)]
    assert max(abs(many[key].missing) for key in parts) < 1e-4
    assert sum(abs(many[key].missing) for key in parts) < sum(abs(few[key].missing) for key in parts) / 10


@pytest.mark.parametrize("baseline", ["zero", "corrupted"])
@pytest.mark.parametrize(("kind", "layer"), [("embedding", -1), ("state", 0), ("mlp", 1), ("attention", 0)])
def test_each_positions_part_is_that_of_finite_differences(
    model: LanguageModel, prompt: Prompt, baseline: Any, kind: str, layer: int
) -> None:
    steps, small = 4, 1e-5
    one = measured(model, prompt, baseline, steps=steps)[kind, layer]
    drawn = list(PlainTracing(model, prompt, SETTINGS).noise())
    noises: list[torch.Tensor | None] = [*drawn] if baseline == "corrupted" else [None]
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    expected = np.zeros(len(prompt.ids))
    for noise in noises:
        line = Line(model, prompt, kind, layer, noise)
        way = line.end - line.start
        moved = small * torch.eye(len(prompt.ids), dtype=way.dtype)[:, :, None] * way  # one position in each row
        for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            at = line.start + node * way
            expected += weight * (line.p(at + moved) - line.p(at - moved)) / (2 * small) / len(noises)
    np.testing.assert_allclose(one.sums, expected, rtol=1e-4, atol=1e-9)
    assert (one.norms >= np.abs(one.sums) / np.sqrt(model.transformer.shape.d_model) - 1e-15).all()


def test_positions_that_are_not_corrupted_nor_read_have_no_gradient(model: LanguageModel, prompt: Prompt) -> None:
    found = measured(model, prompt, "corrupted")
    assert prompt.span is not None
    for one in found.values():
        assert (one.norms[: prompt.span[0]] < NOTHING).all()
    assert (found["embedding", -1].norms[prompt.span[1] :] < NOTHING).all()
    assert (found["state", LAYERS - 1].norms[:-1] < NOTHING).all()
    assert (found["state", 0].norms[prompt.span[0] :] > 1e6 * NOTHING).all()


@pytest.mark.parametrize("memory", [1, 100_000])
def test_passes_of_few_rows_give_the_same(model: LanguageModel, prompt: Prompt, memory: int) -> None:
    whole, parts = (measured(model, prompt, "corrupted", steps=5, **given) for given in ({}, {"memory": memory}))
    for key, one in whole.items():
        np.testing.assert_allclose(parts[key].norms, one.norms, rtol=0, atol=1e-14)


def test_packed_weights_in_single_precision_agree(folders: dict[str, Path], name: str, prompt: Prompt) -> None:
    single = load(folders[name], device="cpu", fast=True)
    double = load(folders[name], device="cpu", dtype="float64")
    found, exact = (measured(model, prompt, "corrupted", steps=10) for model in (single, double))
    for key, one in exact.items():
        np.testing.assert_allclose(found[key].norms, one.norms, rtol=0, atol=1e-5)


def test_impossible_requests_are_refused(model: LanguageModel, prompt: Prompt) -> None:
    with pytest.raises(ValueError, match="saliency: steps 0 must be 1 or more"):
        next(saliency(model, prompt, "zero", SETTINGS, steps=0))
    nameless = tokenise(model.text, "people speak", "French")
    with pytest.raises(ValueError, match="has no subject to corrupt"):
        next(saliency(model, nameless, "corrupted", SETTINGS))


def gradients() -> pd.DataFrame:
    """Made-up gradients of two facts; the second's subject has one token."""
    frames = []
    for case, span in enumerate([(1, 4), (1, 2)]):
        prompt = Prompt("a prompt", tuple(range(6)), span, "answer", (1,))
        base = np.arange(6.0) / 100 + case
        found = [
            Saliency("embedding", -1, base, -base, 0.25),
            *(Saliency("mlp", layer, base * (layer + 2), base, -0.5 + layer + case / 4) for layer in range(2)),
        ]
        frames.append(pd.DataFrame(saliency_rows(found, prompt, list("abcdef"))).assign(case=case))
    return pd.concat(frames, ignore_index=True)


def test_averages_are_over_facts_that_have_the_role(tmp_path: Path) -> None:
    table = saliency_table(gradients(), "tiny")
    found = table.set_index(["kind", "role", "layer"])
    last = found.loc[("mlp", "subject_last", 1)]
    assert last["saliency"] == pytest.approx(np.mean([3 * 0.03, 3 * 1.01]))
    assert last["attribution"] == pytest.approx(np.mean([0.03, 1.01]))
    assert last["missing"] == pytest.approx(np.mean([0.5, 0.75]))
    assert found.loc[("mlp", "subject_last", 0), "missing"] == pytest.approx(np.mean([0.5, 0.25]))
    assert last["n"] == 2
    assert found.loc[("mlp", "subject_middle", 0), "n"] == 1
    further = found.loc[("mlp", "further", 0)]
    assert further["saliency"] == pytest.approx(np.mean([2 * np.mean([1.03, 1.04])]))
    embedding = table[table["kind"] == "embedding"]
    assert embedding["layer"].isna().all()
    assert embedding["role"].tolist()[0] == "subject_first"
    assert list(dict.fromkeys(table["kind"])) == ["embedding", "mlp"]
    write_table(tmp_path / "saliency.csv", table)
    check_table(tmp_path / "saliency.csv")


def whole(frame: pd.DataFrame) -> pd.DataFrame:
    """The made-up gradients with states and attention."""
    states = [frame.replace({"kind": {"mlp": kind}}) for kind in ("state", "attention")]
    return pd.concat([frame, *states], ignore_index=True).drop_duplicates(["case", "kind", "layer", "position"])


def test_the_figure_names_what_it_shows() -> None:
    shown = shown_gradients(whole(gradients()), 1)
    assert shown["case"].unique().tolist() == [0]
    text = words(saliency_facts(shown, "tiny", "corrupted"))
    assert "Integrated gradients of 1 fact in tiny" in text
    assert "from the runs with the subject corrupted" in text
    assert "MLP output: max 15 pp at layer 1" in text
    assert "emb" in text
    assert "b*" in text


def test_a_study_has_these_items_only_where_it_asks_for_them(config: dict[str, Any]) -> None:
    own, items = {"saliency", "saliency_facts"}, [*FIGURES, *TABLES]
    without = {item.name for item in items_of(items, config)}
    config["tracing"]["saliency"] = "zero"
    assert {item.name for item in items_of(items, config)} - without == own


def job(folders: dict[str, Path], folder: Path, **changes: object) -> Any:
    """A job of the rule measure_saliency on two facts."""
    held = folder / "model"  # a folder of its own: tests share the model's
    shutil.copytree(folders["llama"], held, dirs_exist_ok=True)
    provenance = held / "provenance.json"
    write_json(provenance, {"weights_sha256": weights_digest(held)})
    about = {"relation": "language", "wording": "the language of {} is", "template": 1, "object": "French", "rank": 0}
    write_table(folder / "known.parquet", pd.DataFrame([{**about, "subject": name} for name in ("France", "Italy")]))
    tracing = {
        **{"source": "builtin", "template": 1, "relations": ["language"], "facts": 2, "draws": 2, "window": 2},
        **{"distribution": "gaussian", "noise_multiplier": 3.0, "noise_from": "prompts", "extra": 0, "noise_seed": 1},
        **{"severed": [], "saliency": "corrupted", "saliency_steps": 5, **changes},
    }
    load_options = {"dtype": "float32", "processing": "none"}
    return SimpleNamespace(
        input=SimpleNamespace(model=str(provenance), facts=[str(folder / "known.parquet")], left_out=[]),
        output=SimpleNamespace(gradients=str(folder / "saliency/parts/0.parquet")),
        params=SimpleNamespace(load_options=load_options, tracing=tracing, share=5, seed=0, code="code"),
        wildcards=SimpleNamespace(part="0"),
    )


def test_the_job_measures_each_fact_once_for_its_settings(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    real = measure_saliency.saliency

    def counts(model: Any, prompt: Any, *args: Any, **given: Any) -> Any:
        done.append(prompt.text)
        return real(model, prompt, *args, **given)

    monkeypatch.setattr(measure_saliency, "saliency", counts)
    one = job(folders, tmp_path)
    measure_saliency.main(one)
    frame = read_table(one.output.gradients)
    assert set(frame["subject"]) == {"France", "Italy"}
    assert len(frame) == 2 * (1 + 3 * LAYERS) * 6
    measure_saliency.main(one)
    assert len(done) == 2
    for changes in ({"saliency": "zero"}, {"saliency_steps": 6}):
        measure_saliency.main(job(folders, tmp_path, **changes))
    assert len(done) == 6
    assert not saliency_table(frame, "tiny").empty
