"""Edits: new values of weight matrices and biases, applied in place and undone to the last bit.

An editor is a function `(model, request, ...) -> Edit` of its own module; `editors.py` names them. An edit keeps
whole matrices, so that applying it writes each matrix once and undoing restores the copy. It is of the model's own
weights, however these are folded for the forward pass: folding follows the edit.
"""

import contextlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from knowcirc.editing.moments import Moment
from knowcirc.editing.settings import Part
from knowcirc.facts.prompts import Prompt, answer_tokens, fill
from knowcirc.facts.records import Record
from knowcirc.models.loading import LanguageModel
from knowcirc.models.transformer import Transformer

Left = Float[Tensor, "row width"]


@dataclass(frozen=True, slots=True)
class Material:
    """What an editor may draw on besides the model: second moments of a layer, sampled prefixes, the study's records.

    `past` is what earlier edits of this model by the same editor have left (`Edit.left`), by layer; an editor that
    spares them reads it. Who edits in sequence hands it on: `material = material.after(edit)`. Empty: no earlier edit.
    """

    moment: Callable[[int], Moment]
    prefixes: Callable[[], list[tuple[int, ...]]]
    records: Sequence[Record] = ()
    past: Mapping[int, Left] = field(default_factory=dict)
    _made: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def after(self, edit: "Edit") -> "Material":
        """The material of the next edit in a sequence."""
        past = dict(self.past)
        for layer, rows in edit.left.items():
            past[layer] = torch.cat((past[layer], rows)) if layer in past else rows
        return replace(self, past=past)

    def once(self, what: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` gives, made at the first call for `what` alone: it must not depend on the request."""
        if what not in self._made:
            self._made[what] = make()
        return self._made[what]


@dataclass(frozen=True, slots=True)
class Request:
    """An edit to make: the filled-in prompt, its subject, and the new object as tokens.

    `essence` is the prompt "SUBJECT is a", whose continuation ROME holds still; None where the prompt is given as ids.
    """

    prompt: Prompt
    essence: Prompt | None
    target: tuple[int, ...]
    subject: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Matrix:
    """Which weights: a layer's MLP output matrix, or the query, key or value matrices of all its heads together.

    `bias`: what is added to the matrix's product, instead of the matrix.
    """

    layer: int
    part: Part = "mlp_out"
    bias: bool = False

    def view(self, network: Transformer) -> Tensor:
        """The weights in place: d_model x d_mlp, or head x d_head x d_model; a bias lacks the last axis.

        Raises:
            ValueError: if there is no such bias.
        """
        if (found := self.find(network)) is None:
            raise ValueError(f"{self.part} of layer {self.layer} has no bias in this model")
        return found

    def find(self, network: Transformer) -> Tensor | None:
        """The same; None for a bias that the model does not have."""
        mlp, attention = network.blocks[self.layer].mlp, network.blocks[self.layer].attention
        pairs = {
            "mlp_out": (mlp.w_out, mlp.b_out),
            "query": (attention.w_q, attention.b_q),
            "key": (attention.w_k, attention.b_k),
            "value": (attention.w_v, attention.b_v),
        }
        return pairs[self.part][self.bias]

    def name(self, model: LanguageModel) -> str:
        """The Hugging Face parameter that holds them.

        Raises:
            ValueError: if none of the model's weights does.
        """
        memory = self.view(model.own).data_ptr()
        for name, weights in model.weights.items():
            if 0 <= memory - weights.data_ptr() < weights.nbytes:
                return name
        raise ValueError(f"{self.part} of layer {self.layer}: no parameter of {model.folder} holds these weights")


@dataclass(frozen=True, slots=True)
class Edit:
    """New values of weight matrices and biases, and what the editor reports of its work.

    `left` is what later edits by the same editor are told of this one (`Material.past`): rows by layer. AlphaEdit,
    EMMET and MEMIT leave the keys that they wrote to, UltraEdit the features that it takes statistics of. `before` is
    text that stands before whatever the edited model is asked: an edit in context, which has no weights.
    """

    weights: dict[Matrix, Tensor]
    report: dict[str, float]
    left: dict[int, Left] = field(default_factory=dict)
    before: str = ""


def request(model: LanguageModel, template: str, subject: str, target: str) -> Request:
    """The request to complete `template` for `subject` with `target`.

    Raises:
        ValueError: if the template lacks `{}`, or subject or target will not do.
    """
    if not subject or subject != subject.strip():
        raise ValueError(f"subject {subject!r}: give it without spaces around it")
    tokenizer = model.text
    new = answer_tokens(tokenizer, target)
    return Request(
        fill(tokenizer, template, subject, target), fill(tokenizer, "{} is a", subject, target), new, subject
    )


@contextlib.contextmanager
def applied(model: LanguageModel, edit: Edit | None) -> Iterator[LanguageModel]:
    """The edited model: the same network with the edit's weights in place (none: as it is).

    Within the block use what it yields: a folded or packed transformer sees the edit only there. On leaving, the old
    weights are back, bit by bit. What an edit puts before texts stands in `before` of that model.

    Raises:
        ValueError: if an edited layer does not exist.
    """
    network = model.own
    weights = {} if edit is None else edit.weights
    for matrix in weights:
        check_layer(model, matrix.layer)
    old = {matrix: matrix.view(network).clone() for matrix in weights}
    try:
        with torch.no_grad():
            for matrix, weight in weights.items():
                matrix.view(network).copy_(weight)
        edited = model.refreshed({matrix.layer for matrix in weights})
        yield replace(edited, before=model.before + edit.before) if edit else edited
    finally:
        with torch.no_grad():
            for matrix, weight in old.items():
                matrix.view(network).copy_(weight)


def check_layer(model: LanguageModel, layer: int) -> None:
    """Refuse a layer that the model does not have.

    Raises:
        ValueError: naming the layers that exist.
    """
    n_layers = model.transformer.shape.n_layers
    if not 0 <= layer < n_layers:
        raise ValueError(f"layer {layer} does not exist; this model has layers 0 to {n_layers - 1}")
