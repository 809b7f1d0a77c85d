"""What a circuit can do alone: hit@k under zero ablation (KC section 3.2), on prompts of any length."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from numpy import ndarray

from knowcirc.circuits.graph import EdgeMatrix, Graph
from knowcirc.circuits.patched import run_circuit
from knowcirc.facts.knowledge import Answer, read_answers
from knowcirc.facts.prompts import Prompt, batches
from knowcirc.models.loading import LanguageModel

BATCH = 20


def circuit_answers(
    model: LanguageModel,
    graph: Graph,
    edges: EdgeMatrix,
    prompts: Sequence[Prompt],
    *,
    without: Bool[ndarray, " src"] | None = None,
) -> list[Answer]:
    """The answers of the circuit, all other edges delivering nothing, in the order of the prompts."""
    answers: dict[int, Answer] = {}
    for group in batches([prompt.ids for prompt in prompts], BATCH):
        ids = model.batch([prompts[i].ids for i in group])
        logits = run_circuit(model.transformer, graph, edges, ids, without=without)
        answers.update(zip(group, read_answers(logits, [prompts[i].answer[0] for i in group]), strict=True))
    return [answers[i] for i in range(len(prompts))]


def hits(answers: Sequence[Answer], k: int) -> list[bool]:
    """Which answers are among the `k` likeliest tokens."""
    return [answer.rank < k for answer in answers]


def nll(answers: Sequence[Answer]) -> float:
    """Mean negative log-likelihood of the answers, in nats."""
    p = torch.tensor([answer.p for answer in answers], dtype=torch.float64)
    return float(-p.clamp_min(1e-300).log().mean())
