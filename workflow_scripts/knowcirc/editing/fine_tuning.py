"""Editing by gradient descent on one layer's matrices: the baselines that ROME and Knowledge Circuits compare with.

| editor | matrices | loss | bound |
|---|---|---|---|
| FT | MLP output | the target's tokens, each read at the prompt's last token (ROME's code) | none |
| FT+L | MLP output | the same | each entry moves by `bound` at most (L-infinity; Zhu et al. 2020) |
| FT-M | MLP output | the target's tokens, each after those before it | none |
| AttnEdit | queries, keys, values of a late layer | as FT | as FT+L (ROME, section 3.4) |

The matrices' biases are trained, too, where the model has any: ROME's code chooses parameters by the name of their
module. They are the model's own, whatever is folded for the forward pass.

Adam, at most `steps` steps, until the loss falls below `stop_loss`. Only the layers from the edited one up are run at
each step.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from knowcirc.editing.edits import Edit, Material, Matrix, Request, check_layer
from knowcirc.editing.settings import DescentSettings, FineTuneSettings
from knowcirc.models.layers import Block
from knowcirc.models.loading import LanguageModel


def edit_requests(
    model: LanguageModel, requests: Sequence[Request], settings: FineTuneSettings, material: Material
) -> Edit:
    """The edit of one request, as the registry of editors calls for it; it draws on nothing else."""
    return edit(model, requests[0], settings)


def edit(model: LanguageModel, request: Request, settings: FineTuneSettings) -> Edit:
    """The edit of one layer's matrices and their biases by gradient descent on the target's tokens.

    Raises:
        ValueError: if the layer does not exist.
    """
    check_layer(model, settings.layer)
    network = model.transformer
    teacher = request.target[:-1] if settings.loss == "target" else ()
    with torch.no_grad():
        before = network.embed(model.batch([request.prompt.ids + teacher]))
        for layer in range(settings.layer):
            before = network.advance(layer, before)
    trained = [Matrix(settings.layer, part, bias) for bias in (False, True) for part in settings.parts]
    found = {matrix: weight for matrix in trained if (weight := matrix.find(model.own)) is not None}
    old = list(found.values())
    weights = [weight.detach().clone().contiguous().requires_grad_() for weight in old]

    def loss() -> Tensor:
        block = with_weights(model.own.blocks[settings.layer], dict(zip(found, weights, strict=True)))
        blocks = (*network.blocks[: settings.layer], block, *network.blocks[settings.layer + 1 :])
        tuned = replace(network, blocks=blocks)
        x = before
        for layer in range(settings.layer, network.shape.n_layers):
            x = tuned.advance(layer, x)
        return target_loss(model, request, network.unembed(x[0, -1 - len(teacher) :]))

    def bound() -> None:
        if settings.bound is not None:
            _bound(weights, old, settings.bound)

    report = descend(settings, weights, loss, bound)
    return Edit({matrix: weight.detach() for matrix, weight in zip(found, weights, strict=True)}, report)


def target_loss(
    model: LanguageModel, request: Request, logits: Float[Tensor, "one_or_each vocab"]
) -> Float[Tensor, ""]:
    """Mean negative log-likelihood of the target's tokens, each of its own logits or all of the same."""
    targets = model.batch([request.target])[0]
    return torch.nn.functional.cross_entropy(logits.expand(len(targets), -1), targets)


def descend(
    settings: DescentSettings, weights: list[Tensor], loss_of: Callable[[], Tensor], after: Callable[[], None]
) -> dict[str, float]:
    """Adam on the weights, in place, until the loss is low enough; steps taken, and the last loss (nats).

    `after` is called after each step.
    """
    adam = torch.optim.Adam(weights, lr=settings.learning_rate)
    for step in range(settings.steps):  # noqa: B007
        with torch.enable_grad():
            loss = loss_of()
        if loss < settings.stop_loss:
            break
        adam.zero_grad()
        loss.backward()
        adam.step()
        after()
    return {"steps": float(step + 1), "nll": loss.item()}


@torch.no_grad()
def _bound(weights: list[Tensor], old: list[Tensor], bound: float) -> None:
    for weight, start in zip(weights, old, strict=True):
        weight.copy_(torch.clamp(weight, start - bound, start + bound))


def with_weights(block: Block, weights: dict[Matrix, Tensor]) -> Block:
    """The layer that reads other weights, through which gradients reach them."""
    given = {(matrix.part, matrix.bias): weight for matrix, weight in weights.items()}
    mlp, attention = block.mlp, block.attention
    return replace(
        block,
        mlp=replace(
            mlp,
            w_out=given.get(("mlp_out", False), mlp.w_out),
            b_out=given.get(("mlp_out", True), mlp.b_out),
        ),
        attention=replace(
            attention,
            w_q=given.get(("query", False), attention.w_q),
            w_k=given.get(("key", False), attention.w_k),
            w_v=given.get(("value", False), attention.w_v),
            b_q=given.get(("query", True), attention.b_q),
            b_k=given.get(("key", True), attention.b_k),
            b_v=given.get(("value", True), attention.b_v),
        ),
    )
