"""The special heads of a relation (KC 4, B.2): which role each has, on how many facts, and what depends on it.

1. Every head is read on known facts of the relation (`heads.py`); a fact gives it at most one role.
2. A head is named by the role that it has most often, if that is on at least `share` of the facts.
3. The named heads of a role are taken out together, and as many random heads of the same layers: hit@k and p(answer)
   on D_test.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from knowcirc.circuits.circuit import Circuit
from knowcirc.circuits.evaluation import hits
from knowcirc.circuits.graph import Graph
from knowcirc.facts.knowledge import Answer
from knowcirc.facts.prompts import Prompt, answer_tokens, token_texts, word_positions
from knowcirc.facts.relations import Relation
from knowcirc.models.loading import LanguageModel
from knowcirc.reading.ablation import Head, answers_without, head_name, head_of, next_tokens, random_heads
from knowcirc.reading.heads import ROLES, Context, HeadReading, Role, Thresholds, find_head, read_heads
from knowcirc.statistics import bootstrap, columns, proportion, wilson

log = logging.getLogger(__name__)
SERVED = 5  # subjects named beside a head
SCORES = ("original", "ablated", "random", "p_original", "p_ablated", "p_random")
ABLATED = (
    "category",
    "relation",
    "role",
    "heads",
    *(f"{name}{end}" for name in SCORES for end in ("", "_low", "_high")),
    "n_heads",
    "n",
)
NAMED = ("category", "relation", "head", "layer", "role")  # columns of a relation without such heads
SHOWN: tuple[Role, ...] = ("mover", "relation")  # roles whose nearest head figure head_ablation_tokens takes out


@dataclass(frozen=True, slots=True)
class RoleSettings:
    """Thresholds of the roles, the share of facts that names a head, and how ablations are judged."""

    limits: Thresholds
    share: float
    hits: int
    seeds: tuple[int, ...]


def context_of(model: LanguageModel, relation: Relation, prompt: Prompt) -> Context:
    """Where the relation's words stand in a prompt, and the first tokens of its objects."""
    kind = frozenset(answer_tokens(model.text, text)[0] for text in relation.objects)
    return Context(word_positions(model.text, prompt, relation.relation_words), kind)


def head_rows(
    model: LanguageModel, relation: Relation, prompts: Sequence[Prompt], subjects: Sequence[str], limits: Thresholds
) -> pd.DataFrame:
    """One row per fact and head: what it attends to and writes, and its role on that fact (or None)."""
    rows = []
    contexts = [context_of(model, relation, prompt) for prompt in prompts]
    if not any(context.words for context in contexts):
        log.warning("special heads: none of the relation words of %s stands in its wording", relation.name)
    for prompt, subject, context in zip(prompts, subjects, contexts, strict=True):
        for reading in read_heads(model, prompt, context):
            rows.append(
                {
                    "relation": relation.name,
                    "category": relation.category,
                    "subject": subject,
                    "layer": reading.layer,
                    "head": reading.head,
                    "to_subject": reading.to_subject,
                    "to_relation": reading.to_relation,
                    "writes_answer": reading.rank < limits.tokens,
                    "writes_type": reading.kind_rank is not None and reading.kind_rank < limits.tokens,
                    "attribution": reading.attribution,
                    "role": reading.role(limits),
                }
            )
    return pd.DataFrame(rows)


def name_heads(rows: pd.DataFrame, share: float) -> pd.DataFrame:
    """The heads with a role, a row each: how often they have it, and the scores that say so.

    `rows` are those of `head_rows`, of any relations.
    """
    found = []
    for (relation, layer, head), group in rows.groupby(["relation", "layer", "head"], sort=False):
        counts = group["role"].value_counts()
        if counts.empty or counts.iloc[0] < share * len(group):
            continue
        role = next(name for name in ROLES if counts.get(name, 0) == counts.iloc[0])
        row: dict[str, object] = {
            "category": group["category"].iloc[0],
            "relation": relation,
            "head": head_name((layer, head)),
            "layer": layer,
            "role": role,
            **columns("role_share", wilson(int(counts.iloc[0]), len(group))),
        }
        row |= {f"{name}_share": float(counts.get(name, 0) / len(group)) for name in ROLES}
        for name in ("to_subject", "to_relation", "attribution"):
            row |= columns(name, bootstrap(group[name].tolist()))
        for name in ("writes_answer", "writes_type"):
            row |= columns(name, proportion(group[name].tolist()))
        served = group.loc[group["role"] == role, "subject"].tolist()
        more = f" and {len(served) - SERVED} more" if len(served) > SERVED else ""
        found.append({**row, "facts": ", ".join(served[:SERVED]) + more, "n": len(group)})
    return pd.DataFrame(found, columns=list(found[0]) if found else list(NAMED))


def in_circuits(named: pd.DataFrame, graph: Graph, circuit: Circuit) -> pd.DataFrame:
    """The named heads of one relation, with whether each is a node of its circuit."""
    alive = graph.nodes(circuit.edges)
    inside = [bool(alive[graph.head(layer, head)]) for layer, head in _heads(named)]
    return named.assign(in_circuit=pd.Series(inside, index=named.index, dtype=bool), method=circuit.method)


def heads_of(named: pd.DataFrame, role: Role) -> list[Head]:
    """The heads of one relation in a role."""
    return _heads(named[named["role"] == role])


def _heads(named: pd.DataFrame) -> list[Head]:
    return [head_of(str(name)) for name in named["head"]]


def ablation_rows(
    model: LanguageModel,
    relation: Relation,
    prompts: Sequence[Prompt],
    roles: Mapping[Role, Sequence[Head]],
    settings: RoleSettings,
) -> list[dict[str, object]]:
    """One row per role that has heads: hit@k and p(answer) of the whole model, without them, and without random
    heads."""
    chosen = {role: list(heads) for role, heads in roles.items() if heads}
    n_heads = model.transformer.shape.n_heads
    sets: list[list[Head]] = [[]]
    for heads in chosen.values():
        sets += [heads, *(random_heads(n_heads, heads, seed) for seed in settings.seeds)]
    answers = answers_without(model, prompts, sets)
    whole, rest = answers[0], answers[1:]
    rows = []
    for index, (role, heads) in enumerate(chosen.items()):
        low = index * (1 + len(settings.seeds))
        without, chance = rest[low], rest[low + 1 : low + 1 + len(settings.seeds)]
        rows.append(
            {
                "category": relation.category,
                "relation": relation.name,
                "role": role,
                "heads": ", ".join(map(head_name, heads)),
                **columns("original", proportion(hits(whole, settings.hits))),
                **columns("ablated", proportion(hits(without, settings.hits))),
                **columns("random", bootstrap(np.mean([hits(one, settings.hits) for one in chance], axis=0).tolist())),
                **columns("p_original", bootstrap(_p(whole))),
                **columns("p_ablated", bootstrap(_p(without))),
                **columns("p_random", bootstrap(np.mean([_p(one) for one in chance], axis=0).tolist())),
                "n_heads": len(heads),
                "n": len(prompts),
            }
        )
    return rows


def _p(answers: Sequence[Answer]) -> list[float]:
    return [answer.p for answer in answers]


def token_rows(
    model: LanguageModel, prompt: Prompt, context: Context, limits: Thresholds, n_tokens: int = 10
) -> list[dict[str, object]]:
    """Figure head_ablation_tokens: the likeliest next tokens of the model, and without its mover or relation head."""
    readings = read_heads(model, prompt, context)
    found: dict[str, tuple[HeadReading, bool] | None] = {"original": None}
    found |= {role: find_head(readings, role, limits) for role in SHOWN}
    sets: list[list[Head]] = [[] if one is None else [(one[0].layer, one[0].head)] for one in found.values()]
    rows: list[dict[str, object]] = []
    for (run, one), p in zip(found.items(), next_tokens(model, prompt, sets), strict=True):
        top = p.topk(n_tokens)
        for place, (token, value) in enumerate(zip(top.indices.tolist(), top.values.tolist(), strict=True)):
            rows.append(
                {
                    "run": run,
                    "head": "" if one is None else one[0].name,
                    "has_role": one is None or one[1],
                    "place": place + 1,
                    "token": token_texts(model.text, [token])[0],
                    "is_answer": token == prompt.answer[0],
                    "probability": value,
                    "p_answer": float(p[prompt.answer[0]]),
                }
            )
    return rows
