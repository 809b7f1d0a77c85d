"""The registry of model families: which module gives a family's `Transformer` view.

A new family is a module that holds what `Family` says, and an entry here. Nothing here imports torch.
"""

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Family:
    """A family by the `model_type` of its Hugging Face configuration.

    `adapter` is a module below `knowcirc`: its `read_shape(config)` gives the sizes, or refuses what the forward pass
    does not compute; `read_context(config)` how many tokens a prompt may have; `adapt(config, weights)` the
    `Transformer`. `PREFIX` begins the names of all weights but the unembedding's, `EMBEDDING` is the embedding's
    name, `DEFAULTS` are what a `config.json` may leave out.
    """

    model_type: str
    adapter: str

    @property
    def module(self) -> Any:
        """The adapter."""
        return importlib.import_module(f"knowcirc.{self.adapter}")


FAMILIES = {
    family.model_type: family
    for family in (
        Family("gpt2", "models.gpt2"),
        Family("llama", "models.llama"),
        Family("qwen2", "models.qwen2"),
        Family("qwen3", "models.qwen3"),
        Family("mistral", "models.mistral"),
        Family("gpt_neox", "models.gpt_neox"),
        Family("olmo2", "models.olmo2"),
        Family("gemma2", "models.gemma2"),
    )
}
