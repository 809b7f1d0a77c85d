"""Every head and MLP on the showcase's prompt: attention, the tokens that each raises, roles; for the explorer."""

from pathlib import Path

from knowcirc.facts.prompts import token_texts
from knowcirc.facts.relations import read_relations
from knowcirc.facts.survey import fact_row, prompts_of
from knowcirc.files import read_table, write_json
from knowcirc.job import Job, run
from knowcirc.models.loading import load
from knowcirc.reading.heads import Thresholds
from knowcirc.reading.nodes import read_nodes
from knowcirc.reading.special_heads import context_of


def main(job: Job) -> None:
    """Write the reading of the showcase's prompt."""
    showcase = job.params.showcase
    relation = read_relations(job.params.source, [job.input.relation])[showcase["relation"]]
    row = fact_row(read_table(job.input.facts), relation.name, showcase["subject"], showcase["template"])
    model = load(Path(job.input.model).parent, **job.params.load_options, fast=True)
    prompt, limits = prompts_of(model, row)[0], Thresholds(**job.params.heads)
    context = context_of(model, relation, prompt)
    write_json(job.output.nodes, read_nodes(model, prompt, lambda ids: token_texts(model.text, ids), limits, context))


if __name__ == "__main__":
    run(main, snakemake)
