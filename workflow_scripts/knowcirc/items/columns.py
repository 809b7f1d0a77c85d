"""Columns that several tables share, and those that come in series."""

from collections.abc import Sequence
from itertools import product

from knowcirc.items.contract import SEARCHED, SHARED, Column, count, difference, number, share, word

AS_READ = "items.make:with_model"
"""The function of tables that another rule has computed whole."""
MODEL = word("model", "the model, as models.tsv names it")
RELATION = word("relation", "the relation, or over which relations the row is a mean")
CATEGORY = word("category", "linguistic, commonsense, factual or bias")
EDITOR = word("editor", "the editor; none: the model as it is")
ROLE = word("role", "the token's role in the prompt")
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
AFTER_EDITS = {
    "old": "what was right before the edit, where the edit changes it",
    "follows": "what follows from the edit or, of other facts, stays right",
    "object": "the edit's own object, where that is not what follows",
}
WAYS = {
    "both_ways": "forward and backward",
    "unrelated": "forward, of relations without a common subject",
    "same_way": "forward and the relation's own circuit",
}
REUSED_HOPS = {
    "first": "the first hop's circuit that the circuit of both hops holds",
    "second": "the second hop's circuit that the circuit of both hops holds",
    "direct": "the circuit of the relation that asks the same without a hop that the circuit of both hops holds",
    "unrelated": "circuits of other compositions' first hops that the circuit of both hops holds",
}
REUSED_WAYS = {
    "both_ways": "the forward circuit that the backward one holds",
    "unrelated": "forward circuits of relations without a common subject that the backward one holds",
}
ALONE = {
    "hit_at_1": "the answer is first",
    "p": "probability of the answer",
    "among": "the answer leads those of all the relation's objects; not of answers that begin as another object does",
    "others": "share of the other facts' answers among the ten likeliest tokens",
}
CHANCES = {"edges": "sets of edges", "nodes": "sets of nodes"}
FOUND_AGAIN = {
    "own": "of the relation's own circuit",
    "runs": "of the circuits found again, on average",
    "consensus": "of the edges in at least a share of the circuits",
    "sized": "of the most frequent edges, as many as the own circuit has",
}

ASKED = (
    *(MODEL, EDITOR, share("efficacy", "tokens of the new object said first, on the question")),
    share("paraphrase", "the same on another wording", empty=True),
    share("specificity", "the same of the true object, on an unrelated question", empty=True),
    count("n", "records"),
)


def alone(split: str, prompts: str) -> list[Column]:
    """What the model and a circuit alone say to the prompts of a split."""
    columns = [
        share(f"{split}_original", f"hit@10 of the model on {prompts}"),
        share(f"{split}_circuit", f"hit@10 of the circuit on {prompts}", drift=SEARCHED),
        share(f"{split}_random", f"hit@10 of random circuits of the first method's size on {prompts}"),
        share(
            f"{split}_kept",
            f"hit@10 of the circuit over the model's, at most 1, on {prompts}",
            empty=True,
            drift=SEARCHED,
        ),
    ]
    return columns + [
        share(
            f"{split}_{name}_{side}",
            f"{text}; {side}, {prompts}",
            interval=False,
            empty=name in ("among", "others"),
            drift=SEARCHED if side == "circuit" else SHARED,
        )
        for (name, text), side in product(ALONE.items(), ("original", "circuit"))
    ]


def agreements(kind: str, random: str) -> list[Column]:
    """Jaccard indices between circuits found again, with the relation's own, and by chance."""
    texts = {
        "jaccard": f"Jaccard index of the {kind} of two circuits, mean over pairs (resampled halves: of one split)",
        "least": f"the least Jaccard index of the {kind}",
        "most": f"the largest Jaccard index of the {kind}",
        "chance": f"mean Jaccard index of random {random} of these sizes (hypergeometric)",
        "own": f"Jaccard index of the {kind} with the relation's own circuit, on average",
    }
    return [share(f"{name}_{kind}", text, interval=False, empty=True, drift=SEARCHED) for name, text in texts.items()]


def scores_of(name: str, text: str) -> list[Column]:
    """What circuits do on D_test: hit@k alone, and faithfulness."""
    interval = name != "runs"
    return [
        share(
            f"hit_{name}",
            f"the answer is among the likeliest tokens (facts.hits), all other edges delivering nothing, {text}",
            interval=interval,
            drift=SEARCHED,
        ),
        number(
            f"faithfulness_{name}",
            f"logit difference kept, the rest patched, {text}",
            "of the model's",
            interval=interval,
            empty=True,
            drift=SEARCHED,
        ),
    ]


def overlaps(pairs: dict[str, str], may_lack: Sequence[str]) -> list[Column]:
    """Jaccard indices of two circuits' nodes and edges."""
    return [
        share(
            f"{kind}_{name}",
            f"Jaccard index of the {kind}: {text}",
            interval=False,
            empty=name in may_lack,
            drift=SEARCHED,
        )
        for (name, text), kind in product(pairs.items(), ("nodes", "edges"))
    ]


def reused(circuits: dict[str, str], may_lack: Sequence[str]) -> list[Column]:
    """Shares of one circuit's nodes and edges that another holds: equation 4 of KC."""
    return [
        share(
            f"reused_{kind}_{name}",
            f"share of the {kind} of {text}",
            interval=False,
            empty=name in may_lack,
            drift=SEARCHED,
        )
        for (name, text), kind in product(circuits.items(), ("nodes", "edges"))
    ]


def hits_of_hops() -> list[Column]:
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


def without_heads(text: str) -> list[Column]:
    runs = {"original": "the model", "ablated": "without the heads", "random": "without as many of the same layers"}
    return [
        *(share(name, f"hit@10 {text}: {of}") for name, of in runs.items()),
        *(share(f"p_{name}", f"probability of the answer {text}: {of}") for name, of in runs.items()),
    ]
