"""Seconds of an edit by each editor, and of ROME done plainly: whole forward and backward passes at each step.

Plain means what implementations of ROME over Hugging Face models do: all contexts and the essence prompt in one padded
batch, the change added by a hook on the edited MLP, the gradient through the whole network, at most 25 steps.
"""

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import median_of, once, say, table
from knowcirc.editing.editors import EDITORS
from knowcirc.editing.edits import Material, Request, request
from knowcirc.editing.making import default_layer, make_edit
from knowcirc.editing.sampling import sample_prefixes
from knowcirc.models.loading import LanguageModel
from unit import reference

TEMPLATE = "The official language of {} is"
FACTS = (("France", "German"), ("Japan", "Spanish"), ("Portugal", "Swahili"))
PREFIXES = [(5, 10), (10, 10)]
LAYER, STEPS = 3, 25


def measure_editing(model: LanguageModel, fast: LanguageModel, *, quick: bool) -> list[dict[str, object]]:
    """Median seconds per edit of each editor, and of plain ROME; all 25 steps are taken."""
    facts = FACTS[:1] if quick else FACTS
    requests = [request(model, TEMPLATE, *fact) for fact in facts]
    prefixes = sample_prefixes(fast, PREFIXES, 0)
    size = model.transformer.shape.d_mlp
    moment = torch.eye(size) + torch.ones(size, size) / size
    material = Material(lambda _: moment, lambda: prefixes)
    say(f"Editing: {len(facts)} facts, {len(prefixes) + 1} contexts, {STEPS} steps, no early stop")
    step, loss = plain_step(model, requests[0], prefixes)
    plain = STEPS * median_of(step, 2 if quick else 5)
    settings = {"stop_loss": 0.0, "steps": STEPS}
    start = make_edit("rome", model, requests[0], {**settings, "steps": 1, "layer": LAYER}, material)
    found: list[dict[str, object]] = [{"editor": "rome, plain", "seconds": plain, "times_as_fast": 1.0}]
    rows: list[list[object]] = [["rome, plain (from one step)", f"{plain:.2f}", "1"]]
    for editor, entry in EDITORS.items():
        layer = default_layer(editor, LAYER, model.transformer.shape.n_layers)
        given = {**settings, "layer": layer}
        own = {name: value for name, value in given.items() if name in entry.settings.model_fields}
        own |= {"steps": entry.default("steps")} if not entry.layered else {}  # steps of another kind
        own |= {"nullspace_threshold": 1.5} if "nullspace_threshold" in entry.chosen else {}  # most are 1
        seconds = statistics.median(once(_call(editor, fast, one_request, own, material)) for one_request in requests)
        ratio = plain / seconds if editor == "rome" else None
        found.append({"editor": editor, "seconds": seconds, "times_as_fast": ratio})
        rows.append([editor, f"{seconds:.2f}", "" if ratio is None else f"{ratio:.3g}"])
    table(["editor", "seconds", "times as fast"], rows)
    difference = abs(loss() - start.report["nll"])
    say(f"  plain ROME's first loss differs from ours by {difference:.1e} nats\n")
    return found


def _call(
    editor: str, model: LanguageModel, one_request: Request, settings: dict[str, object], material: Material
) -> Callable[[], object]:
    return lambda: make_edit(editor, model, one_request, settings, material)


def plain_step(
    model: LanguageModel, one_request: Request, prefixes: list[tuple[int, ...]]
) -> tuple[Callable[[], object], Callable[[], float]]:
    """One step of plain ROME, forwards and backwards; and its loss (nats, mean over contexts)."""
    if one_request.essence is None:
        raise ValueError("the request has no essence prompt")
    head, body = one_request.prompt.ids[:1], one_request.prompt.ids[1:]
    texts = [head + prefix + body + one_request.target[:-1] for prefix in [(), *prefixes]] + [one_request.essence.ids]
    at = [one_request.prompt.subject_last + len(prefix) for prefix in [(), *prefixes]] + [
        one_request.essence.subject_last
    ]
    width = max(map(len, texts))
    ids = model.batch([text + (text[-1],) * (width - len(text)) for text in texts])
    ends = torch.tensor([len(text) - 1 for text in texts[:-1]])
    delta = torch.zeros(model.transformer.shape.d_model, requires_grad=True)
    network: Any = reference.network(model)
    module = reference.mlp_out(reference.layers(network)[LAYER])

    def add(_module: object, _inputs: object, output: Tensor) -> Tensor:
        output = output.clone()
        output[range(len(at)), at] += delta
        return output

    def forward() -> Tensor:
        hook = module.register_forward_hook(add)
        try:
            logits = network(ids, use_cache=False).logits
        finally:
            hook.remove()
        rows = torch.arange(len(ends))[:, None]
        places = ends[:, None] - len(one_request.target) + 1 + torch.arange(len(one_request.target))
        chosen = (
            logits[rows, places]
            .log_softmax(-1)
            .gather(2, torch.tensor(one_request.target).expand(len(ends), -1)[..., None])
        )
        return -chosen.mean() + 0.0 * logits[-1, -1].log_softmax(-1).sum()

    def step() -> None:
        delta.grad = None
        with torch.enable_grad():
            forward().backward()

    return step, lambda: float(forward().detach())
