"""`mogemma rm` deletes what the hub's cache holds of one model, when a person wants it."""

from __future__ import annotations

from pathlib import Path

import pytest
from checkpoints import GEMMA, copy_folder
from commandline import document, run
from loopback_hub import LoopbackHub

from mogemma.commands import rm
from mogemma.hub import cache


@pytest.fixture(autouse=True)
def _two_models(hub: LoopbackHub) -> None:
    for name in ("tiny/gguf", "tiny/folder"):
        assert run("pull", name).exit_code == 0


def is_here(repo_id: str) -> bool:
    return cache.repository_folder(repo_id).exists()


def test_with_yes_the_one_model_goes() -> None:
    result = run("rm", "tiny/gguf", "--yes")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "Deleted tiny/gguf: 248 kB\n"
    assert (is_here("tiny/gguf"), is_here("tiny/folder")) == (False, True)


def test_json_says_what_went() -> None:
    folder = cache.repository_folder("tiny/gguf")
    found = document(run("rm", "tiny/gguf", "--yes", "--json"))
    assert found == {"model": "tiny/gguf", "path": str(folder), "size_bytes": (GEMMA / "model.gguf").stat().st_size}


def test_where_nobody_can_be_asked_nothing_is_deleted() -> None:
    result = run("rm", "tiny/gguf")
    assert result.exit_code == 2
    assert f"{cache.repository_folder('tiny/gguf')} would be deleted (248 kB). Add --yes" in result.stderr
    assert is_here("tiny/gguf")


@pytest.mark.parametrize(("answer", "remains"), [("n\n", True), ("\n", True), ("", True), ("y\n", False)])
def test_at_a_terminal_it_asks(answer: str, remains: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rm, "is_terminal", lambda _: True)
    result = run("rm", "tiny/gguf", stdin=answer)
    assert result.exit_code == (1 if remains else 0)
    assert result.stdout == ""
    assert f"Delete {cache.repository_folder('tiny/gguf')} (248 kB)? [y/N]" in result.stderr
    assert is_here("tiny/gguf") == remains


def test_a_part_of_a_repository_is_not_deleted_by_itself() -> None:
    result = run("rm", "tiny/gguf:Q8_0", "--yes")
    assert result.exit_code == 2
    assert "mogemma rm tiny/gguf" in result.stderr
    assert is_here("tiny/gguf")


@pytest.mark.parametrize("name", ["tiny/none", "gemma-3-270m-it", "../tiny/gguf", "/etc", ".", "tiny", ""])
def test_what_is_not_in_the_cache_is_an_error(name: str) -> None:
    result = run("rm", name, "--yes")
    assert result.exit_code == 1
    assert result.stderr.startswith("mogemma: ")
    assert is_here("tiny/gguf")


def test_what_lies_in_the_model_folder_is_left_to_the_person(tmp_path: Path) -> None:
    path = copy_folder(GEMMA, tmp_path / "models" / "gemma-3-270m-it")
    result = run("rm", "gemma-3-270m-it", "--yes", MOGEMMA_MODELS=str(path.parent))
    assert result.exit_code == 1
    assert f"{path} is not the hub's: delete it yourself" in result.stderr
    assert path.exists()
