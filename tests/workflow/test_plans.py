"""What Snakemake plans: every configuration, bad ones refused in a line, and reruns of just what a change touches."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from copies import copy_workflow

ROOT = Path(__file__).resolve().parents[2]
FASTER = "editing: { ft-m: { learning_rate: 0.001 } }"


def snakemake(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """A run of Snakemake whose jobs and library are those of `cwd`; the network is out of reach by way of a proxy."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(cwd / "workflow_scripts"),
        "https_proxy": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-m", "snakemake", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False)


def planned(done: subprocess.CompletedProcess[str]) -> set[str]:
    """The rules that a dry run would execute."""
    assert done.returncode == 0, done.stdout + done.stderr
    text = done.stdout + done.stderr
    return set(re.findall(r"^(?:local)?rule (\w+):", text, flags=re.MULTILINE)) - {"all"}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the workflow without any results."""
    copy_workflow(tmp_path)
    return tmp_path


@pytest.fixture
def finished(clone: Path) -> Path:
    """A copy of the workflow beside the finished small study, for dry runs."""
    if not (ROOT / "results-test/checks.json").is_file():
        pytest.skip("the small study has not been run (make quick)")
    (clone / "results-test").symlink_to(ROOT / "results-test")
    shutil.copytree(ROOT / ".snakemake/metadata", clone / ".snakemake/metadata")
    return clone


def changed(folder: Path, text: str) -> list[str]:
    """The small study's configuration with a further file on top."""
    (folder / "change.yaml").write_text(text, "utf-8")
    return ["config/test.yaml", "change.yaml"]


BELOW = {"paper": ["lre"], "paper-small": ["lre", "paper"]}
"""The files that a configuration is laid over, besides config.yaml."""


def files_of(name: str) -> list[str]:
    """A configuration's files as arguments."""
    return ["--configfile", *(f"config/{each}.yaml" for each in (*BELOW.get(name, ()), name))]


@pytest.mark.parametrize("name", ["config", "test", "full", "counts", "lre", "paper", "paper-small"])
def test_every_configuration_plans_a_whole_study_without_network_or_model(clone: Path, name: str) -> None:
    rules = planned(snakemake("-n", *files_of(name), cwd=clone))
    expected = {"fetch_model", "trace_facts", "discover_circuits", "edit_facts", "compare_edited_circuits"}
    assert expected | {"study_hallucination", "study_in_context", "build_report", "check_artifacts"} <= rules
    assert ("fetch_dataset" in rules) == (name in ("lre", *BELOW))
    assert ("screen_known_1000" in rules) == (name in BELOW)


def test_what_is_switched_off_is_not_planned(clone: Path) -> None:
    own = {"resample_circuits", "compare_resamples", "trace_heads", "trace_counterfactuals", "plot_head_trace"}
    assert own <= planned(snakemake("-n", *files_of("test"), cwd=clone))
    (clone / "off.yaml").write_text("{stability: null, tracing: {heads: null, counterfactual: null}}", "utf-8")
    rules = planned(snakemake("-n", "--configfile", "config/test.yaml", "off.yaml", cwd=clone))
    assert "trace_facts" in rules
    assert not rules & {*own, "tabulate_circuit_stability", "tabulate_head_traces", "plot_counterfactual_trace"}


def test_romes_tables_of_its_own_model_need_no_circuit(clone: Path) -> None:
    tables = ("editing_scores", "zsre_scores", "causal_effects", "causal_effects_severed")
    targets = [f"results-paper/gpt2-xl/tables/{name}.csv" for name in tables]
    rules = planned(snakemake("-n", *files_of("paper"), "--", *targets, cwd=clone))
    assert {"fetch_model", "estimate_moments", "trace_facts", "edit_facts", "tabulate_editing_scores"} <= rules
    assert not [name for name in rules if "circuit" in name or "sweep" in name]


TOLD = """
for model in config["models"]:
    print("followed at", layers_of_followed(type("Wildcards", (), {"model": model})))
"""
"""What makes a dry run tell a parameter of a rule."""


@pytest.mark.parametrize(
    ("arguments", "layers"),
    [
        ([*files_of("paper-small"), "--config", "models=[gpt2-medium]"], "0, 6, 12, 18, 23"),
        ([*files_of("paper-small"), "--config", "models=[gpt2-large]"], "3, 14, 25"),
        ([], "3, 12, 21"),
    ],
)
def test_edits_are_followed_at_the_models_own_layers_or_at_shares_of_its_depth(
    clone: Path, arguments: list[str], layers: str
) -> None:
    text = (clone / "rules/common.smk").read_text("utf-8")
    (clone / "rules/common.smk").write_text(text + TOLD, "utf-8")
    done = snakemake("-n", *arguments, cwd=clone)
    assert "follow_edits" in planned(done)
    assert f"followed at [{layers}]" in done.stdout + done.stderr


def test_known_1000_comes_from_the_mirror_and_is_traced_without_the_survey(clone: Path) -> None:
    (clone / "mirror/rome").mkdir(parents=True)
    (clone / "mirror/rome/known_1000.json").write_text("[]\n", "utf-8")
    (clone / "known.yaml").write_text("mirror: mirror\ntracing: { source: known_1000 }\n", "utf-8")
    files = ["--configfile", "known.yaml"]
    done = snakemake(*files, "--", "results/data/rome/known_1000.json", cwd=clone)
    assert done.returncode == 0, done.stderr
    assert (clone / "results/data/rome/known_1000.json").read_text("utf-8") == "[]\n"
    rules = planned(snakemake("-n", *files, "--", "results/smollm2-135m/traces/facts.parquet", cwd=clone))
    assert rules == {"fetch_model", "screen_known_1000", "trace_facts", "gather_traces"}


def test_without_the_network_all_that_is_missing_is_said_at_once(clone: Path) -> None:
    (clone / "off.yaml").write_text("offline: true\nediting: { zsre_records: 2 }\n", "utf-8")
    refused = snakemake(*files_of("paper"), "off.yaml", cwd=clone)
    assert refused.returncode != 0
    text = refused.stdout + refused.stderr
    names = re.findall(r"^  (?:data|model) (\S+): ", text, flags=re.MULTILINE)
    rome = ["known_1000.json", "counterfact.json", "attribute_snippets.json", "idf.npy", "tfidf_vocab.json"]
    expected = {f"rome/{name}" for name in (*rome, "zsre_mend_eval.json")}
    assert {name for name in names if name.startswith("rome/")} == expected
    assert {"gpt2-medium", "gpt2-large", "gpt2-xl", "tinyllama-1.1b-3t"} <= set(names)
    assert sum(name.startswith("lre/") for name in names) == 27
    assert not (clone / "results-paper/models").exists()


def test_a_data_set_is_kept_under_its_own_ending(clone: Path) -> None:
    for file in ("knowledge_circuits/factual/graph.gv", "lre/factual/country_language.json"):
        done = snakemake("-n", "--", f"results/data/{file}", cwd=clone)
        assert planned(done) == {"fetch_dataset"}
    refused = snakemake("-n", "--", "results/data/knowledge_circuits/factual/graph.gv.json", cwd=clone)
    assert refused.returncode != 0


def test_gradients_are_measured_where_the_study_asks_for_them_alone(clone: Path) -> None:
    own = {"measure_saliency", "gather_saliency", "plot_saliency_facts", "tabulate_saliency"}
    plain, more = (
        planned(snakemake("-n", "--configfile", *files, cwd=clone))
        for files in (["config/test.yaml"], changed(clone, "tracing: { saliency: corrupted }"))
    )
    assert more - plain == own
    assert plain <= more


def test_edits_one_after_the_other_are_made_where_the_study_asks_for_them_alone(clone: Path) -> None:
    own = {"choose_text", "edit_in_sequence", "plot_sequential_editing", "tabulate_sequential_edits"}
    more, plain = (
        planned(snakemake("-n", "--configfile", *files, cwd=clone))
        for files in (["config/test.yaml"], changed(clone, "editing: { sequential: null }"))
    )
    assert more - plain == own
    assert plain <= more


def test_one_editor_more_runs_itself_alone_in_the_sequence(finished: Path) -> None:
    files = changed(finished, "editing: { sequential: { editors: [rome, ft-l] } }")
    done = snakemake("-n", "--configfile", *files, cwd=finished)
    rules = planned(done)
    assert {"edit_in_sequence", "tabulate_sequential_edits", "plot_sequential_editing"} <= rules
    assert not {"choose_text", "build_records", "edit_facts"} & rules
    made = re.findall(r"edits/sequential/(\S+)\.csv\n", "".join(re.findall(r"output: .*\n", done.stdout + done.stderr)))
    assert made == ["ft-l"]


def test_data_sets_about_what_follows_from_edits_are_fetched_where_they_are_named_alone(clone: Path) -> None:
    named = changed(clone, "editing: { portability: { datasets: [mquake-t, ripple-recent], reversed: 0 } }")
    plain, more = (snakemake("-n", "--configfile", *files, cwd=clone) for files in (["config/test.yaml"], named))
    assert not {"ask_benchmark", "fetch_dataset"} & planned(plain)
    assert {"ask_benchmark", "fetch_dataset"} <= planned(more)
    assert "ask_reverse_after_edits" in planned(plain) - planned(more)
    files = set(re.findall(r"results-test/data/(\S+)\.json", more.stdout + more.stderr))
    assert files == {"mquake/t", "ripple_edits/recent"}


@pytest.mark.parametrize(("noise_from", "expected"), [("prompts", False), ("subjects", True)])
def test_who_was_left_out_is_read_where_all_subjects_set_the_noise(
    clone: Path, noise_from: str, *, expected: bool
) -> None:
    text = f"tracing: {{ source: known_1000, noise_from: {noise_from} }}\n"
    (clone / "known.yaml").write_text(text, "utf-8")
    target = "results/smollm2-135m/traces/parts/0.parquet"
    done = snakemake("-n", "--configfile", "known.yaml", "--", target, cwd=clone)
    assert "trace_facts" in planned(done)
    job = re.search(r"rule trace_facts:\n +input: (.*)", done.stdout + done.stderr)
    assert job is not None
    assert ("traces/left_out.csv" in job[1]) is expected


def gpus_asked(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """How many GPUs each planned rule asks for; rules that never ask are missing."""
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = re.findall(r"^(?:local)?rule (\w+):\n((?: .*\n)*)", done.stdout + done.stderr, flags=re.MULTILINE)
    queried = {name: re.search(r"\bgpu=(\d+)", body) for name, body in jobs}
    return {name: int(found[1]) for name, found in queried.items() if found}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), 0),  # a machine without a GPU: jobs run side by side
        (("--config", "device=cuda"), 1),
        (("--config", "device=cuda:1"), 1),
        (("--config", "device=cpu"), 0),
        (("--workflow-profile", "profiles/gpu"), 1),
        (("--workflow-profile", "profiles/slurm"), 1),  # from a login node without a GPU
        (("--workflow-profile", "profiles/slurm", "--config", "device=cpu"), 0),
    ],
)
def test_jobs_with_a_model_ask_for_a_gpu_where_one_is_used(
    clone: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], expected: int
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    queried = gpus_asked(snakemake("-n", *arguments, cwd=clone))
    assert {"find_known_facts", "trace_facts", "discover_circuits", "build_records", "edit_facts"} <= set(queried)
    assert not {"fetch_model", "build_report", "tabulate_claims"} & set(queried)
    assert set(queried.values()) == {expected}


def test_every_job_takes_one_thread(clone: Path) -> None:
    done = snakemake("-n", cwd=clone)
    assert done.returncode == 0
    assert "threads: " not in done.stdout + done.stderr  # Snakemake names numbers above one alone


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("sed=1", "unknown key 'sed', did you mean 'seed'?"),
        ("models=[gpt2-mediun]", "'gpt2-mediun' is not in models.tsv, did you mean 'gpt2-medium'?"),
        ("seed=-1", "seed: -1 should be greater than or equal to 0"),
        ("mirror=no/such/folder", "mirror: folder 'no/such/folder' does not exist"),
        ("device=gpu", "device: 'gpu' should match pattern"),
        ("relations={names: [country_capitl]}", "unknown relation 'country_capitl', did you mean 'country_capital'?"),
        ("moments={corpus: no.txt}", "moments.corpus: file 'no.txt' does not exist"),
        ("editing={editors: [romme]}", "editing.editors.0: 'romme' is none of rome, rome-easyedit, r-rome"),
    ],
)
def test_a_wrong_configuration_is_refused_before_anything_runs(clone: Path, change: str, expected: str) -> None:
    done = snakemake("--config", change, cwd=clone)
    text = done.stdout + done.stderr
    assert done.returncode != 0
    assert expected in text
    assert len(text.splitlines()) <= 40
    assert not (clone / "results").exists()


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (
            lambda text: text.replace("\tgrouped\t", "\tgruped\t", 1),
            "row of 'smollm2-135m': kv: 'gruped' is none of grouped, per_head, did you mean 'grouped'?",
        ),
        (lambda text: text.replace("\t30\t", "\tthirty\t", 1), "n_layers: 'thirty' should be a valid integer"),
        (lambda text: text.replace("\tkv\t", "\t", 1), "missing or unknown: kv"),
    ],
)
def test_a_damaged_table_of_models_is_named(clone: Path, damage: object, expected: str) -> None:
    path = clone / "config/models.tsv"
    path.write_text(damage(path.read_text("utf-8")), "utf-8")  # type: ignore[operator]
    done = snakemake("-n", cwd=clone)
    assert done.returncode != 0
    assert expected in done.stdout + done.stderr


def test_a_changed_setting_of_an_editor_in_the_table_runs_its_edits_again(finished: Path) -> None:
    path = finished / "config/editors.tsv"
    text = path.read_text("utf-8")
    path.write_text(text.replace("\tft-l\tbound\t0.01", "\tft-l\tbound\t0.02", 1), "utf-8")
    done = snakemake("-n", "--configfile", "config/test.yaml", cwd=finished)
    assert planned(done) >= {"edit_facts", "sample_edited_text"}
    assert set(re.findall(r"wildcards: .*editor=([^,\s]+)", done.stdout + done.stderr)) == {"ft-l"}


def test_a_model_in_the_table_of_editors_must_be_one(clone: Path) -> None:
    path = clone / "config/editors.tsv"
    path.write_text(path.read_text("utf-8").replace("smollm2-135m\trome", "smollm2-153m\trome", 1), "utf-8")
    done = snakemake("-n", cwd=clone)
    assert done.returncode != 0
    assert "'smollm2-153m' is not in models.tsv, did you mean 'smollm2-135m'?" in done.stdout + done.stderr


def test_another_model_of_another_family_runs_nothing_of_the_first_again(finished: Path) -> None:
    more = changed(finished, "models: [smollm2-135m, gpt2-medium]")
    done = snakemake("-n", "--configfile", *more, cwd=finished)
    models = re.findall(r"wildcards: model=([^,\s]+)", done.stdout + done.stderr)
    assert set(models) == {"gpt2-medium"}


def add_twin(folder: Path, path: str, entry: str, twin: str) -> None:
    """Add an entry like another to a registry."""
    file = folder / "workflow_scripts/knowcirc" / path
    text = file.read_text("utf-8")
    (line,) = (line for line in text.splitlines() if entry in line)
    file.write_text(text.replace(line, f"{line}\n{line.replace(entry, twin)}"), "utf-8")


def test_a_new_method_of_circuits_searches_nothing_again(finished: Path) -> None:
    add_twin(finished, "circuits/methods.py", 'Method("eap",', 'Method("eap-2",')
    rules = planned(snakemake("-n", "--configfile", "config/test.yaml", cwd=finished))
    assert not [
        name for name in rules if not name.startswith(("plot_", "tabulate_", "collect_", "build_report", "check_"))
    ]
    assert "plot_faithfulness_curves" in rules  # its look may have changed
    more = changed(finished, "comparison: { methods: [relp, eap-2, eap-ig-zero, ugs, eap-ig+acdc] }")
    done = snakemake("-n", "--configfile", *more, cwd=finished)
    assert {"discover_circuits", "compare_methods", "plot_faithfulness_curves"} <= planned(done)
    assert set(re.findall(r"wildcards: .*method=([^,\s]+), relation", done.stdout + done.stderr)) == {"eap-2"}


def test_a_new_editor_joins_the_study_and_runs_no_other_again(finished: Path) -> None:
    add_twin(finished, "editing/editors.py", 'Editor("ft-m",', 'Editor("ft-2",')
    editors = yaml.safe_load((finished / "config/test.yaml").read_text("utf-8"))["editing"]["editors"]
    named = changed(finished, f"editing: {{ editors: [{', '.join([*editors, 'ft-2'])}] }}")
    done = snakemake("-n", "--configfile", *named, cwd=finished)
    assert {"edit_facts", "sample_edited_text", "tabulate_editing_scores"} <= planned(done)
    assert not planned(done) & {"sweep_edits", "follow_edits", "compare_edited_circuits", "discover_circuits"}
    assert set(re.findall(r"wildcards: .*editor=([^,\s]+)", done.stdout + done.stderr)) == {"ft-2"}


def test_a_model_without_a_known_layer_is_edited_where_the_sweep_is_best(clone: Path) -> None:
    target = ["-n", "--", "results/smollm2-135m/edits/rome.csv"]
    assert "sweep_edits" not in planned(snakemake(*target, cwd=clone))
    path = clone / "config/editors.tsv"
    lines = path.read_text("utf-8").splitlines()
    kept = [line for line in lines if line.split("\t")[:3] != ["smollm2-135m", "rome", "layer"]]
    assert len(kept) == len(lines) - 1
    path.write_text("\n".join(kept) + "\n", "utf-8")
    assert "sweep_edits" in planned(snakemake(*target, cwd=clone))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tracing: { draws: 0 }", "tracing.draws: 0 should be greater than or equal to 1"),
        ("tracing: { source: known }", "tracing.source: 'known' is none of builtin, known_1000"),
        ("editing: { ft-m: { learning_rate: 5e-4 } }", "editing.ft-m.learning_rate: '5e-4' should be a valid number"),
        ("showcase: { template: no place }", "showcase.template: 'no place' must hold {} once"),
        (
            "icl: { relations: [name_religion, country_language] }",
            "icl.relations: 'name_religion' is not in relations.names",
        ),
    ],
)
def test_a_wrong_value_in_a_further_file_is_refused(clone: Path, text: str, expected: str) -> None:
    done = snakemake("-n", "--configfile", *changed(clone, text), cwd=clone)
    assert done.returncode != 0
    assert expected in done.stdout + done.stderr


def test_a_finished_study_has_nothing_to_do(finished: Path) -> None:
    assert planned(snakemake("-n", "--configfile", "config/test.yaml", cwd=finished)) == set()


def test_where_data_come_from_and_the_device_rerun_nothing(finished: Path) -> None:
    (finished / "mirror").mkdir()
    more = changed(finished, "mirror: mirror\noffline: true\ndevice: cpu")
    assert planned(snakemake("-n", "--configfile", *more, cwd=finished)) == set()


def test_a_changed_edit_setting_reruns_the_edits_and_what_follows(finished: Path) -> None:
    rules = planned(snakemake("-n", "--configfile", *changed(finished, FASTER), cwd=finished))
    assert {"edit_facts", "sample_edited_text", "compare_edited_circuits", "tabulate_editing_scores"} <= rules
    untouched = {"fetch_model", "find_known_facts", "trace_facts", "discover_circuits", "evaluate_circuits"}
    assert not rules & (untouched | {"estimate_moments", "build_records", "study_in_context"})


def test_only_the_editor_whose_setting_changed_is_run_again(finished: Path) -> None:
    done = snakemake("-n", "--configfile", *changed(finished, FASTER), cwd=finished)
    editors = re.findall(r"wildcards: .*editor=([^,\s]+)", done.stdout + done.stderr)
    assert set(editors) == {"ft-m"}


def test_another_pooling_of_tokens_traces_nothing_anew(finished: Path) -> None:
    more = changed(finished, "tracing: { pooling: tokens }")
    rules = planned(snakemake("-n", "--configfile", *more, cwd=finished))
    assert {"tabulate_causal_effects", "plot_causal_trace"} <= rules
    assert "trace_facts" not in rules


MORE = """relations:
  names: [adjective_antonym, word_sentiment, country_language, city_country, name_gender, name_religion]
"""
AGGREGATES = {
    *("gather_facts", "gather_circuits", "gather_scores", "gather_heads", "gather_ranks", "count_components"),
    *("study_hallucination", "read_wrong_answers", "compare_hops", "compare_both_ways"),
    *("ask_after_edits", "ask_reverse_after_edits", "gather_portability"),  # ask about a subject in every relation
    *("collect_findings", "write_manifest", "build_report", "explore", "check_artifacts", "all"),
}


def test_one_relation_more_runs_its_own_jobs_and_what_aggregates(finished: Path) -> None:
    done = snakemake("-n", "--configfile", *changed(finished, MORE), cwd=finished)
    rules = planned(done)
    jobs = re.findall(r"rule (\w+):\n(?: .*\n)*? +wildcards: .*relation=([^,\s]+)", done.stdout + done.stderr)
    assert {relation for rule, relation in jobs if rule not in AGGREGATES} == {"name_religion"}
    own = {"find_known_facts", "discover_circuits", "evaluate_circuits", "name_heads", "rank_answers"}
    drawn = {name for name in rules if name.startswith(("plot_", "tabulate_"))}
    assert own <= rules
    assert rules - own - drawn <= AGGREGATES


def test_a_comment_or_docstring_in_the_library_reruns_nothing(finished: Path) -> None:
    path = finished / "workflow_scripts/knowcirc/tracing/causal.py"
    text = path.read_text("utf-8").replace('"""Causal tracing', '"""Tracing of causes', 1)
    path.write_text(f"{text}\n# a remark\n", "utf-8")
    assert planned(snakemake("-n", "--configfile", "config/test.yaml", cwd=finished)) == set()


def test_a_changed_library_module_reruns_the_rules_that_use_it_and_no_others(finished: Path) -> None:
    path = finished / "workflow_scripts/knowcirc/tracing/causal.py"
    path.write_text(f"{path.read_text('utf-8')}\nX = 1\n", "utf-8")
    rules = planned(snakemake("-n", "--configfile", "config/test.yaml", cwd=finished))
    assert "trace_facts" in rules
    assert not rules & {"fetch_model", "find_known_facts", "discover_circuits", "edit_facts", "study_in_context"}


def test_a_changed_drawing_redraws_its_figure_alone(finished: Path) -> None:
    path = finished / "workflow_scripts/knowcirc/plots/sweep.py"
    path.write_text(f"{path.read_text('utf-8')}\nX = 1\n", "utf-8")
    rules = planned(snakemake("-n", "--configfile", "config/test.yaml", cwd=finished))
    # the findings read the data that the figure's rule writes
    assert rules == {"plot_editing_sweep", "collect_findings", "build_report", "check_artifacts"}
