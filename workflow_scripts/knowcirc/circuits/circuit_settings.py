"""How circuits are found, as a job is told: the method, and the settings that it goes by (`methods.py`)."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class CircuitSettings:
    """How circuits are found.

    `criterion` is ACDC's (`AcdcSettings`), `share` the share of the edges in the circuit (or searched by
    `eap-ig+acdc`), `prompts` how many prompts ACDC takes at most, `standing` holds metric, ablation and fields
    of `StandingSettings`, `options` fields of the class that the method's entry names.
    """

    method: str
    criterion: dict[str, object] | None = None
    share: float | None = None
    prompts: int | None = None
    standing: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def tau(self) -> float | None:
        """ACDC's threshold, in its metric's unit."""
        return None if self.criterion is None else float(str(self.criterion["tau"]))

    def n_edges(self, total: int) -> int:
        """How many edges the share is of all.

        Raises:
            ValueError: if the settings have none.
        """
        if self.share is None:
            raise ValueError(f"method {self.method} needs a share of the edges")
        return max(1, round(self.share * total))
