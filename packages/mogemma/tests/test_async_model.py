"""The async classes: what the sync ones give, while the event loop goes on, and an end at once for whoever is cancelled."""

from __future__ import annotations

import asyncio
import gc
import math
import time
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pytest
from checkpoints import EMBEDDING_GEMMA, GEMMA, copy_folder

from mogemma import (
    AsyncEmbeddingModel,
    AsyncGemmaModel,
    ConfigError,
    ContextFullError,
    GenerationConfig,
    ModelClosedError,
    ModelNotFoundError,
    SyncEmbeddingModel,
    SyncGemmaModel,
    TokenizerError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
    from pathlib import Path

Result = TypeVar("Result")
HELLO = [{"role": "user", "content": "Hello"}]
PROMPT = "Once upon a time"
ENDLESS: Mapping[str, Any] = {"max_tokens": 100_000, "logit_bias": {1: -math.inf, 9: -math.inf}}
"""Neither end of sequence nor end of turn is ever chosen."""
AT_ONCE = 2.0
"""Seconds within which a call ends that is cancelled; it takes milliseconds, on a machine with nothing else to do."""


@pytest.fixture(scope="module")
def endless_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with room for a generation of minutes, or a prefill of seconds."""
    return copy_folder(GEMMA, tmp_path_factory.mktemp("endless") / "model", {"max_position_embeddings": 1 << 17})


@pytest.fixture
def sync() -> Iterator[SyncGemmaModel]:
    with SyncGemmaModel(GEMMA, threads=1) as model:
        yield model


def run(work: Callable[[AsyncGemmaModel], Coroutine[Any, Any, Result]], path: Path = GEMMA, **options: Any) -> Result:
    """What `work` gives with a model that is open for as long."""

    async def main() -> Result:
        async with AsyncGemmaModel(path, **{"threads": 1, **options}) as model:
            return await work(model)

    return asyncio.run(main())


def test_coroutines_give_what_the_sync_model_gives(sync: SyncGemmaModel) -> None:
    options: Any = {"max_tokens": 20, "seed": 5}

    async def work(model: AsyncGemmaModel) -> None:
        assert await model.generate(PROMPT, **options) == sync.generate(PROMPT, **options)
        found, expected = await model.complete(PROMPT, **options), sync.complete(PROMPT, **options)
        assert (found.token_ids, found.usage.prompt_tokens) == (expected.token_ids, expected.usage.prompt_tokens)
        assert (await model.chat(HELLO, **options)).text == sync.chat(HELLO, **options).text
        assert np.array_equal(await model.logits([2, 3, 4]), sync.logits([2, 3, 4]))
        assert np.array_equal(await model.score(PROMPT), sync.score(PROMPT))
        assert await model.count_tokens(PROMPT) == sync.count_tokens(PROMPT)
        assert model.tokenizer.encode(PROMPT) == sync.tokenizer.encode(PROMPT)
        assert (model.info.family, model.info.context) == (sync.info.family, sync.info.context)

    run(work)


def test_async_streams_give_the_same_pieces(sync: SyncGemmaModel) -> None:
    options: Any = {"max_tokens": 20, "seed": 5}

    async def work(model: AsyncGemmaModel) -> None:
        pieces = [piece async for piece in model.generate_stream(PROMPT, **options)]
        assert pieces == list(sync.generate_stream(PROMPT, **options))
        pieces = [piece async for piece in model.chat_stream(HELLO, **options)]
        assert pieces == list(sync.chat_stream(HELLO, **options))

    run(work)


def test_coroutines_at_the_same_time_get_what_they_get_alone(sync: SyncGemmaModel) -> None:
    expected = [sync.generate(PROMPT, seed=seed, max_tokens=15) for seed in range(4)]

    async def joined(model: AsyncGemmaModel, seed: int) -> str:
        return "".join([piece async for piece in model.generate_stream(PROMPT, seed=seed, max_tokens=15)])

    async def work(model: AsyncGemmaModel) -> None:
        whole = [model.generate(PROMPT, seed=seed, max_tokens=15) for seed in range(4)]
        streamed = [joined(model, seed) for seed in range(4)]
        assert await asyncio.gather(*whole, *streamed) == expected * 2

    run(work)


@asynccontextmanager
async def heartbeat() -> AsyncIterator[list[float]]:
    """A task that wants to run each millisecond; the times when it did."""
    beats = [time.perf_counter()]

    async def beat() -> None:
        while True:
            beats.append(time.perf_counter())
            await asyncio.sleep(0.001)

    task = asyncio.create_task(beat())
    try:
        yield beats
        beats.append(time.perf_counter())
    finally:
        task.cancel()


def stall(beats: list[float]) -> str:
    """What is wrong with the beats, if anything is.

    A call that blocks the loop shows as one long gap; kernels that hold the GIL would let few beats through. Both are measured
    against the work, which is as slow as the loop where others use the machine too.
    """
    gaps = np.diff(beats)
    assert gaps.sum() > 0.2
    if gaps.max() < 0.05 + gaps.sum() / 4 and gaps.mean() < 0.02:
        return ""
    return (
        f"of {gaps.sum():.3f} s the loop stood still for {gaps.max():.3f} s at a time, {gaps.mean():.3f} s on average"
    )


async def assert_never_stalls(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """What blocks the loop does so each time; a machine that takes the processor away for a while does it now and then."""
    found = []
    for _ in range(3):
        async with heartbeat() as beats:
            await work()
        found.append(stall(beats))
        if not found[-1]:
            return
    raise AssertionError(found)


def test_what_blocks_the_event_loop_is_found() -> None:
    async def work() -> None:
        time.sleep(0.3)  # noqa: ASYNC251  this is what is to be found

    async def main() -> None:
        with pytest.raises(AssertionError, match="the loop stood still for 0"):
            await assert_never_stalls(work)

    asyncio.run(main())


def test_the_event_loop_never_stalls_during_prefill_and_decode(endless_path: Path) -> None:
    async def work(model: AsyncGemmaModel) -> None:
        await model.complete([2, *range(20, 500)] * 25, max_tokens=1)
        await model.complete(PROMPT, max_tokens=500, stop_ids=())
        async for _ in model.generate_stream(PROMPT, max_tokens=200):
            pass

    run(lambda model: assert_never_stalls(lambda: work(model)), endless_path)


def test_the_event_loop_never_stalls_on_a_real_model(gemma_270m_path: Path) -> None:
    """Not while it is loaded, while the vocabulary of 262144 pieces is read, or during a prefill of seconds."""

    async def work() -> None:
        async with await AsyncGemmaModel.load(gemma_270m_path, context=2048) as model:
            await model.count_tokens(PROMPT)
            await model.complete([2, *range(1000, 2500)], max_tokens=4)

    asyncio.run(assert_never_stalls(work))


def test_the_event_loop_never_stalls_while_texts_are_embedded(embeddinggemma_path: Path) -> None:
    async def work() -> None:
        async with await AsyncEmbeddingModel.load(embeddinggemma_path) as model:
            await model.embed(["some words of a text"] * 20)

    asyncio.run(assert_never_stalls(work))


async def cancel_in_a_moment(task: asyncio.Task[Any]) -> None:
    await asyncio.sleep(0.1)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("part", ["prefill", "decode"])
def test_a_cancelled_task_ends_its_work_and_leaves_the_model_usable(
    endless_path: Path, sync: SyncGemmaModel, part: str
) -> None:
    prompt = [2, *range(20, 500)] * 200 if part == "prefill" else [2]
    expected = sync.generate(PROMPT, max_tokens=10, seed=1)

    async def work(model: AsyncGemmaModel) -> None:
        task = asyncio.create_task(model.complete(prompt, stop_ids=()))
        await cancel_in_a_moment(task)
        start = time.perf_counter()
        assert await model.generate(PROMPT, max_tokens=10, seed=1) == expected
        assert time.perf_counter() - start < AT_ONCE

    run(work, endless_path)


def test_a_task_that_is_cancelled_while_it_reads_a_stream_ends_the_work(
    endless_path: Path, sync: SyncGemmaModel
) -> None:
    expected = sync.generate(PROMPT, max_tokens=10, seed=1)

    async def read(model: AsyncGemmaModel) -> None:
        async for _ in model.generate_stream([2], **ENDLESS):
            pass

    async def work(model: AsyncGemmaModel) -> None:
        await cancel_in_a_moment(asyncio.create_task(read(model)))
        assert await model.generate(PROMPT, max_tokens=10, seed=1) == expected

    run(work, endless_path)


def test_a_task_that_waits_for_its_turn_can_be_cancelled(endless_path: Path) -> None:
    async def work(model: AsyncGemmaModel) -> None:
        scoring = asyncio.create_task(model.score([2, *range(20, 500)] * 200))
        for waiting in (model.complete(PROMPT), model.logits([2]), model.count_tokens(PROMPT)):
            task = asyncio.create_task(waiting)
            await asyncio.sleep(0.01)
            assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await cancel_in_a_moment(scoring)

    run(work, endless_path)


def test_leaving_an_async_stream_ends_its_work(endless_path: Path, sync: SyncGemmaModel) -> None:
    expected = sync.generate(PROMPT, max_tokens=10, seed=1)

    async def work(model: AsyncGemmaModel) -> None:
        async with aclosing(model.generate_stream([2], **ENDLESS)) as stream:  # type: ignore[type-var]
            async for _ in stream:
                break
        assert await model.generate(PROMPT, max_tokens=10, seed=1) == expected

    run(work, endless_path)


def test_an_async_stream_that_is_forgotten_ends_its_work(endless_path: Path, sync: SyncGemmaModel) -> None:
    expected = sync.generate(PROMPT, max_tokens=10, seed=1)

    async def work(model: AsyncGemmaModel) -> None:
        async for _ in model.generate_stream([2], **ENDLESS):
            break
        gc.collect()
        assert await model.generate(PROMPT, max_tokens=10, seed=1) == expected

    run(work, endless_path)


def test_streams_take_turns(endless_path: Path) -> None:
    """The second does not wait until the first has ended."""

    async def work(model: AsyncGemmaModel) -> None:
        order: list[str] = []

        async def read(name: str) -> None:
            async for _ in model.generate_stream([2], max_tokens=60, seed=1):
                order.append(name)  # noqa: PERF401  when it comes is what matters

        await asyncio.gather(read("a"), read("b"))
        assert order.index("b") < 30

    run(work, endless_path)


def test_a_short_text_does_not_wait_for_a_long_one(endless_path: Path) -> None:
    async def work(model: AsyncGemmaModel) -> None:
        long = asyncio.create_task(model.complete([2], **ENDLESS))
        assert len((await model.complete(PROMPT, max_tokens=5, stop_ids=())).token_ids) == 5
        assert await model.count_tokens(PROMPT) > 0
        await cancel_in_a_moment(long)

    run(work, endless_path)


@pytest.mark.parametrize("name", ["logits", "score"])
def test_scoring_can_be_cancelled(endless_path: Path, name: str) -> None:
    ids = [2, *range(20, 500)] * 60

    async def work(model: AsyncGemmaModel) -> None:
        await cancel_in_a_moment(asyncio.create_task(getattr(model, name)(ids)))
        start = time.perf_counter()
        await model.complete(PROMPT, max_tokens=1)
        assert time.perf_counter() - start < AT_ONCE

    run(work, endless_path)


def test_errors_come_out_of_coroutines_and_streams() -> None:
    async def work(model: AsyncGemmaModel) -> None:
        with pytest.raises(ContextFullError, match=r"300.*256"):
            await model.generate([2] * 300)
        with pytest.raises(ContextFullError, match=r"300.*256"):
            await anext(aiter(model.generate_stream([2] * 300)))
        with pytest.raises(ConfigError, match="temperature"):
            await model.complete(PROMPT, temperature=float("nan"))
        with pytest.raises(TokenizerError, match="surrogate"):
            await model.chat([{"role": "user", "content": "\ud800"}])
        with pytest.raises(TokenizerError, match="out of range"):
            await model.logits([512])
        assert await model.generate(PROMPT, max_tokens=0) == ""

    run(work)


def test_a_model_without_a_tokenizer_gives_ids_and_says_so_where_text_is_asked_for(tmp_path: Path) -> None:
    path = copy_folder(GEMMA, tmp_path / "model", leave_out=["tokenizer*"])

    async def work(model: AsyncGemmaModel) -> None:
        assert len((await model.complete([2, 300], max_tokens=5, stop_ids=())).token_ids) == 5
        with pytest.raises(TokenizerError, match=r"no tokenizer .* complete\(\)"):
            await model.generate([2, 300])
        with pytest.raises(TokenizerError, match=r"no tokenizer .* complete\(\)"):
            await anext(aiter(model.generate_stream([2, 300])))

    run(work, path)


def test_a_closed_model_is_an_error_in_every_method() -> None:
    async def main() -> None:
        model = AsyncGemmaModel(GEMMA, threads=1)
        await model.close()
        await model.close()
        uses: list[Callable[[], Coroutine[Any, Any, object]]] = [
            lambda: model.generate(PROMPT),
            lambda: model.complete(PROMPT),
            lambda: model.chat(HELLO),
            lambda: model.logits([2]),
            lambda: model.score(PROMPT),
            lambda: model.count_tokens(PROMPT),
        ]
        for use in uses:
            with pytest.raises(ModelClosedError, match=r"closed.*Load it again"):
                await use()
        for stream in (model.generate_stream(PROMPT), model.chat_stream(HELLO)):
            with pytest.raises(ModelClosedError, match=r"closed.*Load it again"):
                await anext(aiter(stream))
        for ask in (lambda: model.tokenizer, lambda: model.info):
            with pytest.raises(ModelClosedError):
                ask()

    asyncio.run(main())


def test_closing_ends_what_runs_with_an_error(endless_path: Path) -> None:
    async def main() -> None:
        model = AsyncGemmaModel(endless_path, threads=1)
        stream = aiter(model.generate_stream([2], **ENDLESS))
        await anext(stream)
        task = asyncio.create_task(model.complete([2], **ENDLESS))
        await asyncio.sleep(0.05)
        start = time.perf_counter()
        await model.close()
        for waiting in (task, anext(stream)):
            with pytest.raises(ModelClosedError, match="closed"):
                await waiting
        assert time.perf_counter() - start < AT_ONCE

    asyncio.run(main())


def test_a_model_is_loaded_without_blocking_and_its_errors_come_out() -> None:
    async def main() -> None:
        async with await AsyncGemmaModel.load(GenerationConfig(GEMMA, threads=1), context=64) as model:
            assert model.info.context == 64
        with pytest.raises(ModelNotFoundError):
            await AsyncGemmaModel.load("/no/such/model")
        with pytest.raises(ConfigError):
            await AsyncEmbeddingModel.load(EMBEDDING_GEMMA, context=5)

    asyncio.run(main())


def test_one_model_serves_several_event_loops_in_turn(sync: SyncGemmaModel) -> None:
    """As in a script that calls asyncio.run more than once."""
    expected = sync.generate(PROMPT, max_tokens=5, seed=1)
    model = AsyncGemmaModel(GEMMA, threads=1)
    for _ in range(2):
        assert asyncio.run(model.generate(PROMPT, max_tokens=5, seed=1)) == expected
    asyncio.run(model.close())


def test_the_embedding_coroutines_give_what_the_sync_model_gives() -> None:
    async def main() -> None:
        with SyncEmbeddingModel(EMBEDDING_GEMMA, threads=1) as sync:
            async with AsyncEmbeddingModel(EMBEDDING_GEMMA, threads=1) as model:
                assert (model.dimensions, model.prompts) == (sync.dimensions, sync.prompts)
                texts = ["a", "some text", ""]
                assert np.array_equal(await model.embed(texts), sync.embed(texts))
                assert np.array_equal(await model.embed("a", dimensions=9), sync.embed("a", dimensions=9))
                assert np.array_equal(await model.embed([[2, 5, 1]]), sync.embed([[2, 5, 1]]))
                assert np.array_equal(await model.embed("a", prompt="query"), sync.embed_query("a"))
                assert np.array_equal(await model.embed_query("a"), sync.embed_query("a"))
                titled = await model.embed_documents(texts, titles=["t", None, None])
                assert np.array_equal(titled, sync.embed_documents(texts, titles=["t", None, None]))
                with pytest.raises(ConfigError, match="dimensions"):
                    await model.embed("a", dimensions=0)
            with pytest.raises(ModelClosedError):
                await model.embed("a")

    asyncio.run(main())


def test_a_cancelled_embedding_ends_soon_and_leaves_the_model_usable() -> None:
    texts = [f"text number {i} of very many" for i in range(200_000)]

    async def main() -> None:
        async with AsyncEmbeddingModel(EMBEDDING_GEMMA, threads=1) as model:
            expected = await model.embed("a")
            task = asyncio.create_task(model.embed(texts))
            await cancel_in_a_moment(task)
            start = time.perf_counter()
            assert np.array_equal(await model.embed("a"), expected)
            assert time.perf_counter() - start < AT_ONCE

    asyncio.run(main())


def test_a_model_that_nobody_closes_does_not_keep_the_process(sync: SyncGemmaModel) -> None:
    async def main() -> None:
        model = AsyncGemmaModel(GEMMA, threads=1)
        with suppress(StopAsyncIteration):
            await anext(aiter(model.generate_stream(PROMPT, max_tokens=50)))

    asyncio.run(main())
