"""Edits of many facts followed through layers and circuits (KC section 5): what they change, and what they should not.

1. Each record is edited by each editor at each layer, one at a time, and undone.
2. Its request, a neighbour and an unrelated fact are read before and after: the circuit of what the model says, the
   probabilities of the true and the new object, and, of the request, the original mover head.
   Circuits are those of single prompts. Of the first records, requests and unrelated facts have standing circuits, too.
   Chance has a part in their search: the unedited model's are searched a second time, from another seed, to show it.
3. The new object's rank at the request's last position and at its subject, layer by layer.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from knowcirc.circuits.circuit import Circuit
from knowcirc.circuits.circuit_settings import CircuitSettings
from knowcirc.circuits.finding import Find, finder
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.methods import STANDING
from knowcirc.circuits.overlap import compare
from knowcirc.edited.views import EditedView, read_view
from knowcirc.editing.editors import UNEDITED
from knowcirc.editing.edits import Edit, Request, applied
from knowcirc.facts.prompts import Prompt, tokenise
from knowcirc.facts.records import Record
from knowcirc.models.loading import LanguageModel
from knowcirc.reading.heads import Thresholds, find_head
from knowcirc.reading.lens import by_layer, rank_drops, step_ranks

Place = tuple[str, int]  # editor, edited layer
STAND_ALONE = ("request", "unrelated")  # prompts that have standing circuits
MakeEdit = Callable[[str, int, Request], Edit]


@dataclass(frozen=True, slots=True)
class Followed:
    """A record's rows: of circuits (one per method, place and prompt), of ranks (one per place, position and layer)."""

    circuits: list[dict[str, object]]
    ranks: list[dict[str, object]]


@dataclass(frozen=True, slots=True)
class Finders:
    """What finds circuits: one method for all prompts; and standing circuits, from two seeds, or none."""

    method: str
    find: Find
    standing: tuple[Find, Find] | None = None

    @classmethod
    def by(cls, graph: Graph, single: CircuitSettings, standing: CircuitSettings | None = None) -> "Finders":
        """What finds circuits by the settings."""
        seeds = None if standing is None else (finder(graph, standing, 0), finder(graph, standing, 1))
        return cls(single.method, finder(graph, single), seeds)


def prompts_of_record(model: LanguageModel, record: Record, request: Prompt) -> dict[str, Prompt]:
    """The request with the true object as its answer, a neighbour, and an unrelated fact where the record has one."""
    found = {"request": tokenise(model.text, request.text, record.target_true, record.subject)}
    found["neighbour"] = tokenise(model.text, record.neighbours[0], record.target_true)
    if record.unrelated:
        text, answer = record.unrelated[0]
        found["unrelated"] = tokenise(model.text, text, answer)
    return found


def follow(
    model: LanguageModel,
    graph: Graph,
    record: Record,
    requested: Request,
    places: list[Place],
    make: MakeEdit,
    finders: Finders,
    limits: Thresholds,
) -> Followed:
    """One record under the original weights and under its edit at each place."""
    prompts, new = prompts_of_record(model, record, requested.prompt), requested.target[0]
    circuits: list[dict[str, object]] = []
    ranks: list[dict[str, object]] = []
    before: dict[str, EditedView] = {}
    original: dict[str, Circuit] = {}
    for editor, layer in [(UNEDITED, -1), *places]:
        shared: dict[str, object] = {"case": record.case, "editor": editor, "layer": layer}
        edit = None if editor == UNEDITED else make(editor, layer, requested)
        with applied(model, edit) as edited:
            after = {
                name: read_view(edited, finders.find, name, editor, prompt, new, heads=name == "request")
                for name, prompt in prompts.items()
            }
            standing = _stand(edited, after, finders.standing, original)
            ranks += [{**shared, **row} for row in _rank_rows(edited, prompts["request"], new)]
        before = before or after
        views = [(finders.method, view, before[name].circuit, view.circuit) for name, view in after.items()]
        views += [(STANDING, after[name], original[name], circuit) for name, circuit in standing.items()]
        for method, view, old, circuit in views:
            changes = _changes(before[view.prompt], view, limits)
            circuits.append({**shared, "method": method, **changes, **compare(graph, old.edges, circuit.edges)})
    return Followed(circuits, ranks)


def _stand(
    model: LanguageModel,
    views: Mapping[str, EditedView],
    standing: tuple[Find, Find] | None,
    original: dict[str, Circuit],
) -> dict[str, Circuit]:
    """Standing circuits under the weights in place; at first, of the unedited model, those of both seeds.

    Those of the first seed go to `original`, and the second's are given back.
    """
    if standing is None:
        return {}
    find, again = standing
    said = {name: views[name].said for name in STAND_ALONE if name in views}
    if not original:
        original |= {name: find(model, prompt) for name, prompt in said.items()}
        find = again
    return {name: find(model, prompt) for name, prompt in said.items()}


def _changes(before: EditedView, after: EditedView, limits: Thresholds) -> dict[str, object]:
    row: dict[str, object] = {
        "prompt": after.prompt,
        "p_true": after.old.p,
        "p_new": after.new.p,
        "kept_share": min(1.0, after.old.p / before.old.p),
        "says_same": after.old.top == before.old.top,
        "n_edges": after.circuit.n_edges,
    }
    if after.heads:
        mover, is_mover = find_head(before.heads.values(), "mover", limits)
        reading = after.heads[mover.name]
        row |= {"mover": mover.name, "is_mover": is_mover, "to_subject": reading.to_subject}
        ranks = {"new": after.new_ranks[mover.name], "true": reading.rank}
        row |= {f"writes_{name}": rank < limits.tokens for name, rank in ranks.items()}
    return row


def _rank_rows(model: LanguageModel, prompt: Prompt, new: int) -> Iterator[dict[str, object]]:
    tokens = {"new": new, "true": prompt.answer[0]}
    places = {"subject": prompt.subject_last, "last": len(prompt.ids) - 1}
    (found,) = step_ranks(model, [prompt], [tokens], [places])
    for place in places:
        dropped = rank_drops(found["new", place])
        curves = {name: by_layer(found[name, place]) for name in tokens}
        for layer in range(len(curves["new"])):
            row: dict[str, object] = {"position": place, "passed": layer}
            row |= {f"rank_{name}": int(ranks[layer]) for name, ranks in curves.items()}
            yield row | {
                f"rank_drop_{name}": float(values[layer - 1]) if layer else 0.0 for name, values in dropped.items()
            }
