"""Of several things that one name may mean, which it is; and what is said where it means none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from checkpoints import EMBEDDING_GEMMA, GEMMA, copy_folder
from loopback_hub import LoopbackHub, Repository

from mogemma import EmbeddingModel, GenerationConfig, ModelNotFoundError, SyncGemmaModel
from mogemma.hub.known import EMBEDDER, GENERATOR, KNOWN
from mogemma.hub.locate import Located, Wanted, locate, search
from mogemma.hub.source import HubSource

REPO_ID = KNOWN[GENERATOR].repo_id
GGUF = "gemma-3-270m-it-Q8_0.gguf"


@pytest.fixture
def folder(home: Path) -> Path:
    """The model folder, empty; the current folder is another."""
    path = Path(os.environ["MOGEMMA_MODELS"])
    path.mkdir()
    return path


@pytest.fixture
def known(hub: LoopbackHub) -> LoopbackHub:
    """A hub that has the model which is the default."""
    hub.repositories[REPO_ID] = Repository({GGUF: (GEMMA / "model.gguf").read_bytes()})
    return hub


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """As HF_HUB_OFFLINE=1 does, which the client reads when it is imported."""
    from huggingface_hub import constants  # noqa: PLC0415  after the variables are set

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


class TestPaths:
    def test_a_path_is_taken_as_it_is(self, folder: Path) -> None:
        for path in (GEMMA, GEMMA / "model.gguf", str(GEMMA), os.path.relpath(GEMMA)):
            assert search(path) == Located(Path(path), "path")

    def test_a_tilde_is_the_users_home(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(GEMMA.parent))
        assert search("~/gemma3-text") == Located(GEMMA, "path")

    def test_an_absolute_path_is_never_looked_for_elsewhere(self, folder: Path) -> None:
        assert search("/no/such/model.gguf") == Located(Path("/no/such/model.gguf"), "path")
        with pytest.raises(ModelNotFoundError, match=r"/no/such/model\.gguf"):
            SyncGemmaModel("/no/such/model.gguf")

    @pytest.mark.parametrize(
        "name",
        [
            "no-such-model",
            "models/gemma.gguf",
            "./a/b",
            "*",
            "[a-",
            "a?",
            "~nobody-of-that-name/model",
            "x" * 200,
            "🦜",
        ],
    )
    def test_a_name_that_can_mean_nothing_is_answered_with_where_was_looked(
        self, folder: Path, hub: LoopbackHub, name: str
    ) -> None:
        with pytest.raises(ModelNotFoundError) as caught:
            locate(name)
        assert f"{name!r}, neither as a path nor in {folder} (MOGEMMA_MODELS)" in str(caught.value)
        assert hub.requests == []

    def test_a_name_that_is_nearly_known_is_answered_with_that(self, folder: Path) -> None:
        with pytest.raises(ModelNotFoundError, match=r"Did you mean gemma-3-1b-it\?"):
            locate("gemma-3-1b")

    @pytest.mark.parametrize("name", ["x" * 5000, "x/" * 3000, "a\0b"], ids=["long", "deep", "null"])
    def test_a_name_that_no_file_can_have_is_refused(self, folder: Path, name: str) -> None:
        """Somebody may have given the prompt where the model belongs."""
        with pytest.raises(ModelNotFoundError, match="cannot be"):
            locate(name)

    def test_a_path_object_is_never_the_name_of_something_on_the_hub(self, folder: Path, known: LoopbackHub) -> None:
        for name in (REPO_ID, GENERATOR):
            with pytest.raises(ModelNotFoundError):
                locate(Path(name))
        assert known.requests == []


class TestOrder:
    def test_what_lies_here_comes_before_a_known_model_and_an_id(self, folder: Path, known: LoopbackHub) -> None:
        locate(GENERATOR)
        (folder / f"{GENERATOR}.gguf").touch()
        for name in (GENERATOR, REPO_ID):
            Path(name).mkdir(parents=True)
            assert search(name) == Located(Path(name), "path")

    def test_a_folder_of_that_name_without_a_model_is_not_passed_over(self, folder: Path, known: LoopbackHub) -> None:
        """Else a name would mean another model when a file is moved."""
        Path(GENERATOR).mkdir()
        with pytest.raises(ModelNotFoundError, match="holds no model"):
            SyncGemmaModel(GENERATOR)
        assert known.requests == []

    def test_the_model_folder_comes_before_the_hub_and_its_cache(self, folder: Path, known: LoopbackHub) -> None:
        assert locate(GENERATOR).origin == "hub"
        shutil.copy(GEMMA / "model.gguf", folder / GGUF)
        assert locate(GENERATOR) == Located(folder / GGUF, "model folder")

    def test_the_cache_comes_before_the_hub(self, folder: Path, known: LoopbackHub) -> None:
        assert search(GENERATOR) == Wanted(HubSource(REPO_ID))
        first = locate(GENERATOR)
        known.requests.clear()
        assert locate(GENERATOR) == locate(REPO_ID) == search(GENERATOR) == first
        assert first.source == HubSource(REPO_ID)
        assert first.revision == known.repositories[REPO_ID].commit
        assert known.requests == []

    def test_a_quantisation_may_be_named_with_a_known_name(self, folder: Path, known: LoopbackHub) -> None:
        assert locate(f"{GENERATOR}:q8_0").path.name == GGUF
        with pytest.raises(ModelNotFoundError, match="'Q4_0'"):
            locate(f"{GENERATOR}:Q4_0")


class TestDefault:
    def test_without_a_name_a_small_instruction_tuned_gemma_is_taken(self, folder: Path, known: LoopbackHub) -> None:
        for make in (SyncGemmaModel, lambda **options: SyncGemmaModel(GenerationConfig(), **options)):
            with make(threads=1) as model:
                assert model.info.path.endswith(GGUF)

    def test_an_embedding_model_has_another_default(self, folder: Path) -> None:
        copy_folder(EMBEDDING_GEMMA, folder / EMBEDDER)
        with EmbeddingModel(threads=1) as model:
            assert model.info.path == str(folder / EMBEDDER)

    @pytest.mark.usefixtures("offline")
    def test_offline_the_model_of_the_folder_takes_its_place_and_the_person_is_told(
        self, folder: Path, hub: LoopbackHub
    ) -> None:
        path = folder / "gemma-3-270m-q4_k_m.gguf"
        shutil.copy(GEMMA / "model.gguf", path)
        told: list[str] = []
        assert locate(None, tell=told.append) == Located(path, "model folder")
        (sentence,) = told
        assert sentence.startswith(f"{path} takes the place of {GENERATOR}: ")
        assert "HF_HUB_OFFLINE" in sentence
        assert hub.requests == []

    def test_so_it_does_without_a_network_as_a_warning_once(self, folder: Path) -> None:
        shutil.copy(GEMMA / "model.gguf", folder / "gemma-3-270m-q4_k_m.gguf")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            for _ in range(2):
                SyncGemmaModel(threads=1).close()
        (warning,) = caught
        assert "takes the place of gemma-3-270m-it" in str(warning.message)
        assert "cannot be reached" in str(warning.message)
        assert warning.filename == __file__

    def test_no_other_model_takes_the_place_of_one_that_was_named(self, folder: Path) -> None:
        shutil.copy(GEMMA / "model.gguf", folder / "gemma-3-270m-q4_k_m.gguf")
        with pytest.raises(OSError, match="cannot be reached"):
            locate(GENERATOR)

    def test_a_hub_that_has_it_comes_before_what_would_take_its_place(self, folder: Path, known: LoopbackHub) -> None:
        shutil.copy(GEMMA / "model.gguf", folder / "gemma-3-270m-q4_k_m.gguf")
        assert locate(None).origin == "hub"

    def test_other_trouble_is_not_covered_up(self, folder: Path, hub: LoopbackHub) -> None:
        """The hub answers, and has no such model: that is worth knowing."""
        shutil.copy(GEMMA / "model.gguf", folder / "gemma-3-270m-q4_k_m.gguf")
        with pytest.raises(ModelNotFoundError, match="no model ggml-org"):
            locate(None)


@pytest.mark.usefixtures("offline")
class TestOffline:
    def test_what_is_here_runs(self, folder: Path, known: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
        from huggingface_hub import constants  # noqa: PLC0415  after the variables are set

        with monkeypatch.context() as patch:
            patch.setattr(constants, "HF_HUB_OFFLINE", False)
            locate(GENERATOR)
        known.requests.clear()
        SyncGemmaModel(GENERATOR, threads=1).close()
        assert known.requests == []

    def test_what_is_not_is_a_sentence_and_no_attempt(self, folder: Path, known: LoopbackHub) -> None:
        with pytest.raises(ModelNotFoundError, match=rf"HF_HUB_OFFLINE forbids that.* mogemma pull {REPO_ID}"):
            locate(GENERATOR)
        assert known.requests == []


def test_the_variable_of_the_hub_is_what_makes_it_offline(folder: Path, known: LoopbackHub) -> None:
    program = "from mogemma.hub.locate import locate; locate('tiny/gguf')"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert "HF_HUB_OFFLINE forbids that" in done.stderr
    assert known.requests == []


def test_without_the_extra_it_says_what_to_install(folder: Path, tmp_path: Path) -> None:
    """And what is on this machine runs without it."""
    program = (
        "import sys, importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'huggingface_hub' else find(name, *rest)\n"
        "sys.modules['huggingface_hub'] = None\n"
        "from mogemma import SyncGemmaModel\n"
        f"SyncGemmaModel({str(GEMMA)!r}, threads=1).close()\n"
        "SyncGemmaModel('gemma-3-1b-it')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].startswith(
        "mogemma.hub.trouble.NotHereError: ggml-org/gemma-3-1b-it-GGUF is to be"
    )
    assert "pip install 'mogemma[hub]'" in done.stderr


def test_a_model_that_is_here_does_not_wait_for_the_import_of_the_hubs_client(hub: LoopbackHub) -> None:
    locate("tiny/gguf")
    for name in (str(GEMMA), "tiny/gguf"):
        program = (
            f"from mogemma import SyncGemmaModel; import sys; SyncGemmaModel({name!r}, threads=1).close()\n"
            "print('huggingface_hub' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout == "False\n"
