"""Where the tests find their data and, where they are at hand, the real models."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from mogemma._native import runnable_levels
from mogemma.errors import KernelError

TESTS = Path(__file__).parent
DATA = TESTS / "data"

# What the tests compare with (blocks.py, products.py, reference.py ...) is imported by name.
sys.path.insert(0, str(TESTS))


def _levels() -> list[str]:
    try:
        return list(runnable_levels())
    except KernelError:
        return ["no kernels are built"]  # every test that needs one then fails, and says so


@pytest.fixture(scope="session", autouse=True)
def _hears_ctrl_c() -> None:
    """A shell without job control starts what runs in the background deaf to Ctrl-C, and so all that it starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", params=_levels())
def level(request: pytest.FixtureRequest) -> str:
    """Each CPU level that this machine can run, in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def data_path() -> Path:
    """The folder of small files that the tests bring along."""
    return DATA


@pytest.fixture(scope="session")
def gemma_270m_path() -> Path:
    """Gemma 3 270M, a GGUF file."""
    return _real_model("gemma-3-270m-q4_k_m.gguf")


@pytest.fixture(scope="session")
def embeddinggemma_path() -> Path:
    """EmbeddingGemma 300M, a folder of safetensors and tokenizer files."""
    return _real_model("embeddinggemma-300m")


def _real_model(name: str) -> Path:
    """A model in the folder that tools/fetch_models.py fills. Without it a test is left out, but never in CI."""
    path = Path(os.environ.get("MOGEMMA_MODELS") or Path.home() / ".cache" / "mogemma-models") / name
    if not path.exists():
        missing = f"{path} is missing: run tools/fetch_models.py"
        if os.environ.get("MOGEMMA_REQUIRE_REAL_MODELS"):
            pytest.fail(missing)
        pytest.skip(missing)
    return path
