"""What an edit shall write: the keys of a fact's contexts, and the value that makes the model say the new object.

Shared by ROME (Meng et al. 2022, section 3.1 and appendix E.5), R-ROME, and MEMIT (Meng et al. 2023, section 4.2) with
its kin.
The value is found by Adam on a change delta of the edited MLP's output (before any norm behind it), at one token: the
target's negative log-likelihood over the contexts, plus the KL divergence of "SUBJECT is a" from what it was, plus
weight decay. Only the tokens from the edited one on, in the layers above, depend on delta; the rest is run once.
Where ROME's text and its code differ (contexts, the place of the divergence, the count of steps), a setting says which.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from knowcirc.editing.edits import Request, check_layer
from knowcirc.editing.settings import Joined, Token, ValueSettings
from knowcirc.facts.prompts import Prompt, subject_span
from knowcirc.models.loading import LanguageModel
from knowcirc.models.transformer import HookPoint, KeyValue, Transformer, unchanged

TOKENS: tuple[Token, ...] = get_args(Token)


@dataclass(frozen=True, slots=True)
class Rows:
    """The contexts of a request, the bare prompt first and the essence prompt last, from the edited token on.

    `middle` is the residual stream that the MLP's output is added to, `value` that output (`Mlp.read_out`). Tokens are
    padded on the right, `past` (keys and values before the edited token) on the left.
    """

    middle: Float[Tensor, "row pos d_model"]
    value: Float[Tensor, "row pos d_model"]
    past: list[KeyValue]
    past_hidden: Bool[Tensor, "row past"]
    starts: Int[Tensor, " row"]
    target_at: int
    essence_at: int


def position_of(prompt: Prompt, token: Token) -> int:
    """Where an edit works in a prompt.

    Raises:
        ValueError: if the prompt has no subject, or no such token.
    """
    last = prompt.subject_last
    if token == "subject_first":
        return prompt.span[0] if prompt.span else last
    if token == "subject_last":
        return last
    if token == "first_subsequent" and last + 1 == len(prompt.ids):
        raise ValueError(f"prompt {prompt.text!r} has no token after its subject to edit")
    return last + 1 if token == "first_subsequent" else len(prompt.ids) - 1


@dataclass(frozen=True, slots=True)
class _Contexts:
    """Token rows of equal width, where the edited token stands in each, and the longest stretch from there on."""

    ids: Int[Tensor, "row pos"]
    at: Int[Tensor, " row"]
    reach: int


def _contexts(
    model: LanguageModel, request: Request, token: Token, prefixes: list[tuple[int, ...]], joined: Joined = "tokens"
) -> _Contexts:
    """The request behind no text and behind each prefix, the target's tokens but the last after it; the essence."""
    prompt, essence = request.prompt, request.essence
    if essence is None:
        raise ValueError("the request has no essence prompt (SUBJECT is a); give it as texts")
    behind = _as_tokens if joined == "tokens" else _as_text
    prompts = [(prompt.ids, position_of(prompt, token)), *behind(model, request, token, prefixes)]
    texts = [ids + request.target[:-1] for ids, _ in prompts] + [essence.ids]
    at = [start for _, start in prompts] + [position_of(essence, token)]
    width = max(map(len, texts))
    if width > model.context:
        raise ValueError(
            f"prompt {prompt.text!r} and its target are {width} tokens behind the longest prefix, {model.folder} reads "
            f"{model.context}; shorten the prompt or the prefixes"
        )
    ids = model.batch([text + (text[-1],) * (width - len(text)) for text in texts])
    reach = max(len(text) - start for text, start in zip(texts, at, strict=True))
    return _Contexts(ids, torch.tensor(at, device=model.device), reach)


def _as_tokens(
    model: LanguageModel, request: Request, token: Token, prefixes: list[tuple[int, ...]]
) -> list[tuple[tuple[int, ...], int]]:
    """The prompt behind each prefix's tokens, and where its edited token stands."""
    prompt = request.prompt
    special = _leading_special(model, prompt.text)
    head, body = prompt.ids[:special], prompt.ids[special:]
    return [(head + prefix + body, position_of(prompt, token) + len(prefix)) for prefix in prefixes]


def _as_text(
    model: LanguageModel, request: Request, token: Token, prefixes: list[tuple[int, ...]]
) -> list[tuple[tuple[int, ...], int]]:
    """PREFIX. PROMPT for each prefix, as ROME's code writes it, and where its edited token stands.

    Raises:
        ValueError: if the request has no subject, or what follows the edited token is tokenised otherwise there.
    """
    prompt, tokenizer = request.prompt, model.text
    if prompt.span is None or not request.subject:
        raise ValueError("contexts as text need the subject; give the request as texts")
    subject = prompt.text.index(request.subject, tokenizer.encode(prompt.text).offsets[prompt.span[0]][0])
    rest = prompt.ids[position_of(prompt, token) + 1 :]
    found = []
    for prefix in prefixes:
        before = tokenizer.decode(list(prefix)).replace("\n\n", " ") + ". "
        text = before + prompt.text
        encoded = tokenizer.encode(text)
        span = subject_span(text, request.subject, encoded.offsets, len(before) + subject)
        ids = tuple(encoded.ids)
        at = position_of(replace(prompt, text=text, ids=ids, span=span), token)
        if ids[at + 1 :] != rest:
            raise ValueError(f"{text!r}: behind the prefix other tokens follow {token}; take contexts: tokens")
        found.append((ids, at))
    return found


def _leading_special(model: LanguageModel, text: str) -> int:
    """How many tokens the tokenizer puts in front of the text: prefixes go behind them."""
    put_there = model.text.encode(text).special_tokens_mask
    return next((index for index, special in enumerate(put_there) if not special), len(put_there))


@torch.no_grad()
def keys_of(
    model: LanguageModel,
    request: Request,
    layer: int,
    token: Token,
    prefixes: list[tuple[int, ...]],
    joined: Joined = "tokens",
) -> Float[Tensor, "context d_mlp"]:
    """The layer's MLP keys at the edited token, behind no text (first) and behind each prefix.

    Raises:
        ValueError: if the layer does not exist, or the request lacks the token.
    """
    check_layer(model, layer)
    contexts, network = _contexts(model, request, token, prefixes, joined), model.transformer
    x = network.embed(contexts.ids[:-1])
    for below in range(layer):
        x = network.advance(below, x)
    read = network.mlp_input(layer, x)
    block = network.blocks[layer]
    return block.mlp.hidden(block.norm2(_gather(read, contexts.at[:-1, None])[:, 0]))


@torch.no_grad()
def state_of(model: LanguageModel, request: Request, layer: int, token: Token) -> Float[Tensor, " d_model"]:
    """The residual stream after the layer, at the edited token of the bare prompt."""
    network, position = model.transformer, position_of(request.prompt, token)
    x = network.embed(model.batch([request.prompt.ids[: position + 1]]))
    for below in range(layer + 1):
        x = network.advance(below, x)
    return x[0, -1]


@torch.no_grad()
def prepare(
    model: LanguageModel,
    request: Request,
    layer: int,
    token: Token,
    prefixes: list[tuple[int, ...]],
    joined: Joined = "tokens",
) -> tuple[Rows, Float[Tensor, "context d_mlp"]]:
    """Run what delta leaves alone: all layers up to the edited MLP, all tokens before the edited one; and the keys.

    Raises:
        ValueError: if the layer does not exist, or the request lacks the token or its essence prompt.
    """
    check_layer(model, layer)
    contexts, network = _contexts(model, request, token, prefixes, joined), model.transformer
    width, starts, longest = contexts.ids.shape[1], contexts.at, int(contexts.at.max())
    take = (starts[:, None] + torch.arange(contexts.reach, device=model.device)).clamp(max=width - 1)
    before = starts[:, None] - longest + torch.arange(longest, device=model.device)
    x = network.embed(contexts.ids)
    past: list[KeyValue] = []
    found: dict[HookPoint, Tensor] = {}

    def hook(point: HookPoint, value: Tensor) -> Tensor:
        if point in ("middle", "keys"):
            found[point] = _gather(value, take)
        return value

    for current in range(network.shape.n_layers):
        if current > layer:
            keys, values = network.keys_values(current, x)
            past.append((_gather(keys, before.clamp(min=0)), _gather(values, before.clamp(min=0))))
        x = network.advance(current, x, hook=hook if current == layer else unchanged)
    value = network.blocks[layer].mlp.read_out(found["keys"])
    target_at = len(request.prompt.ids) - 1 - int(starts[0])
    assert request.essence is not None  # noqa: S101 (_contexts has refused it)
    essence_at = len(request.essence.ids) - 1 - int(starts[-1])
    return Rows(found["middle"], value, past, before < 0, starts, target_at, essence_at), found["keys"][:-1, 0]


def _gather(x: Tensor, positions: Int[Tensor, "row pos"]) -> Tensor:
    """x[row, positions[row]] for each row."""
    return x[torch.arange(len(x), device=x.device)[:, None], positions]


def optimise(
    network: Transformer,
    asked: Sequence[tuple[Request, Rows]],
    layer: int,
    settings: ValueSettings,
    present: Float[Tensor, " d_model"],
) -> tuple[Float[Tensor, " d_model"], dict[str, float]]:
    """delta, and a report: steps taken, last losses (nats), size of delta relative to `present`, what it changes.

    Several requests share one delta, of the mean of their losses (MEMIT-Merge).
    """
    delta = torch.zeros_like(present).requires_grad_()
    adam = torch.optim.Adam([delta], lr=settings.learning_rate)
    bound = settings.clamp * present.norm()
    held = [_held(network, request, rows, layer, settings) for request, rows in asked]
    for step in range(settings.steps):
        with torch.enable_grad():
            losses = torch.stack([_losses(network, each, layer, delta) for each in held]).mean(0)
            nll, kl = losses[0], settings.kl_factor * losses[1]
            decay = settings.weight_decay * (delta.norm() / present.norm() ** 2)
            loss = nll + kl + decay
        if loss < settings.stop_loss or (settings.counted == "losses" and step + 1 == settings.steps):
            break
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            if delta.norm() > bound:
                delta *= bound / delta.norm()
    delta = delta.detach()
    sizes = {"nll": nll.item(), "kl": kl.item(), "change": float(delta.norm() / present.norm())}
    return delta, {"steps": float(step + 1), **sizes}


@dataclass(frozen=True, slots=True)
class _Held:
    """What of a request does not depend on delta: its rows after the layer, and what follows SUBJECT is a."""

    request: Request
    rows: Rows
    constant: Float[Tensor, "row pos d_model"]
    reference: Float[Tensor, " vocab"]


@torch.no_grad()
def _held(network: Transformer, request: Request, rows: Rows, layer: int, settings: ValueSettings) -> _Held:
    if settings.kl_at == "token":
        rows = replace(rows, essence_at=0)
    constant = rows.middle + network.blocks[layer].mlp_out(rows.value)
    return _Held(request, rows, constant, _read(network, rows, request, layer, constant)[1])


def _losses(network: Transformer, held: _Held, layer: int, delta: Float[Tensor, " d_model"]) -> Float[Tensor, "loss"]:
    """The target's negative log-likelihood, and the divergence of what follows SUBJECT is a."""
    rows = held.rows
    edited = rows.middle[:, 0] + network.blocks[layer].mlp_out(rows.value[:, 0] + delta)
    x = torch.cat((edited[:, None], held.constant[:, 1:]), 1)
    target, essence = _read(network, rows, held.request, layer, x)
    kl = torch.nn.functional.kl_div(held.reference, essence, log_target=True, reduction="sum")
    return torch.stack((-target.mean(), kl))


def _read(
    network: Transformer, rows: Rows, request: Request, layer: int, x: Float[Tensor, "row pos d_model"]
) -> tuple[Float[Tensor, "context target"], Float[Tensor, " vocab"]]:
    """Log-probabilities of the target's tokens in each context, and of all tokens after the essence prompt.

    `x` is the residual stream after the edited layer.
    """
    for current in range(layer + 1, network.shape.n_layers):
        x = network.advance(current, x, rows.starts, rows.past[current - layer - 1], rows.past_hidden)
    logits = network.unembed(x[:-1, rows.target_at : rows.target_at + len(request.target)])
    target = torch.tensor(request.target, device=x.device).expand(len(logits), -1)
    chosen = logits.log_softmax(-1).gather(2, target[..., None])[..., 0]
    return chosen, network.unembed(x[-1, rows.essence_at]).log_softmax(-1)
