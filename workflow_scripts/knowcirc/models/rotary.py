"""The angles of rotary position embeddings (Su et al. 2021, arXiv 2104.09864), as the Hugging Face models take them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

BASE = 10000.0
Angles = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True)
class PlainAngles:
    """Cosine and sine of every pair's angle at given positions, in float32 and then the dtype of `x`."""

    frequencies: Float[Tensor, " pair"]

    def __call__(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        angles = positions[..., None].float() * self.frequencies.to(x.device)
        both = torch.cat((angles, angles), -1)
        return both.cos().to(x.dtype), both.sin().to(x.dtype)


def rotary_settings(config: Any) -> dict[str, Any]:
    """What a configuration says of its positions: `rope_parameters`, or `rope_scaling` in older ones."""
    return getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}


def rotary_angles(config: Any, size: int, *, base: float | None = None) -> Angles:
    """The angles that a configuration asks for, for `size` components of a head.

    `base` is that of older configurations which do not call it `rope_theta`.
    """
    given = rotary_settings(config)
    if (given.get("rope_type") or given.get("type") or "default") != "default":
        return _scaled(config)
    base = given.get("rope_theta") or base or getattr(config, "rope_theta", None) or BASE
    return PlainAngles(1.0 / (base ** (torch.arange(0, size, 2, dtype=torch.float) / size)))


def _scaled(config: Any) -> Angles:
    """Angles of scaled positions (linear, dynamic, yarn, llama3): those of transformers, whose import takes seconds."""
    from transformers import AutoConfig, PreTrainedConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    known: Any = config if isinstance(config, PreTrainedConfig) else AutoConfig.for_model(**vars(config))
    angles: Angles = LlamaRotaryEmbedding(known)
    return angles
