"""`mogemma pull` brings a model, says what it brings, and prints where it lies."""

from __future__ import annotations

import io
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from checkpoints import GEMMA
from commandline import document, run, start
from hub_fixtures import GGUF
from loopback_hub import Answer, LoopbackHub, Repository, sha256

from mogemma import SyncGemmaModel
from mogemma.hub import cache
from mogemma.hub.known import GENERATOR, KNOWN
from mogemma.hub.source import HubSource


def test_it_prints_the_path_and_tells_size_and_licence_beside_it(hub: LoopbackHub) -> None:
    hub.repositories[KNOWN[GENERATOR].repo_id] = hub.repositories["tiny/gguf"]
    result = run("pull", GENERATOR)
    assert result.exit_code == 0
    path = Path(result.stdout.removesuffix("\n"))
    assert path.read_bytes() == (GEMMA / "model.gguf").read_bytes()
    assert result.stderr.splitlines() == [
        f"Downloading {KNOWN[GENERATOR].repo_id}: 248 kB; licence: Gemma Terms of Use",
        f"{KNOWN[GENERATOR].repo_id} is here: 248 kB",
    ]
    with SyncGemmaModel(GENERATOR, threads=1) as model:
        assert model.info.path == str(path)


def test_json_has_all_of_it(hub: LoopbackHub) -> None:
    found = document(run("pull", "tiny/gguf:q8_0", "--json"))
    assert found == {
        "model": "tiny/gguf:q8_0",
        "known_as": None,
        "revision": hub.repositories["tiny/gguf"].commit,
        "path": str(cache.snapshot_folder("tiny/gguf", found["revision"]) / GGUF),
        "size_bytes": (GEMMA / "model.gguf").stat().st_size,
        "licence": None,
        "licence_url": None,
    }


def test_a_licence_that_is_not_in_the_table_is_the_owners_word(hub: LoopbackHub) -> None:
    hub.repositories["tiny/gguf"].licence = "mit"
    assert "licence: mit\n" in run("pull", "tiny/gguf").stderr


def test_a_path_or_a_word_is_nothing_to_pull(hub: LoopbackHub) -> None:
    for name in (str(GEMMA), "gemma", "a b/c"):
        result = run("pull", name)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "is no name that `mogemma list --known` shows" in result.stderr
    assert hub.requests == []


@pytest.mark.parametrize("command", ["generate", "tokenize", "chat"])
def test_other_commands_pull_what_they_need_once(hub: LoopbackHub, command: str) -> None:
    options = [] if command == "tokenize" else ["--max-tokens", "1"]
    first = run(command, "-m", "tiny/folder", *options, "The sea")
    assert first.exit_code == 0
    assert first.stderr.startswith("Downloading tiny/folder: 254 kB; licence: gemma\n")
    hub.requests.clear()
    second = run(command, "-m", "tiny/folder", *options, "The sea")
    assert second.exit_code == 0
    assert "Downloading" not in second.stderr
    assert hub.requests == []


def test_what_goes_wrong_is_one_sentence_and_status_1(hub: LoopbackHub) -> None:
    hub.fault = lambda _: Answer(503, {})
    result = run("pull", "tiny/gguf")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("mogemma: tiny/gguf: 127.0.0.1:")
    assert result.stderr.count("\n") == 1


def test_the_clients_own_bars_and_warnings_do_not_appear(hub: LoopbackHub) -> None:
    """In a process of its own, where nothing captures what the client prints."""
    process = start("pull", "tiny/folder")
    output, error = process.communicate(timeout=60)
    assert process.returncode == 0
    assert output.count(b"\n") == 1
    assert [line.split(b":")[0] for line in error.splitlines()] == [b"Downloading tiny/folder", b"tiny/folder is here"]


def test_ctrl_c_ends_it_and_leaves_no_half_model(hub: LoopbackHub, home: Path) -> None:
    hub.hold = threading.Event()
    process = start("pull", "tiny/gguf")
    deadline = time.monotonic() + 30
    while not hub.asked("GET", GGUF) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert (process.returncode, output) == (130, b"")
    assert cache.find(HubSource("tiny/gguf")) is None
    assert [
        file for file in home.rglob("blobs/*") if file.name.endswith(sha256((GEMMA / "model.gguf").read_bytes()))
    ] == []


def test_at_a_terminal_a_bar_in_bytes_shows_a_long_download(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from mogemma.commands import progress  # noqa: PLC0415  as below
    from mogemma.commands.models import downloading  # noqa: PLC0415  before it, sys.stderr is pytest's
    from mogemma.hub.pull import pull  # noqa: PLC0415  loads the rest

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "PATIENCE", 0.05)
    with downloading() as watchers:
        pull(HubSource("tiny/gguf"), on_progress=watchers["on_progress"])
        deadline = time.monotonic() + 10
        while "kB" not in terminal.getvalue() and time.monotonic() < deadline:
            time.sleep(0.05)
    assert "Downloading" in terminal.getvalue()
    assert "kB" in terminal.getvalue()


def test_a_model_of_the_hub_may_come_from_the_environment(hub: LoopbackHub) -> None:
    hub.repositories["tiny/other"] = Repository({"other.gguf": (GEMMA / "model.gguf").read_bytes()})
    assert document(run("info", "--json", MOGEMMA_MODEL="tiny/other"))["hub_id"] == "tiny/other"
