"""The registry's tables of behaviours: wrong answers, demonstrations, hops, facts asked backward."""

from knowcirc.items.columns import (
    ADDS,
    AS_READ,
    HOPS,
    MODEL,
    RELATION,
    REUSED_HOPS,
    REUSED_WAYS,
    SAID,
    WAYS,
    hits_of_hops,
    overlaps,
    reused,
)
from knowcirc.items.contract import Table, Tolerance, count, difference, number, share, word

HEADS = Tolerance(absolute=5.0, relative=0.3)  # a search decides which a circuit lacks

BEHAVIOURS = (
    Table(
        "hallucination_heads",
        "KC 6, C.2",
        "wrong answers of the right type beside right ones",
        "behaviours.wrong_tables:hallucination_table",
        {"cases": "behaviours/wrong_answers.parquet"},
        columns=(
            *(MODEL, RELATION, word("head", "the relation's main mover head, if it has one", empty=True, steady=False)),
            share("overtaken_from", "of the layers, after which the wrong object leads the right one for good"),
            share("leads_from", "of the layers, after which the wrong object ranks first for good"),
            share("right_ever_on_top", "the right object ranks first after some layer"),
            share("right_ever_in_first", "the right object is among the ten first after some layer but the last"),
            difference(
                "right_gathers",
                "other objects that the right one leads where the wrong one is about to lead, less the same of right "
                "answers to other questions",
                empty=True,
            ),
            share("right_ever_led", "the right object leads the wrong one after some layer"),
            *(
                share(f"to_subject_{of}", f"the mover's attention to the subject{said}", empty=True)
                for of, said in SAID
            ),
            *(share(f"attends_{of}", f"the mover attends to the subject{said}", empty=True) for of, said in SAID),
            share("writes_said_wrong", "the mover raises the wrong object", empty=True),
            share("writes_right_wrong", "the mover raises the right object in wrong answers", empty=True),
            share("prefers_said_wrong", "the mover raises the wrong object more than the right one", empty=True),
            share("writes_said_right", "the mover raises the answer in right answers", empty=True),
            share("same_head", "one head adds most to the wrong and to the right object"),
            *(
                column
                for name, text in ADDS.items()
                for column in (
                    word(name, f"the head that most often {text}", empty=name == "said_by_right", steady=False),
                    share(f"{name}_share", "how often", interval=False, empty=name == "said_by_right"),
                )
            ),
            *(count("n_right", "right answers"), count("n_mover", "wrong answers of relations with a mover")),
            count("n", "wrong answers"),
        ),
        stated={"wrong": "table"},
        one_row_for=("relation",),
        chapter="behaviours",
    ),
    Table(
        "icl_head_ablation",
        "KC Table 2",
        "ablation of the heads that demonstrations bring in",
        AS_READ,
        {"rows": "circuits/icl_ablation.csv"},
        columns=(
            *(MODEL, RELATION, word("method", "how the circuits were found")),
            share("zero_shot", "hit@10 without a demonstration"),
            share("original", "hit@10 behind demonstrations"),
            share("icl_heads_ablated", "the same without the heads that demonstrations bring into the circuit"),
            share("random_heads_ablated", "the same without as many others of the same layers"),
            share("p_zero_shot", "probability of the answer without a demonstration"),
            share("p_original", "the same behind demonstrations"),
            share("p_icl_heads_ablated", "the same without the heads that demonstrations bring into the circuit"),
            share("p_random_heads_ablated", "the same without as many others of the same layers"),
            share("attention_new", "attention of the new heads to the demonstrations", empty=True),
            share("attention_others", "attention of the others to the demonstrations", empty=True),
            number(
                "n_heads",
                "heads of the demonstrated circuit that the zero-shot one lacks",
                "count",
                interval=False,
                drift=HEADS,
            ),
            number(
                "n_heads_again",
                "heads of the relation's own circuit that the zero-shot one lacks",
                "count",
                interval=False,
                empty=True,
                drift=HEADS,
            ),
            count("n_mended", "drawn facts, D_val included, that the first of the demonstrations shown mend"),
            count("n", "facts of D_test"),
        ),
        stated={"icl": "table"},
        one_row_for=("relation",),
        chapter="behaviours",
    ),
    Table(
        "hops",
        "KC C.1, Table 5",
        "facts in two hops",
        AS_READ,
        {"rows": "behaviours/hops.csv"},
        columns=(
            *(MODEL, word("composition", "the two relations"), *hits_of_hops()),
            difference("left_out_gap", "hit@1 without the first hop in the text less with it, chains of known hops"),
            *overlaps(HOPS, ("integrated_unrelated", "first_again", "second_again")),
            *reused(REUSED_HOPS, ("direct", "unrelated")),
            count("n_prompts", "prompts on which the circuits of the first hop and of both hops were found"),
            count("n_prompts_second", "prompts on which the second hop's circuit was found"),
            *(count("n_known", "chains of which both hops rank first"), count("n", "chains")),
        ),
        stated={"hops": "table"},
        one_row_for=("composition",),
        chapter="behaviours",
    ),
    Table(
        "reverse_relations",
        "KC C.3",
        "facts asked forward and backward",
        AS_READ,
        {"rows": "behaviours/both_ways.csv"},
        columns=(
            *(MODEL, RELATION, share("hit_forward", "hit@10 asked forward"), share("hit_reverse", "asked backward")),
            *overlaps(WAYS, ("unrelated", "same_way")),
            *reused(REUSED_WAYS, ("unrelated",)),
            count("n_prompts", "prompts on which each circuit was found"),
            *(count("n_known", "facts that rank first forward"), count("n", "facts")),
        ),
        stated={"both_ways": "table"},
        one_row_for=("relation",),
        chapter="behaviours",
    ),
)
