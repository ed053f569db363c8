"""Google's Gemma models on the machine you have: text and embeddings, with the arithmetic in Mojo."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .async_model import AsyncEmbeddingModel, AsyncGemmaModel
    from .completion import ChatEvent, Completion, Timings, TokenLogprob, ToolCall, Usage
    from .config import EmbeddingConfig, GenerationConfig, SamplingConfig
    from .embedding_model import EmbeddingModel, SyncEmbeddingModel
    from .errors import (
        CancelledError,
        ConfigError,
        ContextFullError,
        DownloadError,
        KernelError,
        ModelAccessError,
        ModelClosedError,
        ModelFormatError,
        ModelNotFoundError,
        MogemmaError,
        OutOfMemoryError,
        PromptError,
        TokenizerError,
        UnsupportedModelError,
    )
    from .info import ModelInfo
    from .model import SyncGemmaModel
    from .roofline import Roofline, measure_roofline

_HOMES = {
    "async_model": ("AsyncEmbeddingModel", "AsyncGemmaModel"),
    "completion": ("ChatEvent", "Completion", "TokenLogprob", "Timings", "ToolCall", "Usage"),
    "config": ("EmbeddingConfig", "GenerationConfig", "SamplingConfig"),
    "errors": (
        "CancelledError",
        "ConfigError",
        "ContextFullError",
        "DownloadError",
        "KernelError",
        "ModelAccessError",
        "ModelClosedError",
        "ModelFormatError",
        "ModelNotFoundError",
        "MogemmaError",
        "OutOfMemoryError",
        "PromptError",
        "TokenizerError",
        "UnsupportedModelError",
    ),
    "info": ("ModelInfo",),
    "embedding_model": ("EmbeddingModel", "SyncEmbeddingModel"),
    "model": ("SyncGemmaModel",),
    "roofline": ("Roofline", "measure_roofline"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AsyncEmbeddingModel",
    "AsyncGemmaModel",
    "CancelledError",
    "ChatEvent",
    "Completion",
    "ConfigError",
    "ContextFullError",
    "DownloadError",
    "EmbeddingConfig",
    "EmbeddingModel",
    "GenerationConfig",
    "KernelError",
    "ModelAccessError",
    "ModelClosedError",
    "ModelFormatError",
    "ModelInfo",
    "ModelNotFoundError",
    "MogemmaError",
    "OutOfMemoryError",
    "PromptError",
    "Roofline",
    "SamplingConfig",
    "SyncEmbeddingModel",
    "SyncGemmaModel",
    "Timings",
    "TokenLogprob",
    "TokenizerError",
    "ToolCall",
    "UnsupportedModelError",
    "Usage",
    "measure_roofline",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import mogemma` alone loads neither numpy nor the kernels."""
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415  takes 30 ms

        return version("mogemma")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'mogemma' has no attribute {name!r}")
    return getattr(import_module(f".{_HOME_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
