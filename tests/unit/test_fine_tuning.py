"""Fine-tuning against a plain reference: Adam on the Hugging Face network's own parameters, chosen by their module."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from knowcirc.editing.edits import Edit, Material, Matrix, Request, applied, request
from knowcirc.editing.making import make_edit, make_edits
from knowcirc.models.loading import LanguageModel, load
from unit import reference

Loader = Callable[..., LanguageModel]
LAYER, STEPS, RATE, BOUND = 1, 12, 5e-3, 2e-2
STOP = 0.01
MODULES = {"ft": "mlp.c_proj", "ft-l": "mlp.c_proj", "ft-m": "mlp.c_proj", "attn-edit": "attn.c_attn"}
"""The module of a GPT-2 that each editor trains."""
BOUNDED = ("ft-l", "attn-edit")


def edit_of(editor: str, model: LanguageModel, *requests: Request) -> Edit:
    settings: dict[str, object] = {"layer": LAYER, "steps": STEPS, "learning_rate": RATE}
    settings |= {"bound": BOUND} if editor in BOUNDED else {}
    return make_edits(editor, model, requests, settings, Material(lambda _: pytest.fail("no moments"), list))


def request_for(model: LanguageModel) -> Request:
    return request(model, "the capital of {} is", "New Zealand", "Tok Pisin")


def tuned(model: LanguageModel, editor: str, made: Request) -> dict[str, Tensor]:
    """The module's parameters after plain training of the whole network, by name."""
    network = copy.deepcopy(reference.network(model))
    named = {name: each for name, each in network.named_parameters() if f"h.{LAYER}.{MODULES[editor]}." in name}
    old = {name: each.detach().clone() for name, each in named.items()}
    adam = torch.optim.Adam([each.requires_grad_() for each in named.values()], lr=RATE)
    ids = made.prompt.ids + (made.target[:-1] if editor == "ft-m" else ())
    target = torch.tensor(made.target)
    for _ in range(STEPS):
        logits = network(model.batch([ids]), use_cache=False).logits[0, len(made.prompt.ids) - 1 :]
        said = logits.log_softmax(-1).expand(len(target), -1)
        loss = -said[range(len(target)), target].mean()
        if loss < STOP:
            break
        adam.zero_grad()
        loss.backward()
        adam.step()
        if editor in BOUNDED:
            with torch.no_grad():
                for name, each in named.items():
                    each.copy_(each.clamp(old[name] - BOUND, old[name] + BOUND))
    return {name: each.detach() for name, each in named.items()}


@pytest.mark.parametrize("processing", ["none", "folded"])
@pytest.mark.parametrize("editor", MODULES)
def test_gpt2_is_tuned_as_the_network_itself_is_biases_too(
    folders: dict[str, Path], exact_networks: None, editor: str, processing: str
) -> None:
    model = load(folders["gpt2"], device="cpu", dtype="float64", processing=processing)
    made = request_for(model)
    before = {name: each.clone() for name, each in model.weights.items()}
    expected = tuned(model, editor, made)
    assert {name.rsplit(".", 1)[1] for name in expected} == {"weight", "bias"}
    edit = edit_of(editor, model, made)
    with applied(model, edit) as edited:
        moved = {name for name, each in model.weights.items() if not torch.equal(each, before[name])}
        assert moved == set(expected) == {matrix.name(model) for matrix in edit.weights}
        for name, weights in expected.items():
            assert float((weights - before[name]).abs().max()) > RATE
            torch.testing.assert_close(model.weights[name], weights, rtol=1e-8, atol=1e-9)
        ids = model.batch([made.prompt.ids])
        seen = reference.logits(reference.network(edited), ids)[:, -1]
        torch.testing.assert_close(edited.transformer.logits(ids), seen, rtol=1e-8, atol=1e-8)
    assert all(torch.equal(each, before[name]) for name, each in model.weights.items())


@pytest.mark.parametrize("editor", MODULES)
def test_a_folded_packed_model_shows_its_edit_inside_the_block_alone(folders: dict[str, Path], editor: str) -> None:
    model = load(folders["gpt2"], device="cpu", dtype="float32", processing="folded", fast=True)
    made = request_for(model)
    ids = model.batch([made.prompt.ids])
    before = model.transformer.logits(ids)
    requests = [made, request(model, "people in {} speak", "Chile", "Lima")]
    with applied(model, edit_of(editor, model, *requests)) as edited:
        seen = reference.logits(reference.network(edited), ids)[:, -1]
        torch.testing.assert_close(edited.transformer.logits(ids), seen, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(seen, before, atol=1e-2)
    assert torch.equal(model.transformer.logits(ids), before)


@pytest.mark.parametrize("editor", MODULES)
def test_a_model_without_biases_is_tuned_in_its_matrices_alone(load_tiny: Loader, editor: str) -> None:
    model = load_tiny("llama")
    edit = make_edit(editor, model, request_for(model), {"layer": LAYER, "steps": 1}, Material(lambda _: None, list))
    parts = ["query", "key", "value"] if editor == "attn-edit" else ["mlp_out"]
    assert list(edit.weights) == [Matrix(LAYER, part) for part in parts]  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mlp_out of layer 1 has no bias in this model"):
        Matrix(LAYER, "mlp_out", bias=True).view(model.own)
