"""The registry's tables of what comes after an edit: questions about what follows from it, and further edits."""

from knowcirc.items.columns import AFTER_EDITS, EDITOR, MODEL
from knowcirc.items.contract import EQUAL, Table, count, number, share, word

SEQUELS = (
    Table(
        "edit_portability",
        "KC 5; RippleEdits 3",
        "what follows from an edit: hops, the reverse, other wordings, the subject's other facts",
        "edited.portability:portability_table",
        {"rows": "edits/portability.csv"},
        settings={"hits": "facts/hits", "editors": "editing/circuits/editors"},
        columns=(
            *(MODEL, word("question", "what is asked after the edit: two hops, second hop edited, reverse, ...")),
            word("relation", "the composition, the edited relation or the data set; all: all of the study's relations"),
            word("criterion", "RippleEdits' criterion, or paraphrase; empty: nothing was asked", empty=True),
            *(EDITOR, share("takes", "the edited sentence is answered with the edit's object", empty=True)),
            *(
                column
                for name, text in AFTER_EDITS.items()
                for column in (
                    share(f"says_{name}", f"the question is answered with {text}", empty=True),
                    share(f"hit_{name}", f"among the likeliest tokens (facts.hits) is {text}", empty=True),
                    share(f"p_{name}", f"probability of the first token of {text}", empty=True),
                    share(
                        f"forced_{name}",
                        f"every token, behind the right ones before it (teacher-forced), is that of {text}",
                        empty=True,
                    ),
                    share(
                        f"generated_{name}",
                        f"the text that the model writes on by itself (portability.tokens) names {text}",
                        empty=True,
                    ),
                    share(
                        f"writes_{name}",
                        f"the head that moved the old object before the edit raises {text}",
                        empty=True,
                    ),
                )
            ),
            *(count("n_mover", "chains that had a mover"), count("n", "questions asked")),
        ),
        stated={"portability": "table"},
        one_row_for=("question", "relation", "editor"),
        other_rows=0.3,
        chapter="edited",
    ),
    Table(
        "sequential_edits",
        "beyond the papers",
        "edits one after the other on one model",
        "editing.sequence:sequential_edits",
        {"sequences": "edits/sequential/{sequence}.csv"},
        columns=(
            *(MODEL, EDITOR, count("edits", "edits made on the model so far", drift=EQUAL)),
            share(
                "last", "the last edit took: its new object is likelier than the true one, right after", interval=False
            ),
            share("p_last", "probability of its new object, right after", interval=False),
            share("made", "edits so far that took right after they were made"),
            share("ES", "efficacy: edits so far whose new object is likelier than the true one now"),
            share("PS", "generalization: the same on paraphrases"),
            share("NS", "specificity: the true object is likelier on neighbours that are not edited", empty=True),
            share("S", "harmonic mean of ES, PS and NS", interval=False, empty=True),
            number("perplexity", "of text that no edit has seen", "1", interval=False),
            number("change", "norm of all changes over that of the same matrices unedited", "1", interval=False),
            number("seconds_per_edit", "seconds of an edit, median", "seconds", interval=False, empty=True, drift=None),
            count("n", "edits that are judged"),
        ),
        one_row_for=("editor", "edits"),
        where="editing/sequential",
        chapter="editing",
    ),
)
