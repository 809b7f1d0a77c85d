"""Put the surveys of all relations into one table."""

from knowcirc.facts.survey import read_facts
from knowcirc.files import read_json, write_json, write_table
from knowcirc.job import Job, run


def main(job: Job) -> None:
    """Write the table, and which relations were left out and why.

    Raises:
        ValueError: if all were.
    """
    facts = read_facts(list(job.input.facts))
    reasons = [read_json(path)["left_out"] for path in job.input.summaries]
    left_out = {name: reason for name, reason in zip(job.params.relations, reasons, strict=True) if reason}
    if facts.empty:
        raise ValueError(f"relations.names: every relation was left out ({'; '.join(left_out.values())})")
    write_table(job.output.facts, facts)
    write_json(job.output.summary, {"used": list(facts.relation.unique()), "left_out": left_out})


if __name__ == "__main__":
    run(main, snakemake)
