"""Causal tracing one site and one draw at a time: a whole forward pass of the Hugging Face model each, with hooks.

What the batched runs of the library must agree with, and what they are timed beside.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from knowcirc.facts.prompts import Prompt
from knowcirc.models.loading import LanguageModel
from knowcirc.tracing.causal import Kind, TraceSettings
from unit import reference

PARTS = ("state", "mlp", "attention")
HEADS = "heads"
Values = dict[str, list[Tensor]]
Corruption = Tensor | Prompt | None
"""Noise on the subject's embeddings, or a prompt that is read instead; None: neither."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a layer's part gives at one position in a run: `part` is state, mlp, attention, or heads with a `head`."""

    part: str
    layer: int
    position: int
    value: Tensor
    head: int = -1


@dataclass(frozen=True)
class PlainTracing:
    """One prompt under one corruption: noise, or the prompt of another subject."""

    model: LanguageModel
    prompt: Prompt
    settings: TraceSettings
    other: Prompt | None = None

    def corruptions(self) -> Sequence[Corruption]:
        """What the corrupted runs are made by: each draw of the noise, or the other prompt."""
        return list(self.noise()) if self.other is None else [self.other]

    @cached_property
    def network(self) -> PreTrainedModel:
        """The Hugging Face model, which is made once."""
        return reference.network(self.model)

    def noise(self) -> Tensor:
        """draws x corrupted tokens x d_model, as ROME's code draws it."""
        assert self.prompt.span is not None
        low, high = self.prompt.span
        d_model = reference.embedding(self.network).weight.shape[1]
        shape = (self.settings.draws, high + self.settings.extra - low, d_model)
        random = np.random.RandomState(self.settings.seed)
        if self.settings.distribution == "uniform":
            return torch.from_numpy(random.uniform(-1, 1, shape) * self.settings.noise)
        unit = random.randn(*shape)
        if self.settings.distribution == "gaussian":
            return torch.from_numpy(unit * self.settings.noise)
        known = reference.embedding(self.network)(torch.tensor(self.settings.fitted_to)).double().numpy()
        values, axes = np.linalg.eigh(np.cov(known, rowvar=False))
        root = axes @ np.diag(np.sqrt(values.clip(0))) @ axes.T
        return torch.from_numpy(known.mean(0) + self.settings.noise * unit @ root)

    def p(self, corruption: Corruption = None, places: tuple[Place, ...] = ()) -> float:
        """The answer's probability under a corruption and with places given values."""
        with self._changed(corruption, places):
            logits = reference.logits(self.network, self._ids(corruption))
        return float(logits[0, -1].double().softmax(-1)[self.prompt.answer[0]])

    def values(self, corruption: Corruption = None) -> Values:
        """What every part of every layer gives at every position, by part and layer; of heads, side by side."""
        layers = range(len(reference.layers(self.network)))
        modules = {f"{part}{layer}": self._module(part, layer) for part in (*PARTS, HEADS) for layer in layers}
        with self._changed(corruption, ()):
            seen = reference.watch(self.network, self._ids(corruption), **modules)
        return {part: [seen[f"{part}{layer}"][part != HEADS][0] for layer in layers] for part in (*PARTS, HEADS)}

    def _ids(self, corruption: Corruption) -> Tensor:
        return self.model.batch([(corruption if isinstance(corruption, Prompt) else self.prompt).ids])

    def places(self, kind: Kind, layer: int, position: int, clean: Values, corrupted: Values) -> tuple[Place, ...]:
        """What a site of a kind fixes: clean values, and above a severed state the corrupted run's."""
        n_layers, window = len(clean["state"]), self.settings.window
        if kind in ("mlp", "attention"):
            inside = range(max(0, layer - window // 2), min(n_layers, layer + -(-window // 2)))
            return tuple(Place(kind, one, position, clean[kind][one][position]) for one in inside)
        restored = Place("state", layer, position, clean["state"][layer][position])
        if kind == "state":
            return (restored,)
        part = kind.removeprefix("severed_")
        above = range(layer + 1, n_layers)
        return (restored, *(Place(part, one, position, corrupted[part][one][position]) for one in above))

    def effects(self, kind: Kind, sites: Sequence[tuple[int, int]]) -> np.ndarray:
        """The indirect effects of sites (layer, position) of a kind, the mean over the draws."""
        clean = self.values()
        return self._means(lambda corrupted: [self.places(kind, *site, clean, corrupted) for site in sites])

    def _means(self, places: Callable[[Values], list[tuple[Place, ...]]]) -> np.ndarray:
        """What fixing places changes, the mean over the corrupted runs; `places` is given what such a run leaves."""
        found = []
        for corruption in self.corruptions():
            base = self.p(corruption)
            found.append([self.p(corruption, fixed) - base for fixed in places(self.values(corruption))])
        return np.mean(found, 0)

    def head_effects(self) -> np.ndarray:
        """The indirect effects of all heads at all positions: layer x head x position."""
        n_heads, d_head = self.model.transformer.shape.n_heads, self.model.transformer.shape.d_head
        clean = self.values()[HEADS]
        shape = len(clean), n_heads, len(self.prompt.ids)
        sites = [
            (Place(HEADS, layer, at, clean[layer][at, head * d_head : (head + 1) * d_head], head),)
            for layer, head, at in np.ndindex(shape)
        ]
        return self._means(lambda _: sites).reshape(shape)

    def all_effects(self, kind: Kind) -> np.ndarray:
        """The indirect effects of all sites of a kind: layer x position, those before the subject too."""
        shape = len(reference.layers(self.network)), len(self.prompt.ids)
        return self.effects(kind, list(np.ndindex(shape))).reshape(shape)

    def _module(self, part: str, layer: int) -> nn.Module:
        module = reference.layers(self.network)[layer]
        if part == HEADS:
            return reference.heads_out(module)
        attention, mlp = reference.added(module)
        return {"state": module, "mlp": mlp, "attention": attention}[part]

    @contextlib.contextmanager
    def _changed(self, corruption: Corruption, places: tuple[Place, ...]) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            if isinstance(corruption, Tensor):
                table = reference.embedding(self.network)
                stack.enter_context(reference.outputs_changed(table, self._corrupting(corruption)))
            for place in places:
                changed = reference.inputs_changed if place.part == HEADS else reference.outputs_changed
                stack.enter_context(changed(self._module(place.part, place.layer), _fixing(place)))
            yield

    def _corrupting(self, noise: Tensor) -> Callable[[Tensor], Tensor]:
        assert self.prompt.span is not None
        low = self.prompt.span[0]

        def change(x: Tensor) -> Tensor:
            x[0, low : low + len(noise)] += noise
            return x

        return change


def _fixing(place: Place) -> Callable[[Tensor], Tensor]:
    def change(x: Tensor) -> Tensor:
        low = max(place.head, 0) * len(place.value)
        x[0, place.position, low : low + len(place.value)] = place.value
        return x

    return change
