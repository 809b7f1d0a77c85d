"""Read and check the configuration and the tables; functions that the rules share. Rules stand elsewhere."""

import os
import re
import sys
from pathlib import Path

from snakemake.caching.rule import RuleCache
from snakemake.exceptions import WorkflowError
from snakemake.utils import update_config

# The workflow's own folder: Snakemake may work in another one, and another workflow may have this one as a module.
ROOT = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).resolve().parent
# Its library, before any that is installed.
sys.path.insert(0, str(ROOT / "workflow_scripts"))

from knowcirc.circuits.methods import (
    EXACT,
    FROM_NOTHING,
    INTEGRATED,
    METHODS as FINDERS,
    RANDOM,
    STANDING,
    settings_in,
)
from knowcirc.configuration.checks import read_study, uses_gpu
from knowcirc.configuration.offline import missing
from knowcirc.costs import read_costs
from knowcirc.digest import code_digest as digest_of
from knowcirc.editing.editors import (
    EDITORS,
    ROME_ITSELF,
    UNEDITED,
    depth_layers,
    read_editors,
    settings_before_sweep,
    settings_of as settings_of_editor,
)
from knowcirc.facts.benchmarks import BENCHMARKS
from knowcirc.facts.sources import SOURCES, DatasetRow
from knowcirc.fields import read_rows, value_at
from knowcirc.forecast import announce
from knowcirc.functions import module_of
from knowcirc.items.contract import Item
from knowcirc.items.figures import FIGURES as ALL_FIGURES
from knowcirc.items.files import (
    figure_files,
    functions_of,
    inputs_of,
    log_of,
    items_of,
    names_of,
    stated_files,
)
from knowcirc.items.tables import TABLES as ALL_TABLES
from knowcirc.models.families import FAMILIES
from knowcirc.models.table import FetchRow, local_files, read_models
from knowcirc.places import check_python, prefer
from knowcirc.runlock import take
from knowcirc.yaml_files import read_yaml

# Jobs use it, too, whatever is installed beside Snakemake, in an image or on a node.
prefer(str(ROOT / "workflow_scripts"))
ELSEWHERE = Path.cwd() != ROOT

# The folder that Snakemake works in may have settings of its own, which are laid over the workflow's.
if ELSEWHERE and os.path.isfile("config/config.yaml"):

    configfile: "config/config.yaml"


try:
    check_python(sys.executable)
    for path in filter(os.path.isfile, workflow.configfiles):
        read_yaml(Path(path))  # refuses keys that stand twice
    # As a module whose settings are given: these are laid over the defaults.
    if workflow.modifier.skip_configfile:
        given = dict(config)
        config.update(read_yaml(ROOT / "config/config.yaml"))
        update_config(config, given)
    MODELS = read_models(ROOT / "config/models.tsv")
    DEPTHS = {name: row.n_layers for name, row in MODELS.items()}
    OF_MODELS = read_editors(ROOT / "config/editors.tsv", DEPTHS)
    DATASETS = {
        row.dataset: row for row in read_rows(ROOT / "config/datasets.tsv", DatasetRow)
    }
    # Every setting, with its default where the files leave it out.
    typed = workflow.config_settings.config or {}
    config.update(read_study(config, ROOT, DEPTHS, list(DATASETS), typed))
    COSTS = read_costs(config, MODELS, ROOT)
except ValueError as error:
    raise WorkflowError(str(error)) from None


def own(path: str) -> str:
    """A file of the workflow's own folder, from the folder that Snakemake works in."""
    return str(ROOT / path) if ELSEWHERE else path


# A folder of this machine is named from the workflow's own, as the table that names it.
for row in MODELS.values():
    if row.source == "local":
        place = own(os.path.expanduser(row.location))
        MODELS[row.model] = row.model_copy(update={"location": place})
# By the file that a data set is kept as: under its own ending, or as .json where its name has none.
DATA_FILES = {name if Path(name).suffix else f"{name}.json": name for name in DATASETS}
# Those that the configuration asks for.
FIGURES, TABLES = (items_of(items, config) for items in (ALL_FIGURES, ALL_TABLES))
RELATION_FILES = {
    name: path if path.startswith("<results>") else own(path)
    for name, path in SOURCES[config["relations"]["source"]]
    .relations(ROOT, DATASETS)
    .items()
}
# What ROME's files are for, where the study takes them.
COUNTERFACT = ("rome/counterfact.json", "rome/attribute_snippets.json")
FREQUENCIES = ("rome/idf.npy", "rome/tfidf_vocab.json")
KNOWN_1000, ZSRE = "rome/known_1000.json", "rome/zsre_mend_eval.json"
# The methods that find circuits of every relation, then those of the comparison alone.
METHODS = list(
    dict.fromkeys(config["circuits"]["methods"] + config["comparison"]["methods"])
)
# What a job takes on before it ends: about a minute on a core, and small enough for many of them.
FACTS_PER_JOB = 5
RECORDS_PER_JOB = 6
GRADIENTS_PER_JOB = 1
HEADS_PER_JOB = 2
# By name: that of the first relation and of the second.
COMPOSITIONS = {
    f"{each['first']}+{each['second']}": each for each in config["hops"]["compositions"]
}
# The relation that asks a composition's question without a hop, where there is one.
DIRECT_RELATIONS = {
    name: each["direct"] for name, each in COMPOSITIONS.items() if each["direct"]
}
# Edits one after the other, and which editors make them: none in context, which add nothing up; neither where the study
# has none.
SEQUENTIAL = config["editing"]["sequential"]
SEQUENCE_EDITORS = [
    name
    for name in (
        SEQUENTIAL["editors"] or config["editing"]["editors"] if SEQUENTIAL else []
    )
    if not EDITORS[name].in_context
]
EDITORS_ASKED = list(
    dict.fromkeys(
        [
            *config["editing"]["editors"],
            *config["editing"]["circuits"]["editors"],
            *SEQUENCE_EDITORS,
        ]
    )
)
# What the placeholders of items' inputs stand for.
PARTS = {
    "editor": [UNEDITED, *config["editing"]["editors"]],
    "method": METHODS,
    "model": config["models"],
    "questions": ["zsre_scores"] if config["editing"]["zsre_records"] else [],
    "sequence": [UNEDITED, *SEQUENCE_EDITORS],
}
# Whether Snakemake keeps some outputs for other studies (`--cache`), under a hash of all that they depend on.
SHARING = workflow.enable_cache
# How it is run, not what: by way of the environment, since a changed parameter would run everything anew.
os.environ.update(
    KNOWCIRC_DEVICE=config["device"],
    KNOWCIRC_JOBS_PER_GPU=str(config["jobs_per_gpu"]),
    KNOWCIRC_MIRROR=config["mirror"] or "",
    KNOWCIRC_OFFLINE="yes" if config["offline"] else "",
    OMP_WAIT_POLICY="PASSIVE",  # a job of several threads beside others: threads that wait must not spin
)


container: config["image"]


wildcard_constraints:
    model="|".join(map(re.escape, config["models"])),
    method="|".join(map(re.escape, METHODS)),
    relation="|".join(map(re.escape, config["relations"]["names"])),
    composition="|".join(map(re.escape, COMPOSITIONS)),
    editor="|".join([UNEDITED, *EDITORS_ASKED]),
    dataset="|".join(map(re.escape, DATA_FILES)),
    benchmark="|".join(map(re.escape, BENCHMARKS)),
    part="[0-9]+",


def digest_of_job(script: str, *modules: str, entries=None, whole=False):
    """Gives the hash of the library modules that a job uses: those of its script, and what is imported by name.

    `modules` are of the latter, and so are the adapter of the job's model and the reader of relations.
    """
    read = SOURCES[config["relations"]["source"]].read

    def digest(wildcards) -> str:
        model = getattr(wildcards, "model", None)
        adapter = (
            [f"knowcirc.{FAMILIES[MODELS[model].family].adapter}"] if model else []
        )
        also = {
            "knowcirc.models.loading": adapter,
            "knowcirc.facts.relations": [module_of(read)],
        }
        path = ROOT / f"workflow_scripts/{script}.py"
        return digest_of(path, *modules, also=also, entries=entries, whole=whole)

    return digest


def code_digest(rule_name: str, entries=None):
    """Hash of the library modules that a rule's script uses; `entries` is what it is given of a registry."""
    return digest_of_job(rule_name, entries=entries)


def item_digest(script: str, item: Item):
    """Hash of the library modules that an item's script and its functions use, with the registries that they draw on."""
    names = [item.function, getattr(item, "prepare", None) or item.function]
    return digest_of_job(script, *map(module_of, names), whole=True)


def settings_of(item: Item) -> dict[str, object]:
    """The settings that an item reads."""
    return {name: value_at(config, place) for name, place in item.settings.items()}


def load_options(wildcards) -> dict[str, str]:
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


def files_of_source(wildcards) -> list[str]:
    """The files of a model that lies in a folder of this machine, so that a change of one is seen."""
    row = MODELS[wildcards.model]
    return local_files(Path(row.location)) if row.source == "local" else []


def minutes(rule_name: str):
    """Gives how many minutes its jobs may run on a cluster, by what they cost, and more after a failure."""

    def limit(wildcards, attempt) -> int:
        named = dict(wildcards.items())
        return COSTS.minutes(rule_name, named, config["time_factor"]) * attempt

    return limit


def model_row(wildcards) -> dict[str, object]:
    """What fetching the model depends on."""
    row = MODELS[wildcards.model]
    return {key: getattr(row, key) for key in FetchRow.model_fields}


def half_precision(wildcards) -> str | None:
    """The model's dtype where it is one of half precision, which is compared with float32 once; None otherwise."""
    dtype = MODELS[wildcards.model].dtype
    return dtype if dtype in ("float16", "bfloat16") else None


def files_of_model() -> dict[str, str]:
    """What fetching a model leaves; its provenance is written last.

    The other files are named only where they are kept for other studies: a model may come without a tokenizer.
    """
    names = {
        "config": "config.json",
        "generation": "generation_config.json",
        "weights": "model.safetensors",
        "tokenizer": "tokenizer.json",
        "tokenizer_config": "tokenizer_config.json",
    }
    files = (names if SHARING else {}) | {"provenance": "provenance.json"}
    return {name: f"<results>/models/{{model}}/{file}" for name, file in files.items()}


def keep_between_studies(*names: str) -> None:
    """Let `snakemake --cache` keep what these rules make; Snakemake refuses to keep what is timed, so they are not.

    Raises:
        WorkflowError: if a model comes from a folder: the hash that outputs are kept under knows where it lies alone.
    """
    if not SHARING:
        return
    if local := [name for name in config["models"] if MODELS[name].source == "local"]:
        raise WorkflowError(
            f"--cache: {', '.join(local)}: what a folder holds may change, so that nothing of such a model can be kept "
            "for other studies; leave --cache away"
        )
    for name in names:
        made = workflow.get_rule(name)
        made._benchmark = None
        made.cache = RuleCache.from_rule(made, True)


def is_kept(job) -> bool:
    """Whether another study has left the outputs of a job in the cache."""
    if not SHARING or workflow.output_file_cache is None or not job.rule.cache.output:
        return False
    return workflow.async_run(job.rule.cache.exists(job))


def corpus_of_moments(wildcards) -> list[str]:
    """The text that second moments are taken over, where the study names one."""
    corpus = config["moments"]["corpus"]
    return [] if corpus is None else [corpus]


def part_of_wildcard(wildcards) -> int:
    """The number of a job's share; kept outputs go by parameters and inputs, not by wildcards."""
    return int(wildcards.part)


def relations_of_method(method: str) -> list[str]:
    """The relations whose circuits a method finds: all, or those of `comparison` alone."""
    everywhere = method in config["circuits"]["methods"]
    return config["relations" if everywhere else "comparison"][
        "names" if everywhere else "relations"
    ]


def of_each(path: str, **values) -> list[str]:
    """Files below the model's folder, one for each of the values; other placeholders stay."""
    return expand(f"<results>/{{model}}/{path}", allow_missing=True, **values)


def of_relations(path: str, relations=config["relations"]["names"]) -> list[str]:
    """A file for each relation of the study, or of some."""
    return of_each(path, relation=relations)


def of_parts(path: str, number: int, size: int) -> list[str]:
    """A file for each of the jobs that share `number` things, `size` of them each."""
    return of_each(path, part=range(-(-number // size)))


def circuits_of_method(wildcards) -> list[str]:
    """The circuits of all relations that a method finds."""
    method = wildcards.method
    return of_relations(
        f"circuits/{method}/{{relation}}.npz", relations_of_method(method)
    )


def costs_of_method(wildcards) -> list[str]:
    """What finding each of them took."""
    return [
        path.removesuffix(".npz") + "_costs.json"
        for path in circuits_of_method(wildcards)
    ]


def priority_of_discovery(wildcards) -> int:
    """Above others the circuits that long jobs wait for: demonstrations, and what compares methods."""
    method, relation = wildcards.method, wildcards.relation
    first, compared = config["circuits"]["methods"][0], config["comparison"]
    return int(
        (method == first and relation in config["icl"]["relations"])
        or (method in compared["methods"] and relation in compared["relations"])
    )


def method_settings(wildcards) -> dict[str, object]:
    """How a method finds the circuits of relations."""
    return circuit_settings(wildcards.method)


def settings_of_methods(wildcards) -> list[dict[str, object]]:
    """How each method of Table 1 finds circuits."""
    return [circuit_settings(name) for name in config["circuits"]["methods"]]


def circuit_settings(method: str) -> dict[str, object]:
    """How circuits are found by a method."""
    return settings_in(config, method)


def searches_of(*methods: str) -> dict[str, object]:
    """What finds circuits by methods, and how edges are scored: by themselves, or at the start of a search."""
    scored = dict.fromkeys((*methods, INTEGRATED, FROM_NOTHING))
    attributions = [FINDERS[name].attribution for name in scored]
    return {FINDERS[method].find: attributions for method in methods}


def modules_of(*methods: str) -> list[str]:
    """The modules that are imported by name where circuits are found by methods."""
    found = searches_of(*methods)
    scorers = {each.scorer for scored in found.values() for each in scored if each}
    return sorted(map(module_of, {*found, *scorers}))


def method_digest(rule_name: str, *methods: str):
    """Hash of the library modules that a rule's script and the methods that it finds circuits by use."""
    found = searches_of(*methods)
    return digest_of_job(rule_name, *modules_of(*methods), entries=found)


def digest_of_discovery(wildcards) -> str:
    """The same of the search of relations, for one method."""
    return method_digest("discover_circuits", wildcards.method)(wildcards)


def digest_of_shrinking(wildcards) -> str:
    """The same of the search below a relation's circuit."""
    return method_digest("shrink_circuits", wildcards.method)(wildcards)


def digest_of_resampling(wildcards) -> str:
    """The same of the search on other prompts of the relation."""
    return method_digest("resample_circuits", wildcards.method)(wildcards)


def resampling_settings(wildcards) -> dict[str, object]:
    """How a relation's circuit is found again."""
    asked = config["stability"]
    return {name: asked[name] for name in ("resamples", "resampling", "wordings")}


def consensus_settings(wildcards) -> dict[str, object]:
    """How circuits found again are compared, and what their consensus is."""
    asked = config["stability"]
    return {name: asked[name] for name in ("resampling", "share", "prompts")}


def stability_of_study(wildcards) -> dict[str, list[str]]:
    """What is said of circuits found again: the tables of each relation and method, by kind."""
    asked = config["stability"]
    place = f"<results>/{wildcards.model}/circuits/{{method}}/stability/{{relation}}"
    relations = asked["relations"] or config["relations"]["names"]
    methods = config["circuits"]["methods"]
    cheap = [name for name in methods if FINDERS[name].attribution]
    chosen = asked["methods"] or [*cheap, *methods][:1]
    named = {"method": chosen, "relation": relations}
    ends = {"rows": ".csv", "frequencies": "_frequencies.csv"}
    return {name: expand(place + end, **named) for name, end in ends.items()}


def compared_circuits(wildcards) -> list[str]:
    """A relation's circuits by each method; those of a search that can go on, with what it found below their size."""
    folders = [f"{name}/smaller" if FINDERS[name].passes else name for name in METHODS]
    return [
        f"<results>/{{model}}/circuits/{folder}/{{relation}}.npz" for folder in folders
    ]


def digest_of_comparison(wildcards) -> str:
    """The same of the comparison of methods, which goes by what their circuits of other sizes are."""
    kinds = [(FINDERS[name].scored, FINDERS[name].passes) for name in METHODS]
    return code_digest("compare_methods", entries=kinds)(wildcards)


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
        if methods == {EXACT}
        else []
    )


def exact_showcase_of_editor(wildcards) -> list[str]:
    """The same, for the weights that it was found under: the model's own."""
    return exact_showcase(wildcards) if wildcards.editor == UNEDITED else []


def methods_of_edited_circuits(wildcards) -> dict[str, str]:
    """What finds the circuits of the edited fact and of the unrelated one."""
    return {
        "edited": config["editing"]["circuits"]["method"],
        "unrelated": config["circuits"]["single"],
    }


def standing_settings(wildcards) -> dict[str, object]:
    """How standing circuits are found, whatever the study's methods."""
    return circuit_settings(STANDING)


def analysis_settings(wildcards) -> dict[str, object]:
    """How hops, reverse relations and demonstrations find circuits: as relations do, by the first method."""
    return circuit_settings(config["circuits"]["methods"][0])


def single_settings(wildcards) -> dict[str, object]:
    """How the many circuits of single prompts before and after edits are found, against the zero baseline."""
    return circuit_settings(config["circuits"]["single"])


def relation_of_wildcard(wildcards) -> str:
    """The relation file of a job of one relation."""
    return RELATION_FILES[wildcards.relation]


def first_circuits_of_relation(wildcards) -> str:
    """The file with the relation's circuit by the first method."""
    method = config["circuits"]["methods"][0]
    return f"<results>/{wildcards.model}/circuits/{method}/{wildcards.relation}.npz"


def circuits_of_first_method(wildcards) -> str:
    """All relations' circuits by the first method."""
    return (
        f"<results>/{wildcards.model}/circuits/{config['circuits']['methods'][0]}.npz"
    )


def composition_of_wildcard(wildcards) -> dict[str, str]:
    """The composition of a job: two relations, and a phrase."""
    composition = COMPOSITIONS[wildcards.composition]
    return {name: composition[name] for name in ("first", "second", "phrase")}


def relations_of_composition(wildcards) -> list[str]:
    """The files of its relations."""
    composition = COMPOSITIONS[wildcards.composition]
    return [RELATION_FILES[composition[name]] for name in ("first", "second")]


def relations_of_study(wildcards) -> list[str]:
    """The files of all relations of the study."""
    return [RELATION_FILES[name] for name in config["relations"]["names"]]


def file_of_benchmark(wildcards) -> str:
    """The file of a data set about what follows from edits."""
    return f"<results>/data/{BENCHMARKS[wildcards.benchmark].dataset}.json"


def rows_of_portability(wildcards) -> list[str]:
    """Questions after edits: of compositions, of relations that are asked backward, and of data sets."""
    asked = config["editing"]["portability"]
    backward = config["reverse"]["relations"] if asked["reversed"] else []
    return [
        *of_each("edits/portability/{composition}.csv", composition=COMPOSITIONS),
        *of_relations("edits/portability/reverse/{relation}.csv", backward),
        *of_each(
            "edits/portability/datasets/{benchmark}.csv", benchmark=asked["datasets"]
        ),
    ]


def sequence_settings(wildcards) -> dict[str, object]:
    """How edits are made one after the other: not by which editors."""
    return {key: value for key, value in SEQUENTIAL.items() if key != "editors"}


def text_of_sequence(wildcards) -> list[str]:
    """The text file on which the perplexity is measured, where the study names one."""
    path = SEQUENTIAL["text_file"]
    return [] if path is None else [path]


def records_of_sequence(wildcards) -> int:
    """How many records edits one after the other need beside those of the study."""
    most = max(SEQUENTIAL["edits"]) if SEQUENTIAL else 0
    return max(0, most - config["editing"]["records"])


def reverse_template(wildcards) -> str | None:
    """The study's own wording of a relation asked backward."""
    return config["reverse"]["templates"].get(wildcards.relation)


def icl_counts(wildcards) -> dict[str, object]:
    """What the study of one relation's demonstrations depends on: not which relations are studied."""
    counts = dict(config["icl"])
    del counts["relations"]
    shown = counts.pop("shown")
    if shown is not None and shown["relation"] == wildcards.relation:
        counts["shown"] = {key: shown[key] for key in shown if key != "relation"}
    return counts


def relation_of_showcase(wildcards) -> str:
    """The relation file of the showcase."""
    return RELATION_FILES[config["showcase"]["relation"]]


def tracing_settings(wildcards) -> dict[str, object]:
    """What traces depend on: not how they are shown, and relations only where facts come from these."""
    tracing = config["tracing"]
    survey_only = () if tracing["source"] == "builtin" else ("template", "relations")
    unused = (
        *(
            "examples",
            "pooling",
            "saliency",
            "saliency_steps",
            "heads",
            "counterfactual",
        ),
        *survey_only,
    )
    return {key: value for key, value in tracing.items() if key not in unused}


def saliency_settings(wildcards) -> dict[str, object]:
    """What integrated gradients depend on: the facts and the noise of traces, and how gradients are integrated."""
    own = ("saliency", "saliency_steps")
    return tracing_settings(wildcards) | {key: config["tracing"][key] for key in own}


def head_settings(wildcards) -> dict[str, object]:
    """What traces of heads depend on: the facts and the noise of traces, and which heads are restored how."""
    return tracing_settings(wildcards) | {"heads": config["tracing"]["heads"]}


def counterfactual_settings(wildcards) -> dict[str, object]:
    """What traces with another subject depend on: the facts and the windows of traces, and how many are traced."""
    count = config["tracing"]["counterfactual"]
    return tracing_settings(wildcards) | {"counterfactual": count}


def traces_of_heads(wildcards) -> list[str]:
    """The parts of the traces of heads."""
    facts = config["tracing"]["heads"]["facts"]
    return of_parts("traces/heads/parts/{part}.parquet", facts, HEADS_PER_JOB)


def counterfactual_traces(wildcards) -> list[str]:
    """The parts of the traces with another subject."""
    facts = config["tracing"]["counterfactual"]
    return of_parts("traces/counterfactual/parts/{part}.parquet", facts, FACTS_PER_JOB)


def left_out_of_tracing(wildcards) -> list[str]:
    """The facts of known_1000 that are not traced, where their subjects set the noise, too."""
    tracing = config["tracing"]
    everything = (
        tracing["source"] == "known_1000" and tracing["noise_from"] == "subjects"
    )
    return ["<results>/{model}/traces/left_out.csv"] if everything else []


def facts_of_tracing(wildcards) -> list[str]:
    """The tables that traced facts are drawn from: surveys, or what the model knows of ROME's known_1000."""
    tracing = config["tracing"]
    if tracing["source"] == "known_1000":
        return ["<results>/{model}/facts/known_1000.parquet"]
    chosen = [
        name for name in config["relations"]["names"] if name in tracing["relations"]
    ]
    return of_relations("facts/known/{relation}.parquet", chosen)


def facts_of_records(wildcards) -> list[str]:
    """The surveys of the relations whose facts are edited."""
    return of_relations(
        "facts/known/{relation}.parquet", config["editing"]["relations"]
    )


def relations_of_records(wildcards) -> list[str]:
    """The files of these relations."""
    return [RELATION_FILES[name] for name in config["editing"]["relations"]]


def facts_of_showcase(wildcards) -> str:
    """The survey of the showcase's relation."""
    return f"<results>/{wildcards.model}/facts/known/{config['showcase']['relation']}.parquet"


def editing_digest(rule_name: str, *editors: str, methods=(), modules=()):
    """Hash of the library modules that a rule's script, its editors, its methods of circuits and others use."""
    entries = [EDITORS[editor] for editor in editors if editor != UNEDITED]
    found = searches_of(*methods)
    return digest_of_job(
        rule_name,
        *(module_of(entry.edit) for entry in entries),
        *modules_of(*methods),
        *map(module_of, modules),
        entries=([entry.identity for entry in entries], found),
    )


def digest_of_edits(wildcards) -> str:
    """The same of the edits by one editor."""
    return editing_digest("edit_facts", wildcards.editor)(wildcards)


def digest_of_questions(wildcards) -> str:
    """The same of the edits of zsRE's questions."""
    return editing_digest("edit_questions", wildcards.editor)(wildcards)


def digest_of_sequence(wildcards) -> str:
    """The same of edits one after the other by one editor."""
    return editing_digest("edit_in_sequence", wildcards.editor)(wildcards)


def digest_of_benchmark(wildcards) -> str:
    """The same of the questions of a data set, with what reads it."""
    editors = config["editing"]["circuits"]["editors"]
    read = BENCHMARKS[wildcards.benchmark].read
    return editing_digest("ask_benchmark", *editors, modules=[read])(wildcards)


def settings_of_model(editor: str, model: str) -> dict[str, object]:
    """An editor's settings for one model: the configuration's, else the model's own, else the defaults.

    A clamp that the sweep chooses is left out.
    """
    return settings_before_sweep(
        editor, OF_MODELS.get(model, {}), config["editing"][editor]
    )


def editor_settings(wildcards) -> dict[str, object]:
    """The settings of one editor for one model; empty for the unedited model."""
    editor = wildcards.editor
    return {} if editor == UNEDITED else settings_of_model(editor, wildcards.model)


def all_editor_settings(wildcards) -> dict[str, dict[str, object]]:
    """The settings of all editors for one model."""
    editors = config["editing"]["editors"]
    return {editor: settings_of_model(editor, wildcards.model) for editor in editors}


def settings_of_seen_editors(wildcards) -> dict[str, dict[str, object]]:
    """The settings of the editors whose edits are seen through circuits."""
    editors = config["editing"]["circuits"]["editors"]
    return {editor: settings_of_model(editor, wildcards.model) for editor in editors}


def settings_of_seen_editor(wildcards) -> dict[str, dict[str, object]]:
    """The settings of one of them; none for the unedited model."""
    editor = wildcards.editor
    if editor == UNEDITED:
        return {}
    return {editor: settings_of_model(editor, wildcards.model)}


def layers_of_followed(wildcards) -> list[int]:
    """The layers at which edits are followed: the model's own, else those at shares of its depth."""
    seen, model = config["editing"]["circuits"], wildcards.model
    return seen["layers"].get(model) or depth_layers(seen["depths"], DEPTHS[model])


def clamp_of_sweep(wildcards) -> float:
    """The clamp at which the sweep tries layers and tokens."""
    return rome_settings(wildcards)["clamp"]


def rome_settings(wildcards) -> dict[str, object]:
    """The settings of ROME for one model, which the sweep varies."""
    return settings_of_editor(
        ROME_ITSELF, OF_MODELS.get(wildcards.model, {}), config["editing"][ROME_ITSELF]
    )


def layer_of_rome(wildcards) -> int | None:
    """The layer of ROME's edits in editors.tsv, or None."""
    return OF_MODELS.get(wildcards.model, {}).get(ROME_ITSELF, {}).get("layer")


def clamp_of_rome(wildcards) -> float | None:
    """The clamp of ROME's edits, or None where the sweep chooses it."""
    return settings_of_model(ROME_ITSELF, wildcards.model).get("clamp")


def sweep_of_new_model(wildcards) -> list[str]:
    """The sweep's table, where editors.tsv does not say at which layer to edit."""
    known = layer_of_rome(wildcards) is not None
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


def files_of_page(room: str) -> list[str]:
    """What a page (report, explorer) is made of besides data: template, styles, scripts."""
    folder = f"workflow_scripts/knowcirc/{room}"
    ends = (".html", ".css", ".js")
    return sorted(
        own(f"{folder}/{path.name}")
        for path in (ROOT / folder).iterdir()
        if path.suffix in ends
    )


def captions_of_study(wildcards) -> list[str]:
    """The captions of all figures and tables."""
    return [own(f"rules/captions/{item.name}.rst") for item in (*FIGURES, *TABLES)]


def of_counterfact(*names: str) -> list[str]:
    """Files that come with CounterFact, where the records come from it."""
    asked = config["editing"]["source"] == "counterfact"
    return [f"<results>/data/{name}" for name in names if asked]


def start() -> None:
    """Say what the run will do, unless another one is at work in this folder, or something cannot be had.

    Raises:
        WorkflowError: if so.
    """
    try:
        take()
    except ValueError as error:
        raise WorkflowError(str(error)) from None
    refuse_missing(workflow.dag.needrun_jobs())
    announce(workflow, COSTS)


def refuse_missing(jobs) -> None:
    """Stop before anything runs where what is about to be fetched cannot be had, and say all that is missing.

    Raises:
        WorkflowError: with one line for each model and file.
    """
    fetched = [
        (job.rule.name, job.wildcards)
        for job in jobs
        if job.rule.name.startswith("fetch_") and not is_kept(job)
    ]
    models = [MODELS[of.model] for name, of in fetched if name == "fetch_model"]
    files = [of.dataset for name, of in fetched if name == "fetch_dataset"]
    mirror = None if config["mirror"] is None else Path(config["mirror"])
    if lines := missing(models, sorted(files), mirror, offline=config["offline"]):
        raise WorkflowError("these cannot be had:\n  " + "\n  ".join(lines))


def dataset_params(wildcards) -> dict[str, str]:
    """Where a data set comes from and what its checksum is."""
    row = DATASETS[DATA_FILES[wildcards.dataset]]
    return {"url": row.url, "sha256": row.sha256}


def report_config(wildcards) -> dict[str, object]:
    """The settings that the report prints: all but where and how it was run; those of editors as each model has them."""
    apart = (
        "device",
        "image",
        "jobs_per_gpu",
        "mirror",
        "offline",
        "outdir",
        "time_factor",
    )
    found = {key: value for key, value in config.items() if key not in apart}
    editors = {
        editor: {model: settings_of_model(editor, model) for model in config["models"]}
        for editor in EDITORS_ASKED
    }
    unused = [name for name in EDITORS if name not in editors]
    editing = {
        key: value for key, value in config["editing"].items() if key not in unused
    }
    return found | {"editing": editing | editors}
