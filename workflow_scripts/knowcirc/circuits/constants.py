"""What stays while the state of a circuit changes: what nodes of a tree see, their angles, and biases on the way."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from knowcirc.circuits.graph import Graph
from knowcirc.models.token_tree import TokenTree
from knowcirc.models.transformer import Transformer


def masks_of(model: Transformer, tree: TokenTree) -> dict[tuple[int, bool], Bool[Tensor, "_ node"]]:
    """Which nodes each layer hides from all nodes (True), and from those at which prompts end (False)."""
    windows = [block.attention.window for block in model.blocks]
    within = {window: tree.hidden_within(window) for window in set(windows)}
    at_last = {window: hidden[tree.leaves] for window, hidden in within.items()}
    both = {True: within, False: at_last}
    return {
        (layer, everywhere): both[everywhere][window] for layer, window in enumerate(windows) for everywhere in both
    }


def angles_of(model: Transformer, tree: TokenTree) -> dict[bool, tuple[Tensor, Tensor]] | None:
    """Rotary angles of all nodes (True) and of those at which prompts end (False); None without rotary positions."""
    if model.rotary is None:
        return None
    cos, sin = (angles[0] for angles in model.rotary.angles(model.embedding, tree.depth[None]))
    return {True: (cos, sin), False: (cos[tree.leaves], sin[tree.leaves])}


def biases_passed(model: Transformer, graph: Graph) -> Float[Tensor, "dst d_model"]:
    """Attention output biases that each receiver has passed: they belong to no sender."""
    total = torch.zeros(graph.n_dst, model.shape.d_model, device=model.device, dtype=model.embedding.dtype)
    for layer, block in enumerate(model.blocks):
        if block.attention.b_o is not None:
            total[graph.mlp_in(layer) + graph.parallel :] += block.attention.b_o
    return total
