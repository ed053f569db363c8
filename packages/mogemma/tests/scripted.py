"""The tiny Gemma 3 with the markers of Gemma 4, which says what it is told to: for what lies above the forward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkpoints import GEMMA, copy_gguf
from vocabularies import GEMMA_4_MARKERS

from mogemma import SyncGemmaModel
from mogemma.chat import ChatFormat
from mogemma.sampling import Sampler

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from mogemma.tokenizer import Tokenizer

SPARE = (4, 5, 6, 7, 8, 9, 505, 506, 507, 508, 509, 510)
"""Control tokens and placeholders of the tiny vocabulary, in whose places the markers stand."""

TEMPLATE = "{{ bos_token }}{% for m in messages %}<|turn>{{ m.role }}\n{{ m.content }}<turn|>\n{% endfor %}{{ '<|turn>model\n' }}"
"""What the file says of its turns."""


def write_gemma_4_like(folder: Path) -> Path:
    """A GGUF file that is a Gemma 3 by its numbers."""
    with SyncGemmaModel(GEMMA / "model.gguf", threads=1) as model:
        pieces = [model.tokenizer.piece_of(token) for token in range(512)]
        types = [model.tokenizer._vocabulary.types[token].item() for token in range(512)]
    for token, marker in zip(SPARE, GEMMA_4_MARKERS, strict=True):
        pieces[token], types[token] = marker, 4  # user-defined, as converters have it
    changes = {
        "tokenizer.ggml.tokens": pieces,
        "tokenizer.ggml.token_type": types,
        "tokenizer.chat_template": TEMPLATE,
    }
    return copy_gguf(GEMMA / "model.gguf", folder / "model.gguf", changes)


def as_gemma_4(model: SyncGemmaModel) -> SyncGemmaModel:
    """The model, as one of that family to all that writes and reads conversations."""
    model._chat_format = ChatFormat("gemma4", "builtin", model._checkpoint, model._tokenizer)
    return model


def say(monkeypatch: pytest.MonkeyPatch, tokenizer: Tokenizer, *texts: str) -> None:
    """Make every model say these texts, one after the other; markers in them are read as such."""
    ids = [token for text in texts for token in tokenizer.encode(text, add_bos=False, parse_special=True)]
    coming = iter(ids)
    monkeypatch.setattr(Sampler, "choose", lambda *_: next(coming))
