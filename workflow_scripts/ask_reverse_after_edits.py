"""Questions after edits of the facts of a relation that is asked backward, too: the new object's, and the subject's."""

from pathlib import Path

import pandas as pd

from knowcirc.behaviours.reverse import reverse_wording
from knowcirc.edited.asking import COLUMNS, ask_case
from knowcirc.edited.makers import makers_of
from knowcirc.edited.questions import reverse_cases
from knowcirc.facts.relations import read_relations
from knowcirc.files import write_table
from knowcirc.job import Job, progress, run
from knowcirc.models.loading import load


def main(job: Job) -> None:
    """Write one row per edit, question and editor; no row where the model knows no such fact."""
    params, asked = job.params, job.params.asked
    relations = read_relations(params.source, job.input.relations)
    relation = relations[job.wildcards.relation]
    wording = params.template or reverse_wording(relation)
    model = load(Path(job.input.model).parent, **params.load_options, fast=True)
    editors = makers_of(job, model)
    cases = list(reverse_cases(model, relation, wording, list(relations.values()), asked["reversed"], params.seed))
    rows = [
        row
        for case in progress(cases, f"edits of {relation.name}, asked backward")
        for row in ask_case(model, case, editors, asked["tokens"])
    ]
    write_table(job.output.rows, pd.DataFrame(rows, columns=list(COLUMNS)))


if __name__ == "__main__":
    run(main, snakemake)
