"""Other libraries on the same weights and prompts, where they are installed (`make peers`).

| library | what is measured |
|---|---|
| transformer-lens | a forward pass with one hook that silences a head |
| auto-circuit | a patched forward pass, a test of its ACDC, its edge attribution patching |

auto-circuit's graph is the per-head one, its absent edges deliver the corrupted prompt's outputs, and its ACDC
measures KL divergence; none of that changes what a test costs. Its tests start at the receiver's layer.
"""

import io
import random
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy import ndarray

from benchmarks.timing import Timing, duration, median_of, once, say, side_by_side, table
from knowcirc.circuits.attribution import Targets, score_edges
from knowcirc.circuits.graph import Graph
from knowcirc.facts.prompts import Prompt
from knowcirc.models.loading import LanguageModel
from unit import reference

FOLDER = Path(__file__).resolve().parents[2] / ".peers"


@dataclass(frozen=True, slots=True)
class Setting:
    """What the peers are measured on: a prompt, its corrupted partner, the first layer whose edges are tested."""

    model: LanguageModel
    clean: Prompt
    partner: Prompt
    first_layer: int
    tests: int
    rounds: int

    @property
    def ids(self) -> torch.Tensor:
        """The prompt's ids as a batch."""
        return self.model.batch([self.clean.ids])


def measure_peers(setting: Setting) -> dict[str, object]:
    """Times of each peer, or why there are none."""
    if FOLDER.is_dir():
        sys.path.append(str(FOLDER))  # at the end: the project's own environment comes first
    say(f"Peers: {setting.clean.text!r} (corrupted: {setting.partner.text!r}), the same weights")
    found: dict[str, object] = {}
    measures: dict[str, Callable[[Setting], dict[str, object]]] = {
        "transformer-lens": _measure_lens,
        "auto-circuit": _measure_auto_circuit,
    }
    for name, measure in measures.items():
        try:
            found[name] = {"version": metadata.version(name), **measure(setting)}
        except metadata.PackageNotFoundError:
            found[name] = {"absent": "not installed"}
            say(f"  {name}: not installed (`make peers` installs it into .peers/)\n")
        except Exception as error:  # whatever another library may raise
            reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            found[name] = {"absent": reason}
            say(f"  {name}: cannot be measured here: {reason}\n")
    return found


def hooked(model: LanguageModel) -> Any:
    """The model as transformer-lens's `HookedTransformer`, its weights copied by transformer-lens's own conversion.

    Raises:
        RuntimeError: if a weight is left over.
        ValueError: if the model is none of the Llama family.
    """
    lens = import_module("transformer_lens")
    conversions = import_module("transformer_lens.pretrained.weight_conversions")
    shape, config = model.transformer.shape, reference.network(model).config
    if shape.family != "llama":
        raise ValueError(f"the benchmark builds Llama models for it, and this one is of the family {shape.family}")
    cfg = lens.HookedTransformerConfig(
        n_layers=shape.n_layers,
        d_model=shape.d_model,
        n_ctx=64,
        d_head=shape.d_head,
        n_heads=shape.n_heads,
        n_key_value_heads=shape.n_kv_heads,
        d_mlp=shape.d_mlp,
        d_vocab=shape.d_vocab,
        act_fn=config.hidden_act,
        normalization_type="RMS",
        eps=config.rms_norm_eps,
        positional_embedding_type="rotary",
        rotary_dim=shape.d_head,
        rotary_base=config.rope_parameters["rope_theta"],
        rotary_adjacent_pairs=False,
        gated_mlp=True,
        final_rms=True,
        original_architecture="LlamaForCausalLM",
        device="cpu",
        init_weights=False,
    )
    network = lens.HookedTransformer(cfg, move_to_device=False)
    left = network.load_state_dict(conversions.convert_llama_weights(reference.network(model), cfg), strict=False)
    if left.unexpected_keys:
        raise RuntimeError(f"the weight {left.unexpected_keys[0]} has no place in HookedTransformer")
    return network.eval().requires_grad_(False)


@torch.no_grad()
def _measure_lens(setting: Setting) -> dict[str, object]:
    network, ids = hooked(setting.model), setting.ids
    plain = reference.network(setting.model)

    def silence(value: torch.Tensor, hook: object) -> torch.Tensor:
        value[:, :, 0] = 0
        return value

    calls: dict[str, Callable[[], object]] = {
        "Hugging Face: forward pass": lambda: plain(ids, use_cache=False, logits_to_keep=1),
        "transformer-lens: forward pass, one head silenced": lambda: network.run_with_hooks(
            ids, fwd_hooks=[("blocks.0.attn.hook_z", silence)]
        ),
    }
    timings = [Timing.of(seconds) for seconds in side_by_side(calls, setting.rounds).values()]
    difference = float((network(ids)[:, -1] - setting.model.transformer.logits(ids)).abs().max())
    ratio = timings[1].median / timings[0].median
    table(
        ["", "ms", "× Hugging Face"],
        [[name, 1e3 * t.median, t.median / timings[0].median] for name, t in zip(calls, timings, strict=True)],
    )
    say(f"  largest difference of its logits from ours: {difference:.1e}\n")
    return {"hooked_forward_s": timings[1].median, "x_hugging_face": ratio, "logits_difference": difference}


def _measure_auto_circuit(setting: Setting) -> dict[str, object]:
    tools = import_module("auto_circuit.utils.graph_utils")
    ablations = import_module("auto_circuit.utils.ablation_activations")
    attribution = import_module("auto_circuit.prune_algos.mask_gradient")
    search = import_module("auto_circuit.prune_algos.ACDC")
    network = hooked(setting.model)
    network.set_use_attn_result(True)
    network.set_use_split_qkv_input(True)
    network.set_use_hook_mlp_in(True)
    network.set_ungroup_grouped_query_attention(True)
    patchable = tools.patchable_model(network, factorized=True, slice_output="last_seq", separate_qkv=True)
    edges, loader = patchable.edges, _loader(setting)
    delivered = ablations.src_ablations(patchable, setting.model.batch([setting.partner.ids]))

    def acdc(chosen: list[Any]) -> None:
        patchable.edges = set(chosen)
        search.acdc_prune_scores(patchable, loader, None, tao_exps=[-2], tao_bases=[5])
        patchable.edges = edges

    def attribute() -> dict[str, torch.Tensor]:
        scores: dict[str, torch.Tensor] = attribution.mask_gradient_prune_scores(
            patchable, loader, None, grad_function="logit", answer_function="avg_diff", mask_val=0.0
        )
        return scores

    late = [edge for edge in edges if edge.dest.layer > 2 * setting.first_layer]  # two of its layers to one of ours
    chosen = random.Random(0).sample(sorted(late, key=str), min(setting.tests, len(late)))
    plain, ids = reference.network(setting.model), setting.ids
    with redirect_stderr(io.StringIO()):  # its progress bars
        with torch.no_grad(), tools.patch_mode(patchable, delivered):
            patched = median_of(lambda: patchable(ids), setting.rounds)
        with torch.no_grad():
            forward = median_of(lambda: plain(ids, use_cache=False, logits_to_keep=1), setting.rounds)
        start_up = median_of(lambda: acdc([]), 1)
        a_test = (once(lambda: acdc(chosen)) - start_up) / len(chosen)
        attributed = median_of(attribute, max(1, setting.rounds // 3))
        theirs = attribute()
    graph = Graph.of(setting.model.transformer.shape, "per_head")
    ours = median_of(lambda: _our_scores(setting, graph), max(1, setting.rounds // 3))
    difference = _difference(graph, _our_scores(setting, graph), theirs)
    where = f"layers {setting.first_layer} and above" if setting.first_layer else "the whole graph"
    rows: list[tuple[str, float]] = [
        ("Hugging Face: forward pass", forward),
        ("auto-circuit: patched forward pass, whole", patched),
        (f"auto-circuit: ACDC, a test (mean of {len(chosen)} edges into {where})", a_test),
        ("auto-circuit: edge attribution patching", attributed),
        ("ours: edge attribution patching, the same graph", ours),
    ]
    table(["", "seconds", "× Hugging Face"], [[name, f"{s:.4f}", f"{s / forward:.2f}"] for name, s in rows])
    if not setting.first_layer:
        say(f"  one by one, its {len(edges):,} edges would take {duration(len(edges) * a_test)} (extrapolated)")
    say(f"  largest difference of its attribution scores from ours: {difference:.1e} of the largest\n")
    return {
        "edges": len(edges),
        "patched_forward_s": patched,
        "acdc_s_a_test": a_test,
        "acdc_tests": len(chosen),
        "acdc_first_layer": setting.first_layer,
        "eap_s": attributed,
        "our_eap_s": ours,
        "eap_difference": difference,
    }


def _loader(setting: Setting) -> Any:
    data = import_module("auto_circuit.data")
    clean, corrupted = (setting.model.batch([prompt.ids]) for prompt in (setting.clean, setting.partner))
    answers = [torch.tensor(prompt.answer[:1]) for prompt in (setting.clean, setting.partner)]
    pairs = data.PromptDataset(clean, corrupted, [answers[0]], [answers[1]])
    return data.PromptDataLoader(pairs, seq_len=clean.shape[1], diverge_idx=0, batch_size=1)


def _our_scores(setting: Setting, graph: Graph) -> ndarray:
    clean, partner = setting.clean, setting.partner
    targets = Targets(torch.tensor(clean.answer[:1]), torch.tensor(partner.answer[:1]))
    corrupted = setting.model.batch([partner.ids])
    return score_edges(setting.model.transformer, graph, setting.ids, corrupted, targets)


def _difference(graph: Graph, ours: ndarray, theirs: dict[str, torch.Tensor]) -> float:
    """The largest difference of scores over our largest; both number senders alike."""
    pairs = [(theirs[f"blocks.{graph.n_layers - 1}.hook_resid_post"], ours[:, graph.final])]
    for layer in range(graph.n_layers):
        pairs.append((theirs[f"blocks.{layer}.hook_mlp_in"], ours[graph.before_mlp(layer), graph.mlp_in(layer)]))
        for kind in ("q", "k", "v"):
            columns = graph.reads(layer, kind)
            pairs.append((theirs[f"blocks.{layer}.hook_{kind}_input"], ours[graph.before(layer), columns].T))
    return float(max(np.abs(a.numpy() - b).max() for a, b in pairs) / np.abs(ours).max())
