"""`mogemma list` shows what is here and runs, or what has a short name."""

from __future__ import annotations

from pathlib import Path

from checkpoints import EMBEDDING_GEMMA, GEMMA, copy_folder
from commandline import document, run
from hub_fixtures import GGUF
from loopback_hub import LoopbackHub, Repository

from mogemma.hub.known import GENERATOR, KNOWN


def models_of(folder: Path, *options: str) -> dict[str, dict[str, object]]:
    found = document(run("list", "--json", *options, MOGEMMA_MODELS=str(folder)))
    return {row["name"]: row for row in found["models"]}


def test_models_of_the_folder_and_of_the_hub_are_listed(hub: LoopbackHub, tmp_path: Path) -> None:
    copy_folder(EMBEDDING_GEMMA, tmp_path / "models" / "embeds")
    hub.repositories[KNOWN[GENERATOR].repo_id] = hub.repositories["tiny/gguf"]
    for name in (GENERATOR, "tiny/folder"):
        assert run("pull", name).exit_code == 0
    found = models_of(tmp_path / "models")
    assert list(found) == ["embeds", f"{KNOWN[GENERATOR].repo_id}:{GGUF}", "tiny/folder"]
    assert found["embeds"]["family"] == "embeddinggemma"
    assert found["embeds"]["origin"] == "model folder"
    file = found[f"{KNOWN[GENERATOR].repo_id}:{GGUF}"]
    assert (file["known_as"], file["family"], file["origin"]) == (GENERATOR, "gemma3", "hub")
    assert file["size_bytes"] == (GEMMA / "model.gguf").stat().st_size
    assert Path(str(found["tiny/folder"]["path"])).is_dir()


def test_a_person_reads_a_table(hub: LoopbackHub) -> None:
    run("pull", "tiny/folder")
    assert run("list").stdout.split() == ["name", "size", "family", "in", "tiny/folder", "254", "kB", "gemma3", "hub"]


def test_a_name_from_the_list_runs(hub: LoopbackHub) -> None:
    run("pull", "tiny/gguf")
    (name,) = models_of(Path("/no/models"))
    hub.close()
    assert run("generate", "-m", name, "--max-tokens", "1", "The sea").exit_code == 0


def test_what_does_not_run_here_is_not_listed(hub: LoopbackHub) -> None:
    other = {"config.json": b'{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}'}
    files = {**hub.repositories["tiny/folder"].files, **other}
    hub.repositories["other/llama"] = Repository(files)
    assert run("pull", "other/llama").exit_code == 0
    assert models_of(Path("/no/models")) == {}


def test_where_there_is_nothing_it_says_how_to_get_something(hub: LoopbackHub) -> None:
    result = run("list")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "mogemma pull" in result.stderr
    assert document(run("list", "--json")) == {"models": []}


def test_the_known_models_are_the_table(hub: LoopbackHub, tmp_path: Path) -> None:
    copy_folder(EMBEDDING_GEMMA, tmp_path / "models" / "embeddinggemma-300m")
    found = models_of(tmp_path / "models", "--known")
    assert list(found) == list(KNOWN)
    assert found["gemma-4-31b-it"] == {
        "name": "gemma-4-31b-it",
        "size_bytes": KNOWN["gemma-4-31b-it"].n_bytes,
        "hub_id": "ggml-org/gemma-4-31B-it-GGUF",
        "licence": "Apache-2.0",
        "licence_url": "https://ai.google.dev/gemma/apache_2",
        "is_gated": False,
        "is_here": False,
    }
    assert [name for name, row in found.items() if row["is_here"]] == ["embeddinggemma-300m"]
    shown = run("list", "--known").stdout
    assert all(name in shown and model.repo_id in shown for name, model in KNOWN.items())
    assert hub.requests == []
