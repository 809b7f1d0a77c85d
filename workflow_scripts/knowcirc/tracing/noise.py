"""The noise that corrupts a subject: the tokens whose embeddings set it, its level, and its draws (ROME B.1, B.4).

| distribution | what is added to each embedding | ROME |
|---|---|---|
| gaussian | level x z, z standard normal | the main text, Fig. 7: level 3 standard deviations |
| uniform | level x u, u uniform from -1 to 1 | Fig. 13 d to f: range of 3 standard deviations |
| multivariate | mean + level x R z, R the root of the covariance | Fig. 13 a to c: level 1 |

The standard deviation is one number over all entries of the tokens' embeddings; mean and covariance are those of the
same embeddings. R is the symmetric root: it alone does not depend on how a library orders or signs eigenvectors.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from tokenizers import Tokenizer
from torch import Tensor

from knowcirc.facts.prompts import Prompt
from knowcirc.models.loading import LanguageModel
from knowcirc.tracing.settings import FITTED, Distribution, NoiseFrom

FEWEST = 2


@dataclass(frozen=True, slots=True)
class Sample:
    """The tokens whose embeddings set the noise, and the standard deviation of all entries of these embeddings."""

    tokens: tuple[int, ...]
    deviation: float


def sample_of(model: LanguageModel, pool: list[Prompt], subjects: Sequence[str], noise_from: NoiseFrom) -> Sample:
    """The sample that the noise is set by: that of `prompts` or of `subjects`.

    `prompts` takes the subjects' tokens as they stand in the prompts of `pool`, and the deviation of the population.
    `subjects` takes each of `subjects` by itself, without special tokens, and the deviation of a sample, as ROME's code
    does with all subjects of its data set.

    Raises:
        ValueError: if there is no token.
    """
    if noise_from == "prompts":
        return Sample(tuple(subject_tokens(pool)), embedding_deviation(model, pool))
    tokens = tokens_alone(model.text, subjects)
    if len(tokens) < FEWEST:
        raise ValueError(f"tracing.noise_from: subjects: {len(tokens)} tokens; {FEWEST} or more are needed")
    return Sample(tuple(tokens), _deviation(model, tokens, correction=1))


def subject_tokens(prompts: Iterable[Prompt]) -> list[int]:
    """The tokens of the prompts' subjects as they stand there."""
    return [token for prompt in prompts if prompt.span for token in prompt.ids[slice(*prompt.span)]]


def tokens_alone(tokenizer: Tokenizer, texts: Iterable[str]) -> list[int]:
    """The tokens of texts, each by itself, without special tokens."""
    return [token for text in texts for token in tokenizer.encode(text, add_special_tokens=False).ids]


def embedding_deviation(model: LanguageModel, prompts: list[Prompt]) -> float:
    """The standard deviation over all embedding entries of the prompts' subject tokens.

    Raises:
        ValueError: if no prompt has a subject.
    """
    tokens = subject_tokens(prompts)
    if not tokens:
        raise ValueError("no prompt with a subject: the noise level cannot be measured")
    return _deviation(model, tokens, correction=0)


def _deviation(model: LanguageModel, tokens: Sequence[int], *, correction: int) -> float:
    return float(model.transformer.tokens(torch.tensor(tokens)).double().std(correction=correction))


def check_fit(distribution: Distribution, tokens: Sequence[int]) -> None:
    """Make sure that noise can be fitted to the tokens' embeddings, where it is.

    Raises:
        ValueError: if there are fewer than two tokens.
    """
    if distribution == FITTED and len(tokens) < FEWEST:
        raise ValueError(
            f"tracing: {FITTED} noise is fitted to the embeddings of {FEWEST} tokens or more, not of {len(tokens)}"
        )


def unit_noise(
    distribution: Distribution, seed: int, shape: tuple[int, int, int]
) -> Float[np.ndarray, "draw token d_model"]:
    """Uniform numbers from -1 to 1, or standard normal ones, by numpy's `RandomState(seed)` (as ROME's code)."""
    random = np.random.RandomState(seed)
    return random.uniform(-1, 1, shape) if distribution == "uniform" else random.randn(*shape)


def noise_like_embeddings(
    embeddings: Float[Tensor, "token d_model"], unit: Float[np.ndarray, "draw corrupted d_model"], level: float
) -> Float[np.ndarray, "draw corrupted d_model"]:
    """Multivariate noise with the mean of the embeddings and `level` times the root of their covariance.

    With fewer tokens than dimensions the covariance is singular: the noise lies in the space that the tokens span.
    """
    rows = embeddings.double()
    mean = rows.mean(0)
    _, lengths, axes = torch.linalg.svd(rows - mean, full_matrices=False)
    root = axes.T * (lengths / math.sqrt(len(rows) - 1)) @ axes
    return mean.cpu().numpy() + level * (unit @ root.cpu().numpy())
