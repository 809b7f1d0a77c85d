"""LoRA (Hu et al. 2022, arXiv 2106.09685) as an editor: adapters of low rank, trained on the request and merged.

    W' = W + (alpha / rank) B A,     A: rank x d_in, B: d_out x rank

in the query and value matrices of every layer, as in the paper, each with a B and an A of its own. A is drawn (from a
seed, as PyTorch draws linear maps), B starts at zero, so that training starts from the model as it is. The loss is
FT-M's: the target's tokens, each after those before it; Adam, without dropout and weight decay.

EasyEdit, which has LoRA as a baseline, adapts GPT-2 XL's `c_attn`: queries, keys and values in one matrix, with one A
for the three. It trains AdaLoRA, which also shifts rank between matrices, with a dropout of 0.1.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from knowcirc.editing.edits import Edit, Material, Matrix, Request
from knowcirc.editing.fine_tuning import descend, target_loss, with_weights
from knowcirc.editing.settings import LoraSettings
from knowcirc.models.loading import LanguageModel
from knowcirc.seeding import generator


def edit_requests(
    model: LanguageModel, requests: Sequence[Request], settings: LoraSettings, material: Material
) -> Edit:
    """The edit of one request, as the registry of editors calls for it; it draws on nothing else."""
    return edit(model, requests[0], settings)


def edit(model: LanguageModel, request: Request, settings: LoraSettings) -> Edit:
    """The edit of the chosen matrices of all layers by adapters that are trained on the target's tokens."""
    network, ids = model.own, model.batch([request.prompt.ids + request.target[:-1]])
    matrices = [Matrix(layer, part) for layer in range(network.shape.n_layers) for part in settings.parts]
    old = {matrix: matrix.view(network) for matrix in matrices}
    pairs = {matrix: adapter(matrix, weight, settings.rank) for matrix, weight in old.items()}
    scale = settings.alpha / settings.rank
    with torch.no_grad():
        embedded = network.embed(ids)

    def merged(layer: int) -> dict[Matrix, Tensor]:
        parts = [Matrix(layer, part) for part in settings.parts]
        return {each: merge(old[each], *pairs[each], scale) for each in parts}

    def loss() -> Tensor:
        blocks = tuple(with_weights(block, merged(layer)) for layer, block in enumerate(network.blocks))
        tuned, x = replace(network, blocks=blocks), embedded
        for layer in range(network.shape.n_layers):
            x = tuned.advance(layer, x)
        return target_loss(model, request, tuned.unembed(x[0, -len(request.target) :]))

    report = descend(settings, [each for pair in pairs.values() for each in pair], loss, lambda: None)
    new = {matrix: merge(old[matrix], *pair, scale).detach() for matrix, pair in pairs.items()}
    return Edit(new, report)


def adapter(
    matrix: Matrix, weight: Float[Tensor, "*out d_in"], rank: int
) -> tuple[Float[Tensor, "d_out rank"], Float[Tensor, "rank d_in"]]:
    """B, which is zero, and A, drawn uniformly within 1 / sqrt(d_in); both are to be trained."""
    d_in = weight.shape[-1]
    drawn = torch.rand(rank, d_in, generator=generator(0, "lora", matrix.layer, matrix.part), dtype=torch.float64)
    a = ((2 * drawn - 1) / d_in**0.5).to(weight.device, weight.dtype)
    b = torch.zeros(weight.numel() // d_in, rank, device=weight.device, dtype=weight.dtype)
    return b.requires_grad_(), a.requires_grad_()


def merge(
    weight: Float[Tensor, "*out d_in"], b: Float[Tensor, "d_out rank"], a: Float[Tensor, "rank d_in"], scale: float
) -> Float[Tensor, "*out d_in"]:
    """The matrix with its adapter: heads are rows of one matrix."""
    return weight + scale * (b @ a).view(weight.shape)
