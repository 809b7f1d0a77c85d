"""What restored runs and noise may be, by name, for the library and the command line. Nothing here imports torch."""

from typing import Literal, get_args

Kind = Literal["state", "mlp", "attention", "severed_mlp", "severed_attention"]
"""What is restored at a site (`causal.py`)."""
ALL_KINDS: tuple[Kind, ...] = get_args(Kind)
KINDS, SEVERED = ALL_KINDS[:3], ALL_KINDS[3:]
Distribution = Literal["gaussian", "uniform"]
"""Of the noise; uniform: from minus to plus its level."""
DISTRIBUTIONS: tuple[Distribution, ...] = get_args(Distribution)
