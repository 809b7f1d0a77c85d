"""What edits are made by: typed settings of each kind of editor. Nothing here imports torch.

Settings without a default are every editor's own (`editors.py`).
"""

from typing import Annotated, Literal

from pydantic import Field

from knowcirc.fields import Count, Natural, NotNegative, Positive, Section, Share, setting

Token = Literal["subject_first", "subject_last", "first_subsequent", "last"]
"""A token of the request at which ROME may edit."""
Loss = Literal["prompt", "target"]
Part = Literal["mlp_out", "query", "key", "value"]
"""A matrix of a layer."""
Joined = Literal["tokens", "text"]
"""How a sampled prefix stands before the prompt."""
RIDGE = "added to the diagonal of the system that is solved: the larger, the smaller the change"
MOMENT_WEIGHT = "lambda: how many tokens C counts as, beside the keys of edits"


class ValueSettings(Section):
    """How the value is found that makes the model say the new object: Adam, and the terms of its loss."""

    layer: Natural = setting(..., "the edited layer, from 0")
    steps: Count = setting(25, "most steps of Adam", source="ROME's code: v_num_grad_steps")
    learning_rate: Positive = setting(0.5, "of Adam", source="ROME E.5")
    weight_decay: NotNegative = setting(0.001, "weight of the change's size in the loss", source="ROME E.5")
    kl_factor: NotNegative = setting(
        0.0625, "weight of the divergence of what the model says of the subject otherwise", source="ROME E.5"
    )
    clamp: Positive = setting(4.0, "bound on the change", unit="norms of what changes", source="ROME E.5")
    stop_loss: NotNegative = setting(0.05, "stop below this loss", unit="nats", source="ROME's code")
    counted: Literal["updates", "losses"] = setting(
        "updates",
        "what `steps` counts: updates, or losses, of which the last makes no update",
        source="ROME's code: losses",
    )
    kl_at: Literal["end", "token"] = setting(
        "end",
        "where the divergence is read: what follows SUBJECT is a, or the edited token",
        source="ROME eq. 4; its code: token",
    )
    contexts: Joined = setting(
        "tokens",
        "how a sampled prefix stands before the prompt: as tokens, or as text (PREFIX. PROMPT)",
        source="ROME's code: text",
    )


class RomeSettings(ValueSettings):
    """ROME's; `clamp` counts norms of the present MLP output."""

    averaged_key: bool = setting(False, "the averaged key in both places: R-ROME", source="Gupta et al. 2024")
    token: Token = setting("subject_last", "where the edit works", source="ROME Fig. 5")
    second_moments: bool = setting(True, "false: C is the identity", source="ROME eq. 2; EasyEdit's settings: false")


class SpreadSettings(ValueSettings):
    """Of editors that write to several layers, as MEMIT does; `clamp` counts norms of the residual stream."""

    clamp: Positive = setting(0.75, "bound on the change", unit="norms of the residual stream", source="MEMIT")
    span: Count = setting(
        3, "layers edited, up to `layer` or, where too few lie below it, the lowest", source="MEMIT: 6 of GPT-J's 28"
    )
    averaged: Literal["contexts", "kinds"] = setting(
        "contexts",
        "the key: mean over all contexts, or half the bare prompt's, half that of the others",
        source="MEMIT's code: kinds",
    )
    merged: bool = setting(
        False, "one value for all facts of a batch that share a subject: MEMIT-Merge", source="Dong et al. 2025"
    )


class MemitSettings(SpreadSettings):
    """MEMIT's and MEMIT-Merge's."""

    moment_weight: Positive = setting(1500.0, MOMENT_WEIGHT, unit="tokens", source="MEMIT: 15,000")


class EmmetSettings(SpreadSettings):
    """EMMET's."""

    moment_weight: Positive = setting(1500.0, MOMENT_WEIGHT, unit="tokens", source="as MEMIT")
    ridge: NotNegative = setting(0.1, RIDGE, source="EasyEdit: emmet_lambda; Gupta et al. 2024: 0")


class AlphaEditSettings(SpreadSettings):
    """AlphaEdit's."""

    nullspace_threshold: Positive = setting(
        0.02, "second moment of the keys below which a direction is written to", source="Fang et al. 2024"
    )
    ridge: Positive = setting(1.0, RIDGE, source="Fang et al. 2024; its code: 10")


class DescentSettings(Section):
    """How matrices are trained on the target's tokens."""

    steps: Count = setting(25, "most steps of Adam", source="ROME's code")
    learning_rate: Positive = setting(0.0005, "of Adam", source="ROME's code")
    stop_loss: NotNegative = setting(0.01, "stop below this loss", unit="nats", source="ROME's code")


class FineTuneSettings(DescentSettings):
    """How a layer's matrices and their biases are trained."""

    layer: Natural = setting(..., "the edited layer, from 0")
    bound: Positive | None = setting(None, "most that an entry may move by", source="Zhu et al. 2020")
    loss: Loss = setting(
        "prompt", "the target's tokens, read at the prompt's last token (prompt), or after one another (target)"
    )
    parts: tuple[Part, ...] = setting(
        ("mlp_out",), "the matrices that are trained, with their biases where there are any"
    )


class LoraSettings(DescentSettings):
    """Adapters of low rank, in all layers."""

    steps: Count = setting(30, "most steps of Adam", source="EasyEdit's GPT-2 XL: num_steps")
    learning_rate: Positive = setting(0.005, "of Adam", source="EasyEdit")
    rank: Count = setting(8, "of each adapter", source="EasyEdit")
    alpha: Positive = setting(32.0, "what an adapter is multiplied by, times its rank", source="EasyEdit: lora_alpha")
    parts: tuple[Part, ...] = setting(("query", "value"), "the matrices that have adapters", source="Hu et al. 2022")


class UltraEditSettings(Section):
    """UltraEdit's."""

    layer: Natural = setting(..., "the last edited layer, from 0")
    span: Count = setting(9, "layers edited, up to `layer`", source="UltraEdit on GPT-J")
    step_size: Positive = setting(1e-6, "eta: size of the change against the normalised gradient", source="UltraEdit")
    ridge: Positive = setting(1.0, RIDGE, source="UltraEdit")


class InContextSettings(Section):
    """What stands before the texts that a model is asked."""

    demonstrations: Natural = setting(32, "most demonstrations, of the study's other records", source="IKE: 32")


class NeuronSettings(Section):
    """How knowledge neurons are found, at all layers, and what their output weights lose and gain."""

    steps: Annotated[int, Field(ge=2)] = setting(20, "shares of the integrated gradients", source="ROME's code: 20")
    threshold: Share = setting(0.2, "least score, as a share of the largest", source="ROME's code: adaptive_threshold")
    erased: NotNegative = setting(
        2.0, "how often the embedding of what the model says is taken off", source="ROME's code: 2"
    )
    written: NotNegative = setting(
        1.0, "how often that of each token of the new object is added", source="ROME's code: 1"
    )
