"""Settings of what comes after an edit: further edits on the same model, and questions about what follows from it."""

from typing import Annotated

from pydantic import Field

from knowcirc.editing.editors import EDITORS
from knowcirc.facts.benchmarks import BENCHMARKS
from knowcirc.fields import Count, Different, Natural, Section, one_of, setting

EditorName = Annotated[str, one_of(EDITORS)]
Editors = Annotated[list[EditorName], Field(min_length=1), Different]
Benchmark = Annotated[str, one_of(BENCHMARKS)]


class Sequential(Section):
    """Edits one after the other on one model, and the text on which its perplexity is measured."""

    edits: Annotated[list[Count], Field(min_length=1), Different] = setting(
        [1, 3, 10, 30, 100], "after so many edits the model is judged; the largest says how many are made"
    )
    editors: Editors | None = setting(None, "the editors; none: editing.editors, but for those in context")
    text_tokens: Count = setting(1000, "tokens of the text of the perplexity")
    text_length: Annotated[int, Field(ge=2)] = setting(64, "of them in a row")
    text_file: str | None = setting(
        None, "a text file; none: text that the unedited model samples, by another seed than that of the second moments"
    )


class Portability(Section):
    """Questions about what follows from an edit, beside the compositions whose first hop is edited (`hops.edited`)."""

    second_hops: Natural = setting(2, "chains of a composition whose second hop is edited, at most")
    reversed: Natural = setting(2, "facts of each of reverse.relations that are edited and asked backward, at most")
    tokens: Count = setting(10, "tokens that the model writes after a question", source="RippleEdits' code: 30")
    datasets: Annotated[list[Benchmark], Different] = setting(
        [], f"data sets (downloaded) whose edits are made and asked about: {', '.join(BENCHMARKS)}"
    )
    cases: Count = setting(20, "cases of each of them: the first of the file that can be edited")
