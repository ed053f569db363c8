"""What arrives is whole and as its owner made it, however it arrives; where it cannot, what was there before stays."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from checkpoints import EMBEDDING_GEMMA, GEMMA
from loopback_hub import TOKEN, Answer, LoopbackHub, Repository, Request, folder_files, git_sha1, sha256, too_many

from mogemma import (
    DownloadError,
    EmbeddingModel,
    ModelAccessError,
    ModelFormatError,
    ModelNotFoundError,
    SyncGemmaModel,
    UnsupportedModelError,
)
from mogemma.hub import cache
from mogemma.hub.client import _bar
from mogemma.hub.pull import look_up, pull
from mogemma.hub.source import HubSource

GGUF = "tiny-Q8_0.gguf"
ONE_FILE = HubSource("tiny/gguf")
FOLDER = HubSource("tiny/folder")


def everything_in(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if not file.is_dir()}


def blobs_in(home: Path) -> list[Path]:
    """Contents that are in the cache, whole or in part."""
    return sorted(file for file in home.rglob("blobs/*") if file.is_file())


def test_a_name_runs(hub: LoopbackHub) -> None:
    with SyncGemmaModel("tiny/gguf", threads=1) as model, SyncGemmaModel(GEMMA / "model.gguf", threads=1) as other:
        options: Any = {"max_tokens": 4, "temperature": 0}
        assert model.complete("The sea", **options).token_ids == other.complete("The sea", **options).token_ids


def test_a_file_arrives_as_it_is_and_nothing_beside_it(hub: LoopbackHub, home: Path) -> None:
    found = pull(ONE_FILE)
    assert found.path.read_bytes() == (GEMMA / "model.gguf").read_bytes()
    assert found.revision == hub.repositories["tiny/gguf"].commit
    assert found.n_bytes == found.path.stat().st_size
    snapshot = cache.snapshot_folder("tiny/gguf", found.revision)
    assert everything_in(snapshot) == {GGUF}
    assert found.path == snapshot / GGUF
    assert home in found.path.parents


def test_a_folder_arrives_with_what_is_read_of_it_and_no_pickle(hub: LoopbackHub) -> None:
    found = pull(FOLDER)
    assert everything_in(found.path) == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    for name in everything_in(found.path):
        assert (found.path / name).read_bytes() == (GEMMA / name).read_bytes()
    with SyncGemmaModel("tiny/folder", threads=1) as model:
        assert model.info.path == str(found.path)
        assert model.tokenizer.encode("The sea")


def test_a_sentence_transformers_model_arrives_with_its_modules(hub: LoopbackHub) -> None:
    hub.repositories["tiny/embeds"] = Repository(folder_files(EMBEDDING_GEMMA))
    with EmbeddingModel("tiny/embeds", threads=1) as model, EmbeddingModel(EMBEDDING_GEMMA, threads=1) as other:
        assert model.info.dense_heads == 2
        assert (model.embed("The sea") == other.embed("The sea")).all()


def test_what_is_here_is_used_without_a_word_to_the_hub(hub: LoopbackHub) -> None:
    for source in ("tiny/gguf", "tiny/gguf:Q8_0", "tiny/folder"):
        SyncGemmaModel(source, threads=1).close()
        hub.requests.clear()
        SyncGemmaModel(source, threads=1).close()
        assert hub.requests == []


def test_a_newer_version_is_taken_by_pull_alone(hub: LoopbackHub) -> None:
    old = pull(FOLDER)
    hub.repositories["tiny/folder"].files["generation_config.json"] = b'{"top_k": 3}'
    with SyncGemmaModel("tiny/folder", threads=1) as model:
        assert model.info.path == str(old.path)
    hub.requests.clear()
    new = pull(FOLDER)
    assert new.revision != old.revision
    assert hub.asked("GET", "model.safetensors") == []  # its content is here
    with SyncGemmaModel("tiny/folder", threads=1) as model:
        assert model.info.path == str(new.path)


def test_progress_grows_to_all_bytes(hub: LoopbackHub) -> None:
    told: list[tuple[int, int]] = []
    found = pull(FOLDER, on_progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1] == (found.n_bytes, found.n_bytes)
    assert len({done for done, _ in told}) > 3


def test_progress_of_the_hubs_newer_storage_is_counted_once() -> None:
    """Its protocol (Xet) is not spoken here; its reporter is what calls the bars, with sums of two kinds of bytes."""
    reporting = pytest.importorskip("huggingface_hub.utils._xet_progress_reporting", reason="the client has none")
    told: list[int] = []
    options = {"reconstruction_desc": "a", "total": 1000, "log_level": 30, "name": "huggingface_hub.xet_get"}
    with reporting.XetDownloadProgressReporter(**options, tqdm_class=_bar(told.append)) as reporter:
        for here, transferred in ((0, 100), (400, 700), (1000, 900)):
            sums = {"total_bytes_completed": here, "total_transfer_bytes_completed": transferred, "total_bytes": 1000}
            rates = {"total_bytes_completion_rate": 5.0, "total_transfer_bytes_completion_rate": None}
            reporter.update_progress(SimpleNamespace(**sums, **rates))
    assert sum(told) == 1000


def test_looking_up_downloads_nothing(hub: LoopbackHub, home: Path) -> None:
    plan = look_up(FOLDER)
    assert plan.names[-1] == "model.safetensors"  # the small ones first
    assert plan.n_bytes == sum(len((GEMMA / name).read_bytes()) for name in plan.names)
    assert not home.exists()
    assert {request.method for request in hub.requests} == {"GET"}


class TestConnection:
    @pytest.fixture(autouse=True)
    def _small_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The client keeps whole chunks of what arrives: of 10 MB, which is more than all that the tests send."""
        from huggingface_hub import constants  # noqa: PLC0415  after the variables are set

        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 50_000)

    def test_a_cut_is_mended_from_where_it_was(self, hub: LoopbackHub) -> None:
        hub.cut_after = (100_000, 1)
        assert pull(ONE_FILE).path.read_bytes() == (GEMMA / "model.gguf").read_bytes()
        first, second = hub.asked("GET", GGUF)
        assert "range" not in first.headers
        assert second.headers["range"] == "bytes=100000-"

    def test_a_server_that_knows_no_ranges_sends_all_again(self, hub: LoopbackHub) -> None:
        hub.cut_after, hub.knows_ranges = (100_000, 1), False
        assert pull(ONE_FILE).path.read_bytes() == (GEMMA / "model.gguf").read_bytes()
        assert len(hub.asked("GET", GGUF)) == 2

    def test_progress_is_right_after_a_cut(self, hub: LoopbackHub) -> None:
        told: list[int] = []
        hub.cut_after, hub.knows_ranges = (100_000, 1), False
        n_bytes = pull(ONE_FILE, on_progress=lambda done, _: told.append(done)).n_bytes
        assert max(told) == told[-1] == n_bytes

    def test_one_that_stays_cut_is_an_error_and_leaves_no_half_file(
        self, hub: LoopbackHub, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(time, "sleep", lambda _: None)
        hub.cut_after = (0, 1000)
        with pytest.raises(DownloadError, match=r"tiny/gguf .*broke off.* Run the same again"):
            pull(ONE_FILE)
        assert cache.find(ONE_FILE) is None
        assert [blob for blob in blobs_in(home) if blob.stat().st_size] == []
        hub.cut_after = (0, 0)
        assert pull(ONE_FILE).path.exists()

    def test_files_that_have_arrived_are_kept(
        self, hub: LoopbackHub, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(time, "sleep", lambda _: None)
        hub.cut_after = (0, 1000)
        with pytest.raises(DownloadError):
            pull(FOLDER)
        assert cache.find(FOLDER) is None
        hub.cut_after = (0, 0)
        hub.requests.clear()
        pull(FOLDER)
        assert [
            request.file for request in hub.requests if request.server == "hub" and "/resolve/" in request.path
        ] == ["model.safetensors"]

    def test_a_repository_that_was_renamed_is_followed(self, hub: LoopbackHub) -> None:
        def moved(request: Request) -> Answer | None:
            there = request.path.replace("old/name", "tiny/gguf")
            query = "?blobs=true" if "/api/" in there else ""
            return Answer(307, {"Location": there + query}) if there != request.path else None

        hub.fault = moved
        found = pull(HubSource("old/name"))
        assert found.path.read_bytes() == (GEMMA / "model.gguf").read_bytes()
        assert cache.find(HubSource("old/name")) == found

    def test_no_hub_at_all_is_a_sentence(self, home: Path) -> None:
        with pytest.raises(DownloadError, match=r"tiny/gguf .*127\.0\.0\.1:9 cannot be reached"):
            pull(ONE_FILE)
        assert not home.exists()

    def test_something_else_that_answers_is_a_sentence(self, hub: LoopbackHub, home: Path) -> None:
        """A login page of a hotel, say."""
        answers = [
            Answer(200, {"Content-Type": "text/html"}, body)
            for body in (b"<!doctype html><title>Log in</title>", b"[]", b'{"sha": "../../x"}', b"{}")
        ]
        hub.fault = lambda _: answers.pop()
        while answers:
            with pytest.raises(DownloadError, match="does not answer as a hub does"):
                pull(ONE_FILE)
        assert not home.exists()


class TestDigests:
    def test_a_large_file_with_other_content_is_thrown_away(self, hub: LoopbackHub, home: Path) -> None:
        hub.repositories["tiny/gguf"].lies = {GGUF}
        with pytest.raises(DownloadError, match=rf"{GGUF} arrived with another SHA-256"):
            pull(ONE_FILE)
        assert blobs_in(home) == []
        assert cache.find(ONE_FILE) is None
        hub.repositories["tiny/gguf"].lies = set()
        assert pull(ONE_FILE).path.read_bytes() == (GEMMA / "model.gguf").read_bytes()

    def test_so_is_a_small_one(self, hub: LoopbackHub) -> None:
        """Its digest is git's."""

        def lie(request: Request) -> Answer | None:
            data = (GEMMA / "config.json").read_bytes()
            headers = {"X-Repo-Commit": hub.repositories["tiny/folder"].commit, "ETag": f'"{git_sha1(data)}"'}
            return Answer(200, headers, bytes(len(data))) if request.file == "config.json" else None

        hub.fault = lie
        with pytest.raises(DownloadError, match=r"config\.json arrived with another"):
            pull(FOLDER)
        assert hub.asked("GET", "model.safetensors") == []
        assert cache.find(FOLDER) is None

    def test_pull_mends_a_file_that_was_damaged_here(self, hub: LoopbackHub) -> None:
        path = pull(ONE_FILE).path
        content = path.read_bytes()
        path.resolve().write_bytes(bytes(len(content)))
        assert pull(ONE_FILE).path.read_bytes() == content

    def test_a_file_of_another_size_than_was_said(self, hub: LoopbackHub) -> None:
        """The description and the file are of two versions, for one."""

        def shorten(request: Request) -> Answer | None:
            answer = hub._resolved(request)
            return answer and Answer(302, {**answer.headers, "X-Linked-Size": "1000"})

        hub.fault = shorten
        with pytest.raises(DownloadError, match="another size than it said"):
            pull(ONE_FILE)
        assert cache.find(ONE_FILE) is None


class TestAccess:
    @pytest.fixture(autouse=True)
    def _gated(self, hub: LoopbackHub) -> None:
        hub.repositories["google/embeddinggemma-300m"] = Repository(folder_files(EMBEDDING_GEMMA), gated=True)

    def test_without_a_token_the_steps_are_told(self, hub: LoopbackHub) -> None:
        with pytest.raises(ModelAccessError) as caught:
            EmbeddingModel("embeddinggemma-300m")
        said = str(caught.value)
        for part in (
            "https://ai.google.dev/gemma/terms",
            "https://huggingface.co/google/embeddinggemma-300m",
            "https://huggingface.co/settings/tokens",
            "HF_TOKEN",
        ):
            assert part in said
        assert isinstance(caught.value, PermissionError)

    def test_with_a_token_that_has_not_accepted_the_page_is_named(
        self, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_TOKEN", "hf_another")
        with pytest.raises(ModelAccessError, match="the account of your token has not"):
            EmbeddingModel("embeddinggemma-300m")

    def test_with_the_right_one_it_runs_and_the_token_stays_with_the_hub(
        self, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        EmbeddingModel("embeddinggemma-300m", threads=1).close()
        asked = {request.server: [] for request in hub.requests}  # type: dict[str, list[bool]]
        for request in hub.requests:
            asked[request.server].append("authorization" in request.headers)
        assert all(asked["hub"])
        assert asked["content"]
        assert not any(asked["content"])

    def test_once_here_it_needs_neither_token_nor_hub(self, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        EmbeddingModel("embeddinggemma-300m", threads=1).close()
        monkeypatch.delenv("HF_TOKEN")
        hub.close()
        EmbeddingModel("embeddinggemma-300m", threads=1).close()

    @pytest.mark.parametrize(
        ("status", "headers", "said"),
        [
            (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, "refuses the token"),
            (403, {"X-Error-Message": "Forbidden"}, "may not read tiny/gguf"),
        ],
    )
    def test_a_wrong_token_is_told_from_a_weak_one(
        self, hub: LoopbackHub, status: int, headers: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_TOKEN", "hf_another")
        hub.fault = lambda _: Answer(status, headers)
        with pytest.raises(ModelAccessError, match=said):
            pull(ONE_FILE)


class TestRefusals:
    @pytest.mark.parametrize(
        "answer", [None, Answer(401, {"X-Error-Code": "RepoNotFound"}), Answer(401, {})], ids=["404", "401", "bare 401"]
    )
    def test_a_model_that_the_hub_has_not(self, hub: LoopbackHub, home: Path, answer: Answer | None) -> None:
        """To who is not logged in, the hub answers 401 about what does not exist."""
        hub.fault = lambda _: answer
        with pytest.raises(ModelNotFoundError, match=r"no model nobody/nothing on 127\.0\.0\.1:\d+.*misspelt"):
            SyncGemmaModel("nobody/nothing")
        assert not home.exists()

    def test_too_many_requests(self, hub: LoopbackHub) -> None:
        hub.fault = lambda _: too_many(17)
        with pytest.raises(DownloadError, match=r"too many requests.*in 17 s"):
            pull(ONE_FILE)

    def test_too_many_requests_in_the_middle_are_waited_for(self, hub: LoopbackHub) -> None:
        """The client does so, for as long as the hub says."""
        left = [too_many(0)]
        hub.fault = lambda request: left.pop() if left and request.method == "HEAD" else None
        assert pull(ONE_FILE).path.exists()
        assert left == []

    def test_an_ailing_hub(self, hub: LoopbackHub) -> None:
        hub.fault = lambda _: Answer(503, {})
        with pytest.raises(DownloadError, match="answers with status 503"):
            pull(ONE_FILE)

    def test_a_file_that_is_gone_meanwhile(self, hub: LoopbackHub) -> None:
        hub.repositories["tiny/gguf"].gone = {GGUF}
        with pytest.raises(DownloadError, match=r"has changed on .* meanwhile"):
            pull(ONE_FILE)

    def test_a_disk_without_room_is_found_before_it_is_filled(
        self, hub: LoopbackHub, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        total, used, _ = shutil.disk_usage("/")
        monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
        with pytest.raises(DownloadError, match=r"takes 0\.00 GB, and .* has 0\.00 GB left.*HF_HOME"):
            pull(ONE_FILE)
        assert total > used
        assert not home.exists()

    def test_a_disk_that_is_filled_by_others_meanwhile(self, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
        from huggingface_hub import file_download  # noqa: PLC0415  after the variables are set

        def full(*_: Any, **__: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(file_download, "http_get", full)
        with pytest.raises(DownloadError, match=r"is full\. Make room"):
            pull(ONE_FILE)
        assert cache.find(ONE_FILE) is None

    def test_a_cache_that_cannot_be_written(self, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("a-file").touch()
        monkeypatch.setenv("HF_HOME", str(Path("a-file").absolute()))
        with pytest.raises(DownloadError, match=r"cannot be written.*HF_HOME"):
            pull(ONE_FILE)

    def test_an_adapter_is_told_from_a_model(self, hub: LoopbackHub, home: Path) -> None:
        files = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"x"}
        hub.repositories["tiny/lora"] = Repository(files)
        with pytest.raises(UnsupportedModelError, match=r"adapter \(LoRA\), not a model"):
            pull(HubSource("tiny/lora"))
        assert not home.exists()

    @pytest.mark.parametrize(
        "name", ["../../evil.gguf", "/etc/evil.gguf", "a/../../evil.gguf", "..\\evil.gguf", "a\x1b.gguf"]
    )
    def test_a_file_that_would_leave_the_cache(self, hub: LoopbackHub, home: Path, name: str) -> None:
        hub.repositories["tiny/gguf"].files[name] = b"GGUF"
        with pytest.raises(ModelFormatError, match="outside of its folder"):
            pull(ONE_FILE)
        assert not home.exists()


class TestShards:
    @pytest.fixture
    def files(self) -> dict[str, bytes]:
        """The tiny model as two shards; what is in them does not matter here."""
        files = folder_files(GEMMA)
        whole = files.pop("model.safetensors")
        names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
        index = '{"weight_map": {"a": "%s", "b": "%s"}}' % tuple(names)  # noqa: UP031  braces are its text
        return {**files, "model.safetensors.index.json": index.encode(), names[0]: whole[:1000], names[1]: whole[1000:]}

    def test_all_of_them_arrive(self, hub: LoopbackHub, files: dict[str, bytes]) -> None:
        hub.repositories["tiny/shards"] = Repository({**files, "model-00001-of-00009.safetensors": b"of another"})
        found = pull(HubSource("tiny/shards"))
        assert everything_in(found.path) == {*files} - {"config.legacy.json"}
        assert cache.find(HubSource("tiny/shards")) == found

    def test_half_of_them_are_refused_before_any_is_downloaded(self, hub: LoopbackHub, files: dict[str, bytes]) -> None:
        del files["model-00002-of-00002.safetensors"]
        hub.repositories["tiny/shards"] = Repository(files)
        with pytest.raises(ModelFormatError, match=r"half a sharded checkpoint.*model-00002-of-00002"):
            pull(HubSource("tiny/shards"))
        assert hub.asked("GET", "model-00001-of-00002.safetensors") == []
        assert cache.find(HubSource("tiny/shards")) is None

    @pytest.mark.parametrize(
        "index", [b"{", b"{}", b'{"weight_map": {"a": "../../x.safetensors"}}', b'{"weight_map": {}}']
    )
    def test_an_index_that_makes_no_sense_is_refused(
        self, hub: LoopbackHub, files: dict[str, bytes], index: bytes
    ) -> None:
        hub.repositories["tiny/shards"] = Repository({**files, "model.safetensors.index.json": index})
        with pytest.raises(ModelFormatError):
            pull(HubSource("tiny/shards"))
        assert hub.asked("GET", "model-00001-of-00002.safetensors") == []


class TestProcesses:
    def start(self, hub: LoopbackHub) -> subprocess.Popen[bytes]:
        program = "from mogemma.hub.pull import pull, HubSource; print(pull(HubSource('tiny/gguf')).path)"
        command = [sys.executable, "-W", "error", "-c", program]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ))

    def wait_for(self, hub: LoopbackHub, n_requests: int) -> None:
        deadline = time.monotonic() + 30
        while len(hub.asked("GET", GGUF)) < n_requests and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(hub.asked("GET", GGUF)) == n_requests

    def test_two_at_once_download_once(self, hub: LoopbackHub) -> None:
        hub.hold = threading.Event()
        first = self.start(hub)
        self.wait_for(hub, 1)
        second = self.start(hub)
        time.sleep(1.5)  # it comes to the lock, and waits there
        assert second.poll() is None
        hub.hold.set()
        outputs = [process.communicate(timeout=30) for process in (first, second)]
        assert (first.returncode, second.returncode) == (0, 0), outputs
        assert outputs[0][0] == outputs[1][0]
        assert len(hub.asked("GET", GGUF)) == 1
        assert Path(outputs[0][0].decode().strip()).read_bytes() == (GEMMA / "model.gguf").read_bytes()

    def test_one_that_is_killed_leaves_nothing_that_looks_like_a_model(self, hub: LoopbackHub) -> None:
        hub.hold = threading.Event()
        process = self.start(hub)
        self.wait_for(hub, 1)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        assert cache.find(ONE_FILE) is None
        assert list(cache.models()) == []
        hub.hold.set()
        hub.hold = None
        assert sha256(pull(ONE_FILE).path.read_bytes()) == sha256((GEMMA / "model.gguf").read_bytes())
