"""The sizes of a model, apart from its weights: what a graph of it can be made from without loading torch."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a model; counts, no units. `parallel`: a layer's MLP reads what its attention reads."""

    family: str
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    d_vocab: int
    parallel: bool = False

    @property
    def group(self) -> int:
        """Query heads that share one key/value head."""
        return self.n_heads // self.n_kv_heads
