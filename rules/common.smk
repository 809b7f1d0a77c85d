"""Read and check the configuration and the tables; functions that the rules share. Rules stand elsewhere."""

import csv
import os
import re
from functools import partial
from pathlib import Path

from snakemake.exceptions import WorkflowError

from knowcirc.circuits.methods import METHODS as FINDERS, settings_in
from knowcirc.configuration import reference_errors, schema_errors, uses_gpu
from knowcirc.digest import code_digest as digest_of
from knowcirc.functions import module_of
from knowcirc.items.contract import Item
from knowcirc.items.figures import FIGURES
from knowcirc.items.files import (
    figure_files,
    functions_of,
    inputs_of,
    log_of,
    names_of,
    value_at,
)
from knowcirc.items.tables import TABLES
from knowcirc.models.table import ModelRow, read_models

ROOT = Path(workflow.basedir)


def read_datasets(path: Path) -> dict[str, dict[str, str]]:
    """Rows of config/datasets.tsv by data set."""
    with path.open(newline="", encoding="utf-8") as handle:
        lines = (line for line in handle if not line.startswith("#"))
        return {row["dataset"]: row for row in csv.DictReader(lines, delimiter="\t")}


def check_config() -> dict[str, ModelRow]:
    """The table of models, once the configuration has been found sound."""
    errors = schema_errors(config, ROOT / "config/schema.yaml")
    try:
        models = read_models(ROOT / "config/models.tsv")
    except ValueError as error:
        raise WorkflowError(str(error)) from None
    if not errors:
        errors = reference_errors(config, models, set(relation_files()))
    if errors:
        raise WorkflowError("the configuration is not right:\n  " + "\n  ".join(errors))
    return models


def relation_files() -> dict[str, str]:
    """Where each relation of the configured source lies."""
    if config["relations"]["source"] == "lre":
        lre = [Path(name).parts for name in DATASETS if Path(name).parts[0] == "lre"]
        return {
            relation: f"<results>/data/lre/{category}/{relation}.json"
            for _, category, relation in lre
        }
    return {
        path.stem: f"config/facts/{path.name}"
        for path in sorted((ROOT / "config/facts").glob("*.yaml"))
    }


DATASETS = read_datasets(ROOT / "config/datasets.tsv")
MODELS = check_config()
# The methods that find circuits of every relation, then those of the comparison alone.
METHODS = list(
    dict.fromkeys(config["circuits"]["methods"] + config["comparison"]["methods"])
)
# What the placeholders of items' inputs stand for.
PARTS = {
    "editor": ["none", *config["editing"]["editors"]],
    "method": METHODS,
    "model": config["models"],
}
# How it is run, not what: by way of the environment, since a changed parameter would run everything anew.
os.environ.update(
    KNOWCIRC_DEVICE=config["device"],
    KNOWCIRC_MIRROR=config["mirror"] or "",
    KNOWCIRC_OFFLINE="yes" if config["offline"] else "",
    OMP_WAIT_POLICY="PASSIVE",  # a job of several threads beside others: threads that wait must not spin
)


wildcard_constraints:
    model="|".join(config["models"]),
    method="|".join(map(re.escape, METHODS)),
    shard="|".join(["all", *config["relations"]["names"]]),
    editor="|".join(["none", *config["editing"]["editors"]]),
    dataset="|".join(DATASETS),


def code_digest(rule_name: str) -> str:
    """Hash of the library modules that a rule's script uses."""
    return digest_of(ROOT / f"workflow_scripts/{rule_name}.py")


def item_digest(script: str, item: Item) -> str:
    """Hash of the library modules that an item's script and its functions use."""
    names = [item.function, getattr(item, "prepare", None) or item.function]
    return digest_of(ROOT / f"workflow_scripts/{script}.py", *map(module_of, names))


def settings_of(item: Item, wildcards) -> dict[str, object]:
    """The settings that an item reads, from the configuration or the model's row."""
    found = {}
    for name, place in item.settings.items():
        if place.startswith("models.tsv:"):
            found[name] = getattr(MODELS[wildcards.model], place.partition(":")[2])
            continue
        found[name] = value_at(config, place)
    return found


def relations_of_study(wildcards) -> list[str]:
    """The relation files of the study, in the order of the configuration."""
    files = relation_files()
    return [files[name] for name in config["relations"]["names"]]


def numerics(wildcards) -> dict[str, str]:
    """How the model is loaded: dtype and weight processing."""
    row = MODELS[wildcards.model]
    return {"dtype": row.dtype, "processing": row.processing}


def kv_view(wildcards) -> str:
    """The K/V view of the model's graph."""
    return MODELS[wildcards.model].kv


def gpus(wildcards) -> int:
    """GPUs that a job with the model asks for: none where it runs on CPUs, so that several jobs run at once there."""
    return int(uses_gpu(config["device"]))


def model_mb(wildcards, attempt) -> int:
    """Memory that a job with the model needs, more after a failure."""
    return MODELS[wildcards.model].mem_mb * attempt


def model_row(wildcards) -> dict[str, object]:
    """What fetching the model depends on."""
    row = MODELS[wildcards.model]
    keys = (
        "model",
        "source",
        "location",
        "revision",
        "sha256",
        "bos",
        "n_layers",
        "licence",
    )
    return {key: getattr(row, key) for key in keys}


def relations_of_method(method: str) -> list[str]:
    """The relations whose circuits a method finds: all, or those of `comparison` alone."""
    everywhere = method in config["circuits"]["methods"]
    return config["relations" if everywhere else "comparison"][
        "names" if everywhere else "relations"
    ]


def shards_of_method(method: str) -> list[str]:
    """The jobs that a method's circuits are found in: one for each relation where a search takes minutes."""
    return relations_of_method(method) if FINDERS[method].minutes else ["all"]


def relations_of_shard(wildcards) -> list[str]:
    """The relations of one job."""
    if wildcards.shard != "all":
        return [wildcards.shard]
    return relations_of_method(wildcards.method)


def circuits_of_shards(wildcards) -> list[str]:
    """The circuits of all jobs of a method."""
    return expand(
        "<results>/{model}/circuits/{method}/{shard}.npz",
        model=wildcards.model,
        method=wildcards.method,
        shard=shards_of_method(wildcards.method),
    )


def seconds_of_shards(wildcards) -> list[str]:
    """The seconds of all jobs of a method."""
    return [
        path.removesuffix(".npz") + "_seconds.json"
        for path in circuits_of_shards(wildcards)
    ]


def method_settings(wildcards) -> dict[str, object]:
    """How a method finds the circuits of relations."""
    return circuit_settings(wildcards.method)


def taus_of_methods(wildcards) -> dict[str, float | None]:
    """The threshold of each method of Table 1 that has one."""
    found = {name: circuit_settings(name) for name in config["circuits"]["methods"]}
    return {
        name: each["rule"]["tau"] if "rule" in each else None
        for name, each in found.items()
    }


def circuit_settings(method: str) -> dict[str, object]:
    """How circuits are found by a method."""
    return settings_in(config, method)


def method_digest(rule_name: str, *methods: str) -> str:
    """Hash of the library modules that a rule's script and the methods that it finds circuits by use."""
    modules = [module_of(FINDERS[method].find) for method in methods]
    return digest_of(ROOT / f"workflow_scripts/{rule_name}.py", *modules)


def digest_of_discovery(wildcards) -> str:
    """The same of the search of relations, for one method."""
    return method_digest("discover_circuits", wildcards.method)


def showcase_settings(wildcards) -> dict[str, object]:
    """How the showcase's circuit is found."""
    return circuit_settings(config["showcase"]["method"])


def edited_showcase_settings(wildcards) -> dict[str, object]:
    """How the showcase's circuits are found under edited weights."""
    return circuit_settings(config["editing"]["circuits"]["method"])


def exact_showcase(wildcards) -> list[str]:
    """The showcase's exact circuit, where its circuits under edited weights are exact, too."""
    methods = {config["showcase"]["method"], config["editing"]["circuits"]["method"]}
    return (
        [f"<results>/{wildcards.model}/circuits/showcase.json"]
        if methods == {"acdc"}
        else []
    )


def standing_settings(wildcards) -> dict[str, object]:
    """How standing circuits are found, whatever the study's methods."""
    return circuit_settings("standing")


def analysis_settings(wildcards) -> dict[str, object]:
    """How hops, reverse relations and demonstrations find circuits: as relations do, by the first method."""
    return circuit_settings(config["circuits"]["methods"][0])


def single_settings(wildcards) -> dict[str, object]:
    """How the many circuits of single prompts before and after edits are found, against the zero baseline."""
    return circuit_settings(config["circuits"]["single"])


def relation_of_showcase(wildcards) -> str:
    """The relation file of the showcase."""
    return relation_files()[config["showcase"]["relation"]]


def tracing_settings(wildcards) -> dict[str, object]:
    """What traces depend on: not how many examples are shown, and relations only where facts come from these."""
    tracing = config["tracing"]
    survey_only = () if tracing["source"] == "builtin" else ("template", "relations")
    unused = ("examples", *survey_only)
    return {key: value for key, value in tracing.items() if key not in unused}


def facts_of_tracing(wildcards) -> str:
    """The table that traced facts are drawn from: the survey, or what the model knows of ROME's known_1000."""
    tables = {"builtin": "known", "known_1000": "known_1000"}
    name = tables[config["tracing"]["source"]]
    return f"<results>/{wildcards.model}/facts/{name}.parquet"


def editor_settings(wildcards) -> dict[str, object]:
    """The settings of one editor for one model; empty for the unedited model."""
    return (
        {}
        if wildcards.editor == "none"
        else settings_of_editor(wildcards.editor, wildcards.model)
    )


def all_editor_settings(wildcards) -> dict[str, dict[str, object]]:
    """The settings of all editors for one model."""
    return {
        editor: settings_of_editor(editor, wildcards.model)
        for editor in config["editing"]["editors"]
    }


def settings_of_seen_editors(wildcards) -> dict[str, dict[str, object]]:
    """The settings of the editors whose edits are seen through circuits."""
    return {
        editor: settings_of_editor(editor, wildcards.model)
        for editor in config["editing"]["circuits"]["editors"]
    }


def rome_settings(wildcards) -> dict[str, object]:
    """The settings of ROME for one model, which the sweep varies."""
    return settings_of_editor("rome", wildcards.model)


def settings_of_editor(editor: str, model: str) -> dict[str, object]:
    """Settings from the configuration and, for what is the model's own, from models.tsv; the layer stands apart."""
    row, settings = MODELS[model], dict(config["editing"][editor])
    if editor in ("rome", "r-rome", "memit"):
        settings = {
            "steps": row.value_steps,
            "clamp": row.clamp,
            "weight_decay": row.weight_decay,
        } | settings
    return settings


def table_layer(wildcards) -> int | None:
    """The layer of ROME's edits in models.tsv, or None."""
    return MODELS[wildcards.model].edit_layer


def table_clamp(wildcards) -> float:
    """The clamp of ROME's edits in models.tsv."""
    return MODELS[wildcards.model].clamp


def sweep_of_new_model(wildcards) -> list[str]:
    """The sweep's table, where models.tsv does not say at which layer to edit."""
    known = MODELS[wildcards.model].edit_layer is not None
    return [] if known else [f"<results>/{wildcards.model}/edits/sweep.csv"]


def tables_of_study(wildcards) -> list[str]:
    """All tables of the study, as CSV and LaTeX."""
    return expand(
        "<results>/{model}/tables/{name}.{end}",
        model=config["models"],
        name=[item.name for item in TABLES],
        end=["csv", "tex"],
    )


def figures_of_study(wildcards) -> list[str]:
    """All figures of the study, of each model and of all together, as PNG and PDF."""
    files = [figure_files(item)[end] for item in FIGURES for end in ("png", "pdf")]
    return [
        path.replace("{model}", model)
        for path in files
        for model in (config["models"] if "{model}" in path else [""])
    ]


def captions_of_study(wildcards) -> list[str]:
    """The captions of all figures and tables."""
    return [f"rules/captions/{item.name}.rst" for item in (*FIGURES, *TABLES)]


def counterfact_file(wildcards) -> list[str]:
    """CounterFact, where the records come from it."""
    if config["editing"]["source"] == "relations":
        return []
    return ["<results>/data/rome/counterfact.json"]


def dataset_params(wildcards) -> dict[str, str]:
    """Where a data set comes from and what its checksum is."""
    row = DATASETS[wildcards.dataset]
    return {"url": row["url"], "sha256": row["sha256"]}


def report_config(wildcards) -> dict[str, object]:
    """The settings that the report prints: all but where and how it was run."""
    return {
        key: value
        for key, value in config.items()
        if key not in ("device", "mirror", "offline", "outdir")
    }
