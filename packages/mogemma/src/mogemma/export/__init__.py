"""A checkpoint of floats to a GGUF file of quantised weights, which llama.cpp reads too.

Read it in this order: `plan` (which tensors the file gets, under which names and in which types), `metadata` (what it says
about the model) with a file for each family, `vocabulary` (its tokenizer), `write` (all of it, a few megabytes at a time).
"""

from __future__ import annotations

from .write import Written, write_gguf

__all__ = ["Written", "write_gguf"]
