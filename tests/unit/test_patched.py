"""Circuits run alone: whole and empty ones, single edges, whole heads, each against hooks on the network."""

import contextlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from knowcirc.circuits.evaluation import circuit_answers, hits, nll
from knowcirc.circuits.graph import Graph, KvView
from knowcirc.circuits.patched import record, run_circuit
from knowcirc.facts.knowledge import Answer
from knowcirc.facts.prompts import tokenise
from knowcirc.models.loading import LanguageModel
from unit import reference

Loader = Callable[..., LanguageModel]
CLEAN = torch.tensor([[0, 5, 17, 4, 33], [0, 40, 8, 9, 60]])
CORRUPTED = torch.tensor([[0, 5, 18, 4, 33], [0, 41, 8, 90, 60]])


@pytest.fixture(params=["grouped", "per_head"])
def graph(request: pytest.FixtureRequest, model: LanguageModel) -> Graph:
    return Graph.of(model.transformer.shape, request.param)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_a_circuit_of_all_edges_gives_the_models_logits(model: LanguageModel, graph: Graph) -> None:
    expected = reference.logits(reference.network(model), CLEAN)[:, -1]
    close(run_circuit(model.transformer, graph, graph.valid, CLEAN), expected)


def test_folded_weights_give_the_models_logits_too(name: str, load_tiny: Loader, exact_networks: None) -> None:
    model = load_tiny(name, processing="folded")
    graph = Graph.of(model.transformer.shape, "per_head")
    expected = reference.logits(reference.network(model), CLEAN)[:, -1]
    close(run_circuit(model.transformer, graph, graph.valid, CLEAN), expected)


def test_a_circuit_of_no_edges_hears_the_output_biases_alone(model: LanguageModel, graph: Graph) -> None:
    nothing = np.zeros_like(graph.valid)
    biases = sum(
        (
            bias
            for layer in reference.layers(reference.network(model))
            if (bias := reference.heads_out(layer).bias) is not None
        ),
        torch.zeros(32, dtype=torch.float64),
    )
    module = reference.final_norm(reference.network(model))
    with reference.inputs_changed(module, lambda x: biases.expand_as(x)):
        expected = reference.logits(reference.network(model), CLEAN)[:, -1]
    close(run_circuit(model.transformer, graph, nothing, CLEAN), expected)
    close(run_circuit(model.transformer, graph, nothing, CORRUPTED), expected)


def test_with_all_edges_patched_the_corrupted_logits_come_out(model: LanguageModel, graph: Graph) -> None:
    ablated = record(model.transformer, graph, CORRUPTED).outputs
    nothing = np.zeros_like(graph.valid)
    close(
        run_circuit(model.transformer, graph, nothing, CLEAN, ablated=ablated),
        model.transformer.logits(CORRUPTED),
    )
    close(
        run_circuit(model.transformer, graph, graph.valid, CLEAN, ablated=ablated),
        model.transformer.logits(CLEAN),
    )


def test_the_edges_out_of_the_embedding_alone_carry_the_corrupted_prompt(model: LanguageModel, graph: Graph) -> None:
    ablated = record(model.transformer, graph, CORRUPTED).outputs
    edges = graph.valid.copy()
    edges[0] = False
    logits = run_circuit(model.transformer, graph, edges, CLEAN, ablated=ablated)
    close(logits, model.transformer.logits(CORRUPTED))


def test_recorded_outputs_sum_to_the_residual_stream(model: LanguageModel, graph: Graph) -> None:
    run = record(model.transformer, graph, CLEAN)
    modules = {"final": reference.final_norm(reference.network(model))}
    for layer, module in enumerate(reference.layers(reference.network(model))):
        modules[f"attention{layer}"], modules[f"middle{layer}"] = reference.norms(module)
        modules[f"mlp{layer}"] = reference.added(module)[1]
    seen = reference.watch(reference.network(model), CLEAN, **modules)
    biases = torch.zeros(32, dtype=torch.float64)
    for layer, module in enumerate(reference.layers(reference.network(model))):
        close(run.before_attention[layer], seen[f"attention{layer}"][0])
        close(run.outputs[graph.before(layer)].sum(0) + biases, seen[f"attention{layer}"][0])
        bias = reference.heads_out(module).bias
        biases = biases if bias is None else biases + bias
        close(run.before_mlp[layer], seen[f"middle{layer}"][0])
        heard = biases if not graph.parallel or bias is None else biases - bias
        close(run.outputs[graph.before_mlp(layer)].sum(0) + heard, seen[f"middle{layer}"][0])
        close(run.outputs[graph.mlp(layer)], seen[f"mlp{layer}"][1])
    close(run.outputs.sum(0) + biases, seen["final"][0])
    close(run.final, seen["final"][0])


def test_recorded_heads_are_the_networks(model: LanguageModel, graph: Graph) -> None:
    run = record(model.transformer, graph, CLEAN)
    for layer, module in enumerate(reference.layers(reference.network(model))):
        matrix = reference.heads_out(module)
        network, added = reference.network(model), reference.added(module)[0]
        seen = reference.watch(network, CLEAN, out=matrix, added=added)
        mixed, scale = seen["out"][0], 1.0 if added is matrix else seen["added"][1] / seen["added"][0]
        for head in range(4):
            part = slice(8 * head, 8 * head + 8)
            written = mixed[..., part] @ reference.rows_out(matrix)[:, part].T
            close(run.outputs[graph.head(layer, head)], written * scale)


def test_heads_and_mlps_taken_out_are_those_that_hooks_zero(model: LanguageModel, graph: Graph) -> None:
    edges = graph.valid.copy()
    edges[[graph.head(0, 1), graph.head(0, 3), graph.head(2, 2), graph.mlp(1)]] = False

    modules = reference.layers(reference.network(model))
    with (
        reference.heads_silenced(modules[0], (1, 3)),
        reference.heads_silenced(modules[2], (2,)),
        reference.outputs_changed(reference.added(modules[1])[1], torch.zeros_like),
    ):
        expected = reference.logits(reference.network(model), CLEAN)[:, -1]
    close(run_circuit(model.transformer, graph, edges, CLEAN), expected)


def _projection(
    model: LanguageModel, layer: int, kind: str, head: int
) -> tuple[torch.nn.Module, Callable[[Tensor], Tensor], slice]:
    """The module that gives a head's queries, keys or values, what it gives for an input, and where they stand."""
    module = reference.attention(reference.layers(reference.network(model))[layer])
    if hasattr(module, "c_attn"):
        start = "qkv".index(kind) * 32 + head * 8
        return module.c_attn, module.c_attn, slice(start, start + 8)
    if hasattr(module, "query_key_value"):
        start = (3 * head + "qkv".index(kind)) * 8
        return module.query_key_value, module.query_key_value, slice(start, start + 8)
    matrix, part = getattr(module, f"{kind}_proj"), slice(head * 8, head * 8 + 8)
    if kind != "v" and reference.is_olmo(module):  # the norm is of all heads, each of which would read that input
        norm = getattr(module, f"{kind}_norm")
        return norm, lambda x: norm(matrix(x)), part
    return matrix, matrix, part


def _expected_without_edge(model: LanguageModel, sender: Tensor, receiver: str) -> Tensor:
    """Logits of the network when `receiver` does not read `sender`."""
    with contextlib.ExitStack() as stack:
        if receiver == "logits":
            norm = reference.final_norm(reference.network(model))
            stack.enter_context(reference.inputs_changed(norm, lambda x: x - sender))
        elif receiver.startswith("m"):
            norm = reference.norms(reference.layers(reference.network(model))[int(receiver[1:])])[1]
            stack.enter_context(reference.inputs_changed(norm, lambda x: x - sender))
        else:
            layer, head, kind = int(receiver[1]), int(receiver[4]), receiver[6]
            norm = reference.norms(reference.layers(reference.network(model))[layer])[0]
            module, project, part = _projection(model, layer, kind, head)
            incoming = reference.watch(reference.network(model), CLEAN, norm=norm)["norm"][0]
            replaced = project(reference.normed(norm, incoming - sender))[..., part]

            def change(x: Tensor) -> Tensor:
                x[..., part] = replaced
                return x

            stack.enter_context(reference.outputs_changed(module, change))
        return reference.logits(reference.network(model), CLEAN)[:, -1]


@pytest.mark.parametrize(
    "edge",
    [
        "input->a0.h1<q>",
        "a0.h2->a1.h0<k>",
        "m0->a1.h1<v>",
        "a1.h3->a2.h1<v>",
        "a0.h0->a2.h3<q>",
        "a1.h2->m1",
        "a0.h1->m2",
        "input->m0",
        "m1->logits",
        "a2.h1->logits",
    ],
)
def test_one_absent_edge_takes_its_sender_from_its_receiver_alone(model: LanguageModel, edge: str) -> None:
    graph = Graph.of(model.transformer.shape, "grouped")
    sender, receiver = edge.split("->")
    edges = graph.valid.copy()
    source = graph.src_names.index(sender)
    if not graph.valid[source, graph.dst_names.index(receiver)]:
        assert graph.parallel
        pytest.skip("attention and MLP run side by side: the graph has no such edge")
    edges[source, graph.dst_names.index(receiver)] = False
    output = record(model.transformer, graph, CLEAN).outputs[source]
    expected = _expected_without_edge(model, output, receiver)
    found = run_circuit(model.transformer, graph, edges, CLEAN)
    assert (found - model.transformer.logits(CLEAN)).abs().max() > 1e-6
    close(found, expected)


@pytest.mark.parametrize("kind", ["k", "v"])
def test_a_grouped_input_is_its_query_heads_inputs_together(load_tiny: Loader, kind: str) -> None:
    network = load_tiny("llama").transformer
    grouped, per_head = Graph.of(network.shape, "grouped"), Graph.of(network.shape, "per_head")
    few, many = grouped.valid.copy(), per_head.valid.copy()
    few[grouped.mlp(0), grouped.dst_names.index(f"a1.h1<{kind}>")] = False
    for head in (2, 3):
        many[per_head.mlp(0), per_head.dst_names.index(f"a1.h{head}<{kind}>")] = False
    found = run_circuit(network, grouped, few, CLEAN)
    close(found, run_circuit(network, per_head, many, CLEAN))
    many[per_head.mlp(0), per_head.dst_names.index(f"a1.h3<{kind}>")] = True
    assert (found - run_circuit(network, per_head, many, CLEAN)).abs().max() > 1e-6


def test_rows_of_a_batch_do_not_mix(model: LanguageModel, graph: Graph) -> None:
    edges = graph.valid & (np.random.default_rng(0).random(graph.valid.shape) < 0.7)
    together = run_circuit(model.transformer, graph, edges, CLEAN)
    close(together[1:], run_circuit(model.transformer, graph, edges, CLEAN[1:]))


@pytest.mark.parametrize("kv", ["grouped", "per_head"])
def test_answers_of_circuits_keep_the_order_of_prompts_of_any_length(load_tiny: Loader, kv: KvView) -> None:
    model = load_tiny("llama")
    graph = Graph.of(model.transformer.shape, kv)
    texts = ["France is in", "the capital of Italy is", "Peru is in", "a city of people in Peru"]
    prompts = [tokenise(model.text, text, "Rome") for text in texts]
    edges = graph.valid & (np.random.default_rng(1).random(graph.valid.shape) < 0.8)
    for prompt, answer in zip(prompts, circuit_answers(model, graph, edges, prompts), strict=True):
        p = run_circuit(model.transformer, graph, edges, model.batch([prompt.ids]))[0].softmax(-1)
        assert answer.p == pytest.approx(float(p[prompt.answer[0]]), abs=1e-12)
        assert answer.rank == int((p > p[prompt.answer[0]]).sum())


def test_a_hit_at_ten_is_a_rank_below_ten() -> None:
    answers = [Answer(rank, 0.1, 0, 0.5) for rank in (0, 9, 10)]
    assert hits(answers, 10) == [True, True, False]
    assert hits(answers, 1) == [True, False, False]


def test_the_negative_log_likelihood_is_the_mean_in_nats() -> None:
    answers = [Answer(0, np.exp(-1.0), 0, 0.5), Answer(0, np.exp(-3.0), 0, 0.5)]
    assert nll(answers) == pytest.approx(2.0)
    assert np.isfinite(nll([Answer(99, 0.0, 0, 1.0)]))
