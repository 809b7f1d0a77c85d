"""The edits of a data set about what follows from edits (MQuAKE, RippleEdits), and its questions after each."""

from pathlib import Path
from typing import Any

import pandas as pd

from knowcirc.edited.asking import COLUMNS, ask_case
from knowcirc.edited.makers import makers_of
from knowcirc.facts.benchmarks import BENCHMARKS
from knowcirc.files import write_table
from knowcirc.functions import function_of
from knowcirc.job import Job, progress, run
from knowcirc.models.loading import load
from knowcirc.resume import parts_of


def main(job: Job) -> None:
    """Write one row per case, question and editor; a case that is done is not done again after an interruption."""
    asked, name = job.params.asked, job.wildcards.benchmark
    cases = function_of(BENCHMARKS[name].read)(Path(job.input.cases), asked["cases"], name)
    model = load(Path(job.input.model).parent, **job.params.load_options, fast=True)
    editors, parts = makers_of(job, model), parts_of(job, job.output.rows)
    rows: list[Any] = []
    for case in progress(cases, f"{name}: cases"):
        done: Any = parts.get(case.name)
        if done is None:
            done = list(ask_case(model, case, editors, asked["tokens"]))
            parts.put(case.name, done)
        rows += done
    write_table(job.output.rows, pd.DataFrame(rows, columns=list(COLUMNS)))
    parts.clear()


if __name__ == "__main__":
    run(main, snakemake)
