"""A saved model's tokenizer: its pipeline alone, without the library that converted it."""

import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

CONVERTED = ("tokenizer.model", "vocab.json", "vocab.txt")
"""Files of older tokenizers, which transformers makes a pipeline of."""
SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "additional_special_tokens")
UNREADABLE = "\N{REPLACEMENT CHARACTER}"
BYTE = re.compile("<0x([0-9A-F]{2})>")  # a byte as tokenizers with byte fallback (Llama) name it


def _byte_names() -> dict[str, int]:
    """The bytes by the characters that byte-level tokenizers (GPT-2) write them with.

    A byte that is a visible character of Latin-1 is that character; the others, in order, are those from 256 on.
    """
    visible = [byte for byte in range(256) if chr(byte).isprintable() and not chr(byte).isspace()]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + place): byte for place, byte in enumerate(hidden)}


BYTES = _byte_names()
log = logging.getLogger(__name__)


def read_tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer of a folder; None where it holds none, or only files that cannot be converted here.

    Raises:
        ValueError: if its tokenizer.json cannot be read.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        return _converted(folder) if any((folder / name).is_file() for name in CONVERTED) else None
    try:
        found = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises plain exceptions
        reason = (str(error).strip().splitlines() or [""])[0]
        raise ValueError(f"{path} cannot be read ({reason}); save the tokenizer again") from error
    return _ready(found, folder)


def _converted(folder: Path) -> Tokenizer | None:
    from transformers import AutoTokenizer  # takes seconds

    try:
        found: Tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True).backend_tokenizer
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        log.warning("the tokenizer of %s cannot be converted (%s); prompts must be given as token ids", folder, reason)
        return None
    return _ready(found, folder)


def _ready(tokenizer: Tokenizer, folder: Path) -> Tokenizer:
    """The tokenizer as texts are read: whole, and with the special tokens that the folder names."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    named = [name for name in _named(folder) if tokenizer.token_to_id(name) is not None]
    tokenizer.add_special_tokens(named)
    return tokenizer


def _named(folder: Path) -> list[str]:
    """The special tokens that the tokenizer's configuration names."""
    found: list[str] = []
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = folder / name
        said = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        for key in SPECIAL:
            values = said.get(key) or []
            for value in values if isinstance(values, list) else [values]:
                found.append(value["content"] if isinstance(value, dict) else str(value))
    return list(dict.fromkeys(found))


def token_text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Tokens as text, special tokens too."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=False))


def shown_token(tokenizer: Tokenizer, token: int) -> str:
    r"""One token as people read it, leading spaces kept: bytes that are no whole characters as `\xe2\x82`.

    A character that the vocabulary has no token for is several tokens, none of which decodes to a text.
    """
    text = token_text(tokenizer, [token])
    if UNREADABLE not in text:
        return text
    name = str(tokenizer.id_to_token(token))
    fallback = BYTE.fullmatch(name)
    if fallback:
        data = bytes([int(fallback[1], 16)])
    elif all(character in BYTES for character in name):
        data = bytes(BYTES[character] for character in name)
    else:
        data = name.encode()
    return data.decode("utf-8", "backslashreplace").replace(UNREADABLE, r"\xef\xbf\xbd")


def special_ids(tokenizer: Tokenizer) -> set[int]:
    """The tokens that no text is made of: added to the vocabulary, as begin and end of a text are."""
    return set(tokenizer.get_added_tokens_decoder())
