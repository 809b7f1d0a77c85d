"""Seeds that depend on what is drawn for, not on the order of work: a resumed job draws the same."""

import hashlib

import torch


def derive(seed: int, *names: object) -> int:
    """A 63-bit seed from a base seed and names."""
    text = repr((seed, *map(str, names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *names: object) -> torch.Generator:
    """A CPU generator seeded by `derive`."""
    return torch.Generator().manual_seed(derive(seed, *names))
