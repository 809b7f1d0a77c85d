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


def rotary_angles(config: Any, d_head: int) -> Angles:
    """The angles that a configuration asks for: `rope_parameters`, or `rope_theta` and `rope_scaling` in older ones."""
    given = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    if (given.get("rope_type") or given.get("type") or "default") != "default":
        return _scaled(config)
    base = given.get("rope_theta") or config.rope_theta or BASE
    return PlainAngles(1.0 / (base ** (torch.arange(0, d_head, 2, dtype=torch.float) / d_head)))


def _scaled(config: Any) -> Angles:
    """Angles of scaled positions (linear, dynamic, yarn, llama3): those of transformers, whose import takes seconds."""
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    known = config if isinstance(config, LlamaConfig) else LlamaConfig(**vars(config))
    angles: Angles = LlamaRotaryEmbedding(known)
    return angles
