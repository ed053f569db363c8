"""Whatever path is given, it opens as a model or is called by its name."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from mogemma.checkpoint import open_checkpoint, open_submodule
from mogemma.errors import ModelFormatError, ModelNotFoundError, MogemmaError, OutOfMemoryError, UnsupportedModelError

DATA = Path(__file__).parents[1] / "data"
TEXT_MODEL = DATA / "tiny" / "gemma3-text"
EMBEDDING_MODEL = DATA / "tiny" / "embeddinggemma"


def test_a_file_and_its_folder_are_the_same_model() -> None:
    with open_checkpoint(TEXT_MODEL) as folder, open_checkpoint(str(TEXT_MODEL / "model.safetensors")) as file:
        assert folder.kind == file.kind == "safetensors"
        assert folder.config == file.config
        assert list(folder.tensors) == list(file.tensors)
        assert (folder.path, file.path) == (TEXT_MODEL, TEXT_MODEL / "model.safetensors")


def test_a_folder_with_one_gguf_is_that_model(tmp_path: Path) -> None:
    shutil.copy(TEXT_MODEL / "model.gguf", tmp_path / "gemma-Q8_0.gguf")
    (tmp_path / "mmproj-gemma.gguf").write_bytes(b"not opened")
    (tmp_path / "generation_config.json").write_text('{"top_k": 64}')
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.kind == "gguf"
        assert checkpoint.path == tmp_path
        assert checkpoint.files == (tmp_path / "gemma-Q8_0.gguf",)
        assert checkpoint.read_json("generation_config.json") == {"top_k": 64}


def test_a_gguf_is_known_by_its_first_bytes_whatever_its_name(tmp_path: Path) -> None:
    shutil.copy(TEXT_MODEL / "model.gguf", tmp_path / "sha256-0123abcd")
    with open_checkpoint(tmp_path / "sha256-0123abcd") as checkpoint:
        assert checkpoint.kind == "gguf"


def test_files_that_are_links_are_followed(tmp_path: Path) -> None:
    """The cache of huggingface-hub is made of links to files elsewhere."""
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(TEXT_MODEL / name)
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.tensors


def test_side_files_are_read_when_they_are_there() -> None:
    with open_checkpoint(EMBEDDING_MODEL) as checkpoint:
        modules = checkpoint.read_json("modules.json")
        assert isinstance(modules, list)
        assert modules[2]["path"] == "2_Dense"
        assert checkpoint.read_json("generation_config.json") is None
        assert checkpoint.side_file("tokenizer.json") == EMBEDDING_MODEL / "tokenizer.json"
        assert checkpoint.side_file("tokenizer.model") is None


def test_a_lone_gguf_does_not_read_what_happens_to_lie_beside_it() -> None:
    with open_checkpoint(TEXT_MODEL / "model.gguf") as checkpoint:
        assert checkpoint.read_json("config.json") is None


def test_a_submodule_opens_and_closes_with_its_model() -> None:
    with open_checkpoint(EMBEDDING_MODEL) as checkpoint:
        dense = open_submodule(checkpoint, "2_Dense")
        weight = dense.tensor("linear.weight", shape=(72, 36))
        assert dense.config["in_features"] == 36
    with pytest.raises(ValueError, match="released"):
        bytes(weight.data)


@pytest.mark.parametrize("name", ["..", "../embeddinggemma", "/etc", "2_Dense/..", "", ".", "a\\b", "2_Dense\0"])
def test_a_submodule_cannot_lead_out_of_the_folder(name: str) -> None:
    with open_checkpoint(EMBEDDING_MODEL) as checkpoint:
        for ask in (checkpoint.folder, checkpoint.read_json, checkpoint.side_file):
            with pytest.raises(ModelFormatError, match="plain names"):
                ask(name)


def test_a_submodule_that_is_a_link_elsewhere_is_refused(tmp_path: Path) -> None:
    shutil.copytree(TEXT_MODEL, tmp_path / "model")
    (tmp_path / "model" / "2_Dense").symlink_to(EMBEDDING_MODEL / "2_Dense")
    with open_checkpoint(tmp_path / "model") as checkpoint, pytest.raises(ModelFormatError, match="link out of"):
        open_submodule(checkpoint, "2_Dense")


def test_a_missing_submodule_is_named() -> None:
    with open_checkpoint(TEXT_MODEL) as checkpoint, pytest.raises(ModelNotFoundError, match="no folder '9_Dense'"):
        open_submodule(checkpoint, "9_Dense")


IMPOSTORS = {
    "git-lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "git lfs pull"),
    "web page": (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
    "zip": (b"PK\x03\x04" + bytes(60), "zip archive"),
    "pickle": (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "pickle"),
    "pickle of today": (b"\x80\x04\x95\x10\0\0\0\0\0\0\0", "pickle"),
    "old llama.cpp": (b"tjgg\x03\0\0\0" + bytes(60), "older than GGUF"),
    "gzip": (b"\x1f\x8b\x08\0" + bytes(60), "compressed"),
    "JSON": (b'{"model_type": "gemma3"}', "JSON"),
    "TensorFlow Lite": (b"\x1c\0\0\0TFL3" + bytes(60), "TensorFlow Lite"),
    "noise": (b"\x01\x02\x03\x04 noise", "neither GGUF nor safetensors"),
    "nothing": (b"", "is empty"),
    "one byte": (b"G", "neither GGUF nor safetensors"),
}


@pytest.mark.parametrize(
    "place", ["model.gguf", "model.bin", "model.safetensors", "folder/model.safetensors", "folder/m.gguf"]
)
@pytest.mark.parametrize("name", IMPOSTORS)
def test_what_is_no_model_is_called_by_its_name(tmp_path: Path, name: str, place: str) -> None:
    data, message = IMPOSTORS[name]
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    (path.parent / "config.json").write_text("{}")
    with pytest.raises((ModelFormatError, UnsupportedModelError), match=message) as caught:
        open_checkpoint(path if path.parent == tmp_path else path.parent)
    assert path.name in str(caught.value)


def test_nothing_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no file or folder .*absent\.gguf"):
        open_checkpoint(tmp_path / "absent.gguf")


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000, "README.md/model.gguf"])
def test_impossible_paths_are_not_found(path: str) -> None:
    with pytest.raises(ModelNotFoundError):
        open_checkpoint(path)


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.gguf")
    with pytest.raises(ModelFormatError, match="regular file"):
        open_checkpoint(tmp_path / "model.gguf")
    with pytest.raises(ModelFormatError, match="regular file"):
        open_checkpoint(tmp_path)


def test_a_device_is_refused() -> None:
    with pytest.raises(ModelFormatError, match="regular file"):
        open_checkpoint("/dev/zero")


def test_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").symlink_to(tmp_path / "model.gguf")
    with pytest.raises(ModelNotFoundError, match="cannot be read"):
        open_checkpoint(tmp_path / "model.gguf")


def test_a_file_that_this_user_may_not_read_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal is simulated: tests may run as root, who may read anything."""

    def refuse(path: Path, *_: object) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ModelNotFoundError, match=r"model\.gguf cannot be read: Permission denied\. Make it readable"):
        open_checkpoint(tmp_path / "model.gguf")


def test_a_system_that_cannot_map_the_file_is_out_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(mmap, "mmap", refuse)
    with pytest.raises(OutOfMemoryError, match=r"model\.gguf: the system cannot map 4 bytes"):
        open_checkpoint(tmp_path / "model.gguf")


FOLDERS = {
    "empty": ([], "holds no model"),
    "config only": (["config.json"], "holds no model"),
    "weights only": (["model.safetensors"], "no config.json"),
    "shards only": (["config.json", "model-00001-of-00002.safetensors"], "no model.safetensors.index.json"),
    "an adapter": (["adapter_config.json", "adapter_model.safetensors"], r"adapter \(LoRA\).*merge_and_unload"),
    "pickles only": (["config.json", "pytorch_model.bin"], "pickles only"),
    "two models": (["a.gguf", "b.gguf"], r"2 GGUF files \('a.gguf', 'b.gguf'\)"),
}


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("folder", ["model", "model.gguf"])
def test_a_folder_that_is_no_model_is_said_what_it_lacks(tmp_path: Path, name: str, folder: str) -> None:
    names, message = FOLDERS[name]
    (tmp_path / folder).mkdir()
    for file in names:
        (tmp_path / folder / file).write_bytes(b"{}")
    with pytest.raises(ModelNotFoundError, match=message):
        open_checkpoint(tmp_path / folder)


@pytest.mark.parametrize("content", [b"", b"[]", b"nonsense", b"\xff", b'{"a": 1, "a": 2}', b"[" * 100_000])
def test_a_damaged_config_is_named(tmp_path: Path, content: bytes) -> None:
    shutil.copy(TEXT_MODEL / "model.safetensors", tmp_path)
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ModelFormatError, match=r"config\.json"):
        open_checkpoint(tmp_path)


def test_a_side_file_too_large_to_be_one_is_not_read(tmp_path: Path) -> None:
    shutil.copytree(TEXT_MODEL, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "generation_config.json"
    path.touch()
    os.truncate(path, 1 << 40)
    with (
        open_checkpoint(tmp_path) as checkpoint,
        pytest.raises(MogemmaError, match=r"generation_config\.json has 1099511627776"),
    ):
        checkpoint.read_json("generation_config.json")
