"""A saved model's tokenizer: its pipeline alone, without the library that converted it."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

CONVERTED = ("tokenizer.model", "vocab.json", "vocab.txt")
"""Files of older tokenizers, which transformers makes a pipeline of."""


def read_tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer of a folder; None where it holds none.

    Raises:
        ValueError: if it cannot be read.
    """
    path = folder / "tokenizer.json"
    try:
        if path.is_file():
            found = Tokenizer.from_file(str(path))
        elif any((folder / name).is_file() for name in CONVERTED):
            from transformers import AutoTokenizer  # takes seconds

            found = AutoTokenizer.from_pretrained(folder, local_files_only=True).backend_tokenizer
        else:
            return None
    except Exception as error:  # tokenizers raises plain exceptions
        reason = (str(error).strip().splitlines() or [""])[0]
        raise ValueError(
            f"model folder {folder}: its tokenizer cannot be read ({type(error).__name__}: {reason}); save it again"
        ) from error
    found.no_truncation()
    found.no_padding()
    return found


def token_text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Tokens as text, special tokens too."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=False))


def special_ids(tokenizer: Tokenizer) -> set[int]:
    """The tokens that no text is made of: added to the vocabulary, as begin and end of a text are."""
    return set(tokenizer.get_added_tokens_decoder())
