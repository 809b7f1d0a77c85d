"""Knowledge Neurons (Dai et al. 2022, arXiv 2104.08696), the foil of both papers' editors (ROME E.2).

1. Every MLP neuron of every layer gets the integrated gradient of the answer's probability: its activation at the
   prompt's last token times the mean gradient while the layer's activations there go from zero to what they are.
2. Neurons above a share of the largest score are chosen, of all layers.
3. Their output weights lose the (output) embedding of what the model says, and gain those of the new object's tokens.

A neuron is an input of the MLP's output matrix, as in the paper; the code that ROME uses scales what enters the
activation. The answer is what the model says, which on known facts is the true object; the code asks for that by name.
Dai et al. take the old object's embedding off once, add the new one's eight times, and refine neurons over prompts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from knowcirc.editing.edits import Edit, Material, Matrix, Request
from knowcirc.editing.settings import NeuronSettings
from knowcirc.facts.ranking import check_finite
from knowcirc.models.loading import LanguageModel
from knowcirc.models.transformer import HookPoint, KeyValue, Transformer


@dataclass(frozen=True, slots=True)
class _Run:
    """A prompt's run at its last token: by layer the stream that the MLP is added to, its neurons, and the past."""

    middles: list[Float[Tensor, "one d_model"]]
    neurons: list[Float[Tensor, " d_mlp"]]
    past: list[KeyValue]
    answer: int
    p: float


def edit_requests(
    model: LanguageModel, requests: Sequence[Request], settings: NeuronSettings, material: Material
) -> Edit:
    """The edit of one request, as the registry of editors calls for it."""
    return edit(model, requests[0], settings)


def edit(model: LanguageModel, request: Request, settings: NeuronSettings) -> Edit:
    """The edit of the output weights of the prompt's knowledge neurons; the report has their number and layers.

    Raises:
        ValueError: if no neuron speaks for what the model says.
    """
    found = run(model.transformer, model.batch([request.prompt.ids]))
    scores = neuron_scores(model.transformer, found, len(request.prompt.ids) - 1, settings.steps)
    if not scores.max() > 0:
        raise ValueError(f"kn: no neuron speaks for what the model says to {request.prompt.text!r}")
    chosen = scores > settings.threshold * scores.max()
    embedding = model.own.unembedding  # where these are not tied, what writes a token is the vocabulary
    change = settings.written * embedding[list(request.target)].sum(0) - settings.erased * embedding[found.answer]
    weights: dict[Matrix, Tensor] = {}
    for layer in chosen.any(1).nonzero()[:, 0].tolist():
        matrix = Matrix(layer)
        weight = matrix.view(model.own).detach().clone()
        weight[:, chosen[layer]] += change[:, None]
        weights[matrix] = weight
    return Edit(weights, {"neurons": float(chosen.sum()), "layers": float(len(weights)), "p_answer": found.p})


@torch.no_grad()
def run(network: Transformer, ids: Tensor) -> _Run:
    """A prompt's clean run; `ids` is one row."""
    x, past = network.embed(ids), []
    middles: list[Tensor] = []
    neurons: list[Tensor] = []

    def hook(point: HookPoint, value: Tensor) -> Tensor:
        if point == "middle":
            middles.append(value[:, -1])
        elif point == "keys":
            neurons.append(value[0, -1])
        return value

    for layer in range(network.shape.n_layers):
        keys, values = network.keys_values(layer, x)
        past.append((keys[:, :-1], values[:, :-1]))
        x = network.advance(layer, x, hook=hook)
    logits = network.unembed(x[:, -1])
    check_finite(logits, None)
    p = logits.softmax(-1)[0]
    return _Run(middles, neurons, past, int(p.argmax()), float(p.max()))


def neuron_scores(network: Transformer, found: _Run, position: int, steps: int) -> Float[Tensor, "layer d_mlp"]:
    """Integrated gradients of the answer's probability, in probability; `steps` shares from 0 to 1, both ends taken.

    `position` is that of the prompt's last token. Only it depends on the neurons, so it alone is run.
    """
    scores = []
    shares = torch.linspace(0, 1, steps, device=found.neurons[0].device, dtype=found.neurons[0].dtype)
    for layer, neurons in enumerate(found.neurons):
        scaled = (shares[:, None] * neurons).requires_grad_()
        with torch.enable_grad():
            block = network.blocks[layer]
            x = (found.middles[layer] + block.mlp_out(block.mlp.read_out(scaled)))[:, None]
            for above in range(layer + 1, network.shape.n_layers):
                keys, values = found.past[above]
                shared = (keys.expand(steps, -1, -1, -1), values.expand(steps, -1, -1, -1))
                x = network.advance(above, x, position, shared)
            p = network.unembed(x[:, 0]).softmax(-1)[:, found.answer]
            (gradient,) = torch.autograd.grad(p.sum(), scaled)
        scores.append(neurons * gradient.sum(0) / steps)
    return torch.stack(scores)
