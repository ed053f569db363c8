"""`--mode embedding`: how fast a model turns texts into vectors, many at once and one alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from .engine import Embedder
from .errors import OptionError
from .machine import environment, load_average
from .measure import Spread, peak_rss_bytes, rounds
from .models import model_files
from .report import Bandwidth, Compute, Embedding, EmbeddingResult, Model
from .roofline import roofline
from .text import text_of
from .workloads.embed import EmbedSample, embed
from .workloads.load import load

TEXTS_PER_CALL = 16
QUERY = "How far could the ships see the lamp?"


@dataclass(frozen=True, slots=True)
class Round:
    texts: EmbedSample
    query: EmbedSample

    def __str__(self) -> str:
        return f"{self.texts}, {self.query}"


def measure_embedding(
    path: Path,
    open_embedder: Callable[[], Embedder],
    *,
    n_rounds: int,
    n_text_tokens: int,
    tell: Callable[[str], None],
) -> EmbeddingResult:
    """Embed a batch of texts of one length, then one short query.

    Args:
        path: What `open_embedder` opens.
        n_text_tokens: Of each text, special tokens included.
        tell: Progress, a line at a time.

    Raises:
        BenchError: The model or the options do not let it be measured.
    """
    load_before = load_average()
    tell(f"reading {path}")
    files = model_files(path)
    embedder, load_s = load(open_embedder)
    with closing(embedder):
        if n_text_tokens > embedder.facts.context:
            raise OptionError(f"This model holds {embedder.facts.context} tokens, fewer than one text would have.")
        texts = [text_of(n_text_tokens, embedder.count_tokens, first_word=word) for word in range(TEXTS_PER_CALL)]
        n_tokens, n_query_tokens = TEXTS_PER_CALL * n_text_tokens, embedder.count_tokens(QUERY)

        def work(_: int) -> Round:
            return Round(embed(embedder, texts, n_tokens), embed(embedder, [QUERY], n_query_tokens))

        samples = rounds(n_rounds, work, tell)
        facts, peak = embedder.facts, peak_rss_bytes()  # the roofline would count as ours
    query = Spread.of(sample.query.seconds for sample in samples)
    speed = Spread.of(sample.texts.tokens_per_second for sample in samples)
    limits = roofline(facts.threads)
    return EmbeddingResult(
        mode="embedding",
        rounds=n_rounds,
        load_s=load_s,
        peak_rss_bytes=peak,
        bandwidth=Bandwidth.of(
            "query", facts.layer_bytes, tokens=n_query_tokens, seconds=query.median, roofline=limits
        ),
        compute=Compute.of("embedding", facts, tokens_per_second=speed.median, roofline=limits),
        roofline=limits,
        environment=environment(facts.cpu_level, facts.threads, load_before),
        model=Model.of(files, facts, embeds=True),
        embedding=Embedding(
            texts=TEXTS_PER_CALL,
            tokens=n_tokens,
            texts_per_second=Spread.of(sample.texts.texts_per_second for sample in samples),
            tokens_per_second=speed,
            query_tokens=n_query_tokens,
            query_seconds=query,
        ),
    )
