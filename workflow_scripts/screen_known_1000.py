"""ROME's known_1000: the facts that can be traced on this model, and those that cannot, each with its reason."""

import logging
from pathlib import Path

from knowcirc.facts.known1000 import describe_screening, left_out_table, read_known_1000, screen_facts, usable_table
from knowcirc.files import write_table
from knowcirc.job import Job, run
from knowcirc.models.loading import load

log = logging.getLogger(__name__)


def main(job: Job) -> None:
    """Write both tables, and say how many facts were left out by reason."""
    facts = read_known_1000(Path(job.input.known_1000))
    model = load(Path(job.input.model).parent, **job.params.load_options, fast=True)
    usable, left_out = screen_facts(model, facts)
    log.warning("known_1000: %s (by name in %s)", describe_screening(usable, left_out), job.output.left_out)
    write_table(job.output.facts, usable_table(usable))
    write_table(job.output.left_out, left_out_table(left_out, job.wildcards.model))


if __name__ == "__main__":
    run(main, snakemake)
