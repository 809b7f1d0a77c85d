"""The configuration's checks: the shipped ones pass, and each mistake is one line that says where and what."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config

from knowcirc.circuits.methods import METHODS
from knowcirc.configuration import checks
from knowcirc.configuration.checks import read_study, reference_errors, setting_errors, uses_gpu
from knowcirc.configuration.reference import reference
from knowcirc.configuration.study import Study, default
from knowcirc.models.table import read_models

FOLDER = Path(__file__).parents[2] / "config"
MODELS = {name: row.n_layers for name, row in read_models(FOLDER / "models.tsv").items()}
BELOW = {"paper": ["lre"], "paper-small": ["lre", "paper"]}
"""The files that a file is laid over, besides config.yaml."""
RELATIONS = {path.stem for path in (FOLDER / "facts").glob("*.yaml")}
Change = Callable[[dict[str, Any]], object]


def shipped() -> dict[str, Any]:
    return dict(yaml.safe_load((FOLDER / "config.yaml").read_text("utf-8")))


def wrong_names(config: dict[str, Any]) -> list[str]:
    return reference_errors(Study.model_validate(config), MODELS, RELATIONS)


def changed(config: dict[str, Any], change: Change) -> dict[str, Any]:
    copied = copy.deepcopy(config)
    change(copied)
    return copied


def test_the_shipped_configuration_has_no_errors(config: dict[str, Any]) -> None:
    assert setting_errors(config) == []
    assert wrong_names(config) == []
    assert setting_errors(shipped()) == []
    assert read_study(shipped(), FOLDER.parent, MODELS, []) == config


@pytest.mark.parametrize("method", [method for method in METHODS if method.startswith("eap")])
def test_a_study_may_use_every_method_of_attribution(config: dict[str, Any], method: str) -> None:
    first = [] if method == "eap-ig+acdc" else [method]  # the first method is every analysis's, and searches nothing
    config["circuits"]["methods"] = [*first, *(one for one in ("eap", "eap-ig+acdc") if one not in first)]
    config["editing"]["circuits"]["method"] = method
    config["showcase"]["method"] = "acdc" if method == "eap-ig+acdc" else method
    assert setting_errors(config) == []


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda c: c["tracing"].update(drawz=3), "tracing: unknown key 'drawz', did you mean 'draws'?"),
        (
            lambda c: c["tracing"].update(distribution="gausian"),
            "tracing.distribution: 'gausian' is none of gaussian, uniform, multivariate, did you mean 'gaussian'?",
        ),
        (lambda c: c["tracing"].update(extra=-1), "tracing.extra: -1 should be greater than or equal to 0"),
        (
            lambda c: c["tracing"].update(noise_from="subject"),
            "tracing.noise_from: 'subject' is none of prompts, subjects, did you mean 'subjects'?",
        ),
        (
            lambda c: c["tracing"].update(pooling="token"),
            "tracing.pooling: 'token' is none of facts, tokens, did you mean 'tokens'?",
        ),
        (
            lambda c: c["tracing"].update(saliency="corupted"),
            "tracing.saliency: 'corupted' is none of zero, corrupted, did you mean 'corrupted'?",
        ),
        (lambda c: c["tracing"].update(saliency=True), "tracing.saliency: True is none of zero, corrupted"),
        (
            lambda c: c["tracing"].update(saliency_steps=0),
            "tracing.saliency_steps: 0 should be greater than or equal to 1",
        ),
        (lambda c: c.update(modles=[]), "unknown key 'modles', did you mean 'models'?"),
        (lambda c: c["facts"].update(xyz=1), "facts: unknown key 'xyz' (known: hits, known, d_val, d_test)"),
        (lambda c: c["facts"].update(d_val="ten"), "facts.d_val: 'ten' should be a valid integer"),
        (lambda c: c["facts"].update(d_val=True), "facts.d_val: True should be a valid integer"),
        (lambda c: c["facts"].update(hits=0), "facts.hits: 0 should be greater than or equal to 1"),
        (lambda c: c["circuits"].update(share=5), "circuits.share: 5 should be less than or equal to 1"),
        (lambda c: c["editing"]["editors"].append("magic"), None),
        (lambda c: c.pop("icl"), "'icl' is missing"),
        (lambda c: c["editing"].pop("relations"), "editing: 'relations' is missing"),
        (lambda c: c["editing"]["ft-m"].update(bound=1), None),
        (lambda c: c["editing"]["ft-l"].update(bound=-1), "editing.ft-l.bound: -1 should be greater than 0"),
        (lambda c: c["circuits"].update(single="epa-ig"), None),
        (lambda c: c["circuits"]["acdc"].update(metric="logit-diff"), None),
        (
            lambda c: c["tracing"]["relations"].append("city_country"),
            "tracing.relations: 'city_country' stands twice; keep one",
        ),
        (lambda c: c["relations"].update(names=None), "relations.names: None should be a valid list"),
        (lambda c: c["generations"]["edits"][0].update(kind=1), None),
    ],
)
def test_a_departure_from_the_schema_is_one_line_with_its_place(
    config: dict[str, Any], change: Change, line: str | None
) -> None:
    lines = setting_errors(changed(config, change))
    assert len(lines) == 1
    if line is not None:
        assert lines == [line]


def test_places_inside_lists_are_numbered(config: dict[str, Any]) -> None:
    def change(c: dict[str, Any]) -> None:
        c["editing"]["editors"] = ["rome", "magic"]
        c["generations"]["edits"][0]["subjct"] = "x"

    lines = setting_errors(changed(config, change))
    assert lines[0].startswith("editing.editors.1: 'magic' is none of rome, rome-easyedit,")
    assert lines[1] == "generations.edits.0: unknown key 'subjct', did you mean 'subject'?"


def test_every_mistake_has_its_line(config: dict[str, Any]) -> None:
    def change(c: dict[str, Any]) -> None:
        c["tracing"] |= {"drawz": 1, "aaa": 2, "window": "wide"}
        del c["icl"]

    assert len(setting_errors(changed(config, change))) == 4


@pytest.mark.parametrize("section", ["tracing", "comparison", "editing", "icl"])
def test_a_section_may_only_use_relations_of_the_study(config: dict[str, Any], section: str) -> None:
    lines = wrong_names(changed(config, lambda c: c[section]["relations"].append("country_capitol")))
    expected = f"{section}.relations: 'country_capitol' is not in relations.names, did you mean 'country_capital'?"
    assert lines == [expected]


def test_a_relation_without_a_file_is_named_once(config: dict[str, Any]) -> None:
    lines = wrong_names(changed(config, lambda c: c["relations"]["names"].append("country_langauge")))
    assert lines == ["relations.names: unknown relation 'country_langauge', did you mean 'country_language'?"]


def test_a_relation_taken_out_of_the_study_is_missed_where_it_is_used(config: dict[str, Any]) -> None:
    used = config["showcase"]["relation"]
    lines = wrong_names(changed(config, lambda c: c["relations"]["names"].remove(used)))
    assert f"showcase.relation: {used!r} is not in relations.names" in lines
    places = {line.split(":")[0] for line in lines}
    assert places == {"showcase.relation", "hops.compositions"} | {
        f"{section}.relations"
        for section in ("tracing", "comparison", "stability", "editing", "icl")
        if used in config[section]["relations"]
    }


def test_an_unknown_model_is_named_with_those_there_are(config: dict[str, Any]) -> None:
    lines = wrong_names({**config, "models": ["smollm2-153m", "??"]})
    assert lines[0] == "models: 'smollm2-153m' is not in models.tsv, did you mean 'smollm2-135m'?"
    assert lines[1].startswith("models: '??' is not in models.tsv (known: ")


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ({"gpt2-medium": [0, 23]}, []),
        ({"gpt2-mediun": [0]}, ["'gpt2-mediun' is not in models.tsv, did you mean 'gpt2-medium'?"]),
        ({"gpt2-medium": [0, 24]}, ["layer 24 does not exist; the model has layers 0 to 23"]),
        ({"gpt2-medium": []}, ["should have at least 1 item"]),
        ({"gpt2-medium": [6, 6]}, ["6 stands twice; keep one"]),
        ({"gpt2-medium": [-1]}, ["-1 should be greater than or equal to 0"]),
    ],
)
def test_the_layers_at_which_a_models_edits_are_followed_must_exist(
    config: dict[str, Any], layers: dict[str, list[int]], expected: list[str]
) -> None:
    config["editing"]["circuits"]["layers"] = layers
    lines = setting_errors(config) or wrong_names(config)
    assert len(lines) == len(expected)
    assert all(line.startswith("editing.circuits.layers") for line in lines)
    assert all(part in line for part, line in zip(expected, lines, strict=True))


def test_a_mirror_and_a_corpus_must_exist(config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("words", "utf-8")

    def change(mirror: Path, corpus: Path) -> list[str]:
        moments = {**config["moments"], "corpus": str(corpus)}
        return wrong_names({**config, "mirror": str(mirror), "moments": moments})

    assert change(tmp_path, tmp_path / "text.txt") == []
    lines = change(tmp_path / "nowhere", tmp_path / "none.txt")
    assert lines == [
        f"mirror: folder '{tmp_path}/nowhere' does not exist; correct the path or set it to null",
        f"moments.corpus: file '{tmp_path}/none.txt' does not exist; correct the path or set it to null",
    ]
    assert len(change(tmp_path / "text.txt", tmp_path)) == 2  # a file is no folder, and a folder no file


@pytest.mark.parametrize(
    ("device", "nodes", "visible", "listed", "expected"),
    [
        ("cuda", (), None, None, True),  # a login node without a GPU
        ("cuda:1", (), "", None, True),
        ("cpu", ("nvidia0",), None, "GPU 0: a card", False),
        ("auto", (), None, None, False),
        ("auto", ("nvidiactl", "nvidia-uvm"), None, None, False),  # the driver alone
        ("auto", ("nvidia0", "nvidiactl"), None, None, True),
        ("auto", ("nvidia0",), "0", None, True),
        ("auto", ("nvidia0",), "", None, False),
        ("auto", ("nvidia0",), "-1", None, False),
        ("auto", (), None, "GPU 0: a card (UUID: GPU-1)", True),  # no device files, as under WSL
        ("auto", (), None, "No devices found.", False),
    ],
)
def test_a_gpu_is_used_where_it_is_asked_for_or_shown(
    device: str,
    nodes: tuple[str, ...],
    visible: str | None,
    listed: str | None,
    expected: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uses_gpu.cache_clear()
    monkeypatch.setattr(checks, "DEVICES", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    for name in nodes:
        (tmp_path / name).touch()
    if listed is not None:
        tool = tmp_path / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\necho '{listed}'\n", "utf-8")
        tool.chmod(0o755)
    assert uses_gpu(device) is expected
    uses_gpu.cache_clear()


def test_settings_that_are_left_out_have_their_defaults() -> None:
    study = read_study(shipped(), FOLDER.parent, MODELS, [])
    assert study["circuits"]["share"] == default("circuits/share") == 0.1
    assert study["editing"]["ft-l"]["bound"] is None  # the model's
    with pytest.raises(ValueError, match="relations/names has no default"):
        default("relations/names")


@pytest.mark.parametrize(
    ("given", "tau"), [({}, 0.05), ({"metric": "kc-nll"}, 0.01), ({"metric": "kl", "tau": 2}, 2.0)]
)
def test_the_threshold_of_acdc_goes_with_its_metric(given: dict[str, Any], tau: float) -> None:
    assert Study.model_validate(shipped() | {"circuits": {"acdc": given}}).circuits.acdc.tau == tau


def test_an_unknown_metric_is_told_as_such() -> None:
    lines = setting_errors(shipped() | {"circuits": {"acdc": {"metric": "kx"}}})
    assert lines == ["circuits.acdc.metric: 'kx' is none of nll, kc-nll, kl, nll+kl"]


def test_a_metric_without_a_usual_threshold_needs_one() -> None:
    lines = setting_errors(shipped() | {"circuits": {"acdc": {"metric": "kl"}}})
    assert lines == ["circuits.acdc: metric kl without tau; say what an edge must cost to stay"]


def test_a_wrong_name_among_choices_is_told_what_may_have_been_meant(config: dict[str, Any]) -> None:
    lines = setting_errors(changed(config, lambda c: c["circuits"].update(single="epa-ig")))
    assert len(lines) == 1
    assert lines[0].endswith(", did you mean 'eap-ig'?")
    lines = setting_errors(changed(config, lambda c: c["icl"].update(order="revers")))
    assert lines == ["icl.order: 'revers' is none of drawn, reversed, did you mean 'reversed'?"]


def test_the_reference_of_settings_is_up_to_date() -> None:
    assert (FOLDER / "README.md").read_text("utf-8") == reference()  # python -m knowcirc.configuration


def test_a_study_is_checked_whole(config: dict[str, Any]) -> None:
    wrong = changed(config, lambda c: c["facts"].update(hits=0, xyz=1))
    with pytest.raises(ValueError, match=r"(?s)the configuration is not right:\n  facts\.hits.*\n  facts: unknown key"):
        read_study(wrong, FOLDER.parent, MODELS, [])


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_study_is_right(path: Path) -> None:
    rows = [line.split("\t")[0] for line in (FOLDER / "datasets.tsv").read_text("utf-8").splitlines()]
    merged: dict[str, Any] = shipped()
    below = [FOLDER / f"{name}.yaml" for name in BELOW.get(path.stem, ())]
    for each in (*below, path):
        update_config(merged, yaml.safe_load(each.read_text("utf-8")))
    read_study(merged, FOLDER.parent, MODELS, [row for row in rows if "/" in row])
