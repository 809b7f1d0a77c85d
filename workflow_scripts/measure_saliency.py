"""Integrated gradients of the facts that are traced, fact by fact (ROME Fig. 16).

Each fact's gradients are a file of its own in the study's folder traces/saliency/facts, and stay there.
"""

from dataclasses import asdict

from knowcirc.facts.prompts import Prompt, token_texts
from knowcirc.files import write_table
from knowcirc.job import Job, run
from knowcirc.tracing.by_fact import Rows, chosen_facts, measure_facts
from knowcirc.tracing.saliency import saliency
from knowcirc.tracing.saliency_tables import saliency_rows


def main(job: Job) -> None:
    """Measure this job's share of the facts; a fact that is done is not done again."""
    chosen, tracing = chosen_facts(job), job.params.tracing
    model, settings = chosen.model, chosen.settings
    baseline, steps = tracing["saliency"], tracing["saliency_steps"]

    def measure(prompt: Prompt) -> Rows:
        found = saliency(model, prompt, baseline, settings, steps=steps)
        return list(saliency_rows(found, prompt, token_texts(model.text, prompt.ids)))

    output, instead = job.output.gradients, [asdict(settings), baseline, steps]
    write_table(output, measure_facts(job, chosen.traced, output, measure, label="saliency", instead=instead))


if __name__ == "__main__":
    run(main, snakemake)
