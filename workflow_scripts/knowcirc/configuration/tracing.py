"""The settings of causal tracing in a study: which facts, and how."""

from typing import Annotated, Literal

from pydantic import Field

from knowcirc.fields import Count, Different, Names, Natural, NotNegative, Section, setting
from knowcirc.tracing.settings import Baseline, Corruption, Distribution, NoiseFrom, Pooling


class HeadTracing(Section):
    """Heads restored one by one."""

    facts: Count = setting(..., "facts, the first of those traced")
    layers: Annotated[list[Natural], Field(min_length=2, max_length=2)] | None = setting(
        None, "the first and the last layer whose heads are restored, from 0; none: of all", unit="layer"
    )
    corruption: Corruption = setting(
        "noise",
        "what the corrupted run reads: noise (that of the traces) or subject (another one of the relation, with as "
        "many tokens and another answer; facts without one are left out, by name)",
        source="Zhang & Nanda 2024: subject",
    )


class Tracing(Section):
    """Causal tracing: which facts, and how."""

    source: Literal["builtin", "known_1000"] = setting(
        "builtin", "known facts of the relations below, or known_1000 (ROME's file, downloaded)", source="ROME 2.1"
    )
    template: Natural = setting(1, "the wording, by number: that whose subject comes early, so that tokens follow it")
    relations: Names = setting(..., "known facts are drawn from these in turn")
    facts: Count = setting(20, "facts that are traced", source="ROME 2.2: 1000")
    draws: Count = setting(10, "noise draws of a fact", source="ROME's code: 10")
    distribution: Distribution = setting(
        "gaussian",
        "of the noise: gaussian, uniform (from minus to plus its level), or multivariate (mean and covariance of the "
        "embeddings that set it)",
        source="ROME Fig. 7, 13",
    )
    noise_multiplier: NotNegative = setting(
        3.0,
        "noise, in standard deviations of the embeddings of these relations' subjects; multivariate noise: in roots of "
        "their covariance, of which ROME takes 1",
        source="ROME 2.1, B.4",
    )
    noise_from: NoiseFrom = setting(
        "prompts",
        "the embeddings that set the noise: prompts (subjects as they stand in prompts, of all facts of these "
        "relations, or of those of known_1000 that can be traced; deviation of a population) or subjects (all of the "
        "relations, or of known_1000, each by itself; deviation of a sample)",
        source="ROME's code: subjects",
    )
    extra: Natural = setting(
        0,
        "tokens after the subject that are corrupted, too; facts without so many are not drawn",
        source="ROME Fig. 12, 15: 1",
    )
    window: Count = setting(10, "layers restored together for MLP and attention", unit="layers", source="ROME 2.2")
    noise_seed: Natural = setting(1, "of the noise, anew for each fact", source="ROME's code: RandomState(1)")
    severed: Annotated[list[Literal["mlp", "attention"]], Different] = setting(
        ["mlp", "attention"],
        "states are restored with these cut off above them, too, at the subject's last token",
        source="ROME Fig. 3",
    )
    pooling: Pooling = setting(
        "facts",
        "what weighs equally in averages by token role: facts (middle and further tokens are averaged within a fact "
        "first, a token has one role, effects count from the fact's own corrupted run) or tokens (all tokens of a role "
        "together; the one token of a subject is its first and its last, the one token behind it the first subsequent "
        "and the last; the mean of all facts' corrupted runs is taken off)",
        source="ROME's code: tokens",
    )
    counterfactual: Count | None = setting(
        None,
        "facts, the first of those traced that have one, that are traced with another subject of their relation in "
        "place of noise, too, of as many tokens and with another answer; none: not measured",
        source="Zhang & Nanda 2024",
    )
    heads: HeadTracing | None = setting(None, "single heads restored at single tokens; none: not measured")
    saliency: Baseline | None = setting(
        None,
        "integrated gradients beside the traces, and where they begin: zero (activations of 0) or corrupted (those of "
        "the corrupted runs); none: not measured",
        source="ROME Fig. 16, which does not say",
    )
    saliency_steps: Count = setting(50, "nodes of their Gauss-Legendre quadrature", source="ROME Fig. 16: 50")
    examples: Count = setting(3, "facts shown one by one")
