from __future__ import annotations

import io
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mogemma_bench.embedding import measure_embedding
from mogemma_bench.generation import measure_generation
from mogemma_bench.output import to_json
from mogemma_bench.report import Result, write_table

if TYPE_CHECKING:
    from conftest import FakeEngine

COMMON: dict[str, type | tuple[type, ...]] = {
    "mode": str,
    "rounds": int,
    "load_s": float,
    "peak_rss_bytes": int,
    "bandwidth.bytes_per_token": int,
    "bandwidth.used_bytes_per_s": float,
    "bandwidth.machine_bytes_per_s": float,
    "compute.arithmetic": str,
    "compute.macs_per_token": int,
    "compute.used_macs_per_s": float,
    "compute.machine_macs_per_s": float,
    "compute.share": float,
    "roofline.int8_macs_per_s": float,
    "roofline.bfloat16_macs_per_s": (float, type(None)),
    "roofline.float32_macs_per_s": float,
    "roofline.read_bytes_per_s": float,
    "environment.python": str,
    "environment.platform": str,
    "environment.processor": str,
    "environment.cpu_level": str,
    "environment.threads": int,
    "environment.commit": (str, type(None)),
    "model.name": str,
    "model.sha256": str,
    "model.bytes": int,
    "model.family": str,
    "model.format": str,
    "model.arithmetic": str,
    "model.quantize": (str, type(None)),
}
GENERATION: dict[str, type | tuple[type, ...]] = {"time_to_first_token_s": float}
SPREADS = {
    "generation": ("prefill.tokens_per_second", "decode.tokens_per_second"),
    "embedding": ("embedding.tokens_per_second", "embedding.texts_per_second"),
}


@pytest.fixture(params=["generation", "embedding"])
def result(request: pytest.FixtureRequest, engine: FakeEngine, weights: Path, tell: Callable[[str], None]) -> Result:
    if request.param == "generation":
        return measure_generation(weights, lambda: engine, n_rounds=4, n_prompt_tokens=9, n_new_tokens=3, tell=tell)
    return measure_embedding(weights, lambda: engine, n_rounds=4, n_text_tokens=9, tell=tell)


def at(document: dict[str, Any], path: str) -> Any:
    value: Any = document
    for name in path.split("."):
        value = value[name]
    return value


def test_the_document_has_the_fields_that_others_read(result: Result) -> None:
    document = json.loads(to_json(result))
    fields = COMMON | (GENERATION if result.mode == "generation" else {})
    assert {
        path: type(at(document, path)) for path, kind in fields.items() if not isinstance(at(document, path), kind)
    } == {}


def test_the_document_has_every_sample_and_what_they_say(result: Result) -> None:
    document = json.loads(to_json(result))
    for path in SPREADS[result.mode]:
        spread = at(document, path)
        assert len(spread["samples"]) == document["rounds"] == 4
        assert spread["median"] == statistics.median(spread["samples"])
        assert (spread["min"], spread["max"]) == (min(spread["samples"]), max(spread["samples"]))


def test_the_table_shows_what_the_document_says(result: Result) -> None:
    table = io.StringIO()
    write_table(result, table)
    document = json.loads(to_json(result))
    for path in SPREADS[result.mode]:
        assert f"{at(document, path)['median']:,.1f} t" in table.getvalue()
    for words in ("tiny.gguf", "median of 4", "peak resident memory", "x86_64_v3", document["environment"]["python"]):
        assert words in table.getvalue()


def test_a_table_that_is_no_terminal_has_no_colours(result: Result) -> None:
    table = io.StringIO()
    write_table(result, table)
    assert "\x1b" not in table.getvalue()
