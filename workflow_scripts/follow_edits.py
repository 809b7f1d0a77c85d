"""Many facts edited at several layers: their circuits before and after, and the new object's rank (KC section 5)."""

from pathlib import Path
from typing import Any

import pandas as pd

from knowcirc.circuits.circuit_settings import CircuitSettings
from knowcirc.circuits.graph import Graph
from knowcirc.edited.followed import Finders, depth_layers, follow
from knowcirc.editing.edits import Edit, Request, request
from knowcirc.editing.making import make_edit
from knowcirc.editing.scoring import placed_editors, read_material, read_records
from knowcirc.files import write_table
from knowcirc.job import Job, progress, run
from knowcirc.models.loading import load
from knowcirc.reading.heads import Thresholds
from knowcirc.resume import parts_of


def main(job: Job) -> None:
    """Write the circuits' and the ranks' rows; a record that is done is not done again after an interruption."""
    params = job.params
    records, prefixes = read_records(Path(job.input.records))
    model = load(Path(job.input.model).parent, **params.load_options, fast=True)
    graph = Graph.of(model.transformer.shape, params.kv)
    material = read_material(model, Path(job.input.moments).parent / "layers", prefixes)
    n_layers = model.transformer.shape.n_layers
    settings = placed_editors(job, model)
    places = [(editor, layer) for editor in settings for layer in depth_layers(params.depths, n_layers)]
    ways = [CircuitSettings(**way) for way in (params.circuits, params.standing)]

    def make(editor: str, layer: int, requested: Request) -> Edit:
        return make_edit(editor, model, requested, {**settings[editor], "layer": layer}, material)

    parts = parts_of(job, job.output.circuits)
    circuits: list[dict[str, object]] = []
    ranks: list[dict[str, object]] = []
    for i, record in enumerate(progress(records[: params.records], "followed edits: records")):
        stands = i < params.standing_records
        found: Any = parts.get(record.case)
        if found is None:
            requested = request(model, record.template, record.subject, record.target_new)
            finders = Finders.by(graph, *ways[: 1 + stands])
            done = follow(model, graph, record, requested, places, make, finders, Thresholds(**params.heads))
            found = {"circuits": done.circuits, "ranks": done.ranks}
            parts.put(record.case, found)
        circuits += found["circuits"]
        ranks += found["ranks"]
    write_table(job.output.circuits, pd.DataFrame(circuits))
    write_table(job.output.ranks, pd.DataFrame(ranks))
    parts.clear()


if __name__ == "__main__":
    run(main, snakemake)
