"""A circuit as it is kept and compared: edges and their scores. Reading one needs no torch."""

from dataclasses import dataclass, field

from jaxtyping import Float
from numpy import ndarray

from knowcirc.circuits.graph import EdgeMatrix

Scores = Float[ndarray, "src dst"]


@dataclass(frozen=True, slots=True)
class Circuit:
    """A circuit: which edges are in it, and the score of each edge of the graph (None for random circuits).

    `path` holds larger circuits that the search passed, by the share of the edges that they are not above.
    """

    method: str
    edges: EdgeMatrix
    scores: Scores | None
    path: dict[float, EdgeMatrix] = field(default_factory=dict)

    @property
    def n_edges(self) -> int:
        """How many edges it holds."""
        return int(self.edges.sum())
