"""Counterfactual editing records from facts that the model knows, and the sampled contexts that ROME averages over."""

from pathlib import Path

from knowcirc.editing.sampling import sample_prefixes, unseen_prefixes
from knowcirc.facts.counterfact import choose_cases, read_counterfact, read_snippets
from knowcirc.facts.prompts import alike_objects
from knowcirc.facts.records import choose_records
from knowcirc.facts.relations import read_relations
from knowcirc.facts.survey import read_facts
from knowcirc.files import write_json
from knowcirc.job import Job, run
from knowcirc.models.loading import load


def main(job: Job) -> None:
    """Write the records, others for the sweep and for edits one after the other, and the prefixes as token ids."""
    params = job.params
    survey = read_facts(job.input.facts)
    model = load(Path(job.input.model).parent, **params.load_options, fast=True)
    counts = [(length, count) for length, count in params.prefixes]
    prefixes = sample_prefixes(model, counts, params.seed, params.prefix_top_k)
    first_wording = survey[survey.template == 0]
    known = {
        str(name): set(group.loc[group["rank"] == 0, "subject"]) for name, group in first_wording.groupby("relation")
    }
    relations = read_relations(params.source, job.input.relations)
    apart = params.records + params.sweep_records
    requested = {"n": apart + params.more_records, "n_neighbours": params.neighbours, "seed": params.seed}
    if params.records_from == "counterfact":
        cases, snippets = map(Path, job.input.counterfact)
        records = choose_cases(
            read_counterfact(cases), snippets=read_snippets(snippets), order=params.order, **requested
        )
    else:
        texts = unseen_prefixes(model, counts, params.seed, params.prefix_top_k, prefixes)
        chosen = [relations[name] for name in params.relations if name in known]
        alike = {relation.name: alike_objects(model.text, relation) for relation in chosen}
        records = choose_records(chosen, known, **requested, prefixes=texts, alike=alike)
    write_json(
        job.output.records,
        {
            "records": [record.as_json() for record in records[: params.records]],
            "sweep_records": [record.as_json() for record in records[params.records : apart]],
            "more_records": [record.as_json() for record in records[apart:]],
            "prefixes": [list(prefix) for prefix in prefixes],
        },
    )


if __name__ == "__main__":
    run(main, snakemake)
