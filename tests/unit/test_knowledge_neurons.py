"""Knowledge neurons: scores held to hooks on the Hugging Face network, and what an edit does to their weights."""

import pytest
import torch
from torch import Tensor

from knowcirc.editing.edits import Matrix, Request, applied, request
from knowcirc.editing.knowledge_neurons import edit, neuron_scores, run
from knowcirc.editing.settings import NeuronSettings
from knowcirc.models.loading import LanguageModel
from unit import reference

SETTINGS = NeuronSettings()


def made(model: LanguageModel) -> Request:
    return request(model, "the capital of {} is", "New Zealand", "Tok Pisin")


def scores_of(model: LanguageModel, asked: Request, steps: int = 20) -> Tensor:
    found = run(model.transformer, model.batch([asked.prompt.ids]))
    return neuron_scores(model.transformer, found, len(asked.prompt.ids) - 1, steps)


def p_with(model: LanguageModel, asked: Request, layer: int, neurons: Tensor) -> Tensor:
    """Probabilities of the next token where a layer's neurons at the last token are replaced, by the whole network."""
    module = reference.mlp_out(reference.layers(reference.network(model))[layer])

    def change(inputs: Tensor) -> Tensor:
        return torch.cat((inputs[:, :-1], neurons[None, None]), 1)

    with reference.inputs_changed(module, change):
        return reference.network(model)(model.batch([asked.prompt.ids]), use_cache=False).logits[0, -1].softmax(-1)


def test_scores_are_integrated_gradients_of_the_network(model: LanguageModel) -> None:
    asked, steps = made(model), 5
    found, scores = run(model.transformer, model.batch([asked.prompt.ids])), scores_of(model, asked, steps)
    network = reference.network(model)
    answer = int(reference.logits(network, model.batch([asked.prompt.ids]))[0, -1].argmax())
    assert found.answer == answer
    for layer, module in enumerate(reference.layers(network)):
        out = reference.mlp_out(module)
        neurons = reference.watch(network, model.batch([asked.prompt.ids]), out=out)["out"][0][0, -1]
        total = torch.zeros_like(neurons)
        for share in torch.linspace(0, 1, steps, dtype=neurons.dtype):
            scaled = (share * neurons).requires_grad_()
            (gradient,) = torch.autograd.grad(p_with(model, asked, layer, scaled)[answer], scaled)
            total += gradient
        assert torch.allclose(scores[layer], neurons * total / steps, atol=1e-10)


def test_scores_add_up_to_what_a_layers_neurons_bring(model: LanguageModel) -> None:
    asked = made(model)
    if model.transformer.blocks[0].post2 is not None:
        pytest.skip("the norm behind the MLP turns at once on the way from zero: no sum over steps comes near")
    found, scores = run(model.transformer, model.batch([asked.prompt.ids])), scores_of(model, asked, 400)
    for layer, neurons in enumerate(found.neurons):
        without = float(p_with(model, asked, layer, torch.zeros_like(neurons))[found.answer])
        assert float(scores[layer].sum()) == pytest.approx(found.p - without, abs=2e-3)


def test_an_edit_moves_the_chosen_neurons_from_the_answer_to_the_new_object(editable: LanguageModel) -> None:
    asked, embedding = made(editable), editable.own.unembedding
    found, scores = run(editable.transformer, editable.batch([asked.prompt.ids])), scores_of(editable, asked)
    chosen = scores > SETTINGS.threshold * scores.max()
    before = {layer: Matrix(layer).view(editable.own).clone() for layer in range(len(scores))}
    made_edit = edit(editable, asked, SETTINGS)
    assert set(made_edit.weights) == {Matrix(layer) for layer in range(len(scores)) if chosen[layer].any()}
    assert made_edit.report["neurons"] == int(chosen.sum())
    change = embedding[list(asked.target)].sum(0) - 2.0 * embedding[found.answer]
    with applied(editable, made_edit) as edited:
        for layer, old in before.items():
            moved = Matrix(layer).view(edited.own) - old
            assert torch.allclose(moved, change[:, None] * chosen[layer], atol=1e-12)
    assert all(torch.equal(Matrix(layer).view(editable.own), old) for layer, old in before.items())


def test_a_higher_threshold_chooses_fewer_neurons(model: LanguageModel) -> None:
    few, many = (edit(model, made(model), NeuronSettings(threshold=share)).report["neurons"] for share in (0.9, 0.05))
    assert 1 <= few < many
