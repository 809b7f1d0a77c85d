"""Comparing this library's reading of a model with transformers' own: logits on a short input, and tokens of texts."""

import logging
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from knowcirc.cache import keeping
from knowcirc.files import atomic
from knowcirc.models.loading import check_stamp, load
from knowcirc.models.transformer import Transformer

LENGTH = 12  # tokens of the input that the forward passes are compared on
ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-4, torch.float16: 5e-2, torch.bfloat16: 0.2}
"""How far logits may lie apart, as a share of the largest."""
TEXTS = (
    "The official language of France is",
    " a b  c\n\n1,234.5 (x)",
    "Zürich, 中国 and naïve: don't",
    "print('a')\t#",
)
FACTS = (
    "The official language of France is French, and the capital of Japan is Tokyo.",
    "Water is made of hydrogen and oxygen; at sea level it boils at 100 degrees.",
    "William Shakespeare wrote Hamlet. Leo Tolstoy wrote War and Peace.",
    "The company Microsoft was founded by Bill Gates and has its head office in Redmond.",
    "A lion is an animal, an oak is a tree, and the opposite of hot is cold.",
    "The first president of the United States was George Washington.",
    "In 1969 two men walked on the moon, and the whole world watched it.",
    "The past tense of go is went, and the plural of mouse is mice.",
)
"""Texts whose next tokens float32 and half precision are compared on, at every position."""
AGREEING, APART = 0.95, 0.01
"""What half precision must reach there: the share of equal first tokens, and the mean KL divergence in nats."""
log = logging.getLogger(__name__)


def check_folder(folder: Path, view: Transformer, tokenizer: Tokenizer | None) -> None:
    """Make sure that a folder is read as transformers reads it, and remember it; other tokens are a warning.

    Raises:
        ValueError: if logits differ, or transformers cannot load it.
    """
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    settings: dict[str, Any] = {"attn_implementation": "eager", "local_files_only": True, "dtype": view.embedding.dtype}
    try:
        network: Any = AutoModelForCausalLM.from_pretrained(folder, **settings)
        check_view(network.to(view.device).eval(), view)
        if tokenizer is not None and (folder / "tokenizer.json").is_file():
            compare_tokens(folder, tokenizer)
    except ValueError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise ValueError(
            f"model folder {folder} cannot be read ({type(error).__name__}: {reason}); save the model again"
        ) from error
    with (
        keeping(f"what was found out about {folder}", "it is compared again next time"),
        atomic(check_stamp(folder)) as part,
    ):
        part.write_text(str(folder.absolute()), "utf-8")


@torch.no_grad()
def check_view(network: PreTrainedModel, view: Transformer) -> None:
    """Make sure that the family's adapter computes what the network does, on a short input.

    Raises:
        ValueError: if a logit differs by more than rounding explains.
    """
    ids = torch.arange(1, LENGTH + 1, device=view.device)[None] * (view.shape.d_vocab - 1) // LENGTH
    own, whole = view.logits(ids).double(), network(ids).logits[:, -1].double()
    if not torch.isfinite(whole).all():
        return  # what is run on such a model says so itself
    apart = float((own - whole).abs().max() / whole.abs().max().clamp(min=1.0))
    if not apart <= ROUNDING[view.embedding.dtype]:
        raise ValueError(
            f"{network.config.name_or_path or 'the model'}: this library's forward pass for family {view.shape.family} "
            f"departs from the model's own by {apart:.2g} of its largest logit; the family needs an adapter that "
            "computes all that this model does"
        )


@torch.no_grad()
def check_half(folder: Path, dtype: str) -> dict[str, float]:
    """How near a saved model in half precision comes to itself in float32, on the texts of `FACTS`.

    Gives `same_first_token` (share of positions) and `mean_kl` (from float32, nats).

    Raises:
        ValueError: if it does not come near enough for ranks of answers to be trusted, or the folder has no tokenizer.
    """
    exact, half = (load(folder, device="cpu", dtype=name) for name in ("float32", dtype))
    same, apart = [], []
    for text in FACTS:
        ids = exact.batch([tuple(exact.text.encode(text).ids)])
        expected, found = (_log_probabilities(model.transformer, ids) for model in (exact, half))
        same.append(expected.argmax(-1) == found.argmax(-1))
        apart.append((expected.exp() * (expected - found)).sum(-1))
    agreeing, distance = float(torch.cat(same).double().mean()), float(torch.cat(apart).mean())
    if not (agreeing >= AGREEING and distance <= APART):
        raise ValueError(
            f"{folder.name} in {dtype} says the same token first as in float32 at {agreeing:.0%} of positions, "
            f"{distance:.2g} nats apart ({AGREEING:.0%} and {APART} are asked); set its dtype to float32 in models.tsv"
        )
    return {"same_first_token": agreeing, "mean_kl": distance}


def _log_probabilities(model: Transformer, ids: Int[Tensor, "one pos"]) -> Float[Tensor, "pos vocab"]:
    """Log-probabilities of the token behind every position, in double precision."""
    *_, final = model.stream(ids)
    return model.unembed(final)[0].double().log_softmax(-1)


def compare_tokens(folder: Path, tokenizer: Tokenizer) -> None:
    """Say where transformers reads texts as other tokens than the folder's tokenizer.json, which is what counts here.

    For some classes of tokenizers it rebuilds the pipeline and leaves tokenizer.json aside.
    """
    whole: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    for text in TEXTS:
        if tokenizer.encode(text).ids != whole(text)["input_ids"]:
            log.warning("%s: tokenizer.json is followed; transformers reads %r as other tokens", folder, text)
            return
