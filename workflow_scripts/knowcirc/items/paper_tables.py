"""The registry's tables that set a run beside the papers: their claims, and their printed numbers."""

from knowcirc.items.columns import MODEL
from knowcirc.items.contract import SEARCHED, Table, count, number, word

PRINTED = "share, bits or edges"

PAPERS = (
    Table(
        "claims",
        "KC, ROME",
        "the papers' statements, each a number with interval and verdict",
        "tables.claims:claims_of_study",
        {
            "ranks": "components/ranks.parquet",
            "heads": "components/heads.csv",
            "ablation": "components/ablation.csv",
            "traces": "traces/facts.parquet",
            "circuits": "edits/followed_circuits.csv",
            "edited_ranks": "edits/followed_ranks.csv",
            "wrong": "behaviours/wrong_answers.parquet",
            "icl": "circuits/icl_ablation.csv",
            "hops": "behaviours/hops.csv",
            "both_ways": "behaviours/both_ways.csv",
            "alone": "circuits/scores.csv",
            "components": "figures/component_distribution.csv",
            "edits": "edits/{editor}.csv",
        },
        columns=(
            *(MODEL, word("claim", "the statement"), word("section", "the paper and its section, as printed")),
            *(word("quote", "the paper's words, in short"), word("measure", "the number that decides")),
            number("value", "the measure on this model", "of the measure", interval=False, empty=True, drift=SEARCHED),
            number(
                "low", "lower bound of its 95 % interval", "of the measure", interval=False, empty=True, drift=SEARCHED
            ),
            number(
                "high", "upper bound of its 95 % interval", "of the measure", interval=False, empty=True, drift=SEARCHED
            ),
            number("bound", "the claim holds above it", "of the measure", interval=False),
            word("fails", "what a number below the bound means"),
            *(word("holds", "yes, no or unclear", steady=False), count("n", "cases")),
        ),
        stated={"claims": "table"},
        one_row_for=("claim",),
        chapter="paper",
    ),
    Table(
        "paper_comparison",
        "KC, ROME",
        "the papers' printed numbers beside this run's",
        "tables.published:paper_comparison",
        {
            "published": "config/published.csv",
            "known": "tables/known_facts.csv",
            "circuits": "circuits/scores.csv",
            "effects": "tables/causal_effects.csv",
            "editing": "tables/editing_scores.csv",
            "questions": "tables/{questions}.csv",
            "icl": "circuits/icl_ablation.csv",
            "hops": "behaviours/hops.csv",
            "both_ways": "behaviours/both_ways.csv",
            "edits": "edits/{editor}.csv",
        },
        settings={"relations": "relations/source", "records": "editing/source", "traced": "tracing/source"},
        columns=(
            *(MODEL, word("comparison", "in kind, same model, or none")),
            *(word("paper", "where it is printed"), word("published_model", "the paper's model")),
            *(word("measure", "what is compared"), word("about", "the relation, editor or role", empty=True)),
            *(
                word("printed", "as printed", empty=True),
                number("published", "that in our unit", PRINTED, interval=False, empty=True),
            ),
            number("ours", "this run's number", PRINTED, empty=True, drift=SEARCHED),
            number("difference", "ours less the published one", PRINTED, interval=False, empty=True, drift=None),
            *(word("verdict", "how they compare", steady=False), count("n", "cases behind ours", empty=True)),
        ),
        stated={"published": "table"},
        one_row_for=("comparison", "paper", "published_model", "measure", "about"),
        chapter="paper",
    ),
)
