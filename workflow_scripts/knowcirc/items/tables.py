"""The registry of tables, in the order of the report."""

from collections.abc import Sequence
from itertools import product

from knowcirc.items.contract import Column, Table, count, difference, number, share, word

AS_READ = "items.make:with_model"  # tables that another rule has computed whole
MODEL = word("model", "the model, as models.tsv names it")
RELATION = word("relation", "the relation, or over which relations the row is a mean")
CATEGORY = word("category", "linguistic, commonsense, factual or bias")
EDITOR = word("editor", "the editor; none: the model as it is")
EFFECT = (
    word("role", "the token's role in the prompt; empty: total effect", empty=True),
    count("layer", "the layer, from 0; empty: total effect", empty=True),
    difference("effect", "probability of the answer less the corrupted run's"),
    count("n", "facts"),
)
SPLITS = {"d_val": "prompts of D_val, on which the circuit was found", "d_test": "prompts of D_test"}
ROLES = ("mover", "relation", "mixture")
CHANGED = {"shared": "in both circuits", "lost": "before the edit alone", "new": "after the edit alone"}
SAID = (("wrong", " in wrong answers"), ("right", " in right answers"))
ADDS = {
    "said_by_wrong": "adds most to the wrong object",
    "right_by_wrong": "adds most to the right object in wrong answers",
    "said_by_right": "adds most to the answer in right answers",
}
HOPS = {
    "integrated_first": "both hops in one question, and the first hop",
    "integrated_second": "both hops in one question, and the second hop",
    "first_second": "the first hop and the second",
    "integrated_unrelated": "both hops in one question, and first hops of compositions without a common relation",
    "first_again": "the first hop and its relation's own circuit",
    "second_again": "the second hop and its relation's own circuit",
}
WAYS = {
    "both_ways": "forward and backward",
    "unrelated": "forward, of relations without a common subject",
    "same_way": "forward and the relation's own circuit",
}
ALONE = {
    "hit_at_1": "the answer is first",
    "p": "probability of the answer",
    "among": "the answer leads those of all the relation's objects",
    "others": "share of the other facts' answers among the ten likeliest tokens",
}


def _alone(split: str, prompts: str) -> list[Column]:
    """What the model and a circuit alone say to the prompts of a split."""
    columns = [
        share(f"{split}_original", f"hit@10 of the model on {prompts}"),
        share(f"{split}_circuit", f"hit@10 of the circuit on {prompts}"),
        share(f"{split}_random", f"hit@10 of random circuits of the first method's size on {prompts}"),
        share(f"{split}_kept", f"hit@10 of the circuit over the model's, at most 1, on {prompts}", empty=True),
    ]
    return columns + [
        share(f"{split}_{name}_{side}", f"{text}; {side}, {prompts}", interval=False, empty=name == "others")
        for (name, text), side in product(ALONE.items(), ("original", "circuit"))
    ]


def _overlaps(pairs: dict[str, str], may_lack: Sequence[str]) -> list[Column]:
    """Jaccard indices of two circuits' nodes and edges."""
    return [
        share(f"{kind}_{name}", f"Jaccard index of the {kind}: {text}", interval=False, empty=name in may_lack)
        for (name, text), kind in product(pairs.items(), ("nodes", "edges"))
    ]


def _hits_of_hops() -> list[Column]:
    questions = {
        "first": "the first hop",
        "second": "the second hop",
        "integrated": "both hops in one question",
        "left_out": "that question without its first hop",
    }
    return [
        share(f"{start}hit_{name}", f"hit@10 of {text}, {of}")
        for name, text in questions.items()
        for start, of in (("", "all chains"), ("known_", "chains of known hops"))
    ]


def _without_heads(text: str) -> list[Column]:
    runs = {"original": "the model", "ablated": "without the heads", "random": "without as many of the same layers"}
    return [
        *(share(name, f"hit@10 {text}: {of}") for name, of in runs.items()),
        *(share(f"p_{name}", f"probability of the answer {text}: {of}") for name, of in runs.items()),
    ]


TABLES = (
    Table(
        "known_facts",
        "KC 4, ROME 2.2",
        "hit@1 and hit@10 of the whole model by relation",
        "facts.survey:known_facts_table",
        {"facts": "facts/known.parquet"},
        settings={"hits": "facts/hits"},
        columns=(
            *(MODEL, CATEGORY, RELATION, count("n", "facts")),
            share("hit_at_1", "the answer ranks first"),
            share("hit_at_*", "the answer is among so many likeliest tokens (facts.hits)"),
            share("p_answer", "probability of the answer's first token"),
            *(count("n_val", "facts of D_val"), count("n_test", "facts of D_test")),
            word("val_drawn_from", "the rank that answers of D_val have at most"),
            count("n_wrong_of_right_type", "wrong answers that are another object of the relation"),
            word("wording", "the wording asked, {} for the subject"),
        ),
        one_row_for=("relation",),
    ),
    Table(
        "causal_effects",
        "ROME 2.2",
        "average total and indirect effects",
        "tracing.study:causal_effects",
        {"traces": "traces/facts.parquet"},
        columns=(MODEL, word("kind", "what is restored: state, mlp or attention; total: everything"), *EFFECT),
        one_row_for=("kind", "role", "layer"),
    ),
    Table(
        "causal_effects_severed",
        "ROME Fig. 3",
        "effects of single states with MLPs or attention severed above them",
        "tracing.study:causal_effects_severed",
        {"traces": "traces/facts.parquet"},
        columns=(
            *(MODEL, word("kind", "what is restored: state")),
            *(word("severed", "what keeps its corrupted values above the state: none, mlp or attention"), *EFFECT),
        ),
        one_row_for=("kind", "severed", "role", "layer"),
    ),
    Table(
        "circuit_hit_at_10",
        "KC Table 1",
        "what circuits can do alone, by relation",
        "circuits.relation_table:circuit_table",
        {"scores": "circuits/scores.csv", "showcase": "circuits/showcase_scores.csv"},
        columns=(
            *(MODEL, CATEGORY, RELATION, word("method", "how the circuit was found")),
            word("ablation", "what absent edges deliver: zero, or mean (each sender's average over D_val)"),
            number("tau", "ACDC's threshold, where the method has one", "nats", interval=False, empty=True),
            count("n_edges", "edges of the circuit"),
            count("n_edges_merged", "edges with the query, key and value inputs of a head as one"),
            share("edge_share", "edges, of the graph's", interval=False),
            count("n_nodes", "heads, MLPs and the embedding in the circuit"),
            count("n_dropped", "edges dropped because no path leads on from them"),
            share("constant", "no edge is left, so that every prompt gets the same output", interval=False),
            *(column for split, prompts in SPLITS.items() for column in _alone(split, prompts)),
            count("n_objects", "different objects of the relation"),
            number("faithfulness", "logit difference kept, the rest patched", "of the model's", empty=True),
            number("faithfulness_random", "the same of random circuits", "of the model's", empty=True),
            *(count("n_val", "prompts of D_val"), count("n_test", "prompts of D_test")),
            *(count("n_pairs", "patched prompts"), count("n_relations", "relations in the row")),
            word("hit_at_10_beats_random", "hit@10 on D_test above random circuits', by intervals apart"),
            word("faithfulness_beats_random", "faithfulness above random circuits', by intervals apart"),
        ),
        one_row_for=("relation", "method", "ablation"),
    ),
    Table(
        "method_comparison",
        "measures of MIB",
        "the methods that find circuits, side by side",
        "analysis.methods:method_comparison",
        {"rows": "circuits/comparison.csv", "seconds": "circuits/{method}_seconds.json"},
        columns=(
            *(MODEL, word("method", "how the circuit was found"), RELATION),
            word("ablation", "what absent edges deliver: zero, mean or patch (another fact's run)"),
            *(count("n_edges", "edges of the circuit"), share("edge_share", "edges, of the graph's", interval=False)),
            count("n_dropped", "edges dropped because no path leads on from them"),
            count("n_constant", "circuits of which no edge is left"),
            share("hit_at_10", "the answer is among the ten likeliest tokens, D_test", empty=True),
            share("hit_at_10_size_*", "the same of the circuit of that share of the edges", interval=False, empty=True),
            number("faithfulness", "logit difference kept, the rest patched", "of the model's", empty=True),
            number(
                "completeness", "logit difference kept by what the circuit leaves out", "of the model's", empty=True
            ),
            number("cpr", "area under faithfulness over circuit sizes", "of the model's", empty=True),
            number("cmd", "area between faithfulness and 1 over circuit sizes", "of the model's", empty=True),
            number("seconds", "what finding the circuits took, one thread", "seconds", interval=False, empty=True),
            *(count("n", "patched prompts"), count("n_test", "prompts of D_test")),
            count("n_relations", "relations in the row"),
        ),
        one_row_for=("relation", "method", "ablation"),
    ),
    Table(
        "special_components",
        "KC 4.3, appendix",
        "mover, relation and mixture heads of every relation",
        AS_READ,
        {"rows": "components/heads.csv"},
        columns=(
            *(MODEL, CATEGORY, RELATION, word("head", "the head: aLAYER.hHEAD"), count("layer", "its layer, from 0")),
            word("role", "mover (of the subject's attribute), relation, or mixture"),
            share("role_share", "facts on which it has the role"),
            *(share(f"{role}_share", f"facts on which it is a {role} head", interval=False) for role in ROLES),
            share("to_subject", "attention from the last position to the subject"),
            share("to_relation", "attention from the last position to the relation's words"),
            number("attribution", "its output's part in the logit of the answer above the vocabulary's mean", "logits"),
            share("writes_answer", "facts for which its output raises the answer most"),
            share("writes_type", "facts for which its output raises a token of the answer's type most"),
            *(word("facts", "subjects of some of these facts"), count("n", "facts")),
            *(word("in_circuit", "whether it is in the relation's circuit"), word("method", "how that was found")),
        ),
        one_row_for=("relation", "head"),
    ),
    Table(
        "head_ablation",
        "KC 4.3",
        "every relation without its special heads",
        AS_READ,
        {"rows": "components/ablation.csv"},
        columns=(
            *(MODEL, CATEGORY, RELATION, word("role", "the role of the heads"), word("heads", "the heads taken out")),
            *_without_heads("on the relation's facts"),
            *(count("n_heads", "heads taken out"), count("n", "facts")),
        ),
        one_row_for=("relation", "role"),
    ),
    Table(
        "editing_scores",
        "ROME Tables 4, 5",
        "the editors' scores",
        "editing.study:editing_table",
        {"scores": "edits/{editor}.csv", "place": "edits/place.json"},
        settings={"n_layers": "models.tsv:n_layers"},
        columns=(
            *(MODEL, EDITOR, count("layer", "the edited layer, from 0", empty=True)),
            share("S", "harmonic mean of ES, PS and NS"),
            share("ES", "efficacy: the new object is likelier than the true one on the request"),
            difference("EM", "probability of the new object less the true one's on the request"),
            share("PS", "generalization: the same on paraphrases"),
            difference("PM", "the same difference on paraphrases"),
            share("NS", "specificity: the true object is likelier on neighbourhood prompts"),
            difference("NM", "probability of the true object less the new one's on neighbourhood prompts"),
            number("GE", "fluency: weighted entropy of bigrams and trigrams of sampled texts", "bits"),
            share("RS", "consistency: similarity of sampled texts to texts about the new object"),
            number("seconds_per_edit", "seconds of an edit", "seconds", interval=False, empty=True),
            *(count("n", "records"), count("n_generation", "records of GE and RS")),
        ),
        one_row_for=("editor",),
    ),
    Table(
        "zsre_scores",
        "ROME Table 1",
        "the editors' scores on questions",
        "editing.study:zsre_scores",
        {"scores": "edits/{editor}.csv"},
        columns=(
            *(MODEL, EDITOR, share("efficacy", "tokens of the new object said first, on the question")),
            share("paraphrase", "the same on another wording", empty=True),
            share("specificity", "the same of the true object, on an unrelated question", empty=True),
            count("n", "records"),
        ),
        one_row_for=("editor",),
    ),
    Table(
        "editing_generations",
        "ROME Fig. 6",
        "what edited models write",
        AS_READ,
        {"rows": "edits/generations.csv"},
        columns=(
            *(MODEL, EDITOR, word("edit", "the sentence edited in"), word("prompt", "what the text continues")),
            *(count("sample", "which sample, from 0"), word("text", "the continuation")),
        ),
        one_row_for=("editor", "edit", "prompt", "sample"),
    ),
    Table(
        "edited_circuit_overlap",
        "KC 5",
        "circuits before and after edits of many facts",
        "analysis.averages:edited_overlap",
        {"circuits": "edits/followed_circuits.csv"},
        columns=(
            *(MODEL, word("method", "how the circuits were found"), EDITOR),
            number("layer", "the edited layer, from 0; -1: not edited, a second search", "layer", interval=False),
            word("prompt", "whose circuit: request, neighbour, or an unrelated fact"),
            *(share(f"jaccard_{kind}", f"Jaccard index of the {kind} before and after") for kind in ("edges", "nodes")),
            *(number(f"{name}_edges", f"edges {where}", "count") for name, where in CHANGED.items()),
            share("kept_share", "probability of the old answer over that before the edit, at most 1"),
            *(share("p_true", "probability of the true object"), share("p_new", "probability of the new object")),
            share("says_same", "the likeliest token is the old one"),
            share("to_subject", "the mover's attention to the subject", empty=True),
            share("writes_new", "the mover's output raises the new object", empty=True),
            share("writes_true", "the mover's output raises the true object", empty=True),
            count("n", "records"),
        ),
        one_row_for=("method", "editor", "layer", "prompt"),
    ),
    Table(
        "hallucination_heads",
        "KC 6.1",
        "wrong answers of the right type beside right ones",
        "analysis.wrong_tables:hallucination_table",
        {"cases": "behaviours/wrong_answers.parquet"},
        columns=(
            *(MODEL, RELATION, word("head", "the relation's main mover head, if it has one", empty=True)),
            share("overtaken_from", "of the layers, after which the wrong object leads the right one for good"),
            share("leads_from", "of the layers, after which the wrong object ranks first for good"),
            share("right_ever_on_top", "the right object ranks first after some layer"),
            share("right_ever_in_first", "the right object is among the ten first after some layer"),
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
                    word(name, f"the head that most often {text}", empty=name == "said_by_right"),
                    share(f"{name}_share", "how often", interval=False, empty=name == "said_by_right"),
                )
            ),
            *(count("n_right", "right answers"), count("n_mover", "wrong answers of relations with a mover")),
            count("n", "wrong answers"),
        ),
        one_row_for=("relation",),
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
            share("attention_new", "attention of the new heads to the demonstrations", empty=True),
            share("attention_others", "attention of the others to the demonstrations", empty=True),
            number(
                "n_heads", "heads of the demonstrated circuit that the zero-shot one lacks", "count", interval=False
            ),
            number(
                "n_heads_again",
                "heads of the relation's own circuit that the zero-shot one lacks",
                "count",
                interval=False,
                empty=True,
            ),
            *(count("n_mended", "facts that demonstrations mend"), count("n", "facts")),
        ),
        one_row_for=("relation",),
    ),
    Table(
        "hops",
        "KC appendix",
        "facts in two hops",
        AS_READ,
        {"rows": "behaviours/hops.csv"},
        columns=(
            *(MODEL, word("composition", "the two relations"), *_hits_of_hops()),
            *_overlaps(HOPS, ("integrated_unrelated", "first_again", "second_again")),
            count("n_prompts", "prompts on which the circuits of the first hop and of both hops were found"),
            count("n_prompts_second", "prompts on which the second hop's circuit was found"),
            *(count("n_known", "chains of which both hops rank first"), count("n", "chains")),
        ),
        one_row_for=("composition",),
    ),
    Table(
        "reverse_relations",
        "KC appendix",
        "facts asked forward and backward",
        AS_READ,
        {"rows": "behaviours/both_ways.csv"},
        columns=(
            *(MODEL, RELATION, share("hit_forward", "hit@10 asked forward"), share("hit_reverse", "asked backward")),
            *_overlaps(WAYS, ("unrelated", "same_way")),
            count("n_prompts", "prompts on which each circuit was found"),
            *(count("n_known", "facts that rank first forward"), count("n", "facts")),
        ),
        one_row_for=("relation",),
    ),
    Table(
        "claims",
        "KC, ROME",
        "the papers' statements, each a number with interval and verdict",
        "analysis.claims:claims_of_study",
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
            "edits": "edits/{editor}.csv",
        },
        columns=(
            *(MODEL, word("claim", "the statement"), word("section", "where it stands"), word("measure", "its number")),
            number("value", "the measure on this model", "of the measure", interval=False, empty=True),
            number("low", "lower bound of its 95 % interval", "of the measure", interval=False, empty=True),
            number("high", "upper bound of its 95 % interval", "of the measure", interval=False, empty=True),
            number("bound", "the claim holds above it", "of the measure", interval=False),
            *(word("holds", "yes, no or unclear"), count("n", "cases")),
        ),
        one_row_for=("claim",),
    ),
)
