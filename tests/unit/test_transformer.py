"""The library's own forward pass against the Hugging Face network, and the parts that experiments build on."""

import contextlib
from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from knowcirc.circuits.graph import Graph
from knowcirc.circuits.patched import run_circuit
from knowcirc.models import gpt2
from knowcirc.models.layers import Norm
from knowcirc.models.loading import LanguageModel
from knowcirc.models.transformer import HookPoint, KeyValue, Transformer
from unit import reference

Loader = Callable[..., LanguageModel]


def random_ids(rows: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(2, 101, (rows, length), generator=torch.Generator().manual_seed(seed))


def keys_values(network: Transformer, ids: Tensor) -> list[KeyValue]:
    streams = list(network.stream(ids))
    return [network.keys_values(layer, streams[layer]) for layer in range(network.shape.n_layers)]


@pytest.mark.parametrize("processing", ["none", "folded"])
def test_logits_are_those_of_the_hugging_face_network(
    name: str, processing: str, load_tiny: Loader, exact_networks: None
) -> None:
    model = load_tiny(name, processing=processing)
    ids = random_ids(3, 9)
    expected = reference.logits(reference.network(model), ids)
    *_, last = model.transformer.stream(ids)
    torch.testing.assert_close(model.transformer.unembed(last), expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(model.transformer.logits(ids), expected[:, -1], rtol=0, atol=1e-9)


def test_float32_logits_stay_within_a_thousandth(name: str, load_tiny: Loader) -> None:
    model = load_tiny(name, dtype="float32")
    ids = random_ids(2, 12)
    expected = reference.logits(reference.network(model), ids)[:, -1]
    torch.testing.assert_close(model.transformer.logits(ids), expected, rtol=0, atol=1e-3)


def test_residual_streams_are_those_of_the_hugging_face_layers(model: LanguageModel) -> None:
    ids = random_ids(2, 6)
    modules = {f"layer{i}": layer for i, layer in enumerate(reference.layers(reference.network(model)))}
    seen = reference.watch(reference.network(model), ids, **modules)
    for layer, stream in enumerate(list(model.transformer.stream(ids))[1:]):
        torch.testing.assert_close(stream, seen[f"layer{layer}"][1], rtol=0, atol=1e-9)


def test_mlp_hidden_is_the_input_of_the_output_matrix(model: LanguageModel) -> None:
    ids = random_ids(2, 6)
    for layer, module in enumerate(reference.layers(reference.network(model))):
        norm = reference.norms(module)[1]
        seen = reference.watch(reference.network(model), ids, norm=norm, out=reference.mlp_out(module))
        block = model.transformer.blocks[layer]
        hidden = block.mlp.hidden(block.norm2(seen["norm"][0]))
        torch.testing.assert_close(hidden, seen["out"][0], rtol=0, atol=1e-9)
        torch.testing.assert_close(block.mlp.read_out(hidden), seen["out"][1], rtol=0, atol=1e-9)


def hook_modules(network: PreTrainedModel, layer: int) -> dict[str, tuple[nn.Module, int]]:
    """The module at each hook point of a layer, and whether its input (0) or its output (1) passes there."""
    module = reference.layers(network)[layer]
    return {
        "heads": (reference.heads_out(module), 0),
        "attention": (reference.added(module)[0], 1),
        "middle": (reference.norms(module)[1], 0),
        "mlp_in": (reference.norms(module)[1], 0),
        "keys": (reference.mlp_out(module), 0),
        "mlp": (reference.added(module)[1], 1),
    }


def test_hooks_read_what_passes_in_the_hugging_face_network(model: LanguageModel) -> None:
    ids, seen = random_ids(2, 6), {}

    def hook(point: HookPoint, value: Tensor) -> Tensor:
        seen[point] = value
        return value

    stream = list(model.transformer.stream(ids))
    for layer in range(model.transformer.shape.n_layers):
        modules = hook_modules(reference.network(model), layer)
        expected = reference.watch(
            reference.network(model), ids, **{name: module for name, (module, _) in modules.items()}
        )
        model.transformer.advance(layer, stream[layer], hook=hook)
        assert list(seen) == list(get_args(HookPoint))
        if model.transformer.shape.parallel:  # nothing reads the stream with attention's output alone
            torch.testing.assert_close(seen["middle"], stream[layer] + seen["attention"], rtol=0, atol=0)
            seen["middle"] = seen["mlp_in"]
        for name, (_, side) in modules.items():
            value = seen[name].flatten(2)  # heads side by side
            torch.testing.assert_close(value, expected[name][side], rtol=0, atol=1e-9, msg=name)


@pytest.mark.parametrize("point", [point for point in get_args(HookPoint) if point != "middle"])
def test_hooks_replace_what_passes_as_in_the_hugging_face_network(model: LanguageModel, point: HookPoint) -> None:
    ids = random_ids(2, 6)

    def change(value: Tensor) -> Tensor:
        value = value.clone()
        value[:, 2] *= 0.5
        return value

    x = model.transformer.embed(ids)
    for layer in range(model.transformer.shape.n_layers):
        x = model.transformer.advance(layer, x, hook=lambda at, value: change(value) if at == point else value)
    with contextlib.ExitStack() as stack:
        for layer in range(model.transformer.shape.n_layers):
            module, side = hook_modules(reference.network(model), layer)[point]
            replaced = reference.outputs_changed if side else reference.inputs_changed
            stack.enter_context(replaced(module, change))
        expected = reference.logits(reference.network(model), ids)
    torch.testing.assert_close(model.transformer.unembed(x), expected, rtol=0, atol=1e-9)


def test_a_changed_middle_reaches_the_mlp_and_the_stream_beside_it(model: LanguageModel) -> None:
    network, x = model.transformer, model.transformer.embed(random_ids(1, 4))
    found = network.advance(0, x, hook=lambda at, value: 0.5 * value if at == "middle" else value)
    middle = 0.5 * (x + network.attend(0, x))
    read = x if network.shape.parallel else middle
    torch.testing.assert_close(found, middle + network.mlp(0, read))


def test_a_suffix_run_on_cached_keys_and_values_equals_the_full_run(model: LanguageModel) -> None:
    network, ids, cut = model.transformer, random_ids(2, 10), 4
    streams = list(network.stream(ids))
    past = [(keys[:, :cut], values[:, :cut]) for keys, values in keys_values(network, ids)]
    x = network.embed(ids[:, cut:], cut)
    torch.testing.assert_close(x, streams[0][:, cut:], rtol=0, atol=0)
    for layer in range(network.shape.n_layers):
        x = network.advance(layer, x, cut, past[layer])
        torch.testing.assert_close(x, streams[layer + 1][:, cut:], rtol=0, atol=1e-10)


def test_rows_with_starts_of_their_own_equal_separate_runs(model: LanguageModel) -> None:
    network, lengths, suffix = model.transformer, (1, 5, 3), 4
    longest = max(lengths)
    runs = [random_ids(1, length + suffix, seed) for seed, length in enumerate(lengths)]
    hidden = torch.arange(longest)[None] < longest - torch.tensor(lengths)[:, None]
    starts = torch.tensor(lengths)
    x = torch.cat([next(network.stream(ids))[:, -suffix:] for ids in runs])
    for layer in range(network.shape.n_layers):
        rows = [keys_values(network, ids)[layer] for ids in runs]
        keys, values = (
            torch.cat([_left_padded(row[part][:, :n], longest) for row, n in zip(rows, lengths, strict=True)])
            for part in (0, 1)
        )
        x = network.advance(layer, x, starts, (keys, values), hidden)
        for row, ids in enumerate(runs):
            expected = list(network.stream(ids))[layer + 1][0, -suffix:]
            torch.testing.assert_close(x[row], expected, rtol=0, atol=1e-10)


def _left_padded(x: Tensor, length: int) -> Tensor:
    """Rubbish in front, which must not be seen."""
    rubbish = torch.full((1, length - x.shape[1], *x.shape[2:]), 50.0, dtype=x.dtype)
    return torch.cat((rubbish, x), 1)


def test_tokens_on_the_right_change_nothing_before_them(model: LanguageModel) -> None:
    ids = random_ids(1, 6)
    longer = torch.cat((ids, random_ids(1, 3, seed=1)), 1)
    short, long = list(model.transformer.stream(ids))[-1], list(model.transformer.stream(longer))[-1]
    torch.testing.assert_close(long[:, :6], short, rtol=0, atol=1e-12)


@pytest.mark.parametrize("centred", [True, False])
def test_the_closed_form_gradient_of_a_norm_is_autograds(centred: bool) -> None:
    draw = torch.Generator().manual_seed(3)
    weight, bias = torch.randn(2, 8, generator=draw, dtype=torch.float64)
    norm = Norm(weight, bias if centred else None, 1e-5, centred)
    x = torch.randn(4, 1, 8, generator=draw, dtype=torch.float64).requires_grad_()
    grad = torch.randn(4, 3, 8, generator=draw, dtype=torch.float64)
    for reader in range(3):
        (expected,) = torch.autograd.grad((norm(x[:, 0]) * grad[:, reader]).sum(), x)
        torch.testing.assert_close(norm.vjp(x.detach(), grad)[:, reader], expected[:, 0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("processing", ["none", "folded"])
def test_mlp_output_matrices_are_views_of_the_named_parameters(name: str, processing: str, load_tiny: Loader) -> None:
    model = load_tiny(name, processing=processing)
    for layer, parameter in enumerate(model.transformer.mlp_out_names):
        view = model.transformer.blocks[layer].mlp.w_out
        assert parameter in model.weights
        assert model.weights[parameter].data_ptr() == view.data_ptr()


@pytest.mark.parametrize("matrix", ["mlp.w_out", "mlp.w_in", "attention.w_q", "attention.w_v", "attention.w_o"])
def test_an_edit_of_a_view_is_seen_by_the_network(editable: LanguageModel, matrix: str) -> None:
    ids = random_ids(1, 5)
    before = reference.logits(reference.network(editable), ids)
    part, weight = matrix.split(".")
    view = getattr(getattr(editable.transformer.blocks[1], part), weight)
    view.mul_(torch.linspace(-1, 1, view.shape[-1], dtype=view.dtype))  # norms undo a common factor
    after = reference.logits(reference.network(editable), ids)
    assert (after - before).abs().max() > 1e-3
    torch.testing.assert_close(editable.transformer.logits(ids), after[:, -1], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["gpt2", "llama_biased"])
def test_folding_moves_a_heads_constant_part_where_no_ablation_reaches_it(name: str, load_tiny: Loader) -> None:
    plain, folded = load_tiny(name).transformer, load_tiny(name, processing="folded").transformer
    graph, ids = Graph.of(plain.shape, "grouped"), random_ids(1, 5)
    headless = graph.valid.copy()
    for layer in range(graph.n_layers):
        headless[graph.heads(layer)] = False
    gap = run_circuit(plain, graph, headless, ids) - run_circuit(folded, graph, headless, ids)
    assert gap.abs().max() > 1e-2
    for old, new in zip(plain.blocks, folded.blocks, strict=True):
        assert new.attention.b_v is None
        shift = old.attention.b_v
        assert shift is not None
        if old.norm1.bias is not None:
            shift = shift + old.attention.w_v @ old.norm1.bias
        shift = shift.repeat_interleave(plain.shape.group, 0)
        moved = torch.stack([w @ b for w, b in zip(old.attention.w_o, shift, strict=True)]).sum(0)
        torch.testing.assert_close(new.attention.b_o, old.attention.b_o + moved, rtol=0, atol=1e-12)


def test_folding_a_llama_without_biases_changes_no_ablation(load_tiny: Loader) -> None:
    plain, folded = load_tiny("llama").transformer, load_tiny("llama", processing="folded").transformer
    graph, ids = Graph.of(plain.shape, "grouped"), random_ids(1, 5)
    some = graph.valid.copy()
    some[::2, ::3] = False
    expected = run_circuit(plain, graph, some, ids)
    torch.testing.assert_close(run_circuit(folded, graph, some, ids), expected, rtol=0, atol=1e-10)


def test_an_unsupported_gpt2_attention_is_refused(load_tiny: Loader) -> None:
    config = reference.network(load_tiny("gpt2")).config.__class__(scale_attn_by_inverse_layer_idx=True)
    with pytest.raises(ValueError, match="scale_attn_by_inverse_layer_idx=True is not supported"):
        gpt2.read_shape(config)
