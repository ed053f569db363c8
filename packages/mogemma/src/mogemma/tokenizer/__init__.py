"""String to token ids and back, exactly as SentencePiece does it for Gemma.

Read it in this order: `vocabulary` (what a model knows, from GGUF, tokenizer.model or tokenizer.json), `literals` (pieces
that are cut out of a text as they stand), `bpe` (how the rest is merged), `tokenizer` (all of it together).
"""

from __future__ import annotations

from .tokenizer import Tokenizer

__all__ = ["Tokenizer"]
