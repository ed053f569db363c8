"""`mogemma info` shows what the library says of a model, for programs and for people."""

from __future__ import annotations

from pathlib import Path

import pytest
from checkpoints import GEMMA
from commandline import EMBEDDER, WRITER, document, run
from loopback_hub import LoopbackHub

from mogemma import ModelInfo
from mogemma.commands.table import size
from mogemma.hub.known import KNOWN

ORIGIN = ("origin", "hub_id", "revision", "licence", "licence_url")


@pytest.mark.parametrize(
    ("model", "family", "generates"), [(WRITER, "gemma3", True), (EMBEDDER, "embeddinggemma", False)]
)
def test_json_has_every_field(model: str, family: str, generates: bool) -> None:
    found = document(run("info", "-m", model, "--json"))
    assert set(found) == {*ORIGIN, *ModelInfo.__dataclass_fields__}
    assert (found["path"], found["family"], found["generates"]) == (model, family, generates)
    assert (found["origin"], found["hub_id"], found["licence"]) == ("path", None, "Gemma Terms of Use")


def test_of_a_model_of_the_hub_it_says_which_one(hub: LoopbackHub) -> None:
    run("pull", "tiny/gguf")
    found = document(run("info", "-m", "tiny/gguf", "--json"))
    assert (found["origin"], found["hub_id"]) == ("hub", "tiny/gguf")
    assert found["revision"] == hub.repositories["tiny/gguf"].commit
    assert found["licence_url"] == "https://ai.google.dev/gemma/terms"
    assert found["family"] == "gemma3"


def test_of_a_model_that_is_not_here_it_says_what_there_is_and_downloads_nothing(hub: LoopbackHub, home: Path) -> None:
    hub.repositories["tiny/folder"].gated = True
    found = document(run("info", "-m", "tiny/folder", "--json"))
    assert found["origin"] == "not on this machine"
    assert found["revision"] == hub.repositories["tiny/folder"].commit
    assert (found["licence"], found["is_gated"]) == ("gemma", True)
    assert found["files"] == ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]
    assert found["download_bytes"] == sum((GEMMA / name).stat().st_size for name in found["files"])
    assert not home.exists()
    shown = run("info", "-m", "tiny/folder").stdout
    assert "254 kB" in shown
    assert "not on this machine" in shown


def test_of_a_known_model_it_says_so_without_a_network() -> None:
    found = document(run("info", "-m", "gemma-4-31b-it", "--json"))
    assert (found["licence"], found["download_bytes"]) == ("Apache-2.0", KNOWN["gemma-4-31b-it"].n_bytes)
    assert (found["hub_id"], found["known_as"]) == (KNOWN["gemma-4-31b-it"].repo_id, "gemma-4-31b-it")


@pytest.mark.parametrize("name", ["nobody/nothing", "gemma-4-31b-it:Q8_0"])
def test_of_what_is_not_known_it_says_that_the_hub_does_not_answer(name: str) -> None:
    result = run("info", "-m", name)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "cannot be reached" in result.stderr


def test_a_person_reads_names_and_sizes() -> None:
    shown = dict(line.split("  ", 1) for line in run("info", "-m", WRITER).stdout.splitlines())
    found = {name: value.strip() for name, value in shown.items()}
    assert found["family"] == "gemma3"
    assert found["parameters"] == "113,704"
    assert found["tensors"] == "93 BF16"
    assert found["files"] == "237 kB"


@pytest.mark.parametrize(
    ("n_bytes", "shown"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (99_940, "99.9 kB"),
        (237_096, "237 kB"),
        (999_600, "1.0 MB"),
        (253_113_024, "253 MB"),
        (1_200_000_000, "1.2 GB"),
        (25_300_000_000_000, "25,300.0 GB"),
    ],
)
def test_sizes_have_about_three_digits(n_bytes: int, shown: str) -> None:
    assert size(n_bytes) == shown
