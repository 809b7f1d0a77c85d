"""Files in the formats of LRE, ROME's known_1000, CounterFact and zsRE, made from the project's own facts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from sklearn.feature_extraction.text import TfidfVectorizer

FACTS = Path(__file__).resolve().parents[2] / "config/facts"
# LRE's relations by the built-in ones that hold facts of their kind.
ALIKE = {
    "linguistic/adj_antonym": "adjective_antonym",
    "linguistic/verb_past_tense": "verb_past_tense",
    "commonsense/object_superclass": "object_superclass",
    "factual/city_in_country": "city_country",
    "factual/country_capital_city": "country_capital",
    "factual/country_language": "country_language",
    "factual/landmark_in_country": "landmark_country",
    "factual/person_native_language": "person_native_language",
    "bias/name_birthplace": "name_birthplace",
    "bias/occupation_gender": "occupation_gender",
}
# Relations that the built-in ones lack: name and template, then subjects and objects.
MADE = {
    "factual/product_by_company": (
        *("product by company", "product", "company", "{} was created by"),
        "Platform Controller Hub:Intel, Windows Server 2003:Microsoft, iPhone:Apple, Xbox:Microsoft, Pentium:Intel, "
        "Macintosh:Apple, Kindle:Amazon, Android:Google, Excel:Microsoft, Gmail:Google, iPad:Apple, Itanium:Intel",
    ),
    "factual/superhero_person": (
        *("superhero person", "superhero", "person", "The secret identity of {} is"),
        "Batman:Bruce Wayne, Superman:Clark Kent, Spider-Man:Peter Parker, Iron Man:Tony Stark, Hulk:Robert Banner, "
        "Wolverine:James Howlett, Daredevil:Matt Murdock, Flash:Barry Allen, Catwoman:Selina Kyle, Thor:Donald Blake",
    ),
}
N_NEIGHBOURS = 10
SHOWCASE = "The official language of {} is"
HOP = "the country of the city {}"
FIRST = ("France", "Japan")  # subjects that the default study names
WRONG = 5  # one fact in so many is learned wrongly: studies of wrong answers need some


@dataclass(frozen=True, slots=True)
class Facts:
    """A relation in LRE's terms; the first template is the one that studies ask."""

    place: str
    title: str
    kinds: tuple[str, str]
    templates: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """Its name in a study."""
        return Path(self.place).name


def relations(most: int) -> list[Facts]:
    """All relations, each with at most `most` facts, whose objects take turns."""
    found = []
    for place, own in ALIKE.items():
        data = yaml.safe_load((FACTS / f"{own}.yaml").read_text("utf-8"))
        pairs = _in_turn([(str(subject), str(answer)) for subject, answer in data["facts"]])[:most]
        kinds = (data["subject_type"], data["answer_type"])
        found.append(Facts(place, own.replace("_", " "), kinds, tuple(data["templates"][:2]), tuple(pairs)))
    for place, (title, subject, answer, template, text) in MADE.items():
        made = [tuple(each.strip().split(":")) for each in text.split(",")]
        found.append(Facts(place, title, (subject, answer), (template,), tuple(made)))  # type: ignore[arg-type]
    return found


def learned(facts: Sequence[Facts]) -> list[tuple[str, str]]:
    """Prompts and answers that a stand-in is to say: all facts in all wordings, some of them wrong."""
    found = []
    for each in facts:
        answers = list(dict.fromkeys(answer for _, answer in each.pairs))
        templates = (*each.templates, SHOWCASE) if each.name == "country_language" else each.templates
        for number, (subject, answer) in enumerate(each.pairs, 1):
            shown = answers[(answers.index(answer) + 1) % len(answers)] if number % WRONG == 0 else answer
            found += [(template.format(subject), shown) for template in templates]
    named = {each.name: each for each in facts}
    said = dict(named["country_language"].pairs)
    for city, country in named["city_in_country"].pairs:  # both hops in one question
        if country in said:
            found.append((named["country_language"].templates[0].format(HOP.format(city)), said[country]))
    return found


def _in_turn(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Facts so that a cut holds several of several objects, those that the default study names first."""
    seen: dict[str, int] = {}
    rounds = []
    for subject, answer in pairs:
        seen[answer] = seen.get(answer, 0) + 1
        rounds.append((subject not in FIRST, seen[answer] // 4, len(rounds)))  # an object has neighbours
    return [pairs[place] for *_, place in sorted(rounds)]


def write_mirror(folder: Path, facts: Sequence[Facts]) -> None:
    """All files, where a mirror has them."""
    for each in facts:
        kind = each.place.split("/")[0]
        properties = {"relation_type": kind, "domain_name": each.kinds[0], "range_name": each.kinds[1]}
        _write(
            folder / f"lre/{each.place}.json",
            {
                "name": each.title,
                "prompt_templates": each.templates[1:],
                "prompt_templates_zs": each.templates[:1],
                "properties": {**properties, "symmetric": False},
                "samples": [{"subject": subject, "object": answer} for subject, answer in each.pairs],
            },
        )
    named = {each.name: each for each in facts}
    languages, countries = named["country_language"], named["city_in_country"]
    rome = folder / "rome"
    _write(rome / "known_1000.json", [*_known(languages, 0), *_known(countries, len(languages.pairs))])
    pairs = zip(
        _cases(languages, "P37", 0), _cases(countries, "P17", 1), strict=False
    )  # in turn: one asks about the other
    cases = [case for pair in pairs for case in pair]
    _write(rome / "counterfact.json", cases)
    snippets = [
        {"relation_id": code, "target_id": _code(answer), "samples": [{"text": text} for text in _texts(each, answer)]}
        for each, code in ((languages, "P37"), (countries, "P17"))
        for answer in dict.fromkeys(answer for _, answer in each.pairs)
    ]
    _write(rome / "attribute_snippets.json", snippets)
    vectorizer = TfidfVectorizer().fit([sample["text"] for each in snippets for sample in each["samples"]])  # type: ignore[attr-defined]
    np.save(rome / "idf.npy", vectorizer.idf_)
    _write(rome / "tfidf_vocab.json", {word: int(place) for word, place in vectorizer.vocabulary_.items()})
    _write(rome / "zsre_mend_eval.json", _questions(languages))


def _known(facts: Facts, first: int) -> list[dict[str, object]]:
    return [
        {
            "known_id": number,
            "subject": subject,
            "attribute": answer,
            "template": facts.templates[0],
            "prediction": f" {answer}",
            "prompt": facts.templates[0].format(subject),
            "relation_id": facts.name,
        }
        for number, (subject, answer) in enumerate(facts.pairs, first)
    ]


def _cases(facts: Facts, code: str, first: int) -> list[dict[str, object]]:
    answers = list(dict.fromkeys(answer for _, answer in facts.pairs))
    found = []
    for number, (subject, answer) in enumerate(facts.pairs):
        near = [other for other, same in facts.pairs if same == answer and other != subject] or [subject]
        new = answers[(answers.index(answer) + 1) % len(answers)]
        rewrite = {
            "prompt": facts.templates[0],
            "relation_id": code,
            "target_new": {"str": new, "id": _code(new)},
            "target_true": {"str": answer, "id": _code(answer)},
            "subject": subject,
        }
        found.append(
            {
                "case_id": 2 * number + first,
                "requested_rewrite": rewrite,
                "paraphrase_prompts": [
                    facts.templates[-1].format(subject),
                    f"Yes. {facts.templates[0]}".format(subject),
                ],
                "neighborhood_prompts": [facts.templates[0].format(near[i % len(near)]) for i in range(N_NEIGHBOURS)],
                "attribute_prompts": [],
                "generation_prompts": [facts.templates[-1].format(subject), f"{subject} is"],
            }
        )
    return found


def _code(answer: str) -> str:
    return f"Q{sum(answer.encode())}"


def _texts(facts: Facts, answer: str) -> list[str]:
    return [
        f"{text.format(subject)} {answer}."
        for subject, same in facts.pairs
        if same == answer
        for text in facts.templates
    ]


def _questions(facts: Facts) -> list[dict[str, object]]:
    answers = list(dict.fromkeys(answer for _, answer in facts.pairs))
    return [
        {
            "subject": subject,
            "src": f"Which language do people in {subject} speak?",
            "pred": answer,
            "rephrase": f"What is spoken in {subject}?",
            "alt": answer,
            "answers": [answers[(answers.index(answer) + 2) % len(answers)]],
            "loc": f"nq question: where is the language {answer} spoken",
            "loc_ans": subject,
            "cond": "",
        }
        for subject, answer in facts.pairs
    ]


def _write(path: Path, data: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, ensure_ascii=False), "utf-8")
