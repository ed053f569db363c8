from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from mogemma_bench.engine import Facts, Generated, Precision

FACTS = Facts(
    family="gemma3",
    format="Q8_0",
    precision=Precision("int8"),
    arithmetic="int8",
    context=64,
    threads=1,
    cpu_level="x86_64_v3",
    layer_weights=100_000_000,
    layer_bytes=75_000_000,
    head_bytes=178_000_000,
)


@dataclass
class FakeEngine:
    """Counts a token for every four characters and takes its time; what it was asked for is kept.

    Attributes:
        lie: Changes what a request claims of itself.
    """

    facts: Facts = FACTS
    lie: dict[str, Any] = field(default_factory=dict)
    prompts: list[str] = field(default_factory=list)
    batches: list[Sequence[str]] = field(default_factory=list)
    is_open: bool = True

    def count_tokens(self, text: str) -> int:
        return 1 + len(text) // 4

    def generate(self, prompt: str, n_new_tokens: int) -> Generated:
        self.prompts.append(prompt)
        start = time.perf_counter()
        time.sleep(0.001)
        half = (time.perf_counter() - start) / 2
        honest = Generated(
            prompt_tokens=self.count_tokens(prompt),
            cached_tokens=0,
            new_tokens=n_new_tokens,
            prefill_seconds=half,
            decode_seconds=half if n_new_tokens > 1 else 0.0,
            first_token_seconds=half,
        )
        return replace(honest, **self.lie)

    def embed(self, texts: Sequence[str]) -> None:
        self.batches.append(texts)
        time.sleep(0.001)

    def close(self) -> None:
        self.is_open = False


@pytest.fixture(scope="session", autouse=True)
def _hears_signals() -> Iterator[None]:
    """What a script starts in the background is deaf to Ctrl-C, what nohup starts to a closed terminal, and so is all that
    these start.
    """
    deaf = [number for number in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_IGN]
    for number in deaf:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number in deaf:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file that a model could be; the fake engine never reads it."""
    path = tmp_path / "tiny.gguf"
    path.write_bytes(b"GGUF, says the file")
    return path


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def tell(told: list[str]) -> Callable[[str], None]:
    return told.append
