"""Metrics and ablations by name, for the library and the command line; nothing here imports more than `typing`."""

from typing import Literal, get_args

Metric = Literal["nll", "kc-nll", "logit-diff", "kl", "nll+kl"]
"""What a circuit is judged by (`metrics.py`)."""
METRICS: tuple[str, ...] = get_args(Metric)
KC_UNIT = "nats / (T - 1)"
UNITS = {"nll": "nats", "kc-nll": KC_UNIT, "logit-diff": "logits", "kl": "nats", "nll+kl": "nats"}

Ablation = Literal["zero", "mean", "patch"]
"""What absent edges deliver: nothing, an average, or the run on a corrupted prompt (`searching.py`)."""
ABLATIONS: tuple[str, ...] = get_args(Ablation)
