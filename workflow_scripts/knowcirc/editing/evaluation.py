"""How good an edit is (ROME, section 3.3): efficacy, paraphrases, neighbourhood, fluency, consistency.

With p(o) the probability of an object, all its tokens, as exp of their mean log-probability:
ES, EM  share of requests with p(new) > p(true), and the mean of p(new) - p(true);
PS, PM  the same on paraphrases of the request;
NS, NM  on prompts about neighbours, share with p(true) > p(new), and the mean of p(true) - p(new);
S       harmonic mean of ES, PS, NS;
GE      fluency: mean of the weighted bi- and trigram entropies (bits) of generated text;
RS      consistency: cosine of the TF-IDF vectors of generated text and of texts about the new object.

On questions (zsRE's: ROME Table 1), with the share of an answer's tokens that are the likeliest, each after the right
ones before it: efficacy on the request, paraphrase on a question about the subject (on the paraphrases where the
relation has no question), specificity on questions about unrelated facts, against their true answers.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from nltk.tokenize.destructive import NLTKWordTokenizer
from sklearn.feature_extraction.text import TfidfVectorizer

from knowcirc.editing.sampling import sample
from knowcirc.facts.prompts import answer_tokens, batches
from knowcirc.facts.ranking import token_ranks
from knowcirc.facts.records import Record
from knowcirc.files import read_json
from knowcirc.models.loading import LanguageModel
from knowcirc.models.token_tree import grouped_logits
from knowcirc.models.tokens import token_text
from knowcirc.seeding import derive

BATCH = 16  # rows of a batch whose memory a tree of prompts may take
SCORES = ("ES", "EM", "PS", "PM", "NS", "NM")
WORDS = NLTKWordTokenizer()
NGRAM_WEIGHTS = ((2, 2 / 3), (3, 4 / 3))


@dataclass(frozen=True, slots=True)
class Pair:
    """Probabilities of the two objects after one prompt."""

    new: float
    true: float


@dataclass(frozen=True, slots=True)
class Said:
    """An answer after a text, token by token, each after the right ones before it: log-probability, rank from 0."""

    log_p: tuple[float, ...]
    ranks: tuple[int, ...]

    @property
    def p(self) -> float:
        """exp of the mean log-probability."""
        return math.exp(sum(self.log_p) / len(self.log_p))

    @property
    def share(self) -> float:
        """The share of tokens that are the model's likeliest."""
        return sum(rank == 0 for rank in self.ranks) / len(self.ranks)


@torch.no_grad()
def read_said(model: LanguageModel, cases: Sequence[tuple[str, str]]) -> list[Said]:
    """How the model says each answer after its text; what texts and answers share is computed once.

    Raises:
        ValueError: naming the text, if a logit is not finite.
    """
    rows: list[tuple[int, ...]] = []
    sought: list[tuple[str, int]] = []  # of each row: the text, and the token behind it
    places: list[range] = []
    for text, answer in cases:
        ids, tokens = model.ids_of(text), answer_tokens(model.text, answer)
        places.append(range(len(rows), len(rows) + len(tokens)))
        rows += [ids + tokens[:i] for i in range(len(tokens))]
        sought += [(text, token) for token in tokens]
    log_p, ranks = [0.0] * len(rows), [0] * len(rows)
    for group, logits in grouped_logits(model.transformer, rows, BATCH):
        for i, one in zip(group, logits, strict=True):
            text, token = sought[i]
            ranks[i] = int(token_ranks(one, token, text))
            log_p[i] = float(one.double().log_softmax(-1)[token])
    return [Said(tuple(log_p[i] for i in place), tuple(ranks[i] for i in place)) for place in places]


def judge(model: LanguageModel, record: Record) -> dict[str, list[Pair]]:
    """The pairs of a record's request, paraphrases and neighbourhood under the weights as they are."""
    prompts = [record.prompt, *record.paraphrases, *record.neighbours]
    said = read_said(model, [(text, target) for target in (record.target_new, record.target_true) for text in prompts])
    pairs = [Pair(new.p, true.p) for new, true in zip(said[: len(prompts)], said[len(prompts) :], strict=True)]
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


def question_scores(model: LanguageModel, record: Record) -> dict[str, float | None]:
    """Efficacy, paraphrase and specificity of one record on questions; None where it has no prompt for one."""
    questions = record.paraphrases if record.question is None else (record.question,)
    cases = {
        "efficacy": [(record.prompt, record.target_new)],
        "paraphrase": [(text, record.target_new) for text in questions],
        "specificity": list(record.unrelated),
    }
    shares = [said.share for said in read_said(model, [case for part in cases.values() for case in part])]
    found: dict[str, float | None] = {}
    for name, part in cases.items():
        mine, shares = shares[: len(part)], shares[len(part) :]
        found[f"question_{name}"] = float(np.mean(mine)) if mine else None
    return found


def harmonic(values: Sequence[float]) -> float:
    """The harmonic mean; zero if any value is.

    >>> harmonic([1.0, 0.5])
    0.6666666666666666
    """
    return 0.0 if min(values) <= 0 else len(values) / sum(1 / value for value in values)


def generate(model: LanguageModel, prompts: Sequence[str], length: int, *, seed: int, top_k: int = 5) -> list[str]:
    """Each prompt with `length` sampled tokens after it, among the `top_k` likeliest."""
    rows = [model.ids_of(text) for text in prompts]
    texts = list(prompts)
    for group in batches(rows, len(rows)):
        new = sample(model, model.batch([rows[i] for i in group]), length, seed=derive(seed, *group), top_k=top_k)
        for index, tokens in zip(group, new.tolist(), strict=True):
            texts[index] = prompts[index] + token_text(model.text, tokens)
    return texts


def ngram_entropy(text: str) -> float:
    """GE of one text: mean of the weighted entropies of its word bi- and trigrams, in bits.

    Words are NLTK's, of the text as a whole; ROME's code splits it into sentences first, which needs a download.

    >>> ngram_entropy("one two one two one")  # bigrams 2:2, trigrams 2:1
    0.9455...
    """
    words = WORDS.tokenize(text)
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


def published_vectorizer(frequencies: Path, vocabulary: Path) -> TfidfVectorizer:
    """Inverse document frequencies over Wikipedia, as ROME's code has them (`idf.npy`, `tfidf_vocab.json`).

    Raises:
        ValueError: if the two files do not go together.
    """
    found, places = np.load(frequencies, allow_pickle=False), read_json(vocabulary)
    if sorted(places.values()) != list(range(len(found))):
        raise ValueError(f"{frequencies} and {vocabulary} do not go together; fetch both again")
    vectorizer = TfidfVectorizer(vocabulary=places)
    vectorizer.idf_ = found
    return vectorizer


def fluency_and_consistency(
    model: LanguageModel, record: Record, vectorizer: TfidfVectorizer, *, continuations: int, length: int, seed: int
) -> dict[str, float | None]:
    """GE and RS of one record from seeded continuations of its prompts; RS is None without reference texts."""
    prompts = [record.generation[i % len(record.generation)] for i in range(continuations)]
    texts = generate(model, prompts, length, seed=derive(seed, record.case))
    entropy = float(np.mean([ngram_entropy(text) for text in texts]))
    likeness = consistency(texts, record.references, vectorizer) if record.references else None
    return {"GE": entropy, "RS": likeness}
