"""The configuration's checks: the shipped ones pass, and each mistake is one line that says where and what."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from knowcirc import configuration
from knowcirc.circuits.methods import METHODS
from knowcirc.configuration import reference_errors, schema_errors, uses_gpu
from knowcirc.models.table import read_models

FOLDER = Path(__file__).parents[2] / "config"
SCHEMA = FOLDER / "schema.yaml"
MODELS = read_models(FOLDER / "models.tsv")
RELATIONS = {path.stem for path in (FOLDER / "facts").glob("*.yaml")}
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def config() -> dict[str, Any]:
    return dict(yaml.safe_load((FOLDER / "config.yaml").read_text("utf-8")))


def changed(config: dict[str, Any], change: Change) -> dict[str, Any]:
    copied = copy.deepcopy(config)
    change(copied)
    return copied


def test_the_shipped_configuration_has_no_errors(config: dict[str, Any]) -> None:
    assert schema_errors(config, SCHEMA) == []
    assert reference_errors(config, MODELS, RELATIONS) == []


@pytest.mark.parametrize("method", [method for method in METHODS if method.startswith("eap")])
def test_a_study_may_use_every_method_of_attribution(config: dict[str, Any], method: str) -> None:
    first = [] if method == "eap-ig+acdc" else [method]  # the first method is every analysis's, and searches nothing
    config["circuits"]["methods"] = [*first, *(one for one in ("eap", "eap-ig+acdc") if one not in first)]
    config["editing"]["circuits"]["method"] = method
    config["showcase"]["method"] = "acdc" if method == "eap-ig+acdc" else method
    assert schema_errors(config, SCHEMA) == []


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda c: c["tracing"].update(drawz=3), "tracing: unknown key 'drawz', did you mean 'draws'?"),
        (lambda c: c.update(modles=[]), "config: unknown key 'modles', did you mean 'models'?"),
        (lambda c: c["facts"].update(xyz=1), "facts: unknown key 'xyz' (known: hits, d_val, d_test)"),
        (lambda c: c["facts"].update(d_val="ten"), "facts.d_val: 'ten' is not of type 'integer'"),
        (lambda c: c["facts"].update(d_val=True), "facts.d_val: True is not of type 'integer'"),
        (lambda c: c["facts"].update(hits=0), "facts.hits: 0 is less than the minimum of 1"),
        (lambda c: c["circuits"].update(share=5), "circuits.share: 5 is greater than the maximum of 1"),
        (lambda c: c["editing"]["editors"].append("magic"), None),
        (lambda c: c.pop("seed"), "config: 'seed' is a required property"),
        (lambda c: c["editing"]["ft-m"].pop("steps"), "editing.ft-m: 'steps' is a required property"),
        (lambda c: c["relations"].update(names=None), "relations.names: None is not of type 'array'"),
        (lambda c: c["generations"]["edits"][0].update(kind=1), None),
    ],
)
def test_a_departure_from_the_schema_is_one_line_with_its_place(
    config: dict[str, Any], change: Change, line: str | None
) -> None:
    lines = schema_errors(changed(config, change), SCHEMA)
    assert len(lines) == 1
    if line is not None:
        assert lines == [line]


def test_places_inside_lists_are_numbered(config: dict[str, Any]) -> None:
    def change(c: dict[str, Any]) -> None:
        c["editing"]["editors"] = ["rome", "magic"]
        c["generations"]["edits"][0]["subjct"] = "x"

    lines = schema_errors(changed(config, change), SCHEMA)
    assert lines[0].startswith("editing.editors.1: 'magic' is not one of")
    assert lines[1] == "generations.edits.0: unknown key 'subjct', did you mean 'subject'?"


def test_every_mistake_has_its_line(config: dict[str, Any]) -> None:
    def change(c: dict[str, Any]) -> None:
        c["tracing"] |= {"drawz": 1, "aaa": 2, "window": "wide"}
        del c["seed"]

    assert len(schema_errors(changed(config, change), SCHEMA)) == 4


@pytest.mark.parametrize("section", ["tracing", "comparison", "editing", "icl"])
def test_a_section_may_only_use_relations_of_the_study(config: dict[str, Any], section: str) -> None:
    lines = reference_errors(
        changed(config, lambda c: c[section]["relations"].append("country_capitol")), MODELS, RELATIONS
    )
    expected = f"{section}.relations: 'country_capitol' is not in relations.names, did you mean 'country_capital'?"
    assert lines == [expected]


def test_a_relation_without_a_file_is_named_once(config: dict[str, Any]) -> None:
    lines = reference_errors(
        changed(config, lambda c: c["relations"]["names"].append("country_langauge")), MODELS, RELATIONS
    )
    assert lines == ["relations.names: unknown relation 'country_langauge', did you mean 'country_language'?"]


def test_a_relation_taken_out_of_the_study_is_missed_where_it_is_used(config: dict[str, Any]) -> None:
    used = config["showcase"]["relation"]
    lines = reference_errors(changed(config, lambda c: c["relations"]["names"].remove(used)), MODELS, RELATIONS)
    assert f"showcase.relation: {used!r} is not in relations.names" in lines
    places = {line.split(":")[0] for line in lines}
    assert places == {"showcase.relation", "hops.compositions"} | {
        f"{section}.relations"
        for section in ("tracing", "comparison", "editing", "icl")
        if used in config[section]["relations"]
    }


def test_an_unknown_model_is_named_with_those_there_are(config: dict[str, Any]) -> None:
    lines = reference_errors({**config, "models": ["smollm2-153m", "??"]}, MODELS, RELATIONS)
    assert lines[0] == "models: 'smollm2-153m' is not in models.tsv, did you mean 'smollm2-135m'?"
    assert lines[1].startswith("models: '??' is not in models.tsv (known: ")


def test_a_mirror_and_a_corpus_must_exist(config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("words", "utf-8")

    def change(mirror: Path, corpus: Path) -> list[str]:
        moments = {**config["moments"], "corpus": str(corpus)}
        return reference_errors({**config, "mirror": str(mirror), "moments": moments}, MODELS, RELATIONS)

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
    monkeypatch.setattr(configuration, "DEVICES", tmp_path)
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
