"""ROME, rank-one model editing (Meng et al. 2022, section 3.1 and appendix E.5).

1. k*: the MLP key at the subject's last token, averaged over sampled contexts and the bare prompt.
2. v*: the MLP output that makes the model say the new object there, found by Adam on a change delta of the present
   output: the target's negative log-likelihood, plus the KL divergence of "SUBJECT is a" from what it was, plus
   weight decay; delta stays within `clamp` times the present output's norm.
3. W' = W + (v* - W k) (C^-1 k*)^T / (k . C^-1 k*), with k the key of the bare prompt: rank one, and W' k = v*.

Only the tokens from the subject's last on, in the layers from the edited one up, depend on delta; the rest is run
once.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from knowcirc.editing.edits import Edit, Request, check_layer
from knowcirc.editing.moments import Moment
from knowcirc.models.loading import LanguageModel
from knowcirc.models.transformer import KeyValue, Transformer


@dataclass(frozen=True, slots=True)
class RomeSettings:
    """Paper names: `v_num_grad_steps` is `steps`, `kl_factor` and `clamp` (norm factor) as they are."""

    layer: int
    steps: int
    learning_rate: float
    weight_decay: float
    kl_factor: float
    clamp: float
    stop_loss: float

    def __post_init__(self) -> None:
        if self.steps < 1 or self.clamp <= 0 or self.learning_rate <= 0:
            raise ValueError(f"rome: steps, clamp and learning_rate must be positive, got {self}")


@dataclass(frozen=True, slots=True)
class _Rows:
    """Contexts of the request and the essence prompt, from the subject's last token on, before the edited MLP.

    Tokens are padded on the right, `past` (keys and values before the subject's last token) on the left.
    """

    middle: Float[Tensor, "row pos d_model"]
    hidden: Float[Tensor, "row d_mlp"]
    past: list[KeyValue]
    past_hidden: Bool[Tensor, "row past"]
    starts: Int[Tensor, " row"]
    essence_at: int


def edit(
    model: LanguageModel,
    request: Request,
    settings: RomeSettings,
    moment: Moment,
    prefixes: list[tuple[int, ...]],
) -> Edit:
    """The rank-one edit of one layer's MLP output matrix that makes the request true.

    Raises:
        ValueError: if the layer does not exist.
    """
    check_layer(model, settings.layer)
    network = model.transformer
    mlp = network.blocks[settings.layer].mlp
    rows = _prepare(model, request, settings.layer, prefixes)
    key, k_star = rows.hidden[0], rows.hidden[:-1].mean(0)
    present = mlp.read_out(key)
    v_star, report = _optimise(network, rows, request, settings, present)
    solved = torch.linalg.solve(moment.to(key.device).double(), k_star.double())
    change = (v_star.double() - present.double()) / (key.double() @ solved)
    weight = (mlp.w_out.double() + torch.outer(change, solved)).to(mlp.w_out.dtype)
    reached = torch.nn.functional.linear(key, weight, mlp.b_out)
    error = float((reached - v_star).norm() / v_star.norm())
    return Edit({settings.layer: weight}, {**report, "value_error": error})


@torch.no_grad()
def _prepare(model: LanguageModel, request: Request, layer: int, prefixes: list[tuple[int, ...]]) -> _Rows:
    """Run what the edit leaves alone: all layers up to the edited MLP, all tokens before the subject's last."""
    network, prompt, essence = model.transformer, request.prompt, request.essence
    if essence is None:
        raise ValueError("rome: the request has no essence prompt")
    special = _leading_special(prompt.ids, model)
    head, body = prompt.ids[:special], prompt.ids[special:]
    texts = [head + prefix + body + request.target[:-1] for prefix in [(), *prefixes]]
    lasts = [prompt.subject_last + len(prefix) for prefix in [(), *prefixes]]
    texts, lasts = [*texts, essence.ids], [*lasts, essence.subject_last]
    width = max(len(text) for text in texts)
    ids = model.batch([text + (text[-1],) * (width - len(text)) for text in texts])
    starts = torch.tensor(lasts, device=model.device)
    longest = max(lasts)
    reach = max(len(text) - last for text, last in zip(texts, lasts, strict=True))
    take = (starts[:, None] + torch.arange(reach, device=model.device)).clamp(max=width - 1)
    before = starts[:, None] - longest + torch.arange(longest, device=model.device)
    x = network.embed(ids)
    past: list[KeyValue] = []
    for current in range(network.shape.n_layers):
        if current > layer:
            keys, values = network.keys_values(current, x)
            past.append((_gather(keys, before.clamp(min=0)), _gather(values, before.clamp(min=0))))
        middle = x + network.attend(current, x)
        if current == layer:
            kept = _gather(middle, take)
            key = network.blocks[layer].mlp.hidden(network.blocks[layer].norm2(kept[:, 0]))
        x = middle + network.mlp(current, middle)
    return _Rows(kept, key, past, before < 0, starts, len(essence.ids) - 1 - essence.subject_last)


def _leading_special(ids: tuple[int, ...], model: LanguageModel) -> int:
    """How many special tokens the tokenizer put in front: prefixes go behind them."""
    special = set(model.text.all_special_ids)
    return next(index for index, token in enumerate(ids) if token not in special)


def _gather(x: Tensor, positions: Int[Tensor, "row pos"]) -> Tensor:
    """x[row, positions[row]] for each row."""
    return x[torch.arange(len(x), device=x.device)[:, None], positions]


def _optimise(
    network: Transformer, rows: _Rows, request: Request, settings: RomeSettings, present: Float[Tensor, " d_model"]
) -> tuple[Float[Tensor, " d_model"], dict[str, float]]:
    """v* and a report: steps taken, last losses (nats), size of the change relative to the value's norm."""
    delta = torch.zeros_like(present).requires_grad_()
    adam = torch.optim.Adam([delta], lr=settings.learning_rate)
    bound = settings.clamp * present.norm()
    with torch.no_grad():
        constant = rows.middle + network.mlp(settings.layer, rows.middle)
        _, reference = _read(network, rows, request, settings.layer, constant)
    for step in range(settings.steps):  # noqa: B007
        with torch.enable_grad():
            x = torch.cat(((constant[:, 0] + delta)[:, None], constant[:, 1:]), 1)
            target, essence = _read(network, rows, request, settings.layer, x)
            nll = -target.mean()
            kl = torch.nn.functional.kl_div(reference, essence, log_target=True, reduction="sum")
            kl = settings.kl_factor * kl
            decay = settings.weight_decay * (delta.norm() / present.norm() ** 2)
            loss = nll + kl + decay
        if loss < settings.stop_loss:
            break
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            if delta.norm() > bound:
                delta *= bound / delta.norm()
    delta = delta.detach()
    sizes = {"nll": nll.item(), "kl": kl.item(), "change": float(delta.norm() / present.norm())}
    return present + delta, {"steps": float(step + 1), **sizes}


def _read(
    network: Transformer, rows: _Rows, request: Request, layer: int, x: Float[Tensor, "row pos d_model"]
) -> tuple[Float[Tensor, "context target"], Float[Tensor, " vocab"]]:
    """Log-probabilities of the target's tokens in each context, and of all tokens after the essence prompt.

    `x` is the residual stream after the edited layer.
    """
    for current in range(layer + 1, network.shape.n_layers):
        x = network.advance(current, x, rows.starts, rows.past[current - layer - 1], rows.past_hidden)
    first = len(request.prompt.ids) - 1 - request.prompt.subject_last
    logits = network.unembed(x[:-1, first : first + len(request.target)])
    target = torch.tensor(request.target, device=x.device).expand(len(logits), -1)
    chosen = logits.log_softmax(-1).gather(2, target[..., None])[..., 0]
    return chosen, network.unembed(x[-1, rows.essence_at]).log_softmax(-1)
