"""Wordings: sentences with one place, `{}`, for a subject or object. All else in them is text, other braces too."""

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
