"""In-context learning a relation: circuits of prompts with and without demonstrations, and ablations of the new heads.

1. Draw facts of the relation: those that the model does not answer first without demonstrations and does behind some,
   as the paper has it; where these are too few, others that it does not answer first without, then any. Put
   demonstrations in front, drawn apart from those that facts were chosen by.
2. Circuits of the zero-shot and of the demonstrated prompts of D_val together, by one method, to one size.
3. New heads: in the demonstrated circuit, not in the zero-shot one. Beside their number stands how many heads of the
   relation's own circuit, found without demonstrations on facts that the model knows, are not in the zero-shot one.
4. Set the outputs of the new heads to zero in the whole model, and those of as many other heads of the same layers that
   neither circuit holds (those of the zero-shot circuit, which the answer needs anyway, where no more are left); hit@k
   and the answer's probability on other facts, behind demonstrations of several draws.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from knowcirc.behaviours.demonstrations import Demonstrated, choose_demonstrations, demonstrate, new_heads
from knowcirc.circuits.circuit import Circuit
from knowcirc.circuits.evaluation import hits
from knowcirc.circuits.kept import KeptCircuits
from knowcirc.facts.knowledge import answer_prompts
from knowcirc.facts.prompts import Prompt, fill, token_texts
from knowcirc.facts.relations import Fact, Relation
from knowcirc.models.loading import LanguageModel
from knowcirc.reading.ablation import Head, answers_without, head_name, random_heads
from knowcirc.reading.heads import observe
from knowcirc.seeding import derive
from knowcirc.statistics import bootstrap, columns, proportion

SHOWN_HEADS = 10
RUNS = ("original", "icl_heads_ablated", "random_heads_ablated")
ABLATED = (*RUNS, *(f"p_{name}" for name in RUNS))
log = logging.getLogger(__name__)
ATTENTION_COLUMNS = ("head", "position", "token", "in_demonstration", "attention", "share_on_demonstration")


@dataclass(frozen=True, slots=True)
class IclSettings:
    """Counts as in the configuration's `icl`, what counts as a hit, and the seed of every draw.

    `shown` is the fact of figure icl_attention (template, subject, demonstrations), if the study chooses it.
    """

    demonstrations: int
    order: str
    d_val: int
    d_test: int
    seeds: int
    hits: int
    seed: int
    shown: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class IclStudy:
    """A relation's row of table icl_head_ablation, its new heads, and the demonstrated prompt whose answer rose most.

    `n_edges` is the size of the circuit that holds the new heads. `chosen`: the prompt is one that the study names.
    """

    row: dict[str, object]
    heads: list[Head]
    n_edges: int
    zero_shot: Prompt
    demonstrated: Demonstrated
    p_zero: float
    p_demonstrated: float
    chosen: bool = False


def enough(first_wording: pd.DataFrame, demonstrations: int) -> bool:
    """Whether the model knows more facts of a relation, by its rows of the first wording, than prompts demonstrate."""
    return int(first_wording.loc[first_wording["rank"] == 0, "object"].nunique()) > demonstrations


def study_relation(
    finder: KeptCircuits, relation: Relation, survey: pd.DataFrame, own: Circuit | None, settings: IclSettings
) -> IclStudy:
    """Circuits, new heads and ablations of one relation.

    `survey` holds its rows of the first wording; `own` is its circuit, found by the same method, if it has one.

    Raises:
        ValueError: if the relation lacks a subject of the fact to be shown.
    """
    model = finder.model
    chosen = None if settings.shown is None else _chosen(model, relation, settings.shown)
    known = set(survey.loc[survey["rank"] == 0, "subject"])
    template = relation.templates[0]
    draws = [derive(settings.seed, "icl", relation.name, i) % 2**32 for i in range(settings.seeds)]
    facts = _draw(model, survey, relation, known, settings)
    shown, *others = ([_behind(model, relation, fact, known, seed, settings) for fact in facts] for seed in draws)
    zero = [fill(model.text, template, fact.subject, fact.object) for fact in facts]
    n = min(settings.d_val, len(facts) // 2)
    plain = finder.find(f"{relation.name}, zero-shot", zero[:n], seed=settings.seed)
    found = finder.find(f"{relation.name}, demonstrated", [case.prompt for case in shown[:n]], seed=settings.seed)
    fresh = new_heads(finder.graph, plain.edges, found.edges)
    used = new_heads(finder.graph, np.zeros_like(plain.edges), plain.edges)  # all of the first circuit
    tests = {seed: [case.prompt for case in cases[n:]] for seed, cases in zip(draws, [shown, *others], strict=True)}
    p_zero, p_shown = answer_prompts(model, zero), answer_prompts(model, [case.prompt for case in shown])
    mended = [i for i in range(len(facts)) if p_zero[i].rank > 0 and p_shown[i].rank == 0]
    best = max(mended or range(len(facts)), key=lambda i: p_shown[i].p - p_zero[i].p)
    row = {
        "relation": relation.name,
        "method": found.method,
        **columns("zero_shot", proportion(hits(p_zero[n:], settings.hits))),
        **columns("p_zero_shot", bootstrap([answer.p for answer in p_zero[n:]])),
        **_ablations(model, tests, fresh, used, settings.hits),
        **_attention(model, shown[:n], fresh, used),
        "n_heads": len(fresh),
        "n_heads_again": _heads_again(finder, relation, plain, own),
        "n_mended": len(mended),
        "n": len(facts) - n,
    }
    study = IclStudy(row, fresh, found.n_edges, zero[best], shown[best], p_zero[best].p, p_shown[best].p)
    if chosen is None:
        return study
    asked, demonstrated = chosen
    said = answer_prompts(model, [asked, demonstrated.prompt])
    return replace(
        study, zero_shot=asked, demonstrated=demonstrated, p_zero=said[0].p, p_demonstrated=said[1].p, chosen=True
    )


def _chosen(model: LanguageModel, relation: Relation, shown: Mapping[str, Any]) -> tuple[Prompt, Demonstrated]:
    facts = {fact.subject: fact for fact in relation.facts}
    for subject in (shown["subject"], *shown["demonstrations"]):
        if subject not in facts:
            raise ValueError(f"icl.shown: relation {relation.name} has no subject {subject!r}; choose one of its file")
    fact, template = facts[shown["subject"]], shown["template"]
    before = [facts[subject] for subject in shown["demonstrations"]]
    asked = fill(model.text, template, fact.subject, fact.object)
    return asked, demonstrate(model.text, template, before, fact)


def _behind(
    model: LanguageModel, relation: Relation, fact: Fact, known: set[str], seed: int, settings: IclSettings
) -> Demonstrated:
    before = choose_demonstrations(relation, fact, known, settings.demonstrations, seed, settings.order)
    return demonstrate(model.text, relation.templates[0], before, fact)


def _draw(
    model: LanguageModel, survey: pd.DataFrame, relation: Relation, known: set[str], settings: IclSettings
) -> list[Fact]:
    """Facts in a seeded order: those that demonstrations mend, as far as there are any.

    These demonstrations are of a draw of their own: prompts that facts are chosen by would score too high.

    Behind them come other facts that do not rank first without demonstrations, then those that do.
    """
    rng = np.random.default_rng(derive(settings.seed, "icl", relation.name))
    seed = derive(settings.seed, "icl chosen", relation.name) % 2**32
    facts = [relation.facts[int(survey["fact"].iloc[i])] for i in rng.permutation(len(survey))]
    unknown = [fact for fact in facts if fact.subject not in known]
    shown = [_behind(model, relation, fact, known, seed, settings).prompt for fact in unknown]
    mended = {fact for fact, answer in zip(unknown, answer_prompts(model, shown), strict=True) if answer.rank == 0}
    ordered = sorted(facts, key=lambda fact: (fact not in mended, fact.subject in known))
    chosen = ordered[: settings.d_val + settings.d_test]
    return [chosen[i] for i in rng.permutation(len(chosen))]


def _heads_again(finder: KeptCircuits, relation: Relation, plain: Circuit, own: Circuit | None) -> float:
    """How many heads look new though nothing is demonstrated: searches on two sets of facts differ as well."""
    if own is None:
        log.warning("in-context: %s has no circuit of its own to compare new heads with", relation.name)
        return math.nan
    return float(len(new_heads(finder.graph, plain.edges, own.edges)))


def _ablations(
    model: LanguageModel, tests: dict[int, list[Prompt]], heads: Sequence[Head], used: Sequence[Head], k: int
) -> dict[str, float]:
    """hit@k and p(answer) of the whole model, without the heads, and without random heads of the same layers.

    `tests` are the same facts behind demonstrations of several seeds, which draw the random heads, too: not those that
    are `used` without demonstrations, as long as there are others. Of a fact the mean over seeds counts; intervals are
    over facts.
    """
    found = []
    for seed, prompts in tests.items():
        others = random_heads(model.transformer.shape.n_heads, heads, seed, used)
        runs = answers_without(model, prompts, [[], heads, others])
        found.append([hits(answers, k) for answers in runs] + [[answer.p for answer in answers] for answers in runs])
    row: dict[str, float] = {}
    for name, values in zip(ABLATED, np.mean(found, axis=0), strict=True):
        row |= columns(name, bootstrap(values.tolist()))
    return row


def _attention(
    model: LanguageModel, shown: Sequence[Demonstrated], heads: Sequence[Head], used: Sequence[Head]
) -> dict[str, float]:
    """Attention on the demonstrations from the last position: of the heads, and of all others of their layers.

    Others are those that are not `used` without demonstrations; all others where there are no such.
    """
    new, rest = [], []
    layers = {layer for layer, _ in heads}
    for case in shown:
        low, high = case.demonstration
        share = observe(model, case.prompt).attention[:, :, low:high].sum(-1).cpu().numpy()
        new += [float(np.mean([share[head] for head in heads]))] if heads else []
        others = [(layer, head) for layer in layers for head in range(share.shape[1]) if (layer, head) not in heads]
        others = [head for head in others if head not in used] or others
        rest += [float(np.mean([share[head] for head in others]))] if others else []
    return {**columns("attention_new", bootstrap(new)), **columns("attention_others", bootstrap(rest))}


def attention_of(model: LanguageModel, study: IclStudy) -> tuple[pd.DataFrame, dict[str, object]]:
    """Attention from the last position on the most mended fact of a relation, by the relation's new heads.

    Shown are the new heads with the largest share of attention on the demonstration.
    """
    prompt, (low, high) = study.demonstrated.prompt, study.demonstrated.demonstration
    patterns = observe(model, prompt).attention.cpu().numpy()
    heads = sorted(study.heads, key=lambda at: -patterns[at][low:high].sum())
    tokens = token_texts(model.text, prompt.ids)
    rows = [
        {
            "head": head_name((layer, head)),
            "position": position,
            "token": token,
            "in_demonstration": low <= position < high,
            "attention": float(patterns[layer, head, position]),
            "share_on_demonstration": float(patterns[layer, head, low:high].sum()),
        }
        for layer, head in heads[:SHOWN_HEADS]
        for position, token in enumerate(tokens)
    ]
    meta = {
        "prompt_zero": study.zero_shot.text,
        "prompt_icl": prompt.text,
        "relation": study.row["relation"],
        "answer": prompt.answer_text,
        "p_zero": study.p_zero,
        "p_icl": study.p_demonstrated,
        "n_new_heads": len(heads),
        "method": study.row["method"],
        "n_edges": study.n_edges,
        "chosen": study.chosen,
    }
    return pd.DataFrame(rows, columns=list(ATTENTION_COLUMNS)), meta


def shown_relation(metas: Sequence[dict[str, Any]]) -> int:
    """Which relation figure icl_attention shows: that of a chosen fact, else of the answer that rises most."""
    return max(range(len(metas)), key=lambda i: (metas[i]["chosen"], metas[i]["p_icl"] - metas[i]["p_zero"]))
