"""What configurations of several families say in the same way: windows by layer, and what no forward pass computes."""

from collections.abc import Sequence
from typing import Any

KINDS = ("full_attention", "sliding_attention")


def expect(config: Any, family: str, **expected: object) -> None:
    """Make sure that settings have the one value that the forward pass computes; one that is left out has it.

    Raises:
        ValueError: naming the first that has another.
    """
    for key, value in expected.items():
        if (given := getattr(config, key, value)) != value:
            raise ValueError(f"{family} with {key}={given} is not supported; expected {value}")


def windows(config: Any, family: str, usual: Sequence[str]) -> tuple[int | None, ...]:
    """How many positions each layer sees (None: all): `sliding_window` in layers that slide.

    `usual` says which do where the configuration has no `layer_types`.

    Raises:
        ValueError: for other kinds of layers, another number of them, or a window that is none.
    """
    kinds = getattr(config, "layer_types", None) or usual
    if odd := sorted(set(kinds) - set(KINDS)):
        raise ValueError(f"{family} with layer_types {odd[0]!r} is not supported; expected {' or '.join(KINDS)}")
    if len(kinds) != config.num_hidden_layers:
        given = f"{len(kinds)} layer_types and num_hidden_layers={config.num_hidden_layers}"
        raise ValueError(f"{family} with {given} is not supported; expected one kind a layer")
    window = config.sliding_window
    if "sliding_attention" in kinds and not (isinstance(window, int) and window > 0):
        given = f"sliding layers and sliding_window={window}"
        raise ValueError(f"{family} with {given} is not supported; expected 1 or more")
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)
