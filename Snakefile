"""Knowledge circuits and ROME, from download to report. `snakemake` alone runs the study of config/config.yaml."""

from snakemake.utils import min_version

min_version("9.16")


configfile: "config/config.yaml"


container: "docker://python:3.11"


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
include: "rules/components.smk"
include: "rules/editing.smk"
include: "rules/behaviours.smk"
include: "rules/items.smk"
include: "rules/checks.smk"


onstart:
    begin(workflow.dag.needrun_jobs())


rule all:
    """The report, once every artifact has been checked."""
    default_target: True
    input:
        "<results>/report.html",
        "<results>/checks.json",
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
