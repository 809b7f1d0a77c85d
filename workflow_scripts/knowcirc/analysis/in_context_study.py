"""In-context learning a relation: circuits of prompts with and without demonstrations, and ablations of the new heads.

1. Draw facts of the relation, those that the model does not answer first without a demonstration before the others;
   put demonstrations in front.
2. Circuits of the zero-shot and of the demonstrated prompts, by the same method and size, against the zero baseline.
3. New heads: in the demonstrated circuit, not in the zero-shot one. Set their outputs to zero in the whole model, and
   those of as many other heads of the same layers; hit@k on other facts, behind demonstrations of several draws.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from knowcirc.analysis.ablation import Head, answers_without, head_name, random_heads
from knowcirc.analysis.heads import observe
from knowcirc.analysis.in_context import Demonstrated, choose_demonstrations, demonstrate, new_heads
from knowcirc.circuits.discovery import Circuit
from knowcirc.circuits.evaluation import hits
from knowcirc.circuits.finding import CircuitSettings, find_circuit
from knowcirc.circuits.graph import Graph
from knowcirc.facts.knowledge import answer_prompts
from knowcirc.facts.prompts import Prompt, fill, token_texts
from knowcirc.facts.relations import Fact, Relation
from knowcirc.models.loading import LanguageModel
from knowcirc.seeding import derive
from knowcirc.statistics import bootstrap, columns, proportion

SHOWN_HEADS = 10
log = logging.getLogger(__name__)
ATTENTION_COLUMNS = ("head", "position", "token", "in_demonstration", "attention", "share_on_demonstration")


@dataclass(frozen=True, slots=True)
class IclSettings:
    """Counts as in the configuration's `icl`, and how circuits are found."""

    demonstrations: int
    order: str
    d_val: int
    d_test: int
    seeds: int
    circuits: CircuitSettings
    hits: int
    seed: int


@dataclass(frozen=True, slots=True)
class IclStudy:
    """A relation's row of table icl_head_ablation, and the demonstrated prompt whose answer rose most."""

    row: dict[str, object]
    zero_shot: Prompt
    demonstrated: Demonstrated
    p_zero: float
    p_demonstrated: float


def enough(asked: pd.DataFrame, wanted: dict[str, Any]) -> list[str]:
    """The wanted relations of which the model knows more facts than a prompt has demonstrations.

    The others are left out, and named in the log.

    Raises:
        ValueError: if none is left.
    """
    known = asked[asked["rank"] == 0].groupby("relation")["object"].nunique()
    left = [name for name in wanted["relations"] if known.get(name, 0) > wanted["demonstrations"]]
    for name in sorted(set(wanted["relations"]) - set(left)):
        log.warning("in-context: %s is left out, too few of its facts are known to demonstrate", name)
    if not left:
        raise ValueError("icl.relations: the model knows too few facts of all of them; name others")
    return left


def study_relation(
    model: LanguageModel, graph: Graph, relation: Relation, survey: pd.DataFrame, settings: IclSettings
) -> IclStudy:
    """Circuits, new heads and ablations of one relation; `survey` holds its rows of the first wording."""
    known = set(survey.loc[survey["rank"] == 0, "subject"])
    facts = _draw(survey, relation, settings)
    template = relation.templates[0]
    draws = [derive(settings.seed, "icl", relation.name, i) % 2**32 for i in range(settings.seeds)]
    shown, *others = ([_behind(model, relation, fact, known, seed, settings) for fact in facts] for seed in draws)
    zero = [fill(model.text, template, fact.subject, fact.object) for fact in facts]
    n = min(settings.d_val, len(facts) // 2)
    fresh = _new_heads(model, graph, zero[:n], [case.prompt for case in shown[:n]], settings)
    tests = {seed: [case.prompt for case in cases[n:]] for seed, cases in zip(draws, [shown, *others], strict=True)}
    p_zero, p_shown = answer_prompts(model, zero), answer_prompts(model, [case.prompt for case in shown])
    mended = [i for i in range(len(facts)) if p_zero[i].rank > 0 and p_shown[i].rank == 0]
    best = max(mended or range(len(facts)), key=lambda i: p_shown[i].p - p_zero[i].p)
    row = {
        "relation": relation.name,
        "method": settings.circuits.method,
        **columns("zero_shot", proportion(hits(p_zero[n:], settings.hits))),
        **_ablations(model, tests, fresh, settings.hits),
        **_attention(model, shown[:n], fresh),
        "n_heads": len(fresh),
        "n_mended": len(mended),
        "n": len(facts) - n,
    }
    return IclStudy(row, zero[best], shown[best], p_zero[best].p, p_shown[best].p)


def _behind(
    model: LanguageModel, relation: Relation, fact: Fact, known: set[str], seed: int, settings: IclSettings
) -> Demonstrated:
    before = choose_demonstrations(relation, fact, known, settings.demonstrations, seed, settings.order)
    return demonstrate(model.text, relation.templates[0], before, fact)


def _draw(survey: pd.DataFrame, relation: Relation, settings: IclSettings) -> list[Fact]:
    """Facts in a seeded order in which D_val and D_test hold unknown facts as far as there are any."""
    rng = np.random.default_rng(derive(settings.seed, "icl", relation.name))
    order = rng.permutation(len(survey))
    unknown = (survey["rank"].to_numpy() > 0)[order]
    order = np.concatenate([order[unknown], order[~unknown]])[: settings.d_val + settings.d_test]
    return [relation.facts[int(survey["fact"].iloc[i])] for i in rng.permutation(order)]


def _new_heads(
    model: LanguageModel, graph: Graph, zero: Sequence[Prompt], shown: Sequence[Prompt], settings: IclSettings
) -> list[Head]:
    circuits = [_circuit(model, graph, prompts, settings) for prompts in (zero, shown)]
    return new_heads(graph, circuits[0].edges, circuits[1].edges)


def _circuit(model: LanguageModel, graph: Graph, prompts: Sequence[Prompt], settings: IclSettings) -> Circuit:
    found, _ = find_circuit(model, graph, prompts, [None] * len(prompts), settings.circuits, seed=settings.seed)
    return found


def _ablations(model: LanguageModel, tests: dict[int, list[Prompt]], heads: Sequence[Head], k: int) -> dict[str, float]:
    """hit@k of the whole model, without the heads, and without random heads of the same layers.

    `tests` are the same facts behind demonstrations of several seeds, which draw the random heads, too. Of a fact the
    mean over seeds counts; intervals are over facts.
    """
    found = []
    for seed, prompts in tests.items():
        others = random_heads(model.transformer.shape.n_heads, heads, seed)
        found.append([hits(answers, k) for answers in answers_without(model, prompts, [[], heads, others])])
    means = np.mean(found, axis=0)
    names = ("original", "icl_heads_ablated", "random_heads_ablated")
    row: dict[str, float] = {}
    for name, values in zip(names, means, strict=True):
        row |= columns(name, bootstrap(values.tolist()))
    return row


def _attention(model: LanguageModel, shown: Sequence[Demonstrated], heads: Sequence[Head]) -> dict[str, float]:
    """Attention on the demonstrations from the last position: of the heads, and of all others of their layers."""
    new, rest = [], []
    layers = {layer for layer, _ in heads}
    for case in shown:
        low, high = case.demonstration
        share = observe(model, case.prompt).attention[:, :, low:high].sum(-1).cpu().numpy()
        new += [float(np.mean([share[head] for head in heads]))] if heads else []
        others = [(layer, head) for layer in layers for head in range(share.shape[1]) if (layer, head) not in heads]
        rest += [float(np.mean([share[head] for head in others]))] if others else []
    return {**columns("attention_new", bootstrap(new)), **columns("attention_others", bootstrap(rest))}


def showcase_attention(
    model: LanguageModel, graph: Graph, studies: Sequence[IclStudy], settings: IclSettings
) -> tuple[pd.DataFrame, dict[str, object]]:
    """Figure icl_attention: attention of the new heads, from the last position, for the most mended fact of all.

    Shown are the new heads with the largest share of attention on the demonstration.
    """
    study = max(studies, key=lambda one: one.p_demonstrated - one.p_zero)
    prompt, (low, high) = study.demonstrated.prompt, study.demonstrated.demonstration
    fresh = _new_heads(model, graph, [study.zero_shot], [prompt], settings)
    patterns = observe(model, prompt).attention.cpu().numpy()
    heads = sorted(fresh, key=lambda at: -patterns[at][low:high].sum())
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
        "method": settings.circuits.method,
        "n_edges": settings.circuits.n_edges(graph),
    }
    return pd.DataFrame(rows, columns=list(ATTENTION_COLUMNS)), meta
