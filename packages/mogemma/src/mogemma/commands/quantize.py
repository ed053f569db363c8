"""`mogemma quantize`: float weights to a GGUF file of a smaller format."""

from __future__ import annotations

import errno
import os
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import ConfigError
from .files import replacing
from .models import chosen_model
from .options import json_option, option
from .progress import Progress
from .streams import notice, write_json
from .table import size, write_fields

if TYPE_CHECKING:
    from ..export import Written

TYPES = ("q8_0", "q6_k", "q4_k", "q4_0", "bf16", "f16", "f32")


@click.command(short_help="Write float weights as a GGUF file of a smaller format.")
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST", type=click.Path(path_type=Path))
@click.option("--type", "kind", type=click.Choice(TYPES), required=True, help="What most weights become.")
@option("--threads", type=int, metavar="N", help="Threads that compute. [default: the cores there are]")
@click.option("--force", is_flag=True, help="Overwrite DST if it is there.")
@json_option
def quantize(source: str, target: Path, kind: str, threads: int | None, force: bool, as_json: bool) -> None:
    """Write the model SRC, a folder with safetensors or a GGUF file of floats, as the GGUF file DST.

    Norms stay float32, and routers what they are. The token embeddings, which are the output head too, become q8_0 beside q6_k,
    q4_k and q4_0; rows that are no multiple of 256 become q8_0 instead of q6_k, and q5_0 instead of q4_k. DST appears when it is
    complete, and needs the package `gguf`: pip install 'mogemma[quantize]'.
    """
    from ..checkpoint import open_checkpoint  # noqa: PLC0415  loads numpy
    from ..export import write_gguf  # noqa: PLC0415  loads the kernels

    _check_target(target, force=force)
    started = time.perf_counter()
    with (
        open_checkpoint(chosen_model(source)) as checkpoint,
        Progress("Writing (MB)") as progress,
        replacing(target) as unfinished,
    ):
        written = write_gguf(
            checkpoint,
            Path(unfinished.name),
            kind,
            threads=_threads(threads),
            on_progress=progress,
            on_plan=lambda n_bytes: _check_space(target, n_bytes),
        )
    _tell(target, written, time.perf_counter() - started, as_json=as_json)


def _threads(wanted: int | None) -> int:
    from ..config import MAX_THREADS  # noqa: PLC0415  loads numpy
    from ..cpu import available_cores  # noqa: PLC0415  as above
    from ..options import whole  # noqa: PLC0415  as above

    threads: int = available_cores() if wanted is None else whole(1, MAX_THREADS)("--threads", wanted)
    return threads


def _check_target(target: Path, *, force: bool) -> None:
    if target.is_dir():
        raise ConfigError(f"{target} is a folder. Give the path of the file to write, such as {target / 'model.gguf'}.")
    if target.is_file() and not force:
        raise ConfigError(f"{target} is there already. Give another name, or overwrite it with --force.")


def _check_space(target: Path, n_bytes: int) -> None:
    """Find out now, and not after minutes, that the disk is too small."""
    if target.exists() and not target.is_file():
        return  # a device has no size
    if n_bytes > shutil.disk_usage(Path(os.path.realpath(target)).parent).free:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: it would have {size(n_bytes)}", str(target))


def _tell(target: Path, written: Written, seconds: float, *, as_json: bool) -> None:
    if as_json:
        write_json({"path": str(target), **asdict(written), "seconds": seconds})
        return
    write_fields({"path": str(target), **asdict(written)})
    notice(f"{size(written.read_bytes)} of weights in {seconds:.1f} s, {size(int(written.read_bytes / seconds))}/s")
