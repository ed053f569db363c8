from __future__ import annotations

import pytest

from mogemma_bench.engine import Precision
from mogemma_bench.library import facts_of

INFO = {
    "family": "gemma3",
    "context": 64,
    "threads": 1,
    "level": "some_level",
    "layer_weights": 3,
    "layer_bytes": 2,
    "head_bytes": 1,
}


@pytest.mark.parametrize(
    ("stored", "asked", "quantize", "computed"),
    [
        ("Q4_K", "int8", None, "int8"),
        ("Q4_K", "bfloat16", None, "int8"),
        ("Q4_K", "float32", None, "float32"),
        ("Q8_0", "int8", "bf16", "int8"),
        ("BF16", "int8", None, "float32"),
        ("F32", "int8", "bf16", "float32"),
        ("F32", "int8", "q8_0", "int8"),
        ("F16", "bfloat16", None, "bfloat16"),
        ("F32", "bfloat16", "bf16", "bfloat16"),
        ("F32", "bfloat16", "q8_0", "int8"),
        ("F32", "float32", "q8_0", "float32"),
    ],
)
def test_the_arithmetic_is_what_most_products_are_in(
    stored: str, asked: str, quantize: str | None, computed: str
) -> None:
    """Otherwise a speed would be compared with the peak of another instruction."""
    facts = facts_of({**INFO, "format": stored, "arithmetic": asked, "quantize": quantize})
    assert facts.arithmetic == computed
    assert facts.precision == Precision(asked, quantize)
