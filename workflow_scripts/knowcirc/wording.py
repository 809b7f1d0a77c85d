"""Wordings: sentences with one place, `{}`, for a subject or object. All else in them is text, other braces too."""

import re

PLACE = "{}"


def place_in(wording: str) -> int:
    """Where the subject will begin, in characters.

    >>> place_in("In {country} the language of {} is")
    29

    Raises:
        ValueError: if the wording has no place, or more than one.
    """
    if (found := wording.count(PLACE)) != 1:
        many = "none" if not found else f"{found} of them"
        raise ValueError(f"{wording!r} must hold {PLACE} once, where the subject stands; it has {many}")
    return wording.index(PLACE)


def fill_in(wording: str, subject: str) -> str:
    """The wording with the subject in its place, letter by letter.

    >>> fill_in("The {official} language of {} is", "{France}")
    'The {official} language of {France} is'

    Raises:
        ValueError: as `place_in` does.
    """
    start = place_in(wording)
    return wording[:start] + subject + wording[start + len(PLACE) :]


def fits(wording: str, text: str) -> bool:
    """Whether a text is the wording with something in its place.

    >>> fits("The capital of {} is", "The capital of Peru is"), fits("The capital of {} is", "Peru is")
    (True, False)

    Raises:
        ValueError: as `place_in` does.
    """
    start = place_in(wording)
    head, tail = wording[:start], wording[start + len(PLACE) :]
    return len(text) > len(head) + len(tail) and text.startswith(head) and text.endswith(tail)


def names(text: str, subject: str) -> bool:
    """Whether a text names a subject, letter by letter and as whole words.

    >>> names("Rome is in", "Rome"), names("Romeo is in", "Rome"), names("New Rome is in", "Rome")
    (True, False, True)
    """
    return subject in text and re.search(rf"(?<!\w){re.escape(subject)}(?!\w)", text) is not None
