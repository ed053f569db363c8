"""Where the tests find their data and, where they are at hand, the real models."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from mogemma._native import runnable_levels
from mogemma.errors import KernelError

# No test reaches a network, whatever it does wrong: the hub is a closed port of this machine, and its cache is nowhere. Set
# before anything imports huggingface-hub, which reads them once; processes that tests start inherit them.
for _name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE"):
    os.environ.pop(_name, None)
for _name in (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "TRANSFORMERS_OFFLINE",
):
    os.environ.pop(_name, None)
os.environ |= {
    "HF_ENDPOINT": "http://127.0.0.1:9",
    "HF_HOME": "/no/hub",
    "HF_HUB_DISABLE_XET": "1",  # the loopback hub speaks plain HTTP
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "NO_PROXY": "*",
}

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


@pytest.fixture(scope="session", autouse=True)
def _stays_on_this_machine() -> Any:
    """A connection to any other machine fails in this process before it is tried."""
    connect = socket.socket.connect

    def only_here(self: socket.socket, address: Any) -> None:
        if self.family in {socket.AF_INET, socket.AF_INET6} and address[0] not in {"127.0.0.1", "::1", "localhost"}:
            raise OSError(f"a test connects to {address}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", only_here)
        yield


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
