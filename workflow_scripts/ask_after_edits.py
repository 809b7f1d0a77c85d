"""Questions after edits of the hops of one composition (KC section 5): through both hops, and about the subject."""

from itertools import chain
from pathlib import Path

import pandas as pd

from knowcirc.behaviours.hops import Composition
from knowcirc.edited.asking import COLUMNS, ask_case
from knowcirc.edited.makers import makers_of
from knowcirc.edited.portability import draw_cases, study_case
from knowcirc.edited.questions import ask_chains, second_hop_cases
from knowcirc.facts.relations import read_relations
from knowcirc.files import write_table
from knowcirc.job import Job, progress, run
from knowcirc.models.loading import load
from knowcirc.reading.heads import Thresholds


def main(job: Job) -> None:
    """Write one row per edit, question and editor; no row where the model answers no chain of the composition."""
    params = job.params
    composition, limits = Composition(**params.composition), Thresholds(**params.heads)
    relations = read_relations(params.source, job.input.relations)
    model = load(Path(job.input.model).parent, **params.load_options, fast=True)
    editors, tokens = makers_of(job, model), params.asked["tokens"]
    asked = ask_chains(model, composition, relations[composition.first], relations[composition.second], params.seed)
    cases = draw_cases(model, composition, relations, asked, params.chains, params.seed)
    others = list(second_hop_cases(model, composition, relations, asked, params.asked["second_hops"], params.seed))
    rows = chain(
        *(
            study_case(model, case, editors, limits, tokens)
            for case in progress(cases, f"{composition.name}: first hops")
        ),
        *(ask_case(model, case, editors, tokens) for case in progress(others, f"{composition.name}: second hops")),
    )
    write_table(job.output.rows, pd.DataFrame(rows, columns=list(COLUMNS)))


if __name__ == "__main__":
    run(main, snakemake)
