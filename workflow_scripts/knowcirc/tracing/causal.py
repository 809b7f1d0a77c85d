"""Causal tracing (ROME, section 2.1): which states carry a fact from its subject to its answer.

1. Clean run: keep every layer's residual stream, attention output and MLP output.
2. Corrupted run: noise on the subject's embeddings, `draws` times; or, once, another subject in place of it, token for
   token (Zhang and Nanda 2024, arXiv 2309.16042: the input stays one that the model knows). The answer's probability
   falls.
3. Restored runs: the corrupted run, but one site is given its clean value. The rise of the probability is the site's
   indirect effect.

| kind | what is restored at a layer and position |
|---|---|
| state | the residual stream after the layer |
| mlp, attention | the outputs of a window of layers around it |
| severed_mlp, severed_attention | as state, while the MLP (attention) outputs of all higher layers at that position |
| | keep the corrupted run's values (ROME Fig. 3) |
| one head (`heads.py`) | what it mixes, before the attention's output matrix |

Positions before the subject are the same in all runs: their effect is zero and they are not run.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from knowcirc.facts.prompts import Prompt
from knowcirc.job import release_pages
from knowcirc.models.loading import LanguageModel
from knowcirc.models.memory import halved, room
from knowcirc.models.transformer import Transformer
from knowcirc.tracing.noise import check_fit, embedding_deviation, noise_like_embeddings, unit_noise
from knowcirc.tracing.restored import Site, parts_of_draws, restore, run
from knowcirc.tracing.settings import ALL_KINDS, DISTRIBUTIONS, FITTED, KINDS, SEVERED, Distribution, Kind

__all__ = ["KINDS", "SEVERED", "Kind", "Trace", "TraceSettings", "embedding_deviation", "tabulate", "trace_fact"]
Positions = Literal["all", "subject_last"]
LEAST = 2**20  # bytes: passes of one site and one draw take more, so that less changes nothing


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """How facts are corrupted and what is restored.

    `noise` is added to the embeddings of the subject and of the `extra` tokens after it: its standard deviation if
    Gaussian, its largest absolute value if uniform; multivariate noise, fitted to the embeddings of the tokens
    `fitted_to`, has `noise` times their root covariance (`noise.py`). `window` counts layers. `severed_at` says where
    the severed kinds are run: at all positions, or at the subject's last token alone.
    """

    noise: float
    draws: int
    window: int
    seed: int
    kinds: tuple[Kind, ...] = KINDS
    distribution: Distribution = DISTRIBUTIONS[0]
    extra: int = 0
    severed_at: Positions = "all"
    fitted_to: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.draws < 1 or self.window < 1 or self.noise < 0 or self.extra < 0:
            raise ValueError(
                f"tracing: draws {self.draws} and window {self.window} must be 1 or more, noise {self.noise} and extra "
                f"{self.extra} 0 or more"
            )
        for name, value, known in (
            *(("kind", kind, ALL_KINDS) for kind in self.kinds),
            ("distribution", self.distribution, DISTRIBUTIONS),
            ("severed_at", self.severed_at, get_args(Positions)),
        ):
            if value not in known:
                raise ValueError(f"tracing: {name} {value!r} is none of {', '.join(known)}")
        check_fit(self.distribution, self.fitted_to)


@dataclass(frozen=True, slots=True)
class Trace:
    """Indirect effects of one fact, in probability: effects[kind] has the axes layer, pos; NaN where not run."""

    p_clean: float
    p_corrupted: float
    effects: dict[Kind, Float[np.ndarray, "layer pos"]]

    @property
    def total(self) -> float:
        """The total effect: what the corruption takes from the answer's probability."""
        return self.p_clean - self.p_corrupted


def corrupted_span(prompt: Prompt, extra: int = 0) -> tuple[int, int]:
    """The token range that gets noise: the subject and `extra` tokens after it.

    Raises:
        ValueError: if the prompt has no subject, or not so many tokens after it.
    """
    if prompt.span is None:
        raise ValueError(f"prompt {prompt.text!r} has no subject to corrupt")
    low, high = prompt.span[0], prompt.span[1] + extra
    if high > len(prompt.ids):
        left = len(prompt.ids) - prompt.span[1]
        raise ValueError(f"prompt {prompt.text!r} has {left} tokens after its subject; {extra} are to be corrupted")
    return low, high


def check_other(prompt: Prompt, other: Prompt) -> None:
    """Make sure that two prompts differ in their subjects alone, token for token.

    Raises:
        ValueError: if they do not.
    """
    low, high = corrupted_span(prompt)
    if len(other.ids) != len(prompt.ids):
        raise ValueError(
            f"prompt {prompt.text!r} has {len(prompt.ids)} tokens, {other.text!r} has {len(other.ids)}; take another "
            "subject, of as many tokens"
        )
    outside = [at for at in range(len(prompt.ids)) if not low <= at < high and prompt.ids[at] != other.ids[at]]
    if outside:
        raise ValueError(
            f"prompts {prompt.text!r} and {other.text!r} differ outside the subject, at position {outside[0]}; replace "
            "the subject alone, by one of as many tokens"
        )
    if other.ids == prompt.ids:
        raise ValueError(f"prompt {other.text!r} has the same subject; take another one")


def trace_fact(
    model: LanguageModel,
    prompt: Prompt,
    settings: TraceSettings,
    *,
    other: Prompt | None = None,
    memory: int | None = None,
) -> Trace:
    """The indirect effect of every site on the probability of `prompt.answer[0]`, averaged over the draws.

    The noise is drawn by numpy's `RandomState(settings.seed)`, of shape draws x corrupted tokens x d_model, anew for
    each fact (as ROME's code does). With `other`, the prompt of another subject, the corrupted run reads that one, and
    there is no noise. `memory` bounds the bytes that a pass takes; the default is 128 MiB on a CPU and
    a quarter of what is free on a GPU, less where that runs out. It changes the effects by rounding alone.

    Raises:
        ValueError: if the prompt has no subject, or not `extra` tokens after it; if `other` differs from it elsewhere.
    """
    n_layers = model.transformer.shape.n_layers
    corrupted_span(prompt, 0 if other else settings.extra)
    sites = sites_of(prompt, settings, n_layers)
    found = restore_sites(model, prompt, settings, sites, other=other, memory=memory)
    effects = {kind: _unrun(prompt, kind, settings, n_layers) for kind in settings.kinds}
    for position, here in sites.items():
        for site, effect in zip(here, found.effects[position], strict=True):
            effects[site.kind][site.layer, position] = effect
    return Trace(found.p_clean, found.p_corrupted, effects)


@dataclass(frozen=True, slots=True)
class Restored:
    """What restored runs of one fact gave, in probability: each position's effects, in the order of its sites."""

    p_clean: float
    p_corrupted: float
    effects: dict[int, list[float]]


@torch.no_grad()
def restore_sites(
    model: LanguageModel,
    prompt: Prompt,
    settings: TraceSettings,
    sites: Mapping[int, Sequence[Site]],
    *,
    other: Prompt | None = None,
    memory: int | None = None,
) -> Restored:
    """The effects of sites by position, as `trace_fact` has them of all layers and kinds.

    Raises:
        ValueError: as `trace_fact`.
    """
    corrupted_span(prompt, 0 if other else settings.extra)
    if other is not None:
        check_other(prompt, other)
    given = room(model.device) if memory is None else memory
    least = min(given, LEAST)
    return halved(lambda budget: _restore_within(budget, model, prompt, settings, sites, other), given, least=least)


def _restore_within(
    budget: int,
    model: LanguageModel,
    prompt: Prompt,
    settings: TraceSettings,
    sites: Mapping[int, Sequence[Site]],
    other: Prompt | None,
) -> Restored:
    """`restore_sites` in passes that take up to `budget` bytes each."""
    network, answer = model.transformer, prompt.answer[0]
    embedded = network.embed(model.batch([prompt.ids]))
    clean = run(network, embedded, answer)
    if other is None:
        rows = corrupt(network, embedded, corrupted_span(prompt, settings.extra), settings)
    else:
        rows = network.embed(model.batch([other.ids]))
    p_corrupted = []
    p_restored: dict[int, list[Tensor]] = {position: [] for position in sites}
    for part in parts_of_draws(network, rows, budget):
        corrupted = run(network, part, answer)
        p_corrupted.append(corrupted.p)
        for position, here in sites.items():
            p_restored[position].append(restore(network, clean, corrupted, here, position, answer, budget))
            release_pages()  # positions have passes of ever new sizes
    base = float(torch.cat(p_corrupted).mean())
    effects = {at: (torch.cat(found, 1).mean(1) - base).tolist() for at, found in p_restored.items()}
    return Restored(float(clean.p.mean()), base, effects)


def sites_of(prompt: Prompt, settings: TraceSettings, n_layers: int) -> dict[int, list[Site]]:
    """The sites of each position from the subject on, all layers of all kinds that are run there."""
    first, _ = corrupted_span(prompt)
    found: dict[int, list[Site]] = {}
    for position in range(first, len(prompt.ids)):
        severed = settings.severed_at == "all" or position == prompt.subject_last
        kinds = [kind for kind in settings.kinds if severed or kind not in SEVERED]
        if kinds:
            layers = range(n_layers)
            found[position] = [Site.of(kind, layer, settings.window, n_layers) for kind in kinds for layer in layers]
    return found


def _unrun(prompt: Prompt, kind: Kind, settings: TraceSettings, n_layers: int) -> Float[np.ndarray, "layer pos"]:
    """Effects before any run: zero, or NaN for a kind that is run at one position alone."""
    everywhere = settings.severed_at == "all" or kind not in SEVERED
    return np.full((n_layers, len(prompt.ids)), 0.0 if everywhere else np.nan)


def corrupt(
    network: Transformer, embedded: Float[Tensor, "one pos d_model"], span: tuple[int, int], settings: TraceSettings
) -> Float[Tensor, "draw pos d_model"]:
    """The embedded prompt with noise on a range of tokens, once per draw."""
    low, high = span
    rows = embedded.repeat(settings.draws, 1, 1)
    unit = unit_noise(settings.distribution, settings.seed, (settings.draws, high - low, embedded.shape[-1]))
    if settings.distribution == FITTED:
        known = network.tokens(torch.tensor(settings.fitted_to, device=network.device))
        noise = noise_like_embeddings(known, unit, settings.noise)
    else:
        noise = settings.noise * unit
    rows[:, low:high] += torch.from_numpy(noise).to(rows)
    return rows


def tabulate(trace: Trace, tokens: list[str]) -> Iterator[dict[str, object]]:
    """A trace as rows: kind, layer, position, token, effect; and the total effect (layer and position -1).

    Positions at which a kind was not run have no row.
    """
    yield {"kind": "total", "layer": -1, "position": -1, "token": "", "effect": trace.total}
    for kind, effects in trace.effects.items():
        for layer, position in np.ndindex(*effects.shape):
            effect = float(effects[layer, position])
            if not np.isnan(effect):
                yield {"kind": kind, "layer": layer, "position": position, "token": tokens[position], "effect": effect}
