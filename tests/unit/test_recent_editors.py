"""Editors that neither paper has, held to their papers' formulas in plain dense arithmetic, and to plain training."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from knowcirc.editing import alphaedit, emmet, lora, memit, ultraedit
from knowcirc.editing.edits import Edit, Material, Matrix, Request, applied, request
from knowcirc.editing.making import make_edit, make_edits
from knowcirc.editing.settings import LoraSettings
from knowcirc.editing.values import keys_of, state_of
from knowcirc.models.loading import LanguageModel, load
from unit import reference

Loader = Callable[..., LanguageModel]
pytestmark = pytest.mark.many(3, one_in=4)

LAYER, RIDGE = 1, 0.3
PREFIXES = [(40, 41, 42), (50,), (60, 61, 62, 63, 64)]
VALUE: dict[str, object] = {"steps": 15, "learning_rate": 0.3, "clamp": 1.0, "span": 1, "layer": LAYER}
RNG = np.random.default_rng(0)
W, K, R, PAST = RNG.normal(size=(6, 9)), RNG.normal(size=(9, 3)), RNG.normal(size=(6, 3)), RNG.normal(size=(9, 4))
"""A matrix (d_model x d_mlp), keys (d_mlp x facts), changes (d_model x facts) and keys of earlier edits."""
DRAW = RNG.normal(size=(9, 20)) * np.geomspace(0.05, 3, 9)[:, None]
C = DRAW @ DRAW.T / 20


def rows(columns: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(columns.T))


def moment_of(model: LanguageModel, layer: int = 0) -> Tensor:
    """Second moments of which half the directions lie far below 1, half far above."""
    size = model.transformer.shape.d_mlp
    basis, _ = torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(layer)).double())
    return basis @ torch.diag(torch.logspace(-3, 3, size, dtype=torch.float64)) @ basis.T


def material(model: LanguageModel) -> Material:
    return Material(lambda layer: moment_of(model, layer), lambda: PREFIXES)


def request_for(model: LanguageModel, target: str = "Tok Pisin", subject: str = "New Zealand") -> Request:
    return request(model, "the capital of {} is", subject, target)


def change(model: LanguageModel, edit: Edit, layer: int = LAYER) -> Tensor:
    return edit.weights[Matrix(layer)] - Matrix(layer).view(model.own)


def nll(model: LanguageModel, asked: Request) -> float:
    ids = asked.prompt.ids + asked.target[:-1]
    said = reference.logits(reference.network(model), model.batch([ids]))[0, len(asked.prompt.ids) - 1 :]
    return -float(said.log_softmax(-1)[range(len(asked.target)), list(asked.target)].mean())


@pytest.mark.parametrize("past", [None, PAST], ids=["first", "after others"])
def test_alphaedit_is_the_papers_formula(past: np.ndarray | None) -> None:
    values, vectors = np.linalg.eigh(C)
    low = vectors[:, values < 0.5]
    assert 0 < low.shape[1] < 9
    p, kp = low @ low.T, np.zeros((9, 1)) if past is None else past
    expected = W + R @ K.T @ p @ np.linalg.inv(kp @ kp.T @ p + K @ K.T @ p + RIDGE * np.eye(9))
    basis = alphaedit.null_space(torch.from_numpy(C), 0.5)
    earlier = None if past is None else rows(past)
    found = alphaedit.write_within(torch.from_numpy(W), rows(K), rows(R), basis, RIDGE, earlier)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("past", [None, PAST], ids=["first", "after others"])
def test_emmet_is_the_papers_formula(past: np.ndarray | None) -> None:
    c = C if past is None else C + past @ past.T / 7.0
    inverse = np.linalg.inv(c)
    expected = W + R @ np.linalg.inv(K.T @ inverse @ K + RIDGE * np.eye(3)) @ K.T @ inverse
    spared = emmet.spared(torch.from_numpy(C), None if past is None else rows(past), 7.0)
    found = emmet.meet(torch.from_numpy(W), rows(K), rows(R), spared, RIDGE)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("past", [None, PAST], ids=["first", "after others"])
def test_memit_is_the_papers_formula(past: np.ndarray | None) -> None:
    kp = np.zeros((9, 1)) if past is None else past
    expected = W + R @ K.T @ np.linalg.inv(7.0 * C + kp @ kp.T + K @ K.T)
    earlier = None if past is None else rows(past)
    found = memit.spread(torch.from_numpy(W), rows(K), rows(R), torch.from_numpy(C), 7.0, earlier)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-11)


def test_ultraedit_is_the_papers_formula() -> None:
    layers = [(RNG.normal(size=(3, 15)), 2 * RNG.normal(size=(5, 15)) + shift) for shift in (1, -3)]
    known, eta = np.concatenate([rows for layer in layers for rows in layer]), 1e-3
    scale = ultraedit.normaliser([torch.from_numpy(rows) for layer in layers for rows in layer])
    for asked, _ in layers:  # one mean and deviation for both layers' matrices
        normed = (asked - known.mean(0)) / known.std(0, ddof=1)
        v = [-eta * np.sum(h**2) * g for h, g in zip(normed[:, :9], normed[:, 9:], strict=True)]
        h = asked[:, :9]
        expected = W + (np.linalg.inv(h.T @ h + RIDGE * np.eye(9)) @ h.T @ np.stack(v)).T
        found = ultraedit.regress(torch.from_numpy(W), torch.from_numpy(asked), scale, eta, RIDGE)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)  # the deviations have a small number added


def test_alphaedit_leaves_what_the_corpus_uses_and_writes_within_the_rest(editable: LanguageModel) -> None:
    asked = request_for(editable)
    settings = {**VALUE, "nullspace_threshold": 0.1, "ridge": RIDGE}
    edit = make_edit("alphaedit", editable, asked, settings, material(editable))
    moved, (values, vectors) = change(editable, edit), torch.linalg.eigh(moment_of(editable, LAYER))
    used = vectors[:, values >= 0.1]
    assert float(moved.norm()) > 1e-3
    assert float((moved @ used).norm()) < 1e-10 * float(moved.norm())
    assert edit.report["null_space"] == pytest.approx(1 - used.shape[1] / len(values))
    key = keys_of(editable, asked, LAYER, "subject_last", PREFIXES).mean(0)
    p = torch.eye(len(values)).double() - used @ used.T
    reached = float(key @ p @ key / (key @ p @ key + RIDGE))
    z = state_of(editable, asked, LAYER, "subject_last")
    if editable.transformer.blocks[LAYER].post2 is not None:
        return  # behind a norm, the change has another length than what it adds to the stream
    assert float((moved @ key).norm()) == pytest.approx(reached * edit.report["change"] * float(z.norm()), rel=1e-6)


def test_a_layer_without_a_null_space_is_refused_by_name(editable: LanguageModel) -> None:
    settings = {**VALUE, "steps": 1, "nullspace_threshold": 1e-6}
    with pytest.raises(ValueError, match="no second moment of layer 1 is below 1e-06; raise nullspace_threshold"):
        make_edit("alphaedit", editable, request_for(editable), settings, material(editable))


def test_emmet_gives_every_fact_of_a_batch_its_value_and_one_fact_as_r_rome_does(editable: LanguageModel) -> None:
    requests = [request_for(editable), request_for(editable, "Lima", "Chile"), request_for(editable, "Rome", "Spain")]
    bare = Material(material(editable).moment, list)
    edit = make_edits("emmet", editable, requests, {**VALUE, "ridge": 0.0}, bare)
    assert edit.report["state_error"] < 1e-6 < edit.report["change"]
    alone = make_edit("emmet", editable, requests[0], {**VALUE, "ridge": 0.0}, bare)
    key = keys_of(editable, requests[0], LAYER, "subject_last", [])[0]
    direction = torch.linalg.solve(moment_of(editable, LAYER), key)
    moved = change(editable, alone)
    torch.testing.assert_close(moved, torch.outer(moved @ key, direction) / (key @ direction))
    assert alone.report["state_error"] < 1e-6


def test_memit_merge_gives_facts_of_one_subject_one_value_and_others_what_memit_gives(editable: LanguageModel) -> None:
    settings = {**VALUE, "moment_weight": 1e-3, "span": 2}
    apart = [request_for(editable), request_for(editable, "Lima", "Chile")]
    names = ("memit", "memit-merge")
    plain, merged = (make_edits(name, editable, apart, settings, material(editable)) for name in names)
    assert all(torch.equal(plain.weights[matrix], merged.weights[matrix]) for matrix in plain.weights)
    alike = [
        request(editable, text, "New Zealand", to) for text, to in (("{} speak", "Lima"), ("{} is in", "Tok Pisin"))
    ]
    before = [nll(editable, each) for each in alike]
    bare, settings = (
        Material(material(editable).moment, list),
        {**VALUE, "moment_weight": 1e-9},
    )
    at_once = make_edits("memit-merge", editable, alike, {**settings, "stop_loss": 1e9}, bare)
    assert at_once.report["nll"] == pytest.approx(sum(before) / 2, abs=1e-9)  # the mean of both losses
    found = {name: make_edits(name, editable, alike, settings, bare) for name in names}
    assert [len(found[name].left[LAYER]) for name in names] == [2, 2]
    with applied(editable, found["memit-merge"]):
        assert sum(nll(editable, each) for each in alike) < sum(before)
    off = [found[name].report["state_error"] for name in names]
    assert off[1] < 1e-4 < 0.1 < off[0]  # one key cannot have two values


@pytest.mark.parametrize("n", [1, 2, 3])
def test_memit_merge_weighs_n_facts_of_a_subject_as_n_keys(load_tiny: Loader, n: int) -> None:
    model = load_tiny("llama", dtype="float64")
    texts = (("{} speak", "Lima"), ("{} is in", "Tok Pisin"), ("{} has", "Rome"))
    alike = [request(model, text, "New Zealand", to) for text, to in texts[:n]]
    key = keys_of(model, alike[0], LAYER, "subject_last", [])[0]
    x = float(key @ torch.linalg.solve(moment_of(model, LAYER), key))
    settings = {**VALUE, "moment_weight": 2 * x}  # a key alone is worth half of what the corpus is
    edit = make_edits("memit-merge", model, alike, settings, Material(material(model).moment, list))
    torch.testing.assert_close(edit.left[LAYER], key.expand(n, -1))
    z = state_of(model, alike[0], LAYER, "subject_last")
    share = n * 0.5 / (1 + n * 0.5)
    assert float((change(model, edit) @ key).norm()) == pytest.approx(share * edit.report["change"] * float(z.norm()))


@pytest.mark.parametrize("editor", ["alphaedit", "emmet", "memit"])
def test_an_edit_after_others_spares_their_keys(editable: LanguageModel, editor: str) -> None:
    first, second = request_for(editable), request_for(editable, "Lima", "Chile")
    own = {"alphaedit": {"nullspace_threshold": 0.1, "ridge": 1e-3}, "emmet": {"ridge": 1e-6, "moment_weight": 1e-4}}
    settings = {**VALUE, **own.get(editor, {"moment_weight": 1e-4})}
    given = material(editable)
    one = make_edit(editor, editable, first, settings, given)
    keys = keys_of(editable, first, LAYER, "subject_last", PREFIXES).mean(0)
    torch.testing.assert_close(one.left[LAYER], keys[None])
    with applied(editable, one) as current:
        forgetful, sparing = (make_edit(editor, current, second, settings, each) for each in (given, given.after(one)))
        moved = [change(editable, each) @ keys for each in (forgetful, sparing)]
    assert float(moved[1].norm()) < 0.5 * float(moved[0].norm())
    assert len(given.after(one).after(sparing).past[LAYER]) == 2
    assert given.past == {}


def gradients(model: LanguageModel, ids: Sequence[int], count: int, layer: int) -> tuple[Tensor, Tensor]:
    """Inputs of the layer's MLP output matrix, and gradients at its outputs, by hooks on the Hugging Face network."""
    network = reference.network(model)
    seen: list[tuple[Tensor, Tensor]] = []

    def hook(_module: object, args: tuple[Tensor], output: Tensor) -> Tensor:
        output = output.detach().requires_grad_()
        seen.append((args[0], output))
        return output

    handle = reference.mlp_out(reference.layers(network)[layer]).register_forward_hook(hook)
    try:
        with torch.enable_grad():
            said = network(model.batch([tuple(ids[:-1])]), use_cache=False).logits[0, -count:].log_softmax(-1)
            (-said[range(count), list(ids[-count:])].sum()).backward()
    finally:
        handle.remove()
    ((hidden, output),) = seen
    assert output.grad is not None
    return hidden[0, -count:], output.grad[0, -count:]


def test_ultraedits_features_are_the_networks_inputs_and_gradients(editable: LanguageModel) -> None:
    asked = request_for(editable)
    edit = make_edit("ultraedit", editable, asked, {"layer": 2, "span": 2}, material(editable))
    assert set(edit.weights) == {Matrix(1), Matrix(2)}
    assert edit.report == {"tokens": 2.0, "nll": pytest.approx(nll(editable, asked), abs=1e-9)}
    sampled = [(0, *prefix) for prefix in PREFIXES]
    mine = {layer: torch.cat(gradients(editable, asked.prompt.ids + asked.target, 2, layer), 1) for layer in (1, 2)}
    known: dict[int, Tensor] = {}
    for layer in (1, 2):
        drawn = [torch.cat(gradients(editable, ids, len(ids) - 1, layer), 1) for ids in sampled]
        known[layer] = torch.cat((*drawn, mine[layer]))
        torch.testing.assert_close(edit.left[layer], known[layer], rtol=1e-9, atol=1e-12)
    pooled = torch.cat((known[1], known[2]))
    for layer in (1, 2):
        scale = pooled.mean(0), pooled.std(0)
        expected = ultraedit.regress(Matrix(layer).view(editable.own), mine[layer], scale, 1e-6, 1.0)
        torch.testing.assert_close(edit.weights[Matrix(layer)], expected, rtol=1e-9, atol=1e-12)


def test_ultraedit_makes_its_requests_likelier_and_needs_a_spread(editable: LanguageModel) -> None:
    requests = [request_for(editable), request_for(editable, "Lima", "Chile")]
    before = [nll(editable, each) for each in requests]
    settings: dict[str, object] = {"layer": 2, "span": 3, "step_size": 1e-3}
    with applied(editable, make_edits("ultraedit", editable, requests, settings, material(editable))):
        assert sum(nll(editable, each) for each in requests) < sum(before)
    lone, bare = request_for(editable, "Lima"), Material(lambda layer: moment_of(editable), list)
    with pytest.raises(ValueError, match="one token has no spread"):
        make_edit("ultraedit", editable, lone, {**settings, "span": 1}, bare)
    earlier = make_edits("ultraedit", editable, requests, settings, bare)
    later = make_edit("ultraedit", editable, lone, settings, bare.after(earlier))
    known = torch.cat([each.left[layer] for each in (earlier, later) for layer in (0, 1, 2)])
    assert [len(each.left[2]) for each in (earlier, later)] == [3, 1]
    for layer in (0, 1, 2):
        scale = known.mean(0), known.std(0)
        expected = ultraedit.regress(Matrix(layer).view(editable.own), later.left[layer], scale, 1e-3, 1.0)
        torch.testing.assert_close(later.weights[Matrix(layer)], expected)
    begun = make_edits("ultraedit", editable, requests, settings, material(editable))
    after = make_edit("ultraedit", editable, lone, settings, material(editable).after(begun))
    assert [len(each.left[2]) for each in (begun, after)] == [3 + sum(map(len, PREFIXES)), 1]


def test_lora_is_plain_training_of_adapters(folders: dict[str, Path], exact_networks: None) -> None:
    model = load(folders["llama"], device="cpu", dtype="float64")
    asked, settings = request_for(model), LoraSettings(rank=2, alpha=6.0, steps=5, learning_rate=0.02)
    edit = lora.edit(model, asked, settings)
    names = {matrix: matrix.name(model) for matrix in edit.weights}
    assert len(names) == 2 * model.transformer.shape.n_layers
    network, ids = reference.network(model), model.batch([asked.prompt.ids + asked.target[:-1]])
    old = {name: network.get_parameter(name).detach().clone() for name in names.values()}
    pairs = {names[each]: lora.adapter(each, each.view(model.own), 2) for each in names}
    adam = torch.optim.Adam([each for pair in pairs.values() for each in pair], lr=0.02)
    for _ in range(5):
        with torch.enable_grad():
            merged = {name: old[name] + 6.0 / 2 * b @ a for name, (b, a) in pairs.items()}
            said = torch.func.functional_call(network, merged, (ids,), {"use_cache": False}).logits[0]
            loss = torch.nn.functional.cross_entropy(said[-len(asked.target) :], torch.tensor(asked.target))
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert edit.report == {"steps": 5.0, "nll": pytest.approx(float(loss.detach()), abs=1e-9)}
    for matrix, weight in edit.weights.items():
        b, a = pairs[names[matrix]]
        moved = weight.flatten(0, -2) - old[names[matrix]]
        torch.testing.assert_close(moved, (3.0 * b @ a).detach(), rtol=1e-7, atol=1e-9)
        assert torch.linalg.matrix_rank(moved, rtol=1e-9) <= 2
        assert float(moved.norm()) > 1e-3


@pytest.mark.parametrize("editor", ["alphaedit", "emmet", "memit-merge", "ultraedit", "lora"])
def test_recent_editors_see_through_packing(folders: dict[str, Path], editor: str) -> None:
    plain = load(folders["gpt2"], device="cpu", dtype="float32")
    fast = load(folders["gpt2"], device="cpu", dtype="float32", fast=True)
    settings: dict[str, object] = {} if editor == "lora" else {"layer": LAYER, "span": 1}
    settings |= {"steps": 3} if editor != "ultraedit" else {}
    settings |= {"nullspace_threshold": 0.5} if editor == "alphaedit" else {}
    one, other = (make_edit(editor, model, request_for(model), settings, material(model)) for model in (plain, fast))
    for matrix, weight in one.weights.items():
        torch.testing.assert_close(other.weights[matrix], weight, rtol=1e-3, atol=1e-4)
