"""Knowledge circuits and ROME, from download to report. `snakemake` alone runs the study of config/config.yaml."""

from snakemake.utils import min_version

min_version("9.16")


configfile: workflow.source_path("config/config.yaml")


include: "rules/common.smk"


pathvars:
    results=config["outdir"],
    logs="<results>/logs",
    benchmarks="<results>/benchmarks",


include: "rules/data.smk"
include: "rules/facts.smk"
include: "rules/tracing.smk"
include: "rules/circuits.smk"
include: "rules/comparison.smk"
include: "rules/stability.smk"
include: "rules/components.smk"
include: "rules/editing.smk"
include: "rules/behaviours.smk"
include: "rules/items.smk"
include: "rules/checks.smk"


onstart:
    start()


rule all:
    """The report, once every artifact has been checked, and the circuit explorers."""
    default_target: True
    input:
        "<results>/checks.json",  # of the report, too
        expand("<results>/{model}/explorer.html", model=config["models"]),
    localrule: True


rule tables:
    """All tables."""
    input:
        tables_of_study,
    localrule: True


rule figures:
    """All figures."""
    input:
        figures_of_study,
    localrule: True
