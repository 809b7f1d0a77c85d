"""Packed models: the same activations and gradients as the plain ones, and matrices copied anew on demand."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from knowcirc.circuits.acdc import Criterion, acdc
from knowcirc.circuits.attribution import Targets, score_edges
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.metrics import make_task
from knowcirc.models.loading import LanguageModel, load
from knowcirc.models.packing import FEW, PackedTransformer, packed, with_blocks
from knowcirc.models.transformer import Transformer
from unit.test_acdc import decisions

Loader = Callable[..., LanguageModel]
IDS = torch.tensor([[0, 5, 3, 7]])


def test_a_packed_model_computes_the_same(name: str, load_tiny: Loader) -> None:
    model = load_tiny(name, dtype="float32").transformer
    torch.testing.assert_close(packed(model).logits(IDS), model.logits(IDS), rtol=1e-5, atol=1e-5)
    assert packed(packed(model)).mlp_out_names == model.mlp_out_names


@pytest.mark.parametrize("rows", [3, FEW + 1])
@pytest.mark.parametrize("kind", ["q", "k", "v"])
def test_heads_that_read_inputs_of_their_own(
    name: str, load_tiny: Loader, rows: int, kind: Literal["q", "k", "v"]
) -> None:
    plain = load_tiny(name, dtype="float32").transformer
    attention, fast = plain.blocks[1].attention, packed(plain).blocks[1].attention
    heads = [1, 0][: len(attention.w_k)]
    x = torch.randn(len(heads), rows, plain.shape.d_model, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([attention.read_all(kind, part)[:, head] for head, part in zip(heads, x, strict=True)])
    for each in (attention, fast):
        torch.testing.assert_close(each.read(kind, heads, x), expected, rtol=1e-5, atol=1e-6)


def test_other_precisions_are_not_packed(load_tiny: Loader) -> None:
    model = load_tiny("gpt2").transformer
    assert packed(model) is model


def gradient(model: Transformer, layer: int) -> torch.Tensor:
    """Of a loss after the last layer, at the residual stream before `layer`."""
    x = model.embed(IDS)
    for below in range(layer):
        x = model.advance(below, x)
    leaf = x.detach().requires_grad_()
    x = leaf
    for above in range(layer, model.shape.n_layers):
        x = model.advance(above, x)
    loss = torch.nn.functional.cross_entropy(model.unembed(x[:, -1]), torch.tensor([9]))
    return torch.autograd.grad(loss, leaf)[0]


@pytest.mark.parametrize("layer", [0, 2])
def test_gradients_pass_through_a_packed_model(name: str, load_tiny: Loader, layer: int) -> None:
    model = load_tiny(name, dtype="float32").transformer
    expected = gradient(model, layer)
    assert float(expected.abs().max()) > 1e-4
    torch.testing.assert_close(gradient(packed(model), layer), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kv", ["grouped", "per_head"])
def test_edge_scores_of_a_packed_model_are_the_same(name: str, load_tiny: Loader, kv: str) -> None:
    model = load_tiny(name, dtype="float32").transformer
    graph = Graph.of(model.shape, kv)
    other = torch.tensor([[0, 5, 4, 7]])
    targets = Targets(torch.tensor([7]), torch.tensor([8]))
    plain, fast = (score_edges(each, graph, IDS, other, targets, steps=3) for each in (model, packed(model)))
    np.testing.assert_allclose(fast, plain, atol=1e-5 * np.abs(plain).max())


@pytest.mark.parametrize("kv", ["grouped", "per_head"])
def test_a_search_of_a_packed_model_keeps_the_same_edges(name: str, load_tiny: Loader, kv: str) -> None:
    model = load_tiny(name, dtype="float32").transformer
    graph, task = Graph.of(model.shape, kv), make_task("nll", [IDS[0].tolist()], [9])
    fast, plain = (acdc(each, graph, task, Criterion(0.05)) for each in (packed(model), model))
    np.testing.assert_array_equal(fast.edges, plain.edges)
    assert decisions(fast.tests) == decisions(plain.tests)


def test_a_layer_that_is_packed_again_has_the_weights_as_they_are_now(name: str, folders: dict[str, Path]) -> None:
    model = load(folders[name], device="cpu", dtype="float32").transformer
    fast = packed(model)
    assert isinstance(fast, PackedTransformer)
    before = model.logits(IDS)
    with torch.no_grad():
        uneven = torch.linspace(-1, 1, model.shape.d_model)[:, None]  # norms undo a common factor
        model.blocks[1].mlp.w_out.mul_(uneven)
        model.blocks[1].attention.w_q.mul_(uneven[:, 0])
    after = model.logits(IDS)
    assert not torch.allclose(before, after, atol=1e-3)
    torch.testing.assert_close(fast.logits(IDS), before, rtol=1e-5, atol=1e-5)
    again = with_blocks(fast, {1: model.blocks[1]})
    torch.testing.assert_close(again.logits(IDS), after, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient(again, 0), gradient(model, 0), rtol=1e-4, atol=1e-6)
