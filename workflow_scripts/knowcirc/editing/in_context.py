"""IKE, in-context knowledge editing (Zheng et al. 2023, arXiv 2305.12740): text before the prompt, and no new weights.

Whatever the edited model is asked stands behind demonstrations and the new fact (`Edit.before`):

    New Fact: PROMPT' OBJECT'        a demonstration: the fact of another record,
    Prompt: QUESTION' ANSWER'        and what then follows a question
    (empty line)
    New Fact: PROMPT OBJECT          the request
    Prompt: ...                      the text that the model is asked

| kind | question of the demonstration | answer | of eight |
|---|---|---|---|
| copy | the record's own prompt | its new object | 1 |
| update | a paraphrase | its new object | 3 |
| retain | a neighbour, or an unrelated fact | the true one, as before | 4 |

Demonstrations are of the study's other records, those with the likest words (TF-IDF, cosine) last, next to the request;
the paper compares sentences by an encoder. No demonstration says a fact of the request's subject, nor asks or answers a
text by which the request's own record is judged, nor is of a record whose fact one of that record's neighbours asks
for, in whatever words. They fill at most half of what the model reads.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from knowcirc.editing.edits import Edit, Material, Request
from knowcirc.editing.settings import InContextSettings
from knowcirc.facts.records import Record, unedited_neighbours
from knowcirc.models.loading import LanguageModel

KINDS = ("copy", "retain", "update", "retain", "update", "retain", "update", "retain")
Said = tuple[str, str]
"""A text and what follows it."""


def edit_requests(
    model: LanguageModel, requests: Sequence[Request], settings: InContextSettings, material: Material
) -> Edit:
    """The edit of all requests, as the registry of editors calls for it: their new facts stand one below the other."""
    facts = [(request.prompt.text, request.prompt.answer_text) for request in requests]
    asked = "".join(f"New Fact: {text} {answer}\n" for text, answer in facts) + "Prompt: "
    shown = demonstrations(requests, material.records, settings.demonstrations)
    while shown and len(model.text.encode("".join(shown) + asked).ids) > model.context // 2:
        shown = shown[1:]
    return Edit({}, {"demonstrations": float(len(shown))}, before="".join(shown) + asked)


def demonstrations(requests: Sequence[Request], records: Sequence[Record], most: int) -> list[str]:
    """At most so many demonstrations for the requests, those of the likest records last."""
    prompts, subjects = {request.prompt.text for request in requests}, {request.subject for request in requests}
    own = [record for record in records if record.prompt in prompts]
    judged = prompts.union(*map(judging, own))
    others = [record for record in records if record.subject not in subjects and record.prompt not in judged]
    others = [record for record in others if all(unedited_neighbours(one, [record]) == one.neighbours for one in own)]
    shown: list[str] = []
    for record in by_likeness(" ".join(sorted(prompts)), others):
        texts = {kind: asks(record, kind, judged, subjects) for kind in KINDS}
        for kind in KINDS:
            if len(shown) < most and (found := next(texts[kind], None)) is not None:
                fact, (text, answer) = f"{record.prompt} {record.target_new}", found
                shown.append(f"New Fact: {fact}\nPrompt: {text} {answer}\n\n")
    return shown[::-1]


def judging(record: Record) -> set[str]:
    """The texts by which a record's edit is judged, and those that it generates from."""
    asked = {record.prompt, *record.paraphrases, *record.neighbours, *record.generation}
    return asked | {text for text, _ in record.unrelated} | ({record.question} if record.question else set())


def asks(record: Record, kind: str, judged: set[str], subjects: set[str]) -> Iterator[Said]:
    """A record's questions of a kind, with their answers; none that is judged, or names one of the subjects."""
    found: list[Said] = {
        "copy": [(record.prompt, record.target_new)],
        "update": [(text, record.target_new) for text in record.paraphrases],
        "retain": [*((text, record.target_true) for text in record.neighbours), *record.unrelated],
    }[kind]
    free = [said for said in found if said[0] not in judged]
    return iter([said for said in free if not any(subject in said[0] for subject in subjects)])


def by_likeness(text: str, records: Sequence[Record]) -> list[Record]:
    """The records, those whose prompts have the likest words first."""
    if not records:
        return []
    rows = TfidfVectorizer(analyzer=str.split).fit_transform([text, *(record.prompt for record in records)])
    likeness = (rows[1:] @ rows[0].T).toarray()[:, 0]
    return [records[int(i)] for i in np.argsort(-likeness, kind="stable")]
