"""What should follow from an edit, and what should not, as checks: texts to continue, and what must be said there.

The kinds of checks are RippleEdits' criteria (Cohen et al. 2023, arXiv 2307.12976, section 3):

| criterion | asks about |
|---|---|
| logical generalization | facts that follow by logic: inverse relations, relations that the object decides |
| compositionality I | the new object: two hops, the first of which is edited |
| compositionality II | what leads to the subject: two hops, the second of which is edited |
| subject aliasing | the edited fact, by another name of the subject |
| preservation | other objects of the same subject and relation, which the edit leaves (the data set: Forgetfulness) |
| relation specificity | other facts of the subject, which the edit leaves |

`paraphrase` (the edited fact in other words) is none of them, and ROME's generalization.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

LOGICAL, FIRST_HOP, SECOND_HOP = "logical generalization", "compositionality I", "compositionality II"
ALIAS, PRESERVED, SPECIFIC, PARAPHRASE = "subject aliasing", "preservation", "relation specificity", "paraphrase"


@dataclass(frozen=True, slots=True)
class Wanted:
    """An edit that is asked for: a wording with `{}` for the subject, and the new object."""

    template: str
    subject: str
    target: str


@dataclass(frozen=True, slots=True)
class Query:
    """A text to continue. Of each of `answers` one name (the answer's own first, then its aliases) must be said."""

    text: str
    answers: tuple[tuple[str, ...], ...]

    def answered(self, said: str) -> bool:
        """Whether a continuation names every answer."""
        return all(any(says(said, name) for name in names) for names in self.answers)


@dataclass(frozen=True, slots=True)
class Check:
    """What is asked after an edit: queries of which one must be answered, or `every` one.

    `conditions` are queries that the unedited model must answer, or the check tells nothing. `old` is the answer before
    the edit and `object` the edit's own object, where these are others than what must be said.
    """

    question: str
    criterion: str
    queries: tuple[Query, ...]
    relation: str
    every: bool = False
    conditions: tuple[Query, ...] = ()
    old: str | None = None
    object: str | None = None

    @property
    def ranked(self) -> dict[str, str]:
        """The answers to the first query that are ranked: old, follows, object; of what follows the first name."""
        found = {"old": self.old, "follows": self.queries[0].answers[0][0], "object": self.object}
        return {name: text for name, text in found.items() if text is not None}

    def passed(self, said: Sequence[str]) -> bool:
        """Whether the continuations of the queries pass it."""
        right = [query.answered(text) for query, text in zip(self.queries, said, strict=True)]
        return all(right) if self.every else any(right)


@dataclass(frozen=True, slots=True)
class Case:
    """Edits that are made together, and the checks of what follows."""

    name: str
    edits: tuple[Wanted, ...]
    checks: tuple[Check, ...]


def says(text: str, name: str) -> bool:
    """Whether a text names something: as a whole word, in any case of letters.

    >>> says(" spanish, and", "Spanish"), says(" Spaniards", "Spanish"), says(" a C++ one", "C++")
    (True, False, True)
    """
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE) is not None
