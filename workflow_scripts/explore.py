"""The circuit explorer of one model: its circuits, named heads, the showcase's prompt and traces in one HTML page."""

from pathlib import Path

from knowcirc.explorer.packing import packed_circuits, packed_heads, packed_reading, packed_traces
from knowcirc.explorer.page import build_page
from knowcirc.explorer.study import edited_circuits, relation_circuits, showcase_circuit
from knowcirc.files import atomic, read_json, read_table
from knowcirc.job import Job, run


def main(job: Job) -> None:
    """Write the page, from what the study has made."""
    params, name = job.params, job.params.showcase["relation"]
    showcase = showcase_circuit(Path(job.input.showcase), name)
    edited = dict(zip(params.weights, map(Path, job.input.edited), strict=True))
    circuits = [showcase, *edited_circuits(showcase.graph, edited, read_json(job.input.meta), name, params.labels)]
    for method, path in zip(params.methods, job.input.circuits, strict=True):
        circuits += relation_circuits(showcase.graph, Path(path), method)
    data = {
        **packed_circuits(circuits),
        "heads": packed_heads(read_table(job.input.heads)),
        "readings": [packed_reading(read_json(job.input.nodes), "showcase")],
        **packed_traces(read_table(job.input.traces)),
    }
    with atomic(job.output.page) as part:
        part.write_text(build_page(f"Circuits of {job.wildcards.model}", data), "utf-8")


if __name__ == "__main__":
    run(main, snakemake)
