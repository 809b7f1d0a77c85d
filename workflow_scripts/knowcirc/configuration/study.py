"""All settings of a study: their types, bounds, defaults, units, sources in the papers and meanings.

The rooms' own settings (`circuits/settings.py`, `editing/editors.py`, ...) are put together here. A setting has one
default; `config/config.yaml` says what the default study asks besides, and `config/README.md` lists them all.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, create_model

from knowcirc.circuits.methods import METHODS, RANDOM
from knowcirc.circuits.settings import AcdcSection, MethodSections, Resampling, StandingSection
from knowcirc.configuration.running import Running
from knowcirc.configuration.sequels import Editors, Portability, Sequential
from knowcirc.configuration.tracing import Tracing
from knowcirc.editing.editors import EDITORS, section_of
from knowcirc.editing.settings import Token
from knowcirc.facts.settings import Known
from knowcirc.facts.sources import SOURCES
from knowcirc.fields import (
    Count,
    Different,
    Names,
    Natural,
    Positive,
    Section,
    Share,
    Wording,
    field_of,
    one_of,
    setting,
)

Method = Annotated[str, one_of(name for name in METHODS if name != RANDOM)]
Source = Annotated[str, one_of(SOURCES)]
Below1 = Annotated[float, Field(ge=0, lt=1)]
Span = Annotated[list[Count], Field(min_length=2, max_length=2)]


class Relations(Section):
    """The relations whose facts are studied."""

    source: Source = setting("builtin", "where they come from: builtin (config/facts) or lre (downloaded)")
    on_collision: Literal["error", "skip"] = setting(
        "error",
        "objects that share their first token: error, or skip (the relation stays; a measure that must tell such "
        "objects apart does not count their facts; a relation whose answers begin with no letter or digit is left out)",
    )
    names: Names = setting(..., "the relations", source="KC Table 6")


class Facts(Section):
    """When a fact is known, and how known facts are split."""

    hits: Count = setting(10, "hit@10: an answer counts when it is among so many likeliest tokens", source="KC 3.3")
    known: Known = setting(
        "rank1",
        "the facts that D_val may hold: answers that rank first, or (hit10) within `hits`",
        source="KC 3.3: hit10",
    )
    d_val: Count = setting(20, "known facts on which a relation's circuit is found", source="KC's code: 20")
    d_test: Count = setting(20, "prompts on which it is tested")


class Showcase(Section):
    """The fact of the single-fact figures, and one that an edit of it must not touch."""

    method: Method = setting("acdc", "how its circuit is found: acdc is exact, and takes minutes on two cores")
    relation: str = setting("country_language", "its relation")
    template: Wording = setting(
        "The official language of {} is", "its wording, also one that the relation's file does not have"
    )
    subject: str = setting("France", "its subject")
    new_object: str = setting("German", "what an edit makes the model say of it")
    unrelated_subject: str = setting("Japan", "the subject of the fact that the edit must not touch")


class Circuits(MethodSections):
    """Circuits of relations and of single prompts. Beside the methods `random` is always run."""

    methods: Annotated[list[Method], Field(min_length=1), Different] = setting(
        ["standing", "eap-ig"],
        "what finds the circuits of every relation; the first serves the analyses, too",
        source="KC Table 1",
    )
    single: Method = setting("eap-ig-zero", "what finds the many circuits of single prompts before and after edits")
    share: Share = setting(0.1, "the size of circuits: share of the graph's edges", source="KC 4: under a tenth")
    standing: StandingSection = StandingSection()
    acdc: AcdcSection = AcdcSection()
    random_seeds: Count = setting(5, "random circuits of the same size")
    drawn_edges: Count = setting(28, "edges in the simplified drawing")


class Comparison(Section):
    """Methods side by side at many sizes: `circuits.methods`, these and `random`."""

    methods: Annotated[list[Method], Different] = setting(["eap", "eap-ig-zero", "eap-ig+acdc"], "methods besides")
    relations: Names = setting(..., "the relations that they are compared on")
    prompts: Count = setting(8, "prompts of D_test that have a partner, at most")


class Stability(Section):
    """Circuits found again on prompts drawn anew and in other wordings."""

    relations: Names | None = setting(None, "the relations; none: all of relations.names")
    methods: Annotated[list[Method], Field(min_length=1), Different] | None = setting(
        None, "what finds their circuits, of circuits.methods; none: the first of these that attributes, else the first"
    )
    resamples: Annotated[int, Field(ge=2)] = setting(5, "circuits of D_val drawn anew")
    resampling: Resampling = setting(
        "bootstrap",
        "how it is drawn: bootstrap (as many prompts, with replacement) or halves (splits into two disjoint halves, "
        "which are compared with each other; an even number of circuits)",
    )
    wordings: Natural = setting(3, "other wordings of a relation, at most, each with a circuit of its own; 0: none")
    share: Share = setting(0.5, "the consensus circuit holds the edges that are in at least this share of the circuits")
    prompts: Count = setting(8, "prompts of D_test that have a partner, at most, for faithfulness")


class Moments(Section):
    """Second moments of the MLP keys."""

    tokens: Count = setting(20000, "tokens of text", source="ROME: 100,000 samples of Wikipedia")
    length: Annotated[int, Field(ge=2)] = setting(64, "tokens in a row")
    batch: Count = setting(64, "rows that are run together")
    corpus: str | None = setting(None, "a text file; none: text that the model samples itself")


class EditedCircuits(Section):
    """Edits seen through circuits."""

    editors: Editors = setting(["rome", "ft-m"], "the editors")
    method: Method = setting("acdc", "what finds the showcase's circuits before and after; acdc takes minutes for each")
    records: Count = setting(
        5, "the first of the records, edited at each depth; their circuits, a neighbour's and an unrelated fact's"
    )
    standing_records: Natural = setting(1, "of these, whose requests and unrelated facts have standing circuits, too")
    depths: Annotated[list[Below1], Field(min_length=1)] = setting(
        [0.1, 0.4, 0.7], "edited layers, as shares of the model's depth", source="KC 5"
    )
    layers: dict[str, Annotated[list[Natural], Field(min_length=1), Different]] = setting(
        {}, "edited layers of a model, from 0, instead of those at `depths`", source="KC Fig. 11 to 13"
    )


class Sweep(Section):
    """ROME at many layers and tokens, on records of its own."""

    records: Count = setting(3, "records")
    step: Count = setting(3, "the subject's last token is edited at every so many layers", unit="layers")
    other_step: Count = setting(15, "and other tokens at every so many", unit="layers")
    other_tokens: Annotated[list[Token], Different] = setting(
        ["subject_first", "first_subsequent", "last"], "the other tokens"
    )
    clamps: Annotated[list[Positive], Different] = setting([1.0, 4.0], "clamps tried at the best layer", unit="norms")


class EditingBase(Section):
    """Model editing. An editor's settings are the model's own (`config/editors.tsv`) unless they stand here."""

    editors: Editors = setting(
        [name for name, each in EDITORS.items() if not each.optional], "the editors", source="ROME 3.2, KC 5"
    )
    source: Literal["relations", "counterfact"] = setting(
        "relations", "where records come from: the relations below, or counterfact (ROME's file, downloaded)"
    )
    relations: Names = setting(..., "the relations that records are drawn from in turn")
    order: Literal["drawn", "file"] = setting(
        "drawn", "CounterFact's records: drawn by seed, or the first of the file", source="ROME's code: file"
    )
    records: Count = setting(12, "counterfactual edits", source="ROME 3.4: 7500")
    neighbours: Count = setting(5, "neighbourhood prompts of a record", source="CounterFact: 10")
    prefixes: Annotated[list[Span], Field(min_length=1)] = setting(
        [[5, 10], [10, 10]],
        "ROME's contexts: tokens, how many",
        source="ROME's code, which counts the start token, too",
    )
    prefix_top_k: Count = setting(50, "tokens of them are drawn from so many likeliest", source="ROME's code: 5")
    zsre_records: Natural = setting(
        0, "zsRE's questions (downloaded) that are edited for table zsre_scores; 0: none", source="ROME 3.2: 10,000"
    )
    generation_records: Count = setting(4, "records of GE and RS (their n stands apart)")
    continuations: Count = setting(10, "sampled texts of a record")
    generation_tokens: Count = setting(50, "tokens of a sampled text", source="ROME's code: 100")
    sweep: Sweep = Sweep()
    circuits: EditedCircuits = EditedCircuits()
    sequential: Sequential | None = setting(
        None,
        "edits one after the other on one model: figure sequential_editing, table sequential_edits; none: not made",
    )
    portability: Portability = Portability()


def _editing() -> type[EditingBase]:
    fields: dict[str, Any] = {}
    for name, editor in EDITORS.items():
        section = section_of(editor)
        fields[name.replace("-", "_")] = (section, Field(section(), alias=name))
    return create_model("Editing", __base__=EditingBase, __doc__=EditingBase.__doc__, **fields)


Editing = _editing()


class GeneratedEdit(Section):
    """An edit, and what the edited model is asked to continue."""

    template: Wording
    subject: str
    target: str
    prompts: Annotated[list[Wording], Field(min_length=1), Different]


class Generations(Section):
    """What each edited model writes."""

    tokens: Count = setting(40, "tokens of a text")
    samples: Count = setting(2, "texts of a prompt")
    edits: Annotated[list[GeneratedEdit], Field(min_length=1)] = setting(
        ..., "edits: template, subject, target, and prompts with {} for the subject", source="ROME Fig. 6"
    )


class Heads(Section):
    """When a head is a mover (of the subject's attribute), a relation head, or a mixture of both."""

    attention: Share = setting(
        0.1, "least share of attention from the last position to the subject, or to the relation's words", source="KC 4"
    )
    tokens: Count = setting(
        10, "the answer, or a token of its type, is among so many tokens that its output raises most", source="KC 4"
    )


class Components(Section):
    """The special heads of every relation, and the answer through the layers."""

    facts: Count = setting(12, "known facts of a relation, at most")
    share: Share = setting(0.25, "a head is named by the role that it has on at least this share of the facts")
    random_seeds: Count = setting(3, "random heads of the same layers, beside the ablation of the named ones")


class Hallucination(Section):
    """Wrong answers, and what the heads did."""

    cases: Count = setting(10, "wrong answers of the right type of a relation, at most, and as many right ones")


class Shown(Section):
    """A fact and the demonstrations before it."""

    relation: str = setting(..., "its relation")
    template: Wording = setting(..., "its wording")
    subject: str = setting(..., "its subject")
    demonstrations: Names = setting(..., "subjects of its relation")


class Icl(Section):
    """In-context learning: circuits without and with demonstrations."""

    relations: Names = setting(..., "the relations")
    demonstrations: Count = setting(2, "demonstrations before the prompt")
    order: Literal["drawn", "reversed"] = setting("drawn", "of the demonstrations: by the seed, or the other way round")
    d_val: Count = setting(6, "prompts on which each of a relation's two circuits is found, by circuits.methods[0]")
    d_test: Count = setting(12, "demonstrated prompts of the ablation")
    seeds: Count = setting(3, "draws of their demonstrations, and of the random heads")
    shown: Shown | None = setting(
        None,
        "the fact of figure icl_attention: relation, template, subject, demonstrations (subjects); none: the one whose "
        "answer rises most",
        source="KC Fig. 5",
    )


class Composition(Section):
    """Two relations asked in one; `phrase` puts the first's subject into the second's wording.

    `direct` is a relation that asks the same without a hop (KC Table 5: mother tongue, beside home town and language).
    """

    first: str
    second: str
    phrase: Wording
    direct: str | None = None


class Hops(Section):
    """Compositions of two relations."""

    facts: Count = setting(30, "chains asked, at most")
    d_val: Count = setting(
        6, "chains of known hops on which the circuit of each kind of question is found, by circuits.methods[0]"
    )
    edited: Count = setting(5, "chains of a composition whose first hop is edited, at most", source="KC 5")
    compositions: Annotated[list[Composition], Field(min_length=1)] = setting(
        ...,
        "first, second, and phrase: words with {} for the first's subject that the second is asked of; direct: a "
        "relation that asks the same without a hop, or none",
    )


class Reverse(Section):
    """Relations asked forward and backward, for objects of a single subject."""

    relations: Names = setting(..., "the relations")
    templates: dict[str, Wording] = setting(
        {}, "reverse wordings of relations whose file has none: name, and a wording with {} for the object"
    )
    facts: Count = setting(40, "facts asked, at most")
    d_val: Count = setting(8, "facts known forward on which the circuit of each way is found, by circuits.methods[0]")


class Study(Running):
    """What is studied, and where it is run."""

    models: Names = setting(["smollm2-135m"], "the models: rows of config/models.tsv")
    seed: Natural = setting(0, "base of every random choice that has no seed of its own")
    relations: Relations
    facts: Facts = Facts()
    showcase: Showcase = Showcase()
    tracing: Tracing
    circuits: Circuits = Circuits()
    comparison: Comparison
    stability: Stability | None = setting(None, "circuits found again; none: not measured")
    moments: Moments = Moments()
    editing: Editing  # type: ignore[valid-type]
    generations: Generations
    heads: Heads = Heads()
    components: Components = Components()
    hallucination: Hallucination = Hallucination()
    icl: Icl
    hops: Hops
    reverse: Reverse


def default(place: str) -> Any:
    """A setting's default; `place` is its keys with slashes between.

    >>> default("circuits/share")
    0.1

    Raises:
        ValueError: if the setting has none.
    """
    kind: Any = Study
    *above, last = place.split("/")
    for key in above:
        kind = field_of(kind, key).annotation
    found = field_of(kind, last)
    if found.is_required():
        raise ValueError(f"{place} has no default")
    return found.get_default(call_default_factory=True)
