"""Editing by gradient descent on one layer's matrices: the baselines that ROME and Knowledge Circuits compare with.

| editor | matrices | loss | bound |
|---|---|---|---|
| FT | MLP output | the target's tokens, each read at the prompt's last token (ROME's code) | none |
| FT+L | MLP output | the same | each entry moves by `bound` at most (L-infinity; Zhu et al. 2020) |
| FT-M | MLP output | the target's tokens, each after those before it | none |
| AttnEdit | queries, keys, values of a late layer | as FT | as FT+L (ROME, section 3.4) |

Adam, at most `steps` steps, until the loss falls below `stop_loss`. Only the layers from the edited one up are run at
each step.
"""

from collections.abc import Sequence
from dataclasses import fields, replace

import torch
from torch import Tensor

from knowcirc.editing.edits import Edit, Material, Matrix, Request, check_layer
from knowcirc.editing.settings import FineTuneSettings, Part
from knowcirc.models.layers import Attention, Block, Mlp
from knowcirc.models.loading import LanguageModel
from knowcirc.models.transformer import Transformer


def edit_requests(
    model: LanguageModel, requests: Sequence[Request], settings: FineTuneSettings, material: Material
) -> Edit:
    """The edit of one request, as the registry of editors calls for it; it draws on nothing else."""
    return edit(model, requests[0], settings)


def edit(model: LanguageModel, request: Request, settings: FineTuneSettings) -> Edit:
    """The edit of one layer's matrices by gradient descent on the target's tokens.

    Raises:
        ValueError: if the layer does not exist.
    """
    check_layer(model, settings.layer)
    network = model.transformer
    teacher = request.target[:-1] if settings.loss == "target" else ()
    targets = model.batch([request.target])[0]
    with torch.no_grad():
        before = network.embed(model.batch([request.prompt.ids + teacher]))
        for layer in range(settings.layer):
            before = network.advance(layer, before)
    matrices = [Matrix(settings.layer, part) for part in settings.parts]
    old = [matrix.view(network) for matrix in matrices]
    weights = [weight.detach().clone().contiguous().requires_grad_() for weight in old]
    adam = torch.optim.Adam(weights, lr=settings.learning_rate)
    for step in range(settings.steps):  # noqa: B007
        with torch.enable_grad():
            tuned = _with_weights(network, settings.layer, dict(zip(settings.parts, weights, strict=True)))
            x = before
            for layer in range(settings.layer, network.shape.n_layers):
                x = tuned.advance(layer, x)
            logits = network.unembed(x[0, -1 - len(teacher) :]).expand(len(targets), -1)
            loss = torch.nn.functional.cross_entropy(logits, targets)
        if loss < settings.stop_loss:
            break
        adam.zero_grad()
        loss.backward()
        adam.step()
        if settings.bound is not None:
            _bound(weights, old, settings.bound)
    found = {matrix: weight.detach() for matrix, weight in zip(matrices, weights, strict=True)}
    return Edit(found, {"steps": float(step + 1), "nll": loss.item()})


@torch.no_grad()
def _bound(weights: list[Tensor], old: list[Tensor], bound: float) -> None:
    for weight, start in zip(weights, old, strict=True):
        weight.copy_(torch.clamp(weight, start - bound, start + bound))


def _with_weights(network: Transformer, layer: int, weights: dict[Part, Tensor]) -> Transformer:
    """The network whose layer reads other matrices, unpacked so that gradients reach them."""
    block = network.blocks[layer]
    mlp = Mlp(**{each.name: getattr(block.mlp, each.name) for each in fields(Mlp)})
    attention = Attention(**{each.name: getattr(block.attention, each.name) for each in fields(Attention)})
    mlp = replace(mlp, w_out=weights.get("mlp_out", mlp.w_out))
    attention = replace(
        attention,
        w_q=weights.get("query", attention.w_q),
        w_k=weights.get("key", attention.w_k),
        w_v=weights.get("value", attention.w_v),
    )
    changed = Block(block.norm1, attention, block.norm2, mlp)
    return replace(network, blocks=(*network.blocks[:layer], changed, *network.blocks[layer + 1 :]))
