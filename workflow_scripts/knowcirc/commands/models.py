"""A model folder for a command: its sizes and its tokens before the weights are read, then the model itself."""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from knowcirc.commands.cases import Case
from knowcirc.facts.prompts import Prompt, tokenise
from knowcirc.models.config import read_config
from knowcirc.models.loading import LanguageModel, choose_device, context_of, load, shape_of
from knowcirc.models.shape import Shape
from knowcirc.models.tokens import read_tokenizer, shown_token

log = logging.getLogger(__name__)
Pair = tuple[Prompt, Prompt | None]


@dataclass(frozen=True, slots=True)
class Outline:
    """What a folder's configuration says: the sizes, and how many tokens a prompt may have."""

    folder: Path
    shape: Shape
    context: int


def read_outline(args: argparse.Namespace) -> Outline:
    """The outline of the folder `args.model`; the device is checked too.

    Raises:
        ValueError: if the folder or the device will not do.
    """
    choose_device(args.device)
    config = read_config(args.model)
    shape = shape_of(args.model, config)
    return Outline(args.model, shape, context_of(args.model, config))


def load_model(args: argparse.Namespace, processing: str = "none", *, fast: bool = False) -> LanguageModel:
    """The model of the options."""
    return load(args.model, device=args.device, dtype=args.dtype, processing=processing, fast=fast)


def load_tokenizer(folder: Path) -> Tokenizer:
    """The folder's tokenizer.

    Raises:
        ValueError: if it holds none.
    """
    found = read_tokenizer(folder)
    if found is None:
        raise ValueError(f"{folder} holds no tokenizer; give token ids (--ids, --answer-id) instead of texts")
    return found


def make_prompts(outline: Outline, cases: Sequence[Case]) -> list[Pair]:
    """The cases as tokens, each with its corrupted partner or None.

    Raises:
        ValueError: if a prompt does not fit the model, or a partner does not fit its prompt.
    """
    texts = any(isinstance(case.prompt, str) for case in cases)
    tokenizer = load_tokenizer(outline.folder) if texts else None
    pairs = []
    for case in cases:
        try:
            pairs.append(_pair(outline, tokenizer, case))
        except ValueError as error:
            raise ValueError(f"{case.where}: {error}" if case.where else str(error)) from None
    return pairs


def _pair(outline: Outline, tokenizer: Tokenizer | None, case: Case) -> Pair:
    """A case as tokens. Half a partner is filled up with the prompt's own text or answer."""
    prompt, partner = _prompt(tokenizer, case.prompt, case.answer, case.subject), None
    if case.corrupted is not None or case.wrong_answer is not None:
        text = case.prompt if case.corrupted is None else case.corrupted
        partner = _prompt(tokenizer, text, case.answer if case.wrong_answer is None else case.wrong_answer, None)
    if tokenizer is not None:
        _remark(tokenizer, case, prompt, partner)
    check_tokens(outline, prompt)
    if partner is None:
        return prompt, None
    check_tokens(outline, partner)
    if len(partner.ids) != len(prompt.ids):
        raise ValueError(
            f"the prompt has {len(prompt.ids)} tokens, the corrupted one {len(partner.ids)}; give a corrupted prompt "
            "of as many tokens"
        )
    if case.corrupted is not None and partner.ids == prompt.ids:
        raise ValueError("the corrupted prompt has the prompt's own tokens; give another one, or leave it out")
    if case.wrong_answer is not None and partner.answer[0] == prompt.answer[0]:
        raise ValueError(
            f"answer {prompt.answer_text!r} and wrong answer {partner.answer_text!r} have the same first token "
            f"{prompt.answer[0]}; the logit difference needs two"
        )
    return prompt, partner


def _remark(tokenizer: Tokenizer, case: Case, prompt: Prompt, partner: Prompt | None) -> None:
    """Log what is odd about the texts of a case, each once."""
    for text in (case.prompt, case.corrupted):
        if isinstance(text, str) and text != text.rstrip():
            log.warning("prompt %r ends with a space, and a space is put before the answer; leave it out", text)
    for answer, found in ((case.answer, prompt), (case.wrong_answer, partner)):
        if isinstance(answer, str) and found is not None and len(found.answer) > 1:
            first = shown_token(tokenizer, found.answer[0])
            log.info("answer %r has %d tokens; its first, “%s”, is measured", answer, len(found.answer), first)


def _prompt(
    tokenizer: Tokenizer | None,
    prompt: str | tuple[int, ...],
    answer: str | int,
    subject: str | tuple[int, ...] | None,
) -> Prompt:
    if tokenizer is None or not isinstance(prompt, str):
        ids, target, span = prompt, int(answer), None if subject is None else (int(subject[0]), int(subject[1]))
        if span is not None and span[1] > len(ids):
            raise ValueError(f"subject span {span[0]}:{span[1]} goes beyond the prompt's {len(ids)} tokens")
        return Prompt(" ".join(map(str, ids)), tuple(map(int, ids)), span, str(answer), (target,))
    return tokenise(tokenizer, prompt, str(answer), None if subject is None else str(subject))


def check_tokens(outline: Outline, prompt: Prompt, *, before: int = 0) -> None:
    """Make sure that the model can read the prompt, behind so many tokens of a prefix, and say its answer.

    Raises:
        ValueError: for no tokens, too many, or ids outside the vocabulary.
    """
    if not prompt.ids:
        raise ValueError(f"prompt {prompt.text!r} has no tokens; give a longer one")
    if before and len(prompt.ids) + len(prompt.answer) - 1 + before > outline.context:
        raise ValueError(
            f"the prompt has {len(prompt.ids)} tokens and is read behind prefixes of up to {before}, this model reads "
            f"{outline.context}; shorten it"
        )
    if len(prompt.ids) + len(prompt.answer) - 1 > outline.context:
        raise ValueError(f"the prompt has {len(prompt.ids)} tokens, this model reads {outline.context}; shorten it")
    if (worst := max(*prompt.ids, *prompt.answer)) >= outline.shape.d_vocab:
        raise ValueError(
            f"token id {worst} is outside the model's vocabulary; its ids are 0 to {outline.shape.d_vocab - 1}"
        )


def names_of(model: LanguageModel, ids: Sequence[int]) -> list[str]:
    """The tokens as texts, or as numbers where the folder holds no tokenizer."""
    return [str(token) if model.tokenizer is None else shown_token(model.tokenizer, token) for token in ids]
