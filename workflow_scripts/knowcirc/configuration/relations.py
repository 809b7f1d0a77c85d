"""What a study says of its relations beside the relations' own files: subjects and wordings that these must have."""

from collections.abc import Mapping, Sequence

from knowcirc.configuration.study import Study
from knowcirc.facts.relations import Relation
from knowcirc.fields import hint


def relation_errors(study: Study, relations: Mapping[str, Relation]) -> list[str]:
    """One line for each subject that the study names and its relation does not have, and each missing wording.

    `relations` are those of the study whose files can be read before anything runs; of others nothing is said.
    """
    lines: list[str] = []
    shown = study.showcase
    if (relation := relations.get(shown.relation)) is not None:
        subjects = {"subject": shown.subject, "unrelated_subject": shown.unrelated_subject}
        lines += _missing("showcase", subjects, relation)
    if (example := study.icl.shown) is not None and (relation := relations.get(example.relation)) is not None:
        demonstrations = {f"demonstrations.{i}": subject for i, subject in enumerate(example.demonstrations)}
        lines += _missing("icl.shown", {"subject": example.subject, **demonstrations}, relation)
    templates = study.reverse.templates
    lines += [
        f"reverse.relations: {name} has no reverse_template; add one to its file or to reverse.templates"
        for name in study.reverse.relations
        if name in relations and relations[name].reverse_template is None and name not in templates
    ]
    return lines


def _missing(place: str, subjects: Mapping[str, str], relation: Relation) -> list[str]:
    known: Sequence[str] = [fact.subject for fact in relation.facts]
    return [
        f"{place}.{key}: {subject!r} is no subject of {relation.name}{hint(subject, known)}"
        for key, subject in subjects.items()
        if subject not in known
    ]
