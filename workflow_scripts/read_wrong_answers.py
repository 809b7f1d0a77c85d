"""Wrong answers of the right type beside right ones, over all relations: layers and mover heads (KC 6, C.2)."""

from pathlib import Path

import pandas as pd

from knowcirc.behaviours.wrong_answers import case_rows, draw_cases, first_tokens, main_mover
from knowcirc.files import read_table, write_table
from knowcirc.job import Job, progress, run
from knowcirc.models.loading import load
from knowcirc.reading.heads import Thresholds


def main(job: Job) -> None:
    """Write one row per case."""
    params = job.params
    survey, named = read_table(job.input.facts), read_table(job.input.heads)
    model = load(Path(job.input.model).parent, **params.load_options, fast=True)
    limits, frames = Thresholds(**params.heads), []
    for name, group in progress(list(survey.groupby("relation", sort=False)), "wrong answers: relations"):
        cases = draw_cases(model, survey, str(name), params.cases, params.seed)
        if cases:
            mover = main_mover(named, str(name))
            objects = first_tokens(model, group["object"].unique())
            frames.append(case_rows(model, str(name), str(group["category"].iloc[0]), cases, objects, mover, limits))
    if not frames:
        raise ValueError("hallucination: the model gives no wrong answer of the right type; add relations to the study")
    write_table(job.output.cases, pd.concat(frames, ignore_index=True))


if __name__ == "__main__":
    run(main, snakemake)
