"""The tables of causal tracing."""

from knowcirc.items.columns import EFFECT, MODEL, ROLE
from knowcirc.items.contract import Table, count, difference, number, word

TRACING = (
    Table(
        "causal_effects",
        "ROME 2.2",
        "average total and indirect effects",
        "tracing.averages:causal_effects",
        {"traces": "traces/facts.parquet"},
        settings={"pooling": "tracing/pooling"},
        columns=(MODEL, word("kind", "what is restored: state, mlp or attention; total: everything"), *EFFECT),
        stated={"effects": "table"},
        one_row_for=("kind", "role", "layer"),
        chapter="tracing",
    ),
    Table(
        "causal_effects_severed",
        "ROME Fig. 3",
        "effects of single states with MLPs or attention severed above them",
        "tracing.averages:causal_effects_severed",
        {"traces": "traces/facts.parquet"},
        columns=(
            *(MODEL, word("kind", "what is restored: state")),
            *(word("severed", "what keeps its corrupted values above the state: none, mlp or attention"), *EFFECT),
        ),
        stated={"severed": "table"},
        one_row_for=("kind", "severed", "role", "layer"),
        chapter="tracing",
    ),
    Table(
        "counterfactual_traces",
        "ROME 2.2 under another corruption",
        "average effects with another subject in place of noise",
        "tracing.averages:counterfactual_effects",
        {"counterfactuals": "traces/counterfactual.parquet", "traces": "traces/facts.parquet"},
        columns=(
            *(MODEL, word("kind", "what is restored: state, mlp or attention; total: everything"), *EFFECT[:-1]),
            *(difference("noise", "the same of these facts with noise on the subject"), EFFECT[-1]),
        ),
        one_row_for=("kind", "role", "layer"),
        where="tracing/counterfactual",
        chapter="tracing",
    ),
    Table(
        "head_traces",
        "ROME 2.2, head by head",
        "the single heads of the largest average effects",
        "tracing.heads:head_effects",
        {"traces": "traces/heads.parquet"},
        columns=(
            *(MODEL, *EFFECT[:2], word("head", "the head: aLAYER.hHEAD; empty: total effect", empty=True)),
            *EFFECT[2:],
        ),
        one_row_for=("role", "layer", "head"),
        where="tracing/heads",
        chapter="tracing",
        other_rows=0.5,
    ),
    Table(
        "saliency",
        "ROME Fig. 16",
        "average integrated gradients beside the causal effects",
        "tracing.saliency_tables:saliency_table",
        {"gradients": "traces/saliency.parquet"},
        columns=(
            *(MODEL, word("kind", "whose gradients are integrated: embedding, state, mlp or attention")),
            *(ROLE, count("layer", "the layer, from 0; empty: embeddings", empty=True)),
            number("saliency", "norm of the integrated gradient of the answer's probability", "probability"),
            number("attribution", "sum of its components", "probability"),
            number(
                "missing",
                "mean size of what the attributions of all tokens lack of the change of the answer's probability",
                "probability",
                interval=False,
            ),
            count("n", "facts"),
        ),
        one_row_for=("kind", "role", "layer"),
        where="tracing/saliency",
        chapter="tracing",
    ),
)
