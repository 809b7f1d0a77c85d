"""What an item of the study is: a figure or a table with its function, inputs and settings; a table with its columns.

Nothing here imports more than the standard library: the workflow reads the registry on every start.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a value may lie from that of a reference run on another processor; the parts add up.

    `absolute` is in the column's unit, `relative` a share of the reference's value, `cases` a number of the row's
    cases (of its smallest sample), for shares of few prompts: rounding moves single ranks.
    """

    absolute: float = 0.0
    relative: float = 0.0
    cases: float = 0.0

    def limit(self, reference: float, n: float) -> float:
        """The largest difference that is no drift, of a row of `n` cases (infinite: nothing is counted)."""
        return self.absolute + self.relative * abs(reference) + self.cases / n


EQUAL = Tolerance()
COUNTED = Tolerance(absolute=2.0, relative=0.1)
SHARED = Tolerance(absolute=0.05, cases=2.0)
NUMBERED = Tolerance(absolute=0.05, relative=0.15)
SEARCHED = Tolerance(absolute=0.1, relative=0.2, cases=2.0)
"""Of what a search for a circuit ends in: one other decision early on leads it to other edges."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its meaning, unit, and the range of its values.

    `name` may hold a `*`, for columns that differ by a setting. `interval`: the bounds of its 95 % interval stand
    beside it as `_low` and `_high`. `empty`: a value may be missing. A `unit` of "" is a word. `drift`: how far it may
    lie from a reference run's value; None: it is not compared (seconds, texts that a model writes).
    """

    name: str
    meaning: str
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf
    interval: bool = False
    empty: bool = False
    drift: Tolerance | None = EQUAL

    @property
    def numeric(self) -> bool:
        """Whether its values are numbers."""
        return bool(self.unit)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns of the file: its own and those of its interval."""
        return (self.name, f"{self.name}_low", f"{self.name}_high") if self.interval else (self.name,)

    def covers(self, name: str) -> bool:
        """Whether a column of the file is this one or a bound of its interval."""
        return any(fnmatchcase(name, pattern) for pattern in self.names)


def word(name: str, meaning: str, *, empty: bool = False, steady: bool = True) -> Column:
    """A column of names or texts; not `steady` where another processor may well give another one."""
    return Column(name, meaning, empty=empty, drift=EQUAL if steady else None)


def count(name: str, meaning: str, *, empty: bool = False, drift: Tolerance = COUNTED) -> Column:
    """A column of whole numbers from 0."""
    return Column(name, meaning, "count", low=0.0, empty=empty, drift=drift)


def share(name: str, meaning: str, *, interval: bool = True, empty: bool = False, drift: Tolerance = SHARED) -> Column:
    """A column of shares or probabilities, 0 to 1."""
    return Column(name, meaning, "share", 0.0, 1.0, interval, empty, drift)


def difference(name: str, meaning: str, *, interval: bool = True, empty: bool = False) -> Column:
    """A column of differences between two shares, -1 to 1."""
    return Column(name, meaning, "share", -1.0, 1.0, interval, empty, SHARED)


def number(
    name: str,
    meaning: str,
    unit: str,
    *,
    interval: bool = True,
    empty: bool = False,
    drift: Tolerance | None = NUMBERED,
) -> Column:
    """A column of any finite numbers."""
    return Column(name, meaning, unit, interval=interval, empty=empty, drift=drift)


Chapter = Literal["paper", "facts", "tracing", "circuits", "heads", "editing", "edited", "behaviours"]
CHAPTERS: dict[Chapter, str] = {
    "facts": "What the model knows",
    "tracing": "Where a fact is recalled: causal tracing",
    "circuits": "Knowledge circuits",
    "heads": "Heads, and where the answer rises",
    "editing": "Editing facts",
    "edited": "Edits seen through circuits",
    "behaviours": "Hallucination, demonstrations, hops, reversal",
    "paper": "The papers' claims and numbers",
}
"""The report's chapters, in its order."""


@dataclass(frozen=True, slots=True)
class Item:
    """What figures and tables have in common.

    `function` ("module:name" below `knowcirc`) is called with those of the inputs, the settings and `model` that its
    parameters name. `inputs` are files below the model's folder, or below `config/` of the project; one with a
    placeholder ({editor}, {method}) stands for a file of each, and the function gets a dictionary. `settings` are
    places in the configuration. `stated` are its files whose numbers the report states in words, by the names that
    these have there: `table` or `data` (what the item writes), or the name of an input. `where` is a place in
    the configuration: a study has the item only where that is set; "" where every study has it. `chapter` is where it
    stands in the report.
    """

    name: str
    paper: str  # the figure, table or section that it reproduces
    summary: str
    function: str
    inputs: Mapping[str, str]
    settings: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    stated: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    where: str = field(default="", kw_only=True)
    chapter: Chapter = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class Figure(Item):
    """A figure: PNG and PDF, and the data that it shows beside it.

    `data` names what is written beside it: an input, or what `prepare` (a function like `function`) makes of the
    inputs. None: another rule writes the data where the figure reads them. `together`: one figure of all models.
    """

    data: str | None = None
    prepare: str | None = None
    together: bool = False


@dataclass(frozen=True, slots=True)
class Table(Item):
    """A table: CSV and LaTeX. `one_row_for` are the columns that tell its rows apart.

    `rows_for` says of what it must have rows: a column, and the list of the manifest whose names stand in it.
    `other_rows`: the share of the rows that may be there in one run and not in a reference run, where a threshold
    decides which there are.
    """

    columns: Sequence[Column] = ()
    one_row_for: Sequence[str] = ()
    rows_for: Mapping[str, str] = field(default_factory=dict)
    other_rows: float = 0.0
