"""A tokenizer as `tokenizer.*` keys of GGUF: the other direction of `tokenizer.gguf`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..checkpoint.bounded_json import read_json_object
from ..checkpoint.files import is_file, read_small_file
from ..errors import ModelFormatError, UnsupportedModelError
from ..tokenizer.folder import read_folder_vocabulary
from ..tokenizer.vocabulary import PieceType

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ..tokenizer.vocabulary import Vocabulary

_SPACE = "▁".encode()
_MAX_TEMPLATE_BYTES = 1 << 20
_END_OF_TURN = b"<end_of_turn>"
_ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")
"""All that GGUF can name: the end of a sequence, of a turn and of a message."""


def tokenizer_metadata(folder: Path, n_rows: int, ends: Sequence[object], *, add_eos: bool | None) -> dict[str, Any]:
    """The keys of a model folder's tokenizer and of its chat template, if it has one.

    Args:
        folder: Where the tokenizer's files lie.
        n_rows: Token embeddings. A file has as many tokens: placeholders are added where the tokenizer has fewer, and
            tokens that the model has no embedding for (the image's of a text model) are left out.
        ends: What generation_config.json lists as ends of a text; what is no token of the model is passed over, as on load.
        add_eos: Whether the model expects EOS behind a text; None asks the files.

    Raises:
        TokenizerError: The folder has no tokenizer.
        ModelFormatError: A file is damaged.
        UnsupportedModelError: More tokens end a text than GGUF has keys for.
    """
    vocabulary = read_folder_vocabulary(folder, add_eos=add_eos)
    found = {**_vocabulary_keys(vocabulary, n_rows), **_ids(vocabulary, n_rows, ends, folder)}
    keys = {f"tokenizer.ggml.{key}": value for key, value in found.items()}
    template = _chat_template(folder)
    return keys if template is None else {**keys, "tokenizer.chat_template": template}


def _vocabulary_keys(vocabulary: Vocabulary, n_rows: int) -> dict[str, Any]:
    tokens = _tokens(vocabulary)[:n_rows]
    n_missing = n_rows - len(tokens)
    # Published files have <unk> as a control token.
    types = np.where(vocabulary.types == PieceType.UNKNOWN, PieceType.CONTROL, vocabulary.types)[:n_rows]
    tokens += [f"[PAD{index}]".encode() for index in range(len(tokens), n_rows)]
    return {
        "model": "llama",
        "pre": "default",
        "tokens": tokens,
        "scores": np.append(vocabulary.scores[:n_rows], np.full(n_missing, -1000, np.float32)),
        "token_type": np.append(types, np.full(n_missing, PieceType.UNUSED)).astype(np.int32),
        "add_bos_token": vocabulary.add_bos,
        "add_eos_token": vocabulary.add_eos,
        "add_space_prefix": False,
    }


def _ids(vocabulary: Vocabulary, n_rows: int, ends: Sequence[object], folder: Path) -> dict[str, int]:
    ids = {
        "bos_token_id": vocabulary.bos_id,
        "eos_token_id": vocabulary.eos_id,
        "unknown_token_id": vocabulary.unk_id,
        "padding_token_id": vocabulary.pad_id,
        "eot_token_id": vocabulary.of_type(PieceType.CONTROL).get(_END_OF_TURN),
    }
    kept = {key: token for key, token in ids.items() if token is not None and token < n_rows}
    known = {kept.get(key) for key in _ENDS}
    further = sorted({token for token in ends if type(token) is int and 0 <= token < n_rows} - known)
    free = [key for key in _ENDS[1:] if key not in kept]
    if len(further) > len(free):
        raise UnsupportedModelError(
            f"{folder}: generation_config.json lists tokens that end a text. Beside those of the tokenizer a GGUF file has "
            f"room for {len(free)} more, not for {len(further)}: {', '.join(map(str, further))}. Take some out of "
            "eos_token_id there, or use the model as it is, with quantize=."
        )
    return {**kept, **dict(zip(free, further, strict=False))}


def _tokens(vocabulary: Vocabulary) -> list[bytes]:
    """Each piece as GGUF spells it: those that are cut out of a text as they stand have real spaces."""
    cut_out = {PieceType.USER_DEFINED, PieceType.CONTROL}
    is_cut_out = np.isin(vocabulary.types, list(cut_out)).tolist()
    pieces = [vocabulary.pieces[token] for token in range(len(vocabulary.pieces))]
    return [piece.replace(_SPACE, b" ") if cut else piece for piece, cut in zip(pieces, is_cut_out, strict=True)]


def _chat_template(folder: Path) -> str | None:
    """From a file of its own, as newer models have it, or from tokenizer_config.json."""
    path = folder / "chat_template.jinja"
    if is_file(path):
        try:
            return read_small_file(path, _MAX_TEMPLATE_BYTES).decode()
        except UnicodeDecodeError as error:
            raise ModelFormatError(f"{path} is no UTF-8. Download it again.") from error
    config = folder / "tokenizer_config.json"
    template = read_json_object(config).get("chat_template") if is_file(config) else None
    if isinstance(template, list):  # several, by name
        named = {each.get("name"): each.get("template") for each in template if isinstance(each, dict)}
        template = named.get("default")
    if template is not None and not isinstance(template, str):
        raise ModelFormatError(f"{config}: chat_template is no text. Download the file again.")
    return template
