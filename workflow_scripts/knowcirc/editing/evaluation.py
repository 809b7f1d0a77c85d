"""How good an edit is (ROME, section 3.3): efficacy, paraphrases, neighbourhood, fluency, consistency.

With p(o) the probability of an object, all its tokens, as exp of their mean log-probability:
ES, EM  share of requests with p(new) > p(true), and the mean of p(new) - p(true);
PS, PM  the same on paraphrases of the request;
NS, NM  on prompts about neighbours, share with p(true) > p(new), and the mean of p(true) - p(new);
S       harmonic mean of ES, PS, NS;
GE      fluency: mean of the weighted bi- and trigram entropies (bits) of generated text;
RS      consistency: cosine of the TF-IDF vectors of generated text and of texts about the new object.

In the manner of zsRE (ROME Table 1), with the share of an answer's tokens that are the likeliest, each after the right
ones before it: efficacy on the request, paraphrase on a question about the subject (on the paraphrases where the
relation has no question), specificity on questions about unrelated facts, against their true answers.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from knowcirc.editing.sampling import sample
from knowcirc.facts.prompts import answer_tokens, batches
from knowcirc.facts.ranking import check_finite, token_ranks
from knowcirc.facts.records import Record
from knowcirc.models.loading import LanguageModel
from knowcirc.models.tokens import token_text
from knowcirc.seeding import derive

NGRAM_WEIGHTS = ((2, 2 / 3), (3, 4 / 3))


@dataclass(frozen=True, slots=True)
class Pair:
    """Probabilities of the two objects after one prompt."""

    new: float
    true: float


@torch.no_grad()
def object_probabilities(model: LanguageModel, prompts: Sequence[str], target: str) -> list[float]:
    """exp of the mean log-probability of the target's tokens after each prompt.

    Raises:
        ValueError: naming the prompt, if a logit is not finite.
    """
    answer = answer_tokens(model.text, target)
    rows = [(*model.text.encode(text).ids, *answer[:-1]) for text in prompts]
    width = max(map(len, rows))
    x = model.transformer.embed(model.batch([row + (row[-1],) * (width - len(row)) for row in rows]))
    for layer in range(model.transformer.shape.n_layers):
        x = model.transformer.advance(layer, x)
    ends = torch.tensor([len(row) for row in rows], device=x.device)
    take = ends[:, None] - len(answer) + torch.arange(len(answer), device=x.device)
    logits = model.transformer.unembed(x[torch.arange(len(rows), device=x.device)[:, None], take])
    for text, one in zip(prompts, logits, strict=True):
        check_finite(one, text)
    chosen = logits.double().log_softmax(-1).gather(2, model.batch([answer] * len(rows))[..., None])
    return chosen[..., 0].mean(1).exp().tolist()


def judge(model: LanguageModel, record: Record) -> dict[str, list[Pair]]:
    """The pairs of a record's request, paraphrases and neighbourhood under the weights as they are."""
    prompts = [record.prompt, *record.paraphrases, *record.neighbours]
    new = object_probabilities(model, prompts, record.target_new)
    true = object_probabilities(model, prompts, record.target_true)
    pairs = [Pair(*values) for values in zip(new, true, strict=True)]
    split = 1 + len(record.paraphrases)
    return {"request": pairs[:1], "paraphrase": pairs[1:split], "neighbourhood": pairs[split:]}


def scores(pairs: dict[str, list[Pair]]) -> dict[str, float]:
    """ES, EM, PS, PM, NS, NM of one record (means over its prompts).

    >>> scores({"request": [Pair(0.75, 0.25)], "paraphrase": [Pair(0.1, 0.2)], "neighbourhood": [Pair(0.1, 0.2)]})[
    ...     "ES"
    ... ]
    1.0
    """
    result: dict[str, float] = {}
    for letter, kind, sign in (("E", "request", 1), ("P", "paraphrase", 1), ("N", "neighbourhood", -1)):
        gaps = [sign * (pair.new - pair.true) for pair in pairs[kind]]
        result[f"{letter}S"] = float(np.mean([gap > 0 for gap in gaps]))
        result[f"{letter}M"] = float(np.mean(gaps))
    return result


@torch.no_grad()
def greedy_shares(model: LanguageModel, cases: Sequence[tuple[str, str]]) -> list[float]:
    """The share of each answer's tokens that are the model's likeliest, each after the prompt and those before it.

    Raises:
        ValueError: naming the prompt, if a logit is not finite.
    """
    answers = [answer_tokens(model.text, answer) for _, answer in cases]
    rows = [(*model.text.encode(text).ids, *answer[:-1]) for (text, _), answer in zip(cases, answers, strict=True)]
    width = max(map(len, rows))
    x = model.transformer.embed(model.batch([row + (row[-1],) * (width - len(row)) for row in rows]))
    for layer in range(model.transformer.shape.n_layers):
        x = model.transformer.advance(layer, x)
    shares = []
    for index, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        logits = model.transformer.unembed(x[index, len(row) - len(answer) : len(row)])
        ranks = token_ranks(logits, torch.tensor(answer, device=logits.device), cases[index][0])
        shares.append(float((ranks == 0).double().mean()))
    return shares


def question_scores(model: LanguageModel, record: Record) -> dict[str, float | None]:
    """Efficacy, paraphrase and specificity of one record in the manner of zsRE; None where it has no prompt for one."""
    questions = record.paraphrases if record.question is None else (record.question,)
    cases = {
        "efficacy": [(record.prompt, record.target_new)],
        "paraphrase": [(text, record.target_new) for text in questions],
        "specificity": list(record.unrelated),
    }
    shares = greedy_shares(model, [case for part in cases.values() for case in part])
    found: dict[str, float | None] = {}
    for name, part in cases.items():
        mine, shares = shares[: len(part)], shares[len(part) :]
        found[f"zsre_{name}"] = float(np.mean(mine)) if mine else None
    return found


def harmonic(values: Sequence[float]) -> float:
    """The harmonic mean; zero if any value is.

    >>> harmonic([1.0, 0.5])
    0.6666666666666666
    """
    return 0.0 if min(values) <= 0 else len(values) / sum(1 / value for value in values)


def generate(model: LanguageModel, prompts: Sequence[str], length: int, *, seed: int, top_k: int = 5) -> list[str]:
    """Each prompt with `length` sampled tokens after it, among the `top_k` likeliest."""
    rows = [tuple(model.text.encode(text).ids) for text in prompts]
    texts = list(prompts)
    for group in batches(rows, len(rows)):
        new = sample(model, model.batch([rows[i] for i in group]), length, seed=derive(seed, *group), top_k=top_k)
        for index, tokens in zip(group, new.tolist(), strict=True):
            texts[index] = prompts[index] + token_text(model.text, tokens)
    return texts


def ngram_entropy(text: str) -> float:
    """GE of one text: mean of the weighted entropies of its word bi- and trigrams, in bits.

    >>> ngram_entropy("one two one two one")  # bigrams 2:2, trigrams 2:1
    0.9455...
    """
    words = text.split()
    parts = []
    for size, weight in NGRAM_WEIGHTS:
        counts = Counter(zip(*(words[start:] for start in range(size)), strict=False))
        shares = np.array(list(counts.values())) / max(1, counts.total())
        parts.append(weight * float(-(shares * np.log2(shares)).sum()))
    return float(np.mean(parts))


def consistency(texts: Sequence[str], references: Sequence[str], vectorizer: TfidfVectorizer) -> float:
    """RS: cosine of the TF-IDF vectors of the generated texts and of the references, each taken as one text."""
    rows = vectorizer.transform([" ".join(texts), " ".join(references)])
    return float((rows[0] @ rows[1].T).toarray()[0, 0])  # rows are of unit length


def fit_vectorizer(records: Sequence[Record]) -> TfidfVectorizer:
    """Inverse document frequencies over the reference texts of all records; one document per record."""
    return TfidfVectorizer().fit([" ".join(record.references) for record in records])


def fluency_and_consistency(
    model: LanguageModel, record: Record, vectorizer: TfidfVectorizer, *, continuations: int, length: int, seed: int
) -> dict[str, float | None]:
    """GE and RS of one record from seeded continuations of its prompts; RS is None without reference texts."""
    prompts = [record.generation[i % len(record.generation)] for i in range(continuations)]
    texts = generate(model, prompts, length, seed=derive(seed, record.case))
    entropy = float(np.mean([ngram_entropy(text) for text in texts]))
    likeness = consistency(texts, record.references, vectorizer) if record.references else None
    return {"GE": entropy, "RS": likeness}
