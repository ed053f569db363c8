"""Weights by role: the same whatever the file calls them, and a sentence where one does not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from blocks import weights_of
from checkpoints import GEMMA, QUANT_ZOO, Stored, copy_folder, copy_gguf

from mogemma.architectures import read_architecture
from mogemma.architectures.names import LAYER_MATRICES, LAYER_NORMS, PREFIXES
from mogemma.checkpoint import open_checkpoint
from mogemma.errors import ModelFormatError, UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

Numbers = dict[str, "NDArray[np.float32]"]


def numbers_of(path: Path) -> Numbers:
    """Every weight of a checkpoint by role, as plain numbers."""
    with open_checkpoint(path) as checkpoint:
        struct = read_architecture(checkpoint).struct
        found: Numbers = {
            "final_norm": struct["final_norm"],
            "token_embedding": weights_of(struct["token_embedding"]),
            "head": weights_of(struct["head"]),
        }
        for index, layer in enumerate(struct["layers"]):
            found |= {f"{index}.{role}": weights_of(layer[role]) for role in LAYER_MATRICES if role in layer}
            found |= {f"{index}.{role}": layer[role] for role in LAYER_NORMS if role in layer}
        return found


def assert_same(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    assert ours.keys() == theirs.keys()
    for role, numbers in ours.items():
        assert np.array_equal(numbers, theirs[role]), role


def renamed(rename: Callable[[str], str]) -> Callable[[Stored], Stored]:
    return lambda tensors: {rename(name): tensor for name, tensor in tensors.items()}


def test_safetensors_and_gguf_of_a_model_hold_the_same_weights() -> None:
    """GGUF has the 1 of a norm added already; whoever adds it twice, or not at all, gets nonsense."""
    assert_same(numbers_of(GEMMA), numbers_of(GEMMA / "model.gguf"))


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_text_model_is_found_wherever_a_multimodal_one_has_it(tmp_path: Path, prefix: str) -> None:
    rename = renamed(lambda name: prefix + name.removeprefix("model."))
    folder = copy_folder(GEMMA, tmp_path / "model", tensors=rename)
    assert_same(numbers_of(folder), numbers_of(GEMMA))


def test_other_towers_beside_the_text_model_are_left_alone(tmp_path: Path) -> None:
    def with_tower(tensors: Stored) -> Stored:
        rest = {f"model.language_model.{name.removeprefix('model.')}": tensor for name, tensor in tensors.items()}
        return {"model.vision_tower.patch.weight": ("F32", (1,), bytes(4)), **rest}

    folder = copy_folder(GEMMA, tmp_path / "model", tensors=with_tower)
    assert_same(numbers_of(folder), numbers_of(GEMMA))


def test_a_head_of_its_own_is_used_where_there_is_one(tmp_path: Path) -> None:
    def with_head(tensors: Stored) -> Stored:
        kind, shape, data = tensors["model.embed_tokens.weight"]
        return {**tensors, "lm_head.weight": (kind, shape, bytes(len(data)))}

    numbers = numbers_of(copy_folder(GEMMA, tmp_path / "model", tensors=with_head))
    assert not numbers["head"].any()
    assert numbers["token_embedding"].any()


def test_a_gguf_head_of_its_own_is_used_where_there_is_one(tmp_path: Path) -> None:
    head = np.zeros((512, 40), np.float32)
    numbers = numbers_of(copy_gguf(GEMMA / "model.gguf", tmp_path / "model.gguf", tensors={"output.weight": head}))
    assert not numbers["head"].any()


def test_every_block_type_reaches_the_kernels_as_it_is_stored() -> None:
    with open_checkpoint(QUANT_ZOO / "model.gguf") as checkpoint:
        struct = read_architecture(checkpoint).struct
        formats = {layer[role]["format"] for layer in struct["layers"] for role in LAYER_MATRICES if role in layer}
        formats.add(struct["token_embedding"]["format"])
        assert len(formats) >= 14
        tensor = checkpoint.tensor("blk.0.attn_q.weight")
        assert struct["layers"][0]["q_proj"]["data"] is tensor.data, "no byte is copied"


@pytest.mark.parametrize(
    "name", ["embed_tokens", "norm", "layers.0.input_layernorm", "layers.6.mlp.down_proj", "layers.3.self_attn.q_norm"]
)
def test_a_missing_tensor_is_an_error_with_its_name(tmp_path: Path, name: str) -> None:
    folder = copy_folder(
        GEMMA, tmp_path / "m", tensors=lambda x: {key: x[key] for key in x if key != f"model.{name}.weight"}
    )
    with pytest.raises(ModelFormatError, match=name):
        numbers_of(folder)


@pytest.mark.parametrize(
    ("field", "value", "tensor"),
    [
        ("hidden_size", 48, "embed_tokens"),
        ("vocab_size", 513, "embed_tokens"),
        ("num_attention_heads", 2, "q_proj"),
        ("num_key_value_heads", 4, "k_proj"),
        ("intermediate_size", 64, "gate_proj"),
        ("head_dim", 32, "q_proj"),
        ("num_hidden_layers", 8, "layers.7"),
        ("num_hidden_layers", 6, "layers.6"),
    ],
)
def test_a_configuration_of_another_model_is_an_error_that_names_a_tensor(
    tmp_path: Path, field: str, value: int, tensor: str
) -> None:
    folder = copy_folder(GEMMA, tmp_path / "m", {field: value, "layer_types": None})
    with pytest.raises(ModelFormatError, match=tensor):
        numbers_of(folder)


def test_a_quantised_norm_is_unsupported(tmp_path: Path) -> None:
    with open_checkpoint(QUANT_ZOO / "model.gguf") as checkpoint:
        assert checkpoint.tensor("output_norm.weight").type.name == "F32"
    file = copy_gguf(
        GEMMA / "model.gguf",
        tmp_path / "model.gguf",
        leave_out=["output_norm.weight"],
        tensors={"output_norm.weight": np.zeros(40, np.float64)},
    )
    with pytest.raises(UnsupportedModelError, match="output_norm"):
        numbers_of(file)


def test_a_checkpoint_without_a_text_model_says_what_it_may_be(tmp_path: Path) -> None:
    folder = copy_folder(GEMMA, tmp_path / "m", tensors=renamed(lambda name: f"adapter.{name}"))
    with pytest.raises(ModelFormatError, match="adapter, a vision tower, or one shard"):
        numbers_of(folder)
