"""What absent edges deliver when it is not nothing: averages over other prompts, or the run of a partner.

Mean ablation: each sender's average output over the prompts on which a circuit was found (D_val), position by position.
Prompts differ in length, so positions are aligned at two places:

| position | class | where D_val has no such position |
|---|---|---|
| up to the subject's last token | distance from the subject's last token | that of the longest distance |
| behind it | distance from the end | that of the longest distance |

Both kinds (`Absent`) say what must agree, position by position, for prompts to share a position of a token tree, and
give the outputs at the tree's nodes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from knowcirc.circuits.graph import Graph
from knowcirc.circuits.patched import Outputs, record
from knowcirc.facts.prompts import Prompt
from knowcirc.models.loading import LanguageModel
from knowcirc.models.memory import in_parts
from knowcirc.models.token_tree import TokenTree, groups, grow

BATCH = 20
MEAN_OF_NONE = "mean ablation needs at least one prompt to average over"


def distances(prompt: Prompt) -> tuple[list[int], list[int]]:
    """Positions as distances: from the subject's last token (it and those before), from the end (those behind it).

    Raises:
        ValueError: if the prompt has no subject.
    """
    last, end = prompt.subject_last, len(prompt.ids) - 1
    return [last - position for position in range(last + 1)], [end - position for position in range(last + 1, end + 1)]


@dataclass(frozen=True, slots=True)
class AlignedMeans:
    """Each sender's average output, by class of position: `n_before` classes of distance from the subject, then ends.

    Class c below `n_before` is the distance c from the subject's last token; class n_before + d the distance d from the
    end.
    """

    means: Float[Tensor, "src class d_model"]
    n_before: int

    @classmethod
    def of(cls, model: LanguageModel, graph: Graph, prompts: Sequence[Prompt]) -> "AlignedMeans":
        """The means over all prompts that have a position of the class.

        Raises:
            ValueError: for no prompts, or one without a subject.
        """
        if not prompts:
            raise ValueError(MEAN_OF_NONE)
        sides = [distances(prompt) for prompt in prompts]
        n_before = max(len(before) for before, _ in sides)
        n_classes = n_before + max(len(behind) for _, behind in sides)
        classes = [[*before, *(n_before + distance for distance in behind)] for before, behind in sides]
        shape = (graph.n_src, n_classes, model.transformer.shape.d_model)
        sums = torch.zeros(shape, dtype=torch.float64, device=model.device)
        counts = torch.zeros(n_classes, device=model.device)

        def averaged(group: list[int]) -> tuple[Tensor, Tensor]:
            tree = grow([prompts[i].ids for i in group], device=model.device)
            weights = torch.zeros(n_classes, len(tree), device=model.device)
            for i, path in zip(group, tree.paths.tolist(), strict=True):
                for kind, node in zip(classes[i], path, strict=False):  # paths are filled up behind a prompt's end
                    weights[kind, node] += 1
            outputs = record(model.transformer, graph, tree).outputs[:, 0]
            return weights.to(outputs) @ outputs, weights.sum(1)

        for _, (outputs, passed) in in_parts(groups([prompt.ids for prompt in prompts], BATCH), averaged):
            sums += outputs
            counts += passed
        return cls((sums / counts[:, None]).to(outputs.dtype), n_before)

    def beside(self, prompt: Prompt) -> list[int]:
        """The class of each position.

        Raises:
            ValueError: if the prompt has no subject, or goes on behind it where none of the averaged prompts does.
        """
        before, behind = distances(prompt)
        n_behind = self.means.shape[1] - self.n_before
        if behind and not n_behind:
            raise ValueError(
                f"prompt {prompt.text!r} goes on behind its subject, where the prompts of the means end; average over "
                "prompts of the same wording"
            )
        near = [min(distance, self.n_before - 1) for distance in before]
        return [*near, *(self.n_before + min(distance, n_behind - 1) for distance in behind)]

    def at(self, tree: TokenTree, prompts: Sequence[Prompt]) -> Outputs:
        """The means at the nodes of a tree that was grown with the prompts' classes beside them."""
        classes = [0] * len(tree)
        for prompt, path in zip(prompts, tree.paths.tolist(), strict=True):
            for kind, node in zip(self.beside(prompt), path, strict=False):
                classes[node] = kind
        return self.means[:, None, torch.tensor(classes, device=self.means.device)]


@dataclass(frozen=True, slots=True)
class PartnerRuns:
    """The outputs on each prompt's partner, which has as many tokens (patching)."""

    model: LanguageModel
    graph: Graph
    partners: Mapping[Prompt, Prompt]

    def beside(self, prompt: Prompt) -> list[int]:
        """The partner's tokens."""
        return list(self.partners[prompt].ids)

    def at(self, tree: TokenTree, prompts: Sequence[Prompt]) -> Outputs:
        """The partners' run, recorded on the same tree."""
        others = tree.with_tokens([self.partners[prompt].ids for prompt in prompts])
        return record(self.model.transformer, self.graph, others).outputs


Absent = AlignedMeans | PartnerRuns
"""What absent edges deliver, where it is not nothing."""
