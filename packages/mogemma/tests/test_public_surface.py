"""What a user may rely on: the names, the calls that the documentation shows, the tree of errors, the price of an import."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import mogemma
from mogemma import (
    AsyncEmbeddingModel,
    AsyncGemmaModel,
    EmbeddingConfig,
    EmbeddingModel,
    GenerationConfig,
    MogemmaError,
    SyncEmbeddingModel,
    SyncGemmaModel,
)

MODEL = object()
TEXT, TEXTS, IDS = "a", ["a", "b"], [2, 3]
MESSAGES = [{"role": "user", "content": "Hi"}]
SAMPLING: Any = {
    "max_tokens": 8,
    "temperature": 0.0,
    "top_k": 40,
    "top_p": 0.9,
    "min_p": 0.1,
    "repetition_penalty": 1.1,
    "frequency_penalty": 0.1,
    "presence_penalty": 0.1,
    "logit_bias": {7: 1.0},
    "stop": ["\n"],
    "seed": 1,
    "logprobs": 5,
}
CHAT: Any = {**SAMPLING, "tools": [print], "thinking": True, "strict": True, "parse_special": False}
LOADING: Any = {"context": 8192, "threads": 1}
GENERATION_CALLS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "generate": ((TEXT,), SAMPLING),
    "generate_stream": ((TEXT,), SAMPLING),
    "complete": ((TEXT,), SAMPLING),
    "chat": ((MESSAGES,), CHAT),
    "chat_stream": ((MESSAGES,), CHAT),
    "chat_events": ((MESSAGES,), CHAT),
    "logits": ((IDS,), {}),
    "score": ((TEXT,), {}),
    "count_tokens": ((TEXT,), {}),
    "close": ((), {}),
}
EMBEDDING_CALLS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "embed": ((TEXTS,), {"dimensions": 256}),
    "embed_query": ((TEXT,), {"dimensions": 256}),
    "embed_documents": ((TEXTS,), {"dimensions": 256}),
    "count_tokens": ((TEXT,), {}),
    "close": ((), {}),
}
STREAMS = {"generate_stream", "chat_stream", "chat_events"}
PAIRS = [
    (SyncGemmaModel, AsyncGemmaModel, GENERATION_CALLS),
    (SyncEmbeddingModel, AsyncEmbeddingModel, EMBEDDING_CALLS),
]
PYTHONS_OWN = {
    "ModelNotFoundError": FileNotFoundError,
    "DownloadError": OSError,
    "ModelAccessError": PermissionError,
    "ModelFormatError": ValueError,
    "UnsupportedModelError": ValueError,
    "TokenizerError": ValueError,
    "PromptError": ValueError,
    "ConfigError": ValueError,
    "ContextFullError": ValueError,
    "OutOfMemoryError": MemoryError,
    "ModelClosedError": RuntimeError,
    "CancelledError": RuntimeError,
    "KernelError": RuntimeError,
}


def python(program: str) -> str:
    """What a program of its own prints."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


def test_every_public_name_is_there_and_nothing_else_is_shown() -> None:
    assert all(hasattr(mogemma, name) for name in mogemma.__all__)
    assert sorted(dir(mogemma)) == sorted([*mogemma.__all__, "__version__"])
    assert sorted(set(mogemma.__all__)) == sorted(mogemma.__all__)
    with pytest.raises(AttributeError, match="no attribute 'GemmaModel'"):
        _ = mogemma.GemmaModel


def test_a_star_import_gives_what_all_lists() -> None:
    names: dict[str, Any] = {}
    exec("from mogemma import *", names)
    assert set(mogemma.__all__) == set(names) - {"__builtins__"}


def test_what_type_checkers_see_is_what_there_is() -> None:
    """The names stand twice in __init__.py: as imports for type checkers, and as strings for the lazy import."""
    tree = ast.parse(Path(str(mogemma.__file__)).read_text(encoding="utf-8"))
    typed = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {name.name for node in typed.body if isinstance(node, ast.ImportFrom) for name in node.names}
    assert imported == set(mogemma.__all__)
    assert Path(str(mogemma.__file__)).with_name("py.typed").exists()


def test_embedding_model_is_the_sync_one() -> None:
    assert EmbeddingModel is SyncEmbeddingModel


def test_the_version_is_that_of_the_distribution() -> None:
    assert mogemma.__version__ == version("mogemma")


def test_an_import_loads_nothing_heavy() -> None:
    """A command line tool that only shows its help must not wait for numpy."""
    heavy = {
        "numpy",
        "cffi",
        "tokenizers",
        "jinja2",
        "click",
        "rich",
        "asyncio",
        "concurrent.futures",
        "huggingface_hub",
    }
    assert python(f"import sys, mogemma; print({heavy!r} & set(sys.modules))") == "set()\n"


def test_each_public_name_can_be_the_first_that_is_used() -> None:
    """Lazy imports must not depend on each other's order."""
    program = f"""
import sys
for name in {mogemma.__all__}:
    for module in [module for module in sys.modules if module.startswith("mogemma")]:
        del sys.modules[module]
    exec(f"from mogemma import {{name}}")
"""
    assert python(program) == ""


@pytest.mark.parametrize(("sync", "asynchronous", "calls"), PAIRS)
def test_the_documented_calls_fit_the_signatures(sync: type, asynchronous: type, calls: dict[str, Any]) -> None:
    for kind in (sync, asynchronous):
        for name, (arguments, options) in calls.items():
            inspect.signature(getattr(kind, name)).bind(MODEL, *arguments, **options)


@pytest.mark.parametrize(("sync", "asynchronous", "calls"), PAIRS)
def test_async_classes_have_the_same_methods_as_coroutines(
    sync: type, asynchronous: type, calls: dict[str, Any]
) -> None:
    for name in calls:
        method = getattr(asynchronous, name)
        assert callable(getattr(sync, name))
        assert inspect.iscoroutinefunction(method) != (name in STREAMS)


@pytest.mark.parametrize(("sync", "asynchronous", "calls"), PAIRS)
def test_async_methods_take_what_the_sync_ones_take(sync: type, asynchronous: type, calls: dict[str, Any]) -> None:
    """But `cancel` and `on_progress`: a task is cancelled as a task, and callbacks would run in another thread."""
    for name in calls:
        theirs = set(inspect.signature(getattr(sync, name)).parameters) - {"cancel", "on_progress"}
        assert theirs <= set(inspect.signature(getattr(asynchronous, name)).parameters) | {"options"}, name


@pytest.mark.parametrize("kind", [SyncGemmaModel, SyncEmbeddingModel, AsyncGemmaModel, AsyncEmbeddingModel])
def test_every_model_has_a_tokenizer_and_a_description_and_closes_itself(kind: type) -> None:
    names = {"tokenizer", "info", "count_tokens", "close"}
    names |= {"__aenter__", "__aexit__"} if kind.__name__.startswith("Async") else {"__enter__", "__exit__"}
    assert names <= set(dir(kind))


def test_configs_take_a_model_and_the_options_by_name() -> None:
    assert GenerationConfig("m", **LOADING, **SAMPLING).top_k == 40
    assert EmbeddingConfig("m", dimensions=256, threads=1).dimensions == 256


@pytest.mark.parametrize("name", PYTHONS_OWN)
def test_every_error_is_a_mogemma_error_and_what_python_would_raise(name: str) -> None:
    error = getattr(mogemma, name)
    assert issubclass(error, MogemmaError)
    assert issubclass(error, PYTHONS_OWN[name])


def test_the_table_of_errors_is_complete() -> None:
    public = {name for name in mogemma.__all__ if name.endswith("Error")}
    assert public == {*PYTHONS_OWN, "MogemmaError"}
