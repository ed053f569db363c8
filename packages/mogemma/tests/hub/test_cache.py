"""The hub's cache is read as the hub's client writes it, and as other programs leave it."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from checkpoints import EMBEDDING_GEMMA, GEMMA
from loopback_hub import folder_files

from mogemma import ModelNotFoundError
from mogemma.hub import cache
from mogemma.hub.remove import kept, remove
from mogemma.hub.source import HubSource

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SOURCE = HubSource("a/b")


def put(files: dict[str, bytes], repo_id: str = "a/b", commit: str = COMMIT) -> Path:
    """Lay out files as the client does: content in blobs, links in snapshots; the path of the snapshot."""
    folder = cache.repository_folder(repo_id)
    snapshot = folder / "snapshots" / commit
    for made in (folder / "blobs", folder / "refs", snapshot):
        made.mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text(commit)
    for name, data in files.items():
        blob = folder / "blobs" / name.replace("/", "-")
        blob.write_bytes(data)
        link = snapshot / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path(*[".."] * (2 + name.count("/")), "blobs", blob.name))
    return snapshot


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({}, "/home/somebody/.cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/x", "HF_HOME": "/h"}, "/h/hub"),
        ({"HF_HOME": "~/h"}, "/home/somebody/h/hub"),
        ({"HF_HOME": "/h", "HF_HUB_CACHE": "$HOME/c"}, "/home/somebody/c"),
        ({"HF_HOME": "/h", "HUGGINGFACE_HUB_CACHE": "/old"}, "/old"),
    ],
)
def test_it_is_where_the_hubs_client_has_it(
    variables: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for name, value in {"HOME": "/home/somebody", **variables}.items():
        monkeypatch.setenv(name, value)
    assert cache.cache_folder() == Path(folder)


@pytest.mark.usefixtures("home")
class TestFind:
    def test_a_gguf_is_a_file_and_a_folder_a_folder(self) -> None:
        snapshot = put({"a-Q8_0.gguf": b"GGUF"})
        assert cache.find(SOURCE) == cache.Cached(SOURCE, COMMIT, snapshot / "a-Q8_0.gguf", 4)
        snapshot = put(folder_files(GEMMA), "c/d")
        found = cache.find(HubSource("c/d"))
        assert found is not None
        assert found.path == snapshot

    def test_another_file_than_those_that_are_here_is_not(self) -> None:
        put({"a-Q8_0.gguf": b"GGUF"})
        assert cache.find(HubSource("a/b", "Q4_0")) is None
        assert cache.find(HubSource("a/b", "q8_0")) is not None

    @pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
    def test_a_folder_that_another_program_left_unfinished_is_not_whole(self, missing: str) -> None:
        put({name: data for name, data in folder_files(GEMMA).items() if name != missing})
        assert cache.find(SOURCE) is None

    @pytest.mark.parametrize("missing", ["1_Pooling/config.json", "2_Dense/config.json", "3_Dense/model.safetensors"])
    def test_nor_is_an_embedding_model_without_its_modules(self, missing: str) -> None:
        put({name: data for name, data in folder_files(EMBEDDING_GEMMA).items() if name != missing})
        assert cache.find(SOURCE) is None

    def test_nor_are_some_of_several_shards(self) -> None:
        files = folder_files(GEMMA)
        shards = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
        index = json.dumps({"weight_map": dict(zip("ab", shards, strict=True))}).encode()
        del files["model.safetensors"]
        snapshot = put({**files, "model.safetensors.index.json": index, shards[0]: b"x"})
        assert cache.find(SOURCE) is None
        shutil.rmtree(cache.repository_folder("a/b"))
        put({**files, "model.safetensors.index.json": index, **dict.fromkeys(shards, b"x")})
        assert cache.find(SOURCE) is not None
        (snapshot / "model.safetensors.index.json").resolve().write_bytes(b"{")
        assert cache.find(SOURCE) is None

    def test_a_link_that_leads_nowhere_is_no_file(self) -> None:
        (put({"a.gguf": b"GGUF"}) / "a.gguf").resolve().unlink()
        assert cache.find(SOURCE) is None

    @pytest.mark.parametrize("reference", ["../../../etc", "main", "", "\xe4", COMMIT[:-1]])
    def test_a_reference_that_is_no_commit_leads_nowhere(self, reference: str) -> None:
        put({"a.gguf": b"GGUF"})
        (cache.repository_folder("a/b") / "refs" / "main").write_bytes(reference.encode("latin-1"))
        assert cache.find(SOURCE) is None

    def test_where_the_newest_commit_is_not_whole_the_newest_that_is_counts(self) -> None:
        """Another program has asked for one file of it, or was broken off; what was here before is still here."""
        whole = folder_files(GEMMA)
        for age, digit in enumerate("321"):
            os.utime(put(whole, commit=digit * 40), (1e9 - age, 1e9 - age))
        put({name: data for name, data in whole.items() if name != "model.safetensors"}, commit="4" * 40)
        found = cache.find(SOURCE)
        assert found is not None
        assert (found.revision, found.path.name) == ("3" * 40, "3" * 40)
        assert [(each.revision, str(each.source)) for each in cache.models()] == [("3" * 40, "a/b")]
        (found.path / "config.json").unlink()
        (cache.repository_folder("a/b") / "refs" / "main").write_text("5" * 40)  # of which nothing has come yet
        second = cache.Cached(SOURCE, "2" * 40, cache.snapshot_folder("a/b", "2" * 40), found.n_bytes)
        assert [cache.find(SOURCE), *cache.models()] == [second, second]

    def test_what_has_come_since_the_reference_was_moved_may_be_a_download_under_way(self) -> None:
        """Its digests are compared before it is named."""
        snapshot = put({"a.gguf": b"GGUF"}, commit="1" * 40)
        put({"config.json": b"{}"}, commit="2" * 40)
        assert cache.find(SOURCE) is not None
        later = time.time() + 60
        os.utime(snapshot, (later, later))
        assert cache.find(SOURCE) is None

    def test_one_that_is_not_whole_does_not(self) -> None:
        for digit in "12":
            put({"config.json": b"{}", "tokenizer.json": b"{}"}, commit=digit * 40)
        assert cache.find(SOURCE) is None
        assert list(cache.models()) == []

    def test_a_file_that_the_newest_commit_lacks_is_taken_of_an_older_one(self) -> None:
        for name, commit in (("a-Q4_0.gguf", "1" * 40), ("a-Q8_0.gguf", "2" * 40)):
            put({name: b"GGUF", "config.json": b"{}"}, commit=commit)
        found = [cache.find(HubSource("a/b", quant)) for quant in (None, "Q4_0", "Q8_0")]
        assert [each and each.revision[0] for each in found] == ["2", "1", "2"]
        assert [str(each.source) for each in cache.models()] == ["a/b:a-Q4_0.gguf", "a/b:a-Q8_0.gguf"]

    def test_all_models_are_listed_each_file_by_itself(self) -> None:
        put({"a-Q8_0.gguf": b"GGUF", "a-Q4_0.gguf": b"GGUF", "mmproj-a.gguf": b"GGUF"})
        put(folder_files(GEMMA), "c/d")
        put({"model.onnx": b"x"}, "e/f")
        (cache.cache_folder() / "models--g--h").mkdir()
        (cache.cache_folder() / "datasets--i--j").mkdir()
        assert [str(each.source) for each in cache.models()] == ["a/b:a-Q4_0.gguf", "a/b:a-Q8_0.gguf", "c/d"]

    def test_no_cache_has_no_models(self) -> None:
        assert list(cache.models()) == []
        assert cache.find(SOURCE) is None


@pytest.mark.usefixtures("home")
class TestRemove:
    def test_a_repository_goes_with_all_its_versions_and_nothing_else_does(self) -> None:
        put({"a.gguf": b"GGUF"})
        put({"a.gguf": b"GGUF2"}, commit=COMMIT[::-1])
        other = put({"a.gguf": b"GGUF"}, "c/d")  # a copy, of the same commit
        mine = cache.cache_folder() / "mine"
        mine.write_text("mine")
        assert kept("a/b").n_bytes == len(b"GGUF2")
        assert remove("a/b").n_bytes == len(b"GGUF2")
        assert not cache.repository_folder("a/b").exists()
        assert (other / "a.gguf").read_bytes() == b"GGUF"
        assert mine.exists()

    def test_so_does_what_a_broken_download_left(self) -> None:
        blobs = cache.repository_folder("a/b") / "blobs"
        blobs.mkdir(parents=True)
        (blobs / "x.incomplete").write_bytes(b"GG")
        assert remove("a/b").n_bytes == 2
        assert not blobs.parent.exists()

    def test_what_is_not_there_is_a_sentence(self) -> None:
        with pytest.raises(ModelNotFoundError, match="has nothing of a/b"):
            remove("a/b")

    def test_a_link_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        cache.cache_folder().mkdir(parents=True)
        cache.repository_folder("a/b").symlink_to(tmp_path / "mine")
        with pytest.raises(ModelNotFoundError):
            remove("a/b")
        assert (tmp_path / "mine").exists()

    def test_a_link_inside_of_it_is_taken_away_and_not_what_it_leads_to(self, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "file").touch()
        snapshot = put({"a.gguf": b"GGUF"})
        (snapshot / "folder").symlink_to(tmp_path / "mine")
        remove("a/b")
        assert (tmp_path / "mine" / "file").exists()
