"""Memory and threads: what a model takes is given back, by close() or by being forgotten, at once and every time."""

from __future__ import annotations

import asyncio
import gc
import os
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from checkpoints import EMBEDDING_GEMMA, GEMMA, QUANT_ZOO, TINY, copy_folder

from mogemma import AsyncGemmaModel, EmbeddingModel, SyncGemmaModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROC = Path("/proc/self")
WRITERS = {
    "safetensors": GEMMA,
    "gguf": GEMMA / "model.gguf",
    "quantised": QUANT_ZOO / "model.gguf",
    "streams": TINY / "gemma3n-text" / "model.gguf",
}
MB = 2**20

pytestmark = pytest.mark.skipif(not PROC.exists(), reason="only /proc tells a process's threads and pages")


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Without the garbage collector, which finds cycles some time later."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def resident_bytes() -> int:
    return int((PROC / "statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def n_threads() -> int:
    return len(os.listdir(PROC / "task"))


def n_mappings() -> int:
    return len((PROC / "maps").read_text().splitlines())


def n_files() -> int:
    return len(os.listdir(PROC / "fd"))


def settles(count: Callable[[], int], at: int) -> bool:
    """Whether it comes to that within a second: the system takes a thread off the list some time after its end."""
    deadline = time.monotonic() + 1
    while count() > at and time.monotonic() < deadline:
        time.sleep(0.01)
    return count() <= at


def write(path: Path) -> None:
    with SyncGemmaModel(path, threads=2) as model:
        model.generate([2, 5, 9], max_tokens=3)


def embed(path: Path) -> None:
    with EmbeddingModel(path, threads=2) as model:
        model.embed(["a", "some text"])


@pytest.mark.parametrize("name", [*WRITERS, "embedding"])
def test_a_hundred_loads_leave_nothing_behind(name: str) -> None:
    """No pages, threads, mappings or open files."""
    use, path = (embed, EMBEDDING_GEMMA) if name == "embedding" else (write, WRITERS[name])
    for _ in range(10):
        use(path)
    gc.collect()
    before, threads, mappings, files = resident_bytes(), n_threads(), n_mappings(), n_files()
    for _ in range(100):
        use(path)
    gc.collect()
    assert settles(n_threads, threads)
    assert n_files() <= files
    assert n_mappings() <= mappings + 5
    assert resident_bytes() - before < 4 * MB


@pytest.mark.filterwarnings("error")
def test_matrices_that_are_views_of_one_tensor_do_not_keep_the_file_mapped() -> None:
    """Experts lie in one tensor, of which each has a part."""
    path = TINY / "gemma4-moe"
    for _ in range(2):
        with SyncGemmaModel(path, threads=1) as model:
            model.logits([2, 3, 4])
            assert str(path) in (PROC / "maps").read_text()
        gc.collect()
        assert str(path) not in (PROC / "maps").read_text()


def test_a_forgotten_model_gives_back_its_threads_and_memory_at_once(no_collector: None) -> None:
    """No cycle of references keeps it, and nobody has to call close()."""
    threads, mappings = n_threads(), n_mappings()
    for path, kind in ((GEMMA, SyncGemmaModel), (EMBEDDING_GEMMA, EmbeddingModel)):
        for _ in range(5):
            model = kind(path, threads=3)
            assert n_threads() == threads + 2
            model.tokenizer.encode("some text")
            forgotten = weakref.ref(model)
            del model
            assert forgotten() is None
            assert settles(n_threads, threads)
    assert n_mappings() <= mappings + 5


def test_a_model_that_has_worked_is_in_no_cycle_either(no_collector: None) -> None:
    threads = n_threads()
    model = SyncGemmaModel(GEMMA, threads=3)
    model.complete("a", max_tokens=3, stop=["b"], logprobs=2)
    model.chat([{"role": "user", "content": "a"}], max_tokens=3)
    stream = model.generate_stream("a", max_tokens=50)
    next(stream)
    with pytest.raises(ValueError, match="temperature"):
        model.generate("a", temperature=-1)
    del model, stream
    assert settles(n_threads, threads)


def test_an_async_model_that_is_closed_gives_back_its_threads() -> None:
    async def main() -> None:
        async with AsyncGemmaModel(GEMMA, threads=3) as model:
            await model.generate("a", max_tokens=3)

    asyncio.run(main())
    threads = n_threads()
    for _ in range(5):
        asyncio.run(main())
    gc.collect()
    assert settles(n_threads, threads)


def test_forgotten_streams_give_back_their_caches(tmp_path: Path) -> None:
    """Each that is not read to its end had a KV cache of its own."""
    path = copy_folder(GEMMA, tmp_path / "model", {"max_position_embeddings": 1 << 17})
    with SyncGemmaModel(path, threads=1) as model:

        def leave_streams() -> None:
            streams = [model.generate_stream([2, *[7] * 600], seed=1) for _ in range(5)]
            for stream in streams:
                next(stream)

        leave_streams()
        before, mappings = resident_bytes(), n_mappings()
        for _ in range(10):
            leave_streams()
        assert resident_bytes() - before < 4 * MB
        assert n_mappings() <= mappings + 5


def test_long_generations_do_not_grow_the_process(tmp_path: Path) -> None:
    path = copy_folder(GEMMA, tmp_path / "model", {"max_position_embeddings": 4096})
    with SyncGemmaModel(path, threads=1) as model:
        model.complete([2], max_tokens=1000, stop_ids=())
        before = resident_bytes()
        for _ in range(3):
            model.complete([2], max_tokens=1000, stop_ids=())
        assert resident_bytes() - before < 2 * MB


def test_embedding_many_texts_takes_the_memory_of_one_batch() -> None:
    with EmbeddingModel(EMBEDDING_GEMMA, threads=1) as model:
        ids = [[2, *[7] * 200, 1]]
        model.embed(ids * 100)
        before = resident_bytes()
        vectors = model.embed(ids * 500)
        assert resident_bytes() - before < 8 * MB
        assert np.array_equal(vectors[0], vectors[-1])


def test_a_long_context_costs_nothing_until_it_is_used(tmp_path: Path) -> None:
    path = copy_folder(GEMMA, tmp_path / "model", {"max_position_embeddings": 1 << 22})
    before = resident_bytes()
    with SyncGemmaModel(path, threads=1) as model:
        model.generate([2], max_tokens=3)
        assert model.info.kv_cache_bytes > 200 * MB
        assert resident_bytes() - before < 16 * MB
