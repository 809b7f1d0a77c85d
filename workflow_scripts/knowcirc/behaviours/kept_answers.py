"""Answers of a study as files, between the job that asks and the one that compares what several asked."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from knowcirc.facts.knowledge import Answer


def as_json(answers: Mapping[str, Sequence[Answer]]) -> dict[str, list[dict[str, object]]]:
    """Answers by kind of question, as JSON holds them."""
    return {kind: [asdict(answer) for answer in each] for kind, each in answers.items()}


def from_json(found: Mapping[str, Sequence[Mapping[str, object]]]) -> dict[str, list[Answer]]:
    """Those answers again."""
    return {kind: [Answer(**answer) for answer in each] for kind, each in found.items()}  # type: ignore[arg-type]
