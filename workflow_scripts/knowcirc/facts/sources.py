"""The registry of relation sources: where a source's relations lie, and what reads them.

A new source is a function that reads a file as a `Relation`, and an entry here. Nothing here imports torch.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from knowcirc.fields import Row


@dataclass(frozen=True, slots=True)
class Source:
    """A source of relations.

    `read` ("module:function" below `knowcirc`) takes a file and gives its `Relation`. `files` is a pattern below the
    repository; `dataset`, for relations that are downloaded, the folder of their rows in `config/datasets.tsv`.
    """

    name: str
    read: str
    files: str = ""
    dataset: str = ""

    def relations(self, root: Path, datasets: Iterable[str]) -> dict[str, str]:
        """Where each relation lies, by name: below the repository, or `<results>/data/...` where downloaded."""
        if self.dataset:
            rows = (Path(name) for name in datasets)
            return {row.name: f"<results>/data/{row}.json" for row in rows if row.parts[0] == self.dataset}
        return {path.stem: str(path.relative_to(root)) for path in sorted(root.glob(self.files))}


SOURCES = {
    source.name: source
    for source in (
        Source("builtin", "facts.relations:read_relation", files="config/facts/*.yaml"),
        Source("lre", "facts.relations:read_lre", dataset="lre"),
    )
}


class DatasetRow(Row):
    """A row of `config/datasets.tsv`: a file from upstream; an empty sha256 is recorded on the first download."""

    dataset: str
    url: str
    revision: str
    sha256: str
    licence: str
    note: str
