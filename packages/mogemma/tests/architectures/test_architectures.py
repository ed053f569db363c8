"""Which family a checkpoint is of; what is none of them is refused by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from checkpoints import GEMMA, QUANT_ZOO, copy_folder, copy_gguf

from mogemma.architectures import read_architecture, read_spec
from mogemma.checkpoint import open_checkpoint
from mogemma.errors import ModelFormatError, UnsupportedModelError

if TYPE_CHECKING:
    from pathlib import Path

    from mogemma.architectures.spec import ModelSpec


def read(path: Path) -> ModelSpec:
    with open_checkpoint(path) as checkpoint:
        return read_architecture(checkpoint).spec


@pytest.mark.parametrize("name", ["llama", "gemma9", "", 3, None, ["gemma3"]])
def test_another_model_type_is_refused_by_its_name_and_with_those_that_run(tmp_path: Path, name: object) -> None:
    folder = copy_folder(GEMMA, tmp_path / "m", {"model_type": name})
    with pytest.raises(UnsupportedModelError, match=r"model type .* is not one that mogemma runs \(.*gemma3_text"):
        read(folder)


@pytest.mark.parametrize("name", ["llama", "gemma9", None])
def test_another_gguf_architecture_is_refused_by_its_name(tmp_path: Path, name: str | None) -> None:
    file = copy_gguf(GEMMA / "model.gguf", tmp_path / "m.gguf", {"general.architecture": name})
    with pytest.raises(UnsupportedModelError, match=r"GGUF architecture .* is not one that mogemma runs"):
        read(file)


def test_the_text_part_of_a_multimodal_configuration_is_read(tmp_path: Path) -> None:
    with open_checkpoint(GEMMA) as checkpoint:
        config, expected = dict(checkpoint.config), read_spec(checkpoint)
    folder = copy_folder(
        GEMMA, tmp_path / "m", {**dict.fromkeys(config), "model_type": "gemma3", "text_config": config}
    )
    assert read(folder) == expected


@pytest.mark.parametrize("text_config", [3, [], "gemma3_text"])
def test_a_text_config_that_is_no_group_of_fields_is_refused(tmp_path: Path, text_config: object) -> None:
    folder = copy_folder(GEMMA, tmp_path / "m", {"text_config": text_config})
    with pytest.raises(UnsupportedModelError, match="'text_config'"):
        read(folder)


def test_heads_that_the_kernels_cannot_run_are_refused_before_any_weight_is_read(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="heads of 20 numbers"):
        read(copy_folder(GEMMA, tmp_path / "a", {"head_dim": 20}))
    with pytest.raises(ModelFormatError, match="4 heads cannot share 3"):
        read(copy_folder(GEMMA, tmp_path / "b", {"num_key_value_heads": 3}))


def test_a_model_with_a_few_float_matrices_is_not_quantised() -> None:
    for path in (GEMMA, QUANT_ZOO / "model.gguf"):
        with open_checkpoint(path) as checkpoint:
            assert not read_architecture(checkpoint).is_quantised


def test_a_model_that_uses_gemmas_text_model_in_another_way_is_refused_by_its_own_name(tmp_path: Path) -> None:
    """PaliGemma's text model is a Gemma, but sees its prompt both ways."""
    with open_checkpoint(GEMMA) as checkpoint:
        config = dict(checkpoint.config)
    folder = copy_folder(
        GEMMA, tmp_path / "m", {**dict.fromkeys(config), "model_type": "paligemma", "text_config": config}
    )
    with pytest.raises(UnsupportedModelError, match="model type 'paligemma' is not one that mogemma runs"):
        read(folder)
