"""Where ROME's text and code differ: the settings that choose, held to a plain loop on the Hugging Face network."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from knowcirc.editing import memit, rome
from knowcirc.editing.edits import Matrix, Request, request
from knowcirc.editing.settings import MemitSettings, RomeSettings
from knowcirc.editing.values import keys_of
from knowcirc.models.loading import LanguageModel
from unit import reference

LAYER, STEPS, RATE, DECAY, KL, CLAMP = 1, 6, 0.3, 0.5, 0.0625, 4.0
PREFIXES = [(40, 41, 42), (50,), (60, 61, 62, 63, 64)]
VALUE = {
    "steps": STEPS,
    "learning_rate": RATE,
    "weight_decay": DECAY,
    "kl_factor": KL,
    "clamp": CLAMP,
    "stop_loss": 0.0,
}
CODED = {"counted": "losses", "kl_at": "token", "contexts": "text"}


def made(model: LanguageModel) -> Request:
    return request(model, "the capital of {} is", "New Zealand", "Tok Pisin")


def texts(model: LanguageModel) -> list[str]:
    """The contexts as ROME's code writes them: the bare prompt, then PREFIX. PROMPT."""
    prompt = "the capital of New Zealand is"
    return [prompt, *(f"{model.text.decode(list(prefix))}. {prompt}" for prefix in PREFIXES)]


def subject_last(model: LanguageModel, text: str) -> int:
    """The token that ends the last "New Zealand" of a text, by characters."""
    end = text.rindex("New Zealand") + len("New Zealand")
    return max(i for i, (start, stop) in enumerate(model.text.encode(text).offsets) if start < end <= stop)


def plain_loop(model: LanguageModel, asked: Request) -> tuple[Tensor, Tensor, Tensor]:
    """delta of ROME's code, and the target's mean NLL and the divergence at the last loss.

    Every text runs alone, so nothing is padded; delta is added to the MLP's output at the subject's last token.
    """
    network = reference.network(model)
    mlp = reference.layers(network)[LAYER].mlp
    rows = [tuple(model.text.encode(text).ids) for text in texts(model)]
    at = [subject_last(model, text) for text in texts(model)]
    essence, essence_at = tuple(model.text.encode("New Zealand is a").ids), subject_last(model, "New Zealand is a")
    present = reference.watch(network, model.batch([rows[0]]), out=mlp)["out"][-1][0, at[0]].detach()
    delta = torch.zeros_like(present).requires_grad_()
    adam = torch.optim.Adam([delta], lr=RATE)

    def logits(ids: tuple[int, ...], position: int) -> Tensor:
        handle = mlp.register_forward_hook(
            lambda _module, _args, output: (
                output
                + delta * torch.nn.functional.one_hot(torch.tensor(position), output.shape[1]).to(output)[None, :, None]
            )
        )
        try:
            return network(model.batch([ids])).logits[0]
        finally:
            handle.remove()

    before = None
    for step in range(STEPS):
        losses = []
        for ids, position in zip(rows, at, strict=True):
            found = logits(ids + asked.target[:-1], position)[len(ids) - 1 :].log_softmax(-1)
            losses.append(-found[range(len(asked.target)), list(asked.target)].mean())
        nll = torch.stack(losses).mean()
        kl_log_probs = logits(essence, essence_at)[essence_at].log_softmax(-1)
        before = kl_log_probs.detach() if before is None else before
        kl = KL * (kl_log_probs.exp() * (kl_log_probs - before)).sum()  # kl_div(before, now), as the code calls it
        loss = nll + kl + DECAY * delta.norm() / present.norm() ** 2
        if step == STEPS - 1:
            break
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            delta *= (CLAMP * present.norm() / delta.norm()).clamp(max=1.0)
    return delta.detach(), nll.detach(), kl.detach()


def test_rome_as_coded_is_the_plain_loop(model: LanguageModel) -> None:
    asked = made(model)
    settings = RomeSettings(layer=LAYER, **VALUE, **CODED)
    edit = rome.edit(model, asked, settings, None, PREFIXES)
    delta, nll, kl = plain_loop(model, asked)
    assert edit.report["nll"] == pytest.approx(float(nll), rel=1e-8)
    assert edit.report["kl"] == pytest.approx(float(kl), rel=1e-6)
    mlp = model.transformer.blocks[LAYER].mlp
    keys = keys_of(model, asked, LAYER, "subject_last", PREFIXES, "text")
    reached = torch.nn.functional.linear(keys[0], edit.weights[Matrix(LAYER)], mlp.b_out) - mlp.read_out(keys[0])
    assert torch.allclose(reached, delta, atol=1e-8)
    assert edit.report["steps"] == STEPS


@pytest.mark.parametrize("setting", sorted(CODED))
def test_each_difference_between_text_and_code_matters(model: LanguageModel, setting: str) -> None:
    asked = made(model)
    coded = RomeSettings(layer=LAYER, **VALUE, **CODED)
    other = RomeSettings(layer=LAYER, **VALUE, **{key: value for key, value in CODED.items() if key != setting})
    first, second = (rome.edit(model, asked, each, None, PREFIXES).weights[Matrix(LAYER)] for each in (coded, other))
    assert not torch.allclose(first, second, atol=1e-6)


def test_contexts_as_text_are_tokenised_as_texts(model: LanguageModel) -> None:
    """The keys behind a prefix are those of the whole text, read at the subject's last token."""
    asked, network = made(model), reference.network(model)
    found = keys_of(model, asked, LAYER, "subject_last", PREFIXES, "text")
    module = reference.mlp_out(reference.layers(network)[LAYER])
    for key, text in zip(found, texts(model), strict=True):
        ids = tuple(model.text.encode(text).ids)
        expected = reference.watch(network, model.batch([ids]), out=module)["out"][0][0, subject_last(model, text)]
        assert torch.allclose(key, expected, atol=1e-10)


def test_contexts_as_text_need_a_subject(model: LanguageModel) -> None:
    asked = replace(made(model), subject="")
    with pytest.raises(ValueError, match="contexts as text need the subject"):
        keys_of(model, asked, LAYER, "subject_last", PREFIXES, "text")


def test_without_second_moments_the_change_points_along_the_key(model: LanguageModel) -> None:
    """EasyEdit's settings of ROME: C is the identity."""
    asked = made(model)
    edit = rome.edit(model, asked, RomeSettings(layer=LAYER, **VALUE, second_moments=False), None, PREFIXES)
    k_star = keys_of(model, asked, LAYER, "subject_last", PREFIXES).mean(0)
    change = edit.weights[Matrix(LAYER)] - model.transformer.blocks[LAYER].mlp.w_out
    _, _, right = torch.linalg.svd(change)
    assert float(torch.nn.functional.cosine_similarity(right[0], k_star, 0).abs()) == pytest.approx(1.0, abs=1e-10)


def test_memits_keys_may_give_the_bare_prompt_one_half(model: LanguageModel) -> None:
    """As MEMIT's code averages: over the contexts of a kind, then over the kinds."""
    asked = made(model)
    size = model.transformer.shape.d_mlp
    moment = torch.eye(size, dtype=torch.float64)
    value = {**VALUE, "clamp": 1.0, "layer": LAYER, "span": 1, "moment_weight": 1.0}
    settings = MemitSettings(**value, averaged="kinds")
    edit = memit.edit(model, [asked], settings, lambda _: moment, PREFIXES)
    keys = keys_of(model, asked, LAYER, "subject_last", PREFIXES)
    key = keys[0] / 2 + keys[1:].mean(0) / 2
    change = edit.weights[Matrix(LAYER)] - model.transformer.blocks[LAYER].mlp.w_out
    _, _, right = torch.linalg.svd(change)
    direction = torch.linalg.solve(moment + torch.outer(key, key), key)
    assert float(torch.nn.functional.cosine_similarity(right[0], direction, 0).abs()) == pytest.approx(1.0, abs=1e-9)
    plain = memit.edit(model, [asked], MemitSettings(**value), lambda _: moment, PREFIXES)
    assert not torch.allclose(plain.weights[Matrix(LAYER)], edit.weights[Matrix(LAYER)])
