"""EAP-IG over activations: gradients between the corrupted and the clean output of every place in turn.

1. Record all senders on the clean and on the corrupted prompts (or take these as zero).
2. For the embedding, and for each layer's heads together and its MLP: hold their outputs at k / steps of the way from
   the corrupted to the clean ones (k = 1 ... steps), run the clean prompts with them, and take the gradient of the loss
   at what every receiver reads. Nothing passes back through held outputs.
3. The score of an edge is that of EAP with the gradient averaged over all these runs.

Where EAP-IG moves the input and lets all else follow, here each place is moved for itself. That takes
steps x (2 layers + 1) gradients.

Source: Hanna et al. 2024, arXiv 2403.17806, and the method EAP-IG-activations of its code.
"""

import torch
from jaxtyping import Int
from torch import Tensor

from knowcirc.circuits.attribution import Held, Targets, finished, record_both, score_step
from knowcirc.circuits.circuit import Scores
from knowcirc.circuits.graph import Graph
from knowcirc.models.token_tree import Prompts, TokenTree
from knowcirc.models.transformer import Transformer


def places(graph: Graph) -> list[slice]:
    """The senders that are moved together: the embedding, then each layer's heads, and its MLP."""
    found = [slice(0, 1)]
    for layer in range(graph.n_layers):
        found += [graph.heads(layer), slice(graph.mlp(layer), graph.mlp(layer) + 1)]
    return found


def score_edges(
    model: Transformer,
    graph: Graph,
    clean: Prompts,
    corrupted: Int[Tensor, "_ _"] | TokenTree | None,
    targets: Targets,
    *,
    steps: int = 5,
) -> Scores:
    """Scores of all edges, summed over the prompts; unit of the loss, zero outside the graph.

    Prompts are given as in `attribution.score_edges`.

    Raises:
        ValueError: if clean and corrupted prompts differ in length, or a score is not finite.
    """
    runs = record_both(model, graph, clean, corrupted)
    targets = targets.anchored(model.unembed(runs.layout.at_ends(runs.clean.final)), runs.layout.lengths)
    embedded, difference = runs.clean.outputs[0], runs.absent - runs.clean.outputs
    total = torch.zeros(graph.n_src, graph.n_dst, device=model.device, dtype=difference.dtype)
    moved = places(graph)
    for senders in moved:
        for step in range(1, steps + 1):
            held = Held(senders, torch.lerp(runs.absent[senders], runs.clean.outputs[senders], step / steps))
            total += score_step(model, graph, runs.layout, embedded, difference, targets, held=held)
    return finished(graph, total / (steps * len(moved)))
