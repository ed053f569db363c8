"""Which files of a repository a model needs, told by their names: never a pickle, never another format's weights."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import PurePosixPath

from ..checkpoint.names import quote
from ..checkpoint.safetensors import CONFIG, INDEX
from ..errors import ModelFormatError, ModelNotFoundError, UnsupportedModelError
from .source import HubSource, is_inside

SINGLE = "model.safetensors"
ADAPTER = "adapter_config.json"
MODULES = "modules.json"
TOKENIZERS = ("tokenizer.json", "tokenizer.model")

_SIDE_FILES = (
    CONFIG,
    INDEX,
    MODULES,
    *TOKENIZERS,
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "config_sentence_transformers.json",
    "generation_config.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
)
"""What is read beside the weights."""

_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
_MODULE_FILE = re.compile(r"\d+_[A-Za-z]+/(config\.json|model\.safetensors)")
_PART_OF_SPLIT = re.compile(r"-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)
_QUANT = re.compile(r"(?:^|[-._])((?:UD-)?(?:I?Q\d[A-Z0-9_]*|BF16|F16|FP16|F32|MXFP4[A-Z_]*))$", re.IGNORECASE)
_NO_MODEL = ("mmproj", "imatrix", "mtp-")  # towers for images, statistics of a quantiser, draft models

_PREFERRED = ("Q4_K_M", "Q4_0", "Q5_K_M", "Q6_K", "Q8_0", "Q4_K_S", "Q5_K_S", "BF16", "F16", "F32")
"""Of several quantisations the first of these is taken: the smallest that costs little quality, then by size."""

_SHOWN = 12


def choose(source: HubSource, names: Collection[str]) -> list[str]:
    """The files to take of a repository (or of what is cached of it), the small ones first.

    Args:
        names: All that are there, with `/` between folders. Shards are those that are there; the index says which are needed.

    Raises:
        ModelFormatError: A name leads out of the repository.
        UnsupportedModelError: It is an adapter, or holds other formats only.
        ModelNotFoundError: What was asked for is not there, or several files fit.
    """
    for name in names:
        if not is_inside(name):
            raise ModelFormatError(
                f"{source.repo_id} lists a file {quote(name)}, which would be written outside of its folder. Nothing was "
                "downloaded. Take the model from somebody else."
            )
    ggufs = sorted(name for name in names if is_gguf_model(name))
    if source.which is not None:
        return [_asked_for(source, names, ggufs)]
    if SINGLE in names or INDEX in names:
        return _folder(source, names)
    if ggufs:
        return [_preferred(source, ggufs)]
    raise _no_model(source, names)


def quantisation(name: str) -> str:
    """Q4_K_M of gemma-3-1b-it-Q4_K_M.gguf; nothing where the name says none."""
    match = _QUANT.search(PurePosixPath(name).stem)
    return match[1].upper() if match else ""


def is_shard(name: str) -> bool:
    """Whether a file is one of several that hold the weights together."""
    return _SHARD.fullmatch(name) is not None


def is_gguf_model(name: str) -> bool:
    """Whether a file holds a model, and no tower for images, no draft model and no statistics."""
    base = PurePosixPath(name).name.lower()
    return base.endswith(".gguf") and not base.startswith(_NO_MODEL) and "imatrix" not in base


def _folder(source: HubSource, names: Collection[str]) -> list[str]:
    if CONFIG not in names:
        raise ModelFormatError(f"{source.repo_id} has weights but no {CONFIG}, which says what they mean.")
    small = [name for name in _SIDE_FILES if name in names and (name != INDEX or SINGLE not in names)]
    modules = sorted(name for name in names if _MODULE_FILE.fullmatch(name)) if MODULES in names else []
    weights = [SINGLE] if SINGLE in names else sorted(filter(is_shard, names))
    return [*small, *modules, *weights]


def _asked_for(source: HubSource, names: Collection[str], ggufs: list[str]) -> str:
    which = source.which or ""
    fitting = [name for name in ggufs if quantisation(name) == which.upper()]
    if which in names and which.endswith(".gguf"):
        fitting = [which]
    if len(fitting) == 1:
        return _whole(source, fitting[0])
    if fitting:
        raise ModelNotFoundError(f"Several files of {source.repo_id} are {which}: {listed(fitting)}. Name one of them.")
    raise ModelNotFoundError(
        f"{source.repo_id} has no GGUF file {quote(which)}, and none of that quantisation. It has {listed(ggufs)}."
    )


def _preferred(source: HubSource, ggufs: list[str]) -> str:
    if len(ggufs) == 1:
        return _whole(source, ggufs[0])
    whole = [name for name in ggufs if not _PART_OF_SPLIT.search(name)]
    for quant in _PREFERRED:
        fitting = [name for name in whole if quantisation(name) == quant]
        if len(fitting) == 1:
            return fitting[0]
    raise ModelNotFoundError(
        f"{source.repo_id} has several models: {listed(ggufs)}. Name one, such as {source.repo_id}:{ggufs[0]}."
    )


def _whole(source: HubSource, name: str) -> str:
    if _PART_OF_SPLIT.search(name):
        raise UnsupportedModelError(
            f"{source.repo_id}: {quote(name)} is one of the parts that a GGUF was split into. They are read when they are "
            "joined: download them, and run llama-gguf-split --merge."
        )
    return name


def _no_model(source: HubSource, names: Collection[str]) -> ModelNotFoundError | UnsupportedModelError:
    if ADAPTER in names:
        return UnsupportedModelError(
            f"{source.repo_id} is an adapter (LoRA), not a model: it changes another one, which its {ADAPTER} names. Merge "
            "the two (peft: merge_and_unload, save_pretrained) and give the folder, or take the model itself."
        )
    if any(map(is_shard, names)):
        return ModelNotFoundError(
            f"{source.repo_id} has shards of a model but no {INDEX}, which says what is in them. Take another copy."
        )
    return ModelNotFoundError(
        f"{source.repo_id} has no model as GGUF or safetensors, but {listed(sorted(names))}. Look for a copy in one of the two."
    )


def listed(names: Iterable[str]) -> str:
    """Names for a sentence, not too many of them."""
    several = list(names)
    shown = ", ".join(several[:_SHOWN]) + (", ..." if len(several) > _SHOWN else "")
    return shown or "nothing"
