"""Of all that people put into a repository, a model's files are chosen by their names alone."""

from __future__ import annotations

import pytest

from mogemma import ModelFormatError, ModelNotFoundError, UnsupportedModelError
from mogemma.hub.files import choose, quantisation
from mogemma.hub.source import HubSource

GGUFS = [
    "gemma-3-1b-it-Q4_K_M.gguf",
    "gemma-3-1b-it-Q8_0.gguf",
    "gemma-3-1b-it-UD-Q4_K_XL.gguf",
    "gemma-3-1b-it-f16.gguf",
    "mmproj-gemma-3-1b-it-Q4_K_M.gguf",
    "mtp-gemma-3-1b-it.gguf",
    "imatrix.gguf",
    "README.md",
]
FOLDER = [
    ".gitattributes",
    "README.md",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
]


def chosen(names: list[str], which: str | None = None) -> list[str]:
    return choose(HubSource("a/b", which), names)


def test_of_several_quantisations_the_usual_one_is_taken() -> None:
    assert chosen(GGUFS) == ["gemma-3-1b-it-Q4_K_M.gguf"]
    assert chosen(GGUFS[1:]) == ["gemma-3-1b-it-Q8_0.gguf"]
    assert chosen(["a-Q8_0.gguf", "a-Q4_0.gguf", "a-BF16.gguf"]) == ["a-Q4_0.gguf"]


def test_a_single_file_needs_no_quantisation_in_its_name() -> None:
    assert chosen(["model.gguf", "mmproj-model-f16.gguf", "README.md"]) == ["model.gguf"]


@pytest.mark.parametrize(
    ("which", "name"),
    [
        ("Q8_0", "gemma-3-1b-it-Q8_0.gguf"),
        ("q8_0", "gemma-3-1b-it-Q8_0.gguf"),
        ("F16", "gemma-3-1b-it-f16.gguf"),
        ("UD-Q4_K_XL", "gemma-3-1b-it-UD-Q4_K_XL.gguf"),
        ("gemma-3-1b-it-Q8_0.gguf", "gemma-3-1b-it-Q8_0.gguf"),
    ],
)
def test_another_is_named_by_its_quantisation_or_its_file(which: str, name: str) -> None:
    assert chosen(GGUFS, which) == [name]


@pytest.mark.parametrize("which", ["Q5_K_M", "Q8", "gemma-3-1b-it-Q5.gguf", "README.md"])
def test_one_that_is_not_there_is_answered_with_those_that_are(which: str) -> None:
    with pytest.raises(
        ModelNotFoundError, match=rf"{which}.*It has gemma-3-1b-it-Q4_K_M\.gguf, gemma-3-1b-it-Q8_0\.gguf"
    ):
        chosen(GGUFS, which)


def test_a_choice_that_is_not_clear_is_left_to_the_person() -> None:
    with pytest.raises(ModelNotFoundError, match=r"several models: a\.gguf, b\.gguf\. Name one, such as a/b:a\.gguf"):
        chosen(["a.gguf", "b.gguf"])
    with pytest.raises(ModelNotFoundError, match=r"Several files of a/b are Q8_0: x/a-Q8_0\.gguf, y/a-Q8_0\.gguf"):
        chosen(["x/a-Q8_0.gguf", "y/a-Q8_0.gguf"], "Q8_0")
    with pytest.raises(ModelNotFoundError, match="several models"):
        chosen(["x/a-Q8_0.gguf", "y/a-Q8_0.gguf"])


def test_a_split_file_is_refused_and_never_preferred() -> None:
    split = ["a-Q4_K_M-00001-of-00002.gguf", "a-Q4_K_M-00002-of-00002.gguf"]
    assert chosen([*split, "a-Q8_0.gguf"]) == ["a-Q8_0.gguf"]
    with pytest.raises(UnsupportedModelError, match="llama-gguf-split --merge"):
        chosen(split, split[0])
    with pytest.raises(UnsupportedModelError, match="llama-gguf-split --merge"):
        chosen(split[:1])


def test_of_a_folder_what_is_read_comes_the_weights_last() -> None:
    assert chosen([*FOLDER, "pytorch_model.bin", "model.onnx", "model.gguf", "original/model.safetensors"]) == [
        "config.json",
        "tokenizer.json",
        "tokenizer.model",
        "generation_config.json",
        "tokenizer_config.json",
        "model.safetensors",
    ]


def test_of_a_sentence_transformers_model_its_modules_come_too() -> None:
    names = [*FOLDER, "modules.json", "1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors"]
    others = ["2_Dense/pytorch_model.bin", "onnx/model.onnx", "1_Pooling/evil.py"]
    assert set(chosen([*names, *others])) == set(names) - {".gitattributes", "README.md"}
    assert "2_Dense/config.json" not in chosen([name for name in [*names, *others] if name != "modules.json"])


def test_shards_come_with_their_index_unless_there_is_one_file() -> None:
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = "model.safetensors.index.json"
    without = [name for name in FOLDER if name != "model.safetensors"]
    assert chosen([*without, index, *shards])[-2:] == shards
    assert index in chosen([*without, index, *shards])
    assert {index, *shards}.isdisjoint(chosen([*FOLDER, index, *shards]))


@pytest.mark.parametrize(
    ("names", "error", "said"),
    [
        (["adapter_config.json", "adapter_model.safetensors", "README.md"], UnsupportedModelError, "adapter"),
        (
            ["config.json", "pytorch_model.bin"],
            ModelNotFoundError,
            r"no model as GGUF or safetensors, but config\.json, py",
        ),
        (["gemma.litertlm"], ModelNotFoundError, "gemma.litertlm"),
        ([], ModelNotFoundError, "but nothing"),
        (
            ["model-00001-of-00002.safetensors", "config.json"],
            ModelNotFoundError,
            "shards of a model but no model.safet",
        ),
        (["model.safetensors"], ModelFormatError, "no config.json"),
        (["mmproj-a.gguf"], ModelNotFoundError, "no model as GGUF"),
    ],
)
def test_what_is_no_model_is_told_by_what_it_is(names: list[str], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        chosen(names)


@pytest.mark.parametrize(
    ("name", "quant"),
    [
        ("gemma-3-270m-it-Q8_0.gguf", "Q8_0"),
        ("gemma-3-270m-q4_k_m.gguf", "Q4_K_M"),
        ("gemma-2b.Q4_K_M.gguf", "Q4_K_M"),
        ("a-IQ4_XS.gguf", "IQ4_XS"),
        ("a-UD-IQ2_M.gguf", "UD-IQ2_M"),
        ("a-MXFP4_MOE.gguf", "MXFP4_MOE"),
        ("BF16/a-BF16.gguf", "BF16"),
        ("Q8_0/a.gguf", ""),
        ("gemma-4-E2B_q4_0-it.gguf", ""),
        ("a.gguf", ""),
    ],
)
def test_a_quantisation_is_the_end_of_a_name(name: str, quant: str) -> None:
    assert quantisation(name) == quant
