"""Edits: undone to the last bit, rank one for ROME, one matrix alone, and what the editors promise of it."""

import contextlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor

from knowcirc.editing import fine_tuning, memit, rome
from knowcirc.editing.editors import EDITORS, OfModel, read_editors, settings_of
from knowcirc.editing.edits import Edit, Material, Matrix, Request, applied, check_layer, request
from knowcirc.editing.making import default_layer, make_edit, make_edits
from knowcirc.editing.moments import Moment
from knowcirc.editing.scoring import placed
from knowcirc.editing.settings import FineTuneSettings, MemitSettings, Part, RomeSettings, Token
from knowcirc.editing.values import TOKENS, _contexts, keys_of, position_of, state_of
from knowcirc.fields import Section
from knowcirc.models.loading import LanguageModel, load
from knowcirc.models.table import read_models
from unit import reference
from unit.tiny import SPECIAL, network_of, word_tokenizer, words

pytestmark = pytest.mark.many(3, one_in=4)

Loader = Callable[..., LanguageModel]
CONFIG = Path(__file__).parents[2] / "config"
LAYER = 1
ROME = RomeSettings(
    layer=LAYER, steps=30, learning_rate=0.3, weight_decay=1e-3, kl_factor=0.0625, clamp=4.0, stop_loss=0.05
)
FT = FineTuneSettings(layer=LAYER, steps=30, learning_rate=5e-3, stop_loss=0.01, loss="target")
VALUE = {"steps": 30, "learning_rate": 0.3, "weight_decay": 1e-3, "kl_factor": 0.0625, "stop_loss": 0.05}
MEMIT = MemitSettings(**VALUE, clamp=1.0, layer=1, span=2, moment_weight=1.0)
PREFIXES = [(40, 41, 42), (50,), (60, 61, 62, 63, 64)]


def request_for(model: LanguageModel) -> Request:
    return request(model, "the capital of {} is", "New Zealand", "Tok Pisin")


def some_moment(model: LanguageModel, seed: int = 0) -> Moment:
    """A well-conditioned positive matrix that is far from the identity."""
    size = model.transformer.shape.d_mlp
    draw = torch.randn(size, 2 * size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return draw @ draw.T / size


S = TypeVar("S", bound=Section)


def other(settings: S, **values: object) -> S:
    """The same settings but for some."""
    return type(settings).model_validate({**settings.model_dump(), **values})


def snapshot(model: LanguageModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in reference.network(model).state_dict().items()}


def changed(model: LanguageModel, before: dict[str, Tensor]) -> set[str]:
    """Names of the parameters that differ, in any bit, from the snapshot; tied weights by each of their names."""
    return {
        name for name, value in reference.network(model).state_dict().items() if not torch.equal(value, before[name])
    }


def target_nll(model: LanguageModel, ids: tuple[int, ...], target: tuple[int, ...]) -> float:
    """Mean negative log-likelihood of the target's tokens, by the network's own forward pass."""
    logits = reference.logits(reference.network(model), model.batch([ids + target[:-1]]))[0, len(ids) - 1 :]
    return -float(logits.log_softmax(-1)[range(len(target)), list(target)].mean())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_edit_is_in_place_inside_the_block_and_undone_bit_by_bit(name: str, load_tiny: Loader, dtype: str) -> None:
    model = load_tiny(name, dtype=dtype)
    before = snapshot(model)
    weights = {layer: torch.randn_like(model.transformer.blocks[layer].mlp.w_out) for layer in (0, 2)}
    with applied(model, Edit({Matrix(layer): weight for layer, weight in weights.items()}, {})) as edited:
        assert changed(edited, before) == {model.transformer.mlp_out_names[layer] for layer in (0, 2)}
        for layer, weight in weights.items():
            module = reference.mlp_out(reference.layers(reference.network(model))[layer])
            assert torch.equal(reference.rows_out(module), weight)
    assert changed(model, before) == set()


def test_a_matrix_is_named_as_the_parameter_that_holds_it(model: LanguageModel) -> None:
    for layer, name in enumerate(model.transformer.mlp_out_names):
        assert Matrix(layer).name(model) == name
    names = [Matrix(1, part).name(model) for part in ("query", "key", "value")]
    module = reference.layers(reference.network(model))[1]
    fused = [name for name in ("c_attn", "query_key_value") if hasattr(reference.attention(module), name)]
    expected = fused * 3 or ["q_proj", "k_proj", "v_proj"]
    assert [name.split(".")[-2] for name in names] == expected


def test_weights_of_a_folded_model_are_named_as_its_own(load_tiny: Loader) -> None:
    model = load_tiny("gpt2", processing="folded")
    assert Matrix(1).name(model) == "transformer.h.1.mlp.c_proj.weight"
    assert Matrix(1, bias=True).name(model) == "transformer.h.1.mlp.c_proj.bias"
    assert Matrix(1, "query").name(model) == "transformer.h.1.attn.c_attn.weight"
    assert Matrix(1, "value", bias=True).name(model) == "transformer.h.1.attn.c_attn.bias"
    with pytest.raises(ValueError, match="query of layer 1: no parameter"):
        Matrix(1, "query").name(replace(model, own=model.transformer))


def test_an_edit_is_undone_after_an_exception(name: str, load_tiny: Loader) -> None:
    model = load_tiny(name, dtype="float32")
    before = snapshot(model)
    weight = torch.zeros_like(model.transformer.blocks[LAYER].mlp.w_out)
    with pytest.raises(KeyError), applied(model, Edit({Matrix(LAYER): weight}, {})):
        raise KeyError
    assert changed(model, before) == set()


def test_an_edit_of_the_wrong_shape_leaves_nothing_behind(load_tiny: Loader) -> None:
    model = load_tiny("gpt2", dtype="float32")
    before = snapshot(model)
    good = torch.zeros_like(model.transformer.blocks[0].mlp.w_out)
    with contextlib.suppress(RuntimeError), applied(model, Edit({Matrix(0): good, Matrix(1): good.T.contiguous()}, {})):
        pytest.fail("a matrix of the wrong shape was applied")
    assert changed(model, before) == set()


@pytest.mark.parametrize("layer", [-1, 3, 30])
def test_a_layer_that_does_not_exist_is_refused_everywhere(load_tiny: Loader, layer: int) -> None:
    model = load_tiny("llama")
    message = f"layer {layer} does not exist; this model has layers 0 to 2"
    with pytest.raises(ValueError, match=message):
        check_layer(model, layer)
    weight = model.transformer.blocks[0].mlp.w_out
    with pytest.raises(ValueError, match=message), applied(model, Edit({Matrix(layer): weight}, {})):
        pass
    refused = message if layer > 0 else "should be greater than or equal to 0"
    with pytest.raises(ValueError, match=refused):
        rome.edit(model, request_for(model), other(ROME, layer=layer), some_moment(model), [])
    with pytest.raises(ValueError, match=refused):
        fine_tuning.edit(model, request_for(model), other(FT, layer=layer))


def test_a_request_holds_its_prompt_essence_and_all_target_tokens(load_tiny: Loader) -> None:
    model = load_tiny("llama")
    made = request_for(model)
    assert model.text.decode(made.target) == "Tok Pisin"
    assert made.prompt.text == "the capital of New Zealand is"
    assert made.essence is not None
    assert made.essence.text == "New Zealand is a"
    assert made.essence.span == (1, 3)


@pytest.mark.parametrize(
    ("template", "subject", "target", "complaint"),
    [
        ("the capital is", "Peru", "Lima", "must hold {} once"),
        ("{} and {} is", "Peru", "Lima", "must hold {} once"),
        ("{} is", " Peru", "Lima", "subject ' Peru': give it without spaces"),
        ("{} is", "", "Lima", "subject '': give it"),
        ("{} is", "Peru", "", "answer '': give it"),
    ],
)
def test_a_request_that_will_not_do_is_refused(
    load_tiny: Loader, template: str, subject: str, target: str, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        request(load_tiny("llama"), template, subject, target)


@pytest.mark.parametrize("prefixes", [[], PREFIXES], ids=["bare", "prefixed"])
def test_rome_changes_one_matrix_by_rank_one_and_reaches_v_star(
    editable: LanguageModel, prefixes: list[tuple[int, ...]]
) -> None:
    before = snapshot(editable)
    edit = rome.edit(editable, request_for(editable), ROME, some_moment(editable), prefixes)
    assert changed(editable, before) == set()  # making an edit touches nothing
    assert edit.report["value_error"] < 1e-4
    assert set(edit.weights) == {Matrix(LAYER)}
    old = editable.transformer.blocks[LAYER].mlp.w_out
    sizes = torch.linalg.svdvals(edit.weights[Matrix(LAYER)] - old)
    assert sizes[0] > 1e-3
    assert sizes[1] < 1e-10 * sizes[0]
    with applied(editable, edit):
        assert changed(editable, before) == {editable.transformer.mlp_out_names[LAYER]}


def test_rome_in_float32_reaches_v_star_too(name: str, load_tiny: Loader) -> None:
    model = load_tiny(name, dtype="float32")
    edit = rome.edit(model, request_for(model), ROME, some_moment(model).float(), PREFIXES)
    assert edit.weights[Matrix(LAYER)].dtype == torch.float32
    assert edit.report["value_error"] < 1e-4


def keys(model: LanguageModel, ids: tuple[int, ...], layer: int = LAYER) -> Tensor:
    """The inputs of the edited matrix at every position, by a hook."""
    module = reference.mlp_out(reference.layers(reference.network(model))[layer])
    return reference.watch(reference.network(model), model.batch([ids]), out=module)["out"][0][0]


def test_romes_change_points_along_c_inverse_k_star(editable: LanguageModel) -> None:
    made, moment = request_for(editable), some_moment(editable)
    edit = rome.edit(editable, made, ROME, moment, PREFIXES)
    bos, body = made.prompt.ids[:1], made.prompt.ids[1:]
    rows = [keys(editable, bos + prefix + body)[made.prompt.subject_last + len(prefix)] for prefix in [(), *PREFIXES]]
    k_star = torch.stack(rows).mean(0)
    direction = torch.linalg.solve(moment, k_star)
    change = edit.weights[Matrix(LAYER)] - editable.transformer.blocks[LAYER].mlp.w_out
    _, _, right = torch.linalg.svd(change)
    cosine = torch.nn.functional.cosine_similarity(right[0], direction, 0).abs()
    assert float(cosine) == pytest.approx(1.0, abs=1e-10)
    present = editable.transformer.blocks[LAYER].mlp.read_out(rows[0])
    size = float((change @ rows[0]).norm() / present.norm())
    assert size == pytest.approx(edit.report["change"], rel=1e-9)
    assert size <= ROME.clamp * (1 + 1e-9)


@pytest.mark.parametrize("prefixes", [[], PREFIXES], ids=["bare", "prefixed"])
def test_the_loss_that_rome_reports_is_the_edited_networks(
    editable: LanguageModel, prefixes: list[tuple[int, ...]]
) -> None:
    """Where C weighs every other key of the contexts heavily, the edit changes the value at the subject alone."""
    made = request_for(editable)
    bos, body = made.prompt.ids[:1], made.prompt.ids[1:]
    texts = [bos + prefix + body for prefix in [(), *prefixes]]
    size = editable.transformer.shape.d_mlp
    moment = 1e-6 * torch.eye(size, dtype=torch.float64)
    for text, prefix in zip(texts, [(), *prefixes], strict=True):
        at = made.prompt.subject_last + len(prefix)
        for position, key in enumerate(keys(editable, text + made.target[:-1], 0)):
            if position != at:
                moment += torch.outer(key, key)
    at_once, early = other(ROME, layer=0, stop_loss=1e9), other(ROME, layer=0)
    unchanged = rome.edit(editable, made, at_once, moment, prefixes)  # v* is the present value
    expected = sum(target_nll(editable, text, made.target) for text in texts) / len(texts)
    assert unchanged.report["nll"] == pytest.approx(expected, abs=1e-9)
    assert unchanged.report["kl"] == pytest.approx(0.0, abs=1e-9)
    if not prefixes:
        share = 0.8 if editable.transformer.blocks[0].post2 is None else 0.97  # a norm behind holds an edit short
        edit = rome.edit(editable, made, other(early, stop_loss=share * expected), moment, prefixes)
        assert edit.report["steps"] < ROME.steps  # so the last loss is that of the value it returns
        with applied(editable, edit):
            assert target_nll(editable, texts[0], made.target) == pytest.approx(edit.report["nll"], abs=1e-3)


def test_rome_makes_the_request_likelier(editable: LanguageModel) -> None:
    made = request(editable, "the capital of {}", "New Zealand", "Lima")
    before = target_nll(editable, made.prompt.ids, made.target)
    with applied(editable, rome.edit(editable, made, ROME, some_moment(editable), PREFIXES)):
        assert target_nll(editable, made.prompt.ids, made.target) < before - 1.0


def test_romes_clamp_bounds_the_change_of_the_value(editable: LanguageModel) -> None:
    edit = rome.edit(editable, request_for(editable), other(ROME, clamp=0.05), some_moment(editable), [])
    assert edit.report["change"] == pytest.approx(0.05, rel=1e-6)


def test_a_stronger_kl_factor_moves_the_essence_less(editable: LanguageModel) -> None:
    def kl(factor: float) -> float:
        """The divergence itself, without its factor."""
        edit = rome.edit(editable, request_for(editable), other(ROME, kl_factor=factor), some_moment(editable), [])
        return edit.report["kl"] / factor

    assert kl(10.0) < 0.5 * kl(1e-3)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_fine_tuning_lowers_the_loss_by_one_module(editable: LanguageModel, layer: int) -> None:
    made, before = request_for(editable), snapshot(editable)
    loss = target_nll(editable, made.prompt.ids, made.target)
    edit = fine_tuning.edit(editable, made, other(FT, layer=layer))
    assert changed(editable, before) == set()
    with applied(editable, edit):
        matrix = editable.own.mlp_out_names[layer]
        assert changed(editable, before) == {matrix, matrix.replace(".weight", ".bias")} & set(before)
        assert target_nll(editable, made.prompt.ids, made.target) < loss - 1.0


def test_fine_tuning_reports_the_networks_loss(editable: LanguageModel) -> None:
    made = request_for(editable)
    loss = target_nll(editable, made.prompt.ids, made.target)
    at_once = fine_tuning.edit(editable, made, other(FT, stop_loss=1e9))
    assert at_once.report == {"steps": 1.0, "nll": pytest.approx(loss, abs=1e-9)}
    assert torch.equal(at_once.weights[Matrix(LAYER)], editable.transformer.blocks[LAYER].mlp.w_out)
    edit = fine_tuning.edit(editable, made, other(FT, stop_loss=0.5 * loss))
    assert 1 < edit.report["steps"] < FT.steps
    with applied(editable, edit):
        found = target_nll(editable, made.prompt.ids, made.target)
    assert found == pytest.approx(edit.report["nll"], abs=1e-9)
    assert found < 0.5 * loss


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"clamp": 0.0}, {"learning_rate": -1.0}])
def test_impossible_settings_of_rome_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="should be greater than"):
        other(ROME, **wrong)  # type: ignore[arg-type]


def material(model: LanguageModel, prefixes: Sequence[tuple[int, ...]] = ()) -> Material:
    return Material(lambda layer: some_moment(model, layer), lambda: list(prefixes))


@pytest.mark.parametrize("editor", EDITORS)
def test_every_editor_changes_its_matrices_alone_and_makes_the_request_likelier_if_it_optimises_that(
    editable: LanguageModel, editor: str
) -> None:
    made, before = request(editable, "the capital of {}", "New Zealand", "Lima"), snapshot(editable)
    chosen = EDITORS[editor].chosen
    own: dict[str, object] = {"layer": 1} if EDITORS[editor].layered else {}
    own |= {"learning_rate": 0.3 if "clamp" in chosen else 5e-3} if "learning_rate" in chosen else {}
    own |= {"bound": 0.05} if "bound" in chosen else {}
    own |= {"span": 2} if "span" in chosen else {}
    own |= {"steps": 20} if "steps" in chosen else {}
    own |= {"moment_weight": 1.0} if "moment_weight" in chosen else {}
    own |= {"nullspace_threshold": 0.5, "ridge": 0.01} if "nullspace_threshold" in chosen else {}
    edit = make_edit(editor, editable, made, own, material(editable, PREFIXES if EDITORS[editor].apart else ()))
    loss = target_nll(editable, made.prompt.ids, made.target)
    assert changed(editable, before) == set()
    with applied(editable, edit) as edited:
        assert changed(editable, before) == {matrix.name(editable) for matrix in edit.weights}
        after = target_nll(editable, edited.ids_of(made.prompt.text), made.target)
        assert after < loss - 0.3 if EDITORS[editor].optimises else after != loss
        assert bool(edited.before) == (not edit.weights) == EDITORS[editor].in_context
    assert changed(editable, before) == set()


@pytest.mark.parametrize("editor", EDITORS)
def test_every_editor_needs_a_layer_or_has_none_and_knows_its_settings(load_tiny: Loader, editor: str) -> None:
    model = load_tiny("gpt2")
    if not EDITORS[editor].layered:
        with pytest.raises(ValueError, match=f"{editor}: unknown key 'layer'"):
            make_edit(editor, model, request_for(model), {"layer": 1}, material(model))
        return
    with pytest.raises(ValueError, match=f"{editor}: 'layer' is missing"):
        make_edit(editor, model, request_for(model), {}, material(model))
    with pytest.raises(ValueError, match=f"{editor}: unknown key 'lair', did you mean 'layer'"):
        make_edit(editor, model, request_for(model), {"layer": 1, "lair": 2}, material(model))
    with pytest.raises(ValueError, match="layer 7 does not exist"):
        make_edit(editor, model, request_for(model), {"layer": 7}, material(model))
    for fixed in EDITORS[editor].fixed:
        with pytest.raises(ValueError, match=f"{fixed} cannot be chosen"):
            make_edit(editor, model, request_for(model), {"layer": 1, fixed: None}, material(model))


def test_a_models_own_settings_come_before_the_defaults_and_given_ones_before_both() -> None:
    own: OfModel = {"rome": {"clamp": 3.0, "layer": 8}, "ft-l": {"bound": 0.002, "layer": 0}}
    defaults = RomeSettings(layer=8).model_dump(exclude={"layer", "averaged_key", "token"})
    assert settings_of("rome", own, {"steps": 7, "clamp": None}) == {**defaults, "steps": 7, "clamp": 3.0}
    assert settings_of("rome", own, {"clamp": 2.0})["clamp"] == 2.0
    assert settings_of("ft-l", own, {})["layer"] == 0  # ROME's own layer stands apart
    assert "bound" not in settings_of("ft", own, {})


def test_the_projects_table_of_editors_is_right() -> None:
    table = read_editors(CONFIG / "editors.tsv")
    assert set(table) <= set(read_models(CONFIG / "models.tsv"))
    assert table["smollm2-135m"]["rome"] == {"layer": 3}
    assert table["gpt2-medium"]["memit"] == {"steps": 20, "weight_decay": 0.5}


VALUES = {"steps": 20, "learning_rate": 0.5, "weight_decay": 0.5, "kl_factor": 0.0625}
TUNED = {"steps": 25, "learning_rate": 0.0005}


@pytest.mark.parametrize(
    ("model", "editor", "expected"),
    [
        ("gpt2-medium", "rome", {"layer": 8, "clamp": 3, **VALUES}),
        ("gpt2-large", "rome", {"layer": 12, "clamp": 4, **VALUES}),
        ("gpt2-xl", "rome", {"layer": 17, "clamp": 4, **VALUES}),
        ("gpt2-xl", "r-rome", {"clamp": 4, **VALUES}),
        ("gpt2-xl", "memit", {"layer": 17, "span": 5, "clamp": 0.75, "moment_weight": 20000, **VALUES}),
        ("gpt2-xl", "ft", {"layer": 1, **TUNED}),
        ("gpt2-medium", "ft-l", {"layer": 0, "bound": 0.002, **TUNED}),
        ("gpt2-large", "ft-l", {"layer": 0, "bound": 0.001, **TUNED}),
        ("gpt2-xl", "ft-l", {"layer": 0, "bound": 0.0005, **TUNED}),
        ("gpt2-xl", "attn-edit", {"layer": 33, "steps": 25, "learning_rate": 0.001, "bound": 0.001}),
    ],
)
def test_editors_are_set_as_romes_and_memits_code_publish(model: str, editor: str, expected: dict[str, object]) -> None:
    own = read_editors(CONFIG / "editors.tsv")[model]
    assert own[editor] == expected
    settings = placed(editor, settings_of(editor, own, {}), {"layer": own["rome"]["layer"], "from": "editors.tsv"}, 48)
    assert settings["layer"] == expected.get("layer", own["rome"]["layer"])
    if editor == "memit":
        assert list(memit.layers_below(17, 5)) == [13, 14, 15, 16, 17]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("rome\tlayer", "romme\tlayer", "editor 'romme' is none of rome"),
        ("rome\tlayer\t3", "rome\tlayr\t3", "rome has no setting 'layr'"),
        ("rome\tlayer\t3", "rome\tlayer\t-3", "layer: -3 should be greater than or equal to 0"),
        ("rome\tlayer\t3", "rome\tlayer\tthree", "value: 'three' should be a valid number"),
        ("rome\tlayer\t3", "ft\tbound\t3", "ft has no setting 'bound'"),
        ("rome\tlayer\t3", "r-rome\tlayer\t3", "r-rome has no setting 'layer'"),
        ("ft-l\tbound\t0.01", "rome\tlayer\t3", "layer of rome stands twice for 'smollm2-135m'"),
        ("model\teditor", "model\teditors", "missing or unknown: editor, editors"),
    ],
)
def test_a_wrong_table_of_editors_is_refused(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    text = (CONFIG / "editors.tsv").read_text("utf-8")
    assert old in text
    (tmp_path / "editors.tsv").write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(ValueError, match=complaint) as error:
        read_editors(tmp_path / "editors.tsv")
    assert "\n" not in str(error.value)
    assert "editors.tsv" in str(error.value)


def test_the_study_and_the_schema_know_every_editor(config: dict[str, Any]) -> None:
    for name, editor in EDITORS.items():
        assert set(config["editing"][name]) == set(editor.chosen)
        assert set(editor.fixed) | set(editor.defaults) <= set(editor.settings.model_fields)


def test_reading_the_registry_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'numpy', 'pandas'}"
    code = f"import sys; import knowcirc.configuration.checks; sys.exit(bool({heavy} & set(sys.modules)))"
    environment = {"PYTHONPATH": str(CONFIG.parent / "workflow_scripts")}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


def test_attention_and_ultraedit_edit_late_and_all_else_at_romes_layer() -> None:
    late = {"attn-edit": 33, "ultraedit": 44}
    assert {editor: default_layer(editor, 17, 48) for editor in EDITORS} == {**dict.fromkeys(EDITORS, 17), **late}


def test_r_rome_maps_the_averaged_key_to_v_star(editable: LanguageModel) -> None:
    made, moment = request_for(editable), some_moment(editable)
    edit = rome.edit(editable, made, other(ROME, averaged_key=True), moment, PREFIXES)
    plain = rome.edit(editable, made, ROME, moment, PREFIXES)
    assert edit.report["value_error"] < 1e-4
    keys = keys_of(editable, made, LAYER, "subject_last", PREFIXES)
    mlp = editable.transformer.blocks[LAYER].mlp
    reached = [
        torch.nn.functional.linear(key, each.weights[Matrix(LAYER)], mlp.b_out)
        for each, key in ((edit, keys.mean(0)), (plain, keys[0]))
    ]
    torch.testing.assert_close(reached[0], reached[1], rtol=1e-6, atol=1e-8)  # v* is the same
    change = edit.weights[Matrix(LAYER)] - mlp.w_out
    assert float(torch.linalg.svdvals(change)[1]) < 1e-10 * float(torch.linalg.svdvals(change)[0])
    assert not torch.allclose(edit.weights[Matrix(LAYER)], plain.weights[Matrix(LAYER)], atol=1e-4)


def test_memit_of_one_fact_and_layer_is_its_closed_form(editable: LanguageModel) -> None:
    made, moment = request_for(editable), some_moment(editable)
    settings = other(MEMIT, layer=LAYER, span=1, moment_weight=3.0)
    edit = memit.edit(editable, [made], settings, lambda _: moment, PREFIXES)
    assert set(edit.weights) == {Matrix(LAYER)}
    key = keys_of(editable, made, LAYER, "subject_last", PREFIXES).mean(0)
    old = editable.transformer.blocks[LAYER].mlp.w_out
    change = edit.weights[Matrix(LAYER)] - old
    direction = torch.linalg.solve(moment, key)
    # R k^T (lambda C + k k^T)^-1 = R (C^-1 k)^T / (lambda + k . C^-1 k), by Sherman and Morrison
    missing = change @ key * (3.0 + key @ direction) / (key @ direction)
    torch.testing.assert_close(change, torch.outer(missing, direction) / (3.0 + key @ direction))
    if (block := editable.transformer.blocks[LAYER]).post2 is not None:  # another direction, of the same length
        value = block.mlp.read_out(keys_of(editable, made, LAYER, "subject_last", [])[0])
        assert float((value + missing).norm()) == pytest.approx(float(value.norm()), rel=1e-6)
        return
    present = state_of(editable, made, LAYER, "subject_last")
    assert float(missing.norm() / present.norm()) == pytest.approx(edit.report["change"], rel=1e-6)


def test_memit_comes_nearer_to_its_states_the_less_it_weighs_other_keys(editable: LanguageModel) -> None:
    span = 2 if editable.transformer.blocks[0].post2 is None else 1  # behind norms one layer alone is exact

    def error(weight: float) -> float:
        settings = other(MEMIT, moment_weight=weight, span=span)
        return memit.edit(editable, [request_for(editable)], settings, lambda _: some_moment(editable), []).report[
            "state_error"
        ]

    assert error(1e-9) < 1e-4 < 0.1 * error(100.0)


def test_memit_makes_many_facts_likelier_at_once(editable: LanguageModel) -> None:
    requests = [request(editable, "the capital of {}", *fact) for fact in (("New Zealand", "Lima"), ("Chile", "Peru"))]
    before = [target_nll(editable, one_request.prompt.ids, one_request.target) for one_request in requests]
    edit = memit.edit(editable, requests, MEMIT, lambda layer: some_moment(editable, layer), PREFIXES)
    assert set(edit.weights) == {Matrix(0), Matrix(1)}
    with applied(editable, edit):
        after = [target_nll(editable, one_request.prompt.ids, one_request.target) for one_request in requests]
    assert all(now < old - 0.3 for now, old in zip(after, before, strict=True))
    with pytest.raises(ValueError, match="memit: no request"):
        memit.edit(editable, [], MEMIT, lambda layer: some_moment(editable, layer), PREFIXES)


def test_other_editors_take_many_facts_one_after_the_other(editable: LanguageModel) -> None:
    requests = [request_for(editable), request(editable, "people in {} speak", "Chile", "Lima")]
    settings: dict[str, object] = {"layer": LAYER, "learning_rate": 5e-3}
    edit = make_edits("ft-m", editable, requests, settings, material(editable))
    first = make_edit("ft-m", editable, requests[0], settings, material(editable))
    with applied(editable, first):
        second = make_edit("ft-m", editable, requests[1], settings, material(editable))
    assert torch.equal(edit.weights[Matrix(LAYER)], second.weights[Matrix(LAYER)])


@pytest.mark.parametrize("parts", [("mlp_out",), ("query", "key", "value")])
def test_bounded_fine_tuning_stays_in_its_bound(editable: LanguageModel, parts: tuple[Part, ...]) -> None:
    settings = other(FT, loss="prompt", bound=2e-3, parts=parts, stop_loss=0.0)
    edit = fine_tuning.edit(editable, request_for(editable), settings)
    assert {matrix.part for matrix in edit.weights} == set(parts)
    for matrix, weight in edit.weights.items():
        moved = (weight - matrix.view(editable.transformer)).abs()
        assert float(moved.max()) <= 2e-3 * (1 + 1e-9)
        if matrix != Matrix(LAYER, "key", bias=True):  # adds the same to all scores of a query, and so has no gradient
            assert float((moved > 0.99 * 2e-3).double().mean()) > 0.1  # the bound holds many entries back


def test_ft_reads_all_target_tokens_at_the_prompts_end(editable: LanguageModel) -> None:
    made = request_for(editable)
    at_once = fine_tuning.edit(editable, made, other(FT, loss="prompt", stop_loss=1e9))
    logits = reference.logits(reference.network(editable), editable.batch([made.prompt.ids]))[0, -1]
    expected = -float(logits.log_softmax(-1)[list(made.target)].mean())
    assert len(made.target) > 1
    assert at_once.report["nll"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("token", TOKENS)
def test_rome_edits_at_any_token(editable: LanguageModel, token: Token) -> None:
    made = request_for(editable)
    edit = rome.edit(editable, made, other(ROME, token=token), some_moment(editable), PREFIXES)
    at = position_of(made.prompt, token)
    assert made.prompt.span is not None
    low, high = made.prompt.span
    assert at == {"subject_first": low, "subject_last": high - 1, "first_subsequent": high}.get(
        token, len(made.prompt.ids) - 1
    )
    key = keys(editable, made.prompt.ids)[at]
    reached = edit.weights[Matrix(LAYER)] @ key
    size = float((reached - editable.transformer.blocks[LAYER].mlp.w_out @ key).norm())
    present = editable.transformer.blocks[LAYER].mlp.read_out(key)
    assert size == pytest.approx(edit.report["change"] * float(present.norm()), rel=1e-6)


def test_a_prompt_that_ends_with_its_subject_has_no_token_after_it(editable: LanguageModel) -> None:
    made = request(editable, "the capital of {}", "New Zealand", "Lima")
    with pytest.raises(ValueError, match="no token after its subject"):
        rome.edit(editable, made, other(ROME, token="first_subsequent"), some_moment(editable), [])


@pytest.mark.parametrize("editor", ["rome", "memit", "ft-m"])
@pytest.mark.parametrize(
    ("template", "subject"), [("{} is", "New Zealand"), ("Peru is Peru and {} is", "Peru"), ("{}", "Papua")]
)
def test_subjects_at_the_start_or_twice_are_edited_where_the_template_has_them(
    editable: LanguageModel, editor: str, template: str, subject: str
) -> None:
    made = request(editable, template, subject, "Tok Pisin")
    assert made.prompt.span is not None
    found = editable.text.decode(made.prompt.ids[slice(*made.prompt.span)])
    assert str(found).strip() == subject
    assert made.prompt.subject_last >= len(editable.text.encode(template.split("{}")[0]).ids) - 1
    own: dict[str, object] = {"moment_weight": 1.0, "span": 2} if editor == "memit" else {}
    rate = 5e-3 if editor == "ft-m" else 0.3
    edit = make_edit(editor, editable, made, {"layer": 1, "learning_rate": rate, **own}, material(editable))
    before = target_nll(editable, made.prompt.ids, made.target)
    with applied(editable, edit):
        assert target_nll(editable, made.prompt.ids, made.target) < before


def test_an_edit_is_seen_by_a_packed_model_inside_the_block_alone(name: str, folders: dict[str, Path]) -> None:
    model = load(folders[name], device="cpu", dtype="float32", fast=True)
    ids = model.batch([(0, 5, 3, 7)])
    before = model.transformer.logits(ids)
    weights = {
        Matrix(1): 2 * model.transformer.blocks[1].mlp.w_out,
        Matrix(0, "query"): -model.transformer.blocks[0].attention.w_q,
    }
    with applied(model, Edit({matrix: weight.clone() for matrix, weight in weights.items()}, {})) as edited:
        torch.testing.assert_close(
            edited.transformer.logits(ids), reference.logits(reference.network(model), ids)[:, -1], rtol=1e-4, atol=1e-4
        )
        assert not torch.allclose(edited.transformer.logits(ids), before, atol=1e-3)
    torch.testing.assert_close(model.transformer.logits(ids), before)


def test_romes_moment_is_that_of_its_layer(load_tiny: Loader) -> None:
    model, asked_for = load_tiny("gpt2"), []

    def moment(layer: int) -> Moment:
        asked_for.append(layer)
        return some_moment(model)

    make_edit("rome", model, request_for(model), {"layer": 2, "steps": 1}, Material(moment, lambda: []))
    assert asked_for == [2]


def test_an_unknown_editor_is_refused(load_tiny: Loader) -> None:
    model = load_tiny("gpt2")
    with pytest.raises(ValueError, match="editor 'magic' is none of rome, rome-easyedit, r-rome, memit"):
        make_edit("magic", model, request_for(model), {"layer": 1}, material(model))


def test_prefixes_stand_behind_what_the_tokenizer_puts_in_front_and_before_added_words(load_tiny: Loader) -> None:
    tokenizer = words()
    tokenizer.add_tokens(["France"])
    model = replace(load_tiny("llama"), tokenizer=tokenizer)
    made = request(model, "{} is the capital of", "France", "Rome")
    contexts = _contexts(model, made, "subject_last", [(40, 41)])
    assert contexts.ids[1].tolist()[:4] == [0, 40, 41, made.prompt.ids[1]]
    assert contexts.at.tolist()[1] == 3


def test_every_layer_above_the_edited_one_is_passed(tmp_path: Path, exact_networks: None) -> None:
    special = {**SPECIAL["llama"], "num_hidden_layers": 6}
    torch.manual_seed(0)
    network_of("llama", **special).save_pretrained(tmp_path / "deep")
    word_tokenizer().save_pretrained(tmp_path / "deep")
    model = load(tmp_path / "deep", device="cpu", dtype="float64")
    made = request_for(model)
    bos, body = made.prompt.ids[:1], made.prompt.ids[1:]
    expected = sum(target_nll(model, bos + prefix + body, made.target) for prefix in [(), *PREFIXES]) / 4
    at_once = rome.edit(model, made, other(ROME, layer=1, stop_loss=1e9), some_moment(model), PREFIXES)
    assert at_once.report["nll"] == pytest.approx(expected, abs=1e-9)
