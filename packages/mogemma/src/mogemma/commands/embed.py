"""`mogemma embed`: texts to vectors."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

import mogemma

from ..hub.known import EMBEDDER
from .advice import advise
from .files import replacing
from .interrupt import interruptible
from .models import chosen_model
from .options import embedding_options, json_option, option, variable_of
from .progress import Progress
from .streams import is_terminal, notice, read_input, write

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

SHOWN_CHARACTERS = 40
SHOWN_NUMBERS = 4


@click.command(short_help="Turn texts into vectors.")
@click.argument("texts", nargs=-1, metavar="[TEXT]... | -")
@option(
    "-m",
    "--model",
    metavar="MODEL",
    envvar=[variable_of("--embedding-model"), variable_of("--model")],
    help="Path or name of a model, downloaded if need be; MOGEMMA_EMBEDDING_MODEL comes before MOGEMMA_MODEL. "
    "[default: embeddinggemma-300m]",
)
@option("--dimensions", type=int, metavar="N", help="Keep the first N numbers of each vector. [default: all]")
@option("--prompt", metavar="NAME", help="What the texts are: query, document, clustering, ... [default: no prompt]")
@click.option("--query", is_flag=True, help="They are search queries: --prompt query.")
@click.option("--document", is_flag=True, help="They are documents to be found: --prompt document.")
@embedding_options
@option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "npy", "json"]),
    help="A JSON object for each text, one numpy array, or one JSON document. "
    "[default: npy where the output's name ends so, else jsonl]",
)
@option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write here; what was there is replaced when all is done.",
)
@json_option
def embed(
    texts: tuple[str, ...],
    model: str | None,
    dimensions: int | None,
    query: bool,
    document: bool,
    output: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Embed each TEXT. With -, or without any where input is piped, each line of standard input is a text.

    A terminal shows how each vector begins; elsewhere each is a line {"index": 0, "embedding": [0.1, ...]}.
    """
    task = _task(options.pop("prompt"), query=query, document=document)
    form = _form(options.pop("form"), output, as_json=as_json)
    several = _given_texts(texts)
    with (
        _destination(output) as file,
        mogemma.SyncEmbeddingModel(chosen_model(model, EMBEDDER), **options) as embedder,
    ):
        advise(embedder.info)
        if embedder.info.generates:
            notice(f"{embedder.info.path} was made to write: its vectors are mean hidden states, and poor for search.")
        elif not embedder.info.dense_heads:
            notice("The vectors are without the dense heads: compare them with others made so only.")
        with interruptible() as cancel, Progress("Embedding") as progress:
            vectors = embedder.embed(several, dimensions=dimensions, prompt=task, on_progress=progress, cancel=cancel)
        if form is None:
            _show(several, vectors)
        else:
            _write(file, form, vectors, embedder.info.as_dict())


def _task(prompt: str | None, *, query: bool, document: bool) -> str | None:
    if query and document:
        raise click.UsageError("--query and --document are two kinds of text. Give one of them.")
    return "query" if query else "document" if document else prompt


def _form(form: str | None, output: Path | None, *, as_json: bool) -> str | None:
    """How the vectors are written; None: so that a person can look at them."""
    if as_json:
        return "json"
    is_shown = output is None and is_terminal(sys.stdout)
    if form == "npy" and is_shown:
        raise click.UsageError("An array is nothing for a terminal. Give --output FILE, or pipe it on.")
    if form is None and not is_shown:
        return "npy" if output is not None and output.suffix == ".npy" else "jsonl"
    return form


def _given_texts(arguments: tuple[str, ...]) -> list[str]:
    if arguments not in ((), ("-",)):
        return list(arguments)
    if not arguments and (sys.stdin is None or is_terminal(sys.stdin)):
        raise click.UsageError("There is no TEXT. Give some as arguments, or pipe them in, one a line.")
    text = read_input()
    if not text:
        raise click.UsageError("Standard input is empty. Give it one text a line.")
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


@contextmanager
def _destination(output: Path | None) -> Iterator[BinaryIO]:
    if output is not None:
        with replacing(output) as file:
            yield file
        return
    if sys.stdout is None:  # closed before the start
        with Path(os.devnull).open("wb") as nowhere:
            yield nowhere
        return
    yield sys.stdout.buffer
    sys.stdout.buffer.flush()


def _write(file: BinaryIO, form: str, vectors: Vectors, info: dict[str, Any]) -> None:
    if form == "npy":
        import numpy as np  # noqa: PLC0415  is there by now, but must not be when only help is wanted

        array = io.BytesIO()  # np.save wants to seek, which a pipe cannot
        np.save(array, vectors)
        file.write(array.getbuffer())
    elif form == "json":
        n_texts, dimensions = vectors.shape
        embeddings = [_numbers(vector) for vector in vectors]
        document = {"model": info, "n_texts": n_texts, "dimensions": dimensions, "embeddings": embeddings}
        file.write(f"{json.dumps(document)}\n".encode())
    else:
        lines = ({"index": index, "embedding": _numbers(vector)} for index, vector in enumerate(vectors))
        file.writelines(f"{json.dumps(line)}\n".encode() for line in lines)


def _numbers(vector: Vectors) -> list[float]:
    """As few digits as give the same float32 again: 0.1, not 0.10000000149011612."""
    return [float(str(number)) for number in vector]


def _show(texts: Sequence[str], vectors: Vectors) -> None:
    for text, vector in zip(texts, vectors, strict=True):
        line = " ".join(text.split())
        head = line if len(line) <= SHOWN_CHARACTERS else f"{line[: SHOWN_CHARACTERS - 3]}..."
        beginning = " ".join(f"{number:+.4f}" for number in vector[:SHOWN_NUMBERS])
        write(f"{head:{SHOWN_CHARACTERS}}  {beginning} ... ({len(vector)} numbers)\n")
