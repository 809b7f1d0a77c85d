"""A fact edited at several layers: its circuits before and after, and the new object's rank (KC section 5)."""

from pathlib import Path

import pandas as pd

from knowcirc.circuits.circuit_settings import CircuitSettings
from knowcirc.circuits.graph import Graph
from knowcirc.edited.followed import Finders, follow
from knowcirc.editing.edits import Edit, Request, request
from knowcirc.editing.making import make_edit
from knowcirc.editing.scoring import placed_editors, read_material, read_records
from knowcirc.files import write_table
from knowcirc.job import Job, progress, run, share_of
from knowcirc.models.loading import load
from knowcirc.reading.heads import Thresholds


def main(job: Job) -> None:
    """Write the circuits' and the ranks' rows of one record; none where there are not so many."""
    params = job.params
    records, prefixes = read_records(Path(job.input.records))
    model = load(Path(job.input.model).parent, **params.load_options, fast=True)
    graph = Graph.of(model.transformer.shape, params.kv)
    material = read_material(model, Path(job.input.moments).parent / "layers", prefixes)
    settings = placed_editors(job, model)
    places = [(editor, layer) for editor in settings for layer in params.layers]
    ways = [CircuitSettings(**way) for way in (params.circuits, params.standing)]

    def make(editor: str, layer: int, requested: Request) -> Edit:
        return make_edit(editor, model, requested, {**settings[editor], "layer": layer}, material)

    circuits: list[dict[str, object]] = []
    ranks: list[dict[str, object]] = []
    numbered = list(enumerate(records[: params.records]))
    for number, record in progress(share_of(numbered, job.wildcards.part, 1), "followed edits: records"):
        stands = number < params.standing_records
        requested = request(model, record.template, record.subject, record.target_new)
        finders = Finders.by(graph, *ways[: 1 + stands])
        done = follow(model, graph, record, requested, places, make, finders, Thresholds(**params.heads))
        circuits += done.circuits
        ranks += done.ranks
    for output, rows in ((job.output.circuits, circuits), (job.output.ranks, ranks)):
        write_table(output, pd.DataFrame(rows) if rows else pd.DataFrame(columns=["case"]))


if __name__ == "__main__":
    run(main, snakemake)
