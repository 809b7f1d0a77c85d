"""What restored runs, noise and averages may be, by name, for the library and the command line; no torch here."""

from typing import Literal, get_args

Kind = Literal["state", "mlp", "attention", "severed_mlp", "severed_attention"]
"""What is restored at a site (`causal.py`)."""
ALL_KINDS: tuple[Kind, ...] = get_args(Kind)
KINDS, SEVERED = ALL_KINDS[:3], ALL_KINDS[3:]
Distribution = Literal["gaussian", "uniform", "multivariate"]
"""Of the noise (`noise.py`); uniform: from minus to plus its level; multivariate: as embeddings are distributed."""
DISTRIBUTIONS: tuple[Distribution, ...] = get_args(Distribution)
FITTED: Distribution = "multivariate"
"""The distribution that is fitted to the embeddings of some tokens."""
Corruption = Literal["noise", "subject"]
"""What the corrupted run reads: the subject with noise, or another subject (`other_subjects.py`)."""
CORRUPTIONS: tuple[Corruption, ...] = get_args(Corruption)
NoiseFrom = Literal["prompts", "subjects"]
"""Which tokens' embeddings set the noise (`noise.py`)."""
Pooling = Literal["facts", "tokens"]
"""What weighs equally in averages over token roles (`averages.py`, `pooling.py`)."""
Baseline = Literal["zero", "corrupted"]
"""Where integrated gradients begin (`saliency.py`)."""
BASELINES: tuple[Baseline, ...] = get_args(Baseline)
Activation = Literal["embedding", "state", "mlp", "attention"]
"""Of what gradients are integrated."""
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
