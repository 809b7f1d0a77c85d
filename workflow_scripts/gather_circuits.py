"""Put the circuits that several jobs found into one file for each method."""

from pathlib import Path

from knowcirc.circuits.circuit import Circuit
from knowcirc.circuits.export import load_circuits, save_circuits
from knowcirc.files import read_json, write_json
from knowcirc.job import Job, run


def main(job: Job) -> None:
    """Write all circuits of the method, and what each took."""
    circuits: dict[str, Circuit] = {}
    costs: dict[str, dict[str, float]] = {}
    for found, spent in zip(job.input.circuits, job.input.costs, strict=True):
        circuits |= load_circuits(Path(found), job.wildcards.method)
        costs |= read_json(spent)
    write_json(job.output.costs, costs)
    save_circuits(Path(job.output.circuits), circuits)


if __name__ == "__main__":
    run(main, snakemake)
