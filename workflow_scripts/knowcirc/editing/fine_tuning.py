"""Fine-tuning one MLP output matrix on the request: the baseline that Knowledge Circuits compares with ROME.

FT-M: cross-entropy of the target's tokens given the prompt, Adam on one matrix, at most `steps` steps, until the
loss falls below `stop_loss`. Only the layers from the edited one up are run at each step.
"""

from dataclasses import dataclass

import torch

from knowcirc.editing.edits import Edit, Request, check_layer
from knowcirc.models.loading import LanguageModel


@dataclass(frozen=True, slots=True)
class FineTuneSettings:
    """Adam's settings; losses in nats."""

    layer: int
    steps: int
    learning_rate: float
    stop_loss: float

    def __post_init__(self) -> None:
        if self.steps < 1 or self.learning_rate <= 0:
            raise ValueError(f"ft-m: steps and learning_rate must be positive, got {self}")


def edit(model: LanguageModel, request: Request, settings: FineTuneSettings) -> Edit:
    """The edit of one layer's MLP output matrix by gradient descent on the target's tokens.

    Raises:
        ValueError: if the layer does not exist.
    """
    check_layer(model, settings.layer)
    network, mlp = model.transformer, model.transformer.blocks[settings.layer].mlp
    text = request.prompt.ids + request.target
    targets = model.batch([request.target])[0]
    with torch.no_grad():
        x = network.embed(model.batch([text[:-1]]))
        for layer in range(settings.layer):
            x = network.advance(layer, x)
        middle = x + network.attend(settings.layer, x)
        keys = mlp.hidden(network.blocks[settings.layer].norm2(middle))
    weight = mlp.w_out.detach().clone().requires_grad_()
    adam = torch.optim.Adam([weight], lr=settings.learning_rate)
    for step in range(settings.steps):  # noqa: B007
        with torch.enable_grad():
            x = middle + torch.nn.functional.linear(keys, weight, mlp.b_out)
            for layer in range(settings.layer + 1, network.shape.n_layers):
                x = network.advance(layer, x)
            logits = network.unembed(x[0, -len(targets) :])
            loss = torch.nn.functional.cross_entropy(logits, targets)
        if loss < settings.stop_loss:
            break
        adam.zero_grad()
        loss.backward()
        adam.step()
    return Edit({settings.layer: weight.detach()}, {"steps": float(step + 1), "nll": loss.item()})
