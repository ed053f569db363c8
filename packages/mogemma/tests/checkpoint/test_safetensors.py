"""safetensors, alone and sharded: what is written is read, and damage costs an exception and nothing more."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st

from mogemma.checkpoint import Checkpoint, TensorType, open_checkpoint
from mogemma.errors import ModelFormatError, ModelNotFoundError, MogemmaError, UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

DATA = Path(__file__).parents[1] / "data"


def deserialize(data: bytes) -> dict[str, Any]:
    """What the safetensors package reads."""
    read: Callable[[bytes], list[tuple[str, dict[str, Any]]]] = safetensors.deserialize
    return dict(read(data))


def entry(dtype: object, shape: object, begin: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def build(header: object, data: bytes = b"") -> bytes:
    """A file with that header: bytes are written as they are, anything else as JSON."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def small_file() -> bytes:
    header = {
        "__metadata__": {"format": "pt"},
        "matrix": entry("BF16", [2, 3], 0, 12),
        "position_ids": entry("I64", [1], 12, 20),
        "norm": entry("F32", [1], 20, 24),
        "nothing": entry("F16", [0, 7], 24, 24),
    }
    return build(header, bytes(range(24)))


def opened(folder: Path, data: bytes) -> Checkpoint:
    (folder / "config.json").write_text('{"model_type": "gemma3_text"}')
    (folder / "model.safetensors").write_bytes(data)
    return open_checkpoint(folder)


def read_everything(checkpoint: Checkpoint) -> None:
    for tensor in checkpoint.tensors.values():
        assert len(bytes(tensor.data)) == tensor.type.n_bytes(tensor.n_weights)


def test_tensors_metadata_and_config_come_out_as_written(tmp_path: Path) -> None:
    with opened(tmp_path, small_file()) as checkpoint:
        assert checkpoint.kind == "safetensors"
        assert checkpoint.metadata == {"format": "pt"}
        assert checkpoint.config == {"model_type": "gemma3_text"}
        assert list(checkpoint.tensors) == ["matrix", "norm", "nothing"]
        matrix = checkpoint.tensor("matrix", shape=(2, 3))
        assert (matrix.shape, matrix.type, bytes(matrix.data)) == ((2, 3), TensorType.BF16, bytes(range(12)))
        assert matrix.data.readonly
        assert bytes(checkpoint.tensor("norm").data) == bytes(range(20, 24))
        assert checkpoint.tensor("nothing").to_float32().shape == (0, 7)


@pytest.mark.parametrize("path", sorted((DATA / "tiny").rglob("*.safetensors")), ids=lambda path: path.parent.name)
def test_the_safetensors_package_reads_the_same(path: Path) -> None:
    theirs = deserialize(path.read_bytes())
    with open_checkpoint(path) as ours:
        assert set(ours.tensors) == set(theirs)
        for name, expected in theirs.items():
            tensor = ours.tensor(name)
            assert [*tensor.shape] == expected["shape"]
            assert tensor.type.name == expected["dtype"]
            assert bytes(tensor.data) == bytes(expected["data"])


def test_a_dtype_that_is_not_run_is_an_error_only_when_it_is_asked_for(tmp_path: Path) -> None:
    """Old checkpoints carry integer buffers that no forward pass reads."""
    with (
        opened(tmp_path, small_file()) as checkpoint,
        pytest.raises(UnsupportedModelError, match=r"'position_ids'.*I64"),
    ):
        checkpoint.tensor("position_ids")


def test_a_missing_tensor_is_named_with_the_file(tmp_path: Path) -> None:
    with (
        opened(tmp_path, small_file()) as checkpoint,
        pytest.raises(ModelFormatError, match="no tensor 'bias'") as caught,
    ):
        checkpoint.tensor("bias")
    assert str(tmp_path) in str(caught.value)


def test_a_tensor_of_another_shape_is_named_with_both_shapes(tmp_path: Path) -> None:
    with (
        opened(tmp_path, small_file()) as checkpoint,
        pytest.raises(ModelFormatError, match=r"matrix.*\(2, 3\).*\(3, 2\)"),
    ):
        checkpoint.tensor("matrix", shape=(3, 2))


ONE = entry("F32", [1], 0, 4)
DAMAGED = {
    "header longer than the file": (struct.pack("<Q", 2**63) + b"{}", "9223372036854775808 bytes"),
    "header longer than the format allows": (struct.pack("<Q", 2**40) + b"{}", "header"),
    "no JSON": (build(b"{nonsense"), "not JSON"),
    "JSON after JSON": (build(b"{}{}"), "not JSON"),
    "not UTF-8": (build(b'{"\xff": 1}'), "header"),
    "endless nesting": (build(b'{"t":' + b"[" * 100_000), "header"),
    "endless number": (build(b'{"t":' + b"9" * 1_000_000 + b"}"), "digits"),
    "millions of values": (build(b'{"t":[' + b"[]," * 1_000_000 + b"[]]}"), "values"),
    "megabytes of noise": (build(b"{" + b"\xa5" * 7_000_000), "header"),
    "key twice": (build(b'{"t":1,"t":2}'), "'t' is there twice"),
    "field twice": (build(b'{"t":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}}', bytes(4)), "twice"),
    "metadata that is no text": (build({"__metadata__": {"a": 1}}), "__metadata__"),
    "metadata that is no table": (build({"__metadata__": ["a"]}), "__metadata__"),
    "tensor without fields": (build({"t": {}}), "'t'"),
    "tensor that is a number": (build({"t": 5}), "'t'"),
    "tensor with a field too many": (build({"t": {**ONE, "extra": 1}}, bytes(4)), "'t'"),
    "name without end": (build({"t" * 300: ONE}, bytes(4)), "300 letters"),
    "dtype that is a list": (build({"t": entry(["F32"], [1], 0, 4)}, bytes(4)), "'t'.*dtype"),
    "shape that is a number": (build({"t": entry("F32", 1, 0, 4)}, bytes(4)), "'t'.*shape"),
    "shape with a fraction": (build({"t": entry("F32", [1.0], 0, 4)}, bytes(4)), "'t'.*shape"),
    "shape with true": (build({"t": entry("F32", [True], 0, 4)}, bytes(4)), "'t'.*shape"),
    "negative shape": (build({"t": entry("F32", [-1, -1], 0, 4)}, bytes(4)), "'t'.*shape"),
    "shape that overflows": (build({"t": entry("F32", [2**62, 4], 0, 4)}, bytes(4)), "'t'.*impossible"),
    "nested shape": (build({"t": entry("F32", [[1]], 0, 4)}, bytes(4)), "'t'.*shape"),
    "one offset": (build({"t": {**ONE, "data_offsets": [4]}}, bytes(4)), "'t'.*data_offsets"),
    "end before begin": (build({"t": entry("F32", [1], 4, 0)}, bytes(4)), "'t'.*data_offsets"),
    "negative offset": (build({"t": entry("F32", [1], -4, 0)}, bytes(4)), "'t'.*data_offsets"),
    "offset past the end": (build({"t": entry("F32", [2], 0, 8)}, bytes(4)), "'t'.*4 bytes past the end"),
    "fewer bytes than the shape": (build({"t": entry("F32", [2], 0, 4)}, bytes(4)), "'t' has 4 bytes.*takes 8"),
    "overlap": (build({"s": ONE, "t": entry("F32", [1], 2, 6)}, bytes(6)), "'t' overlaps tensor 's'"),
    "same place": (build({"s": ONE, "t": ONE}, bytes(4)), "'t' overlaps tensor 's'"),
    "hole": (build({"s": ONE, "t": entry("F32", [1], 8, 12)}, bytes(12)), "'t' leaves a hole after tensor 's'"),
    "bytes of no tensor": (build({"t": ONE}, bytes(9)), "5 bytes after tensor 't'"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_costs_a_sentence_and_little_else(tmp_path: Path, name: str) -> None:
    data, message = DAMAGED[name]
    with pytest.raises(ModelFormatError, match=message) as caught:
        opened(tmp_path, data)
    assert "model.safetensors" in str(caught.value)


@pytest.mark.parametrize("name", [name for name in DAMAGED if name not in {"megabytes of noise", "millions of values"}])
def test_a_small_damaged_file_takes_no_time_and_no_memory(
    tmp_path: Path, name: str, costs_little: Callable[[], AbstractContextManager[None]]
) -> None:
    data, _ = DAMAGED[name]
    with costs_little(), pytest.raises(ModelFormatError):
        opened(tmp_path, data)


def test_a_huge_header_is_refused_unread(
    tmp_path: Path, costs_little: Callable[[], AbstractContextManager[None]]
) -> None:
    """The format allows 100 MB; nothing is read of a header that no Gemma could need."""
    path = tmp_path / "model.safetensors"
    (tmp_path / "config.json").write_text("{}")
    path.write_bytes(struct.pack("<Q", 90_000_000) + b"{")
    os.truncate(path, 100_000_000)
    with costs_little(), pytest.raises(UnsupportedModelError, match="header of 90000000 bytes"):
        open_checkpoint(tmp_path)


def test_a_file_cut_at_any_byte_is_refused(tmp_path: Path) -> None:
    data = small_file()
    opened(tmp_path, data).close()
    for length in range(len(data) - 1, -1, -1):
        os.truncate(tmp_path / "model.safetensors", length)
        with pytest.raises(MogemmaError):
            open_checkpoint(tmp_path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


PIECES = st.binary(max_size=9) | st.sampled_from(
    [b"{", b"}", b"[", b"]", b",", b'"', b":", b"0", b"-", b"1e9", b"null", b"\\u"]
)


@settings(max_examples=400, deadline=None)
@given(edits=st.lists(st.tuples(st.integers(0, len(small_file())), st.integers(0, 9), PIECES), min_size=1, max_size=4))
def test_whatever_is_read_after_cutting_and_pasting_the_safetensors_package_reads_too(
    folder: Path, edits: list[tuple[int, int, bytes]]
) -> None:
    """Being stricter than the format's own reader is fine; being laxer would be a hole."""
    data = small_file()
    for position, n_removed, inserted in edits:
        data = data[:position] + inserted + data[position + n_removed :]
    message = str(folder)
    try:
        with opened(folder, data) as checkpoint:
            read_everything(checkpoint)
            names = checkpoint.tensors.keys()
            all_dtypes_exist = set(checkpoint._foreign.values()) <= {"I64"}
    except MogemmaError as error:
        message = str(error)
    else:  # a dtype that does not exist (yet) is a fault to that package only
        assert not all_dtypes_exist or names <= deserialize(data).keys()
    assert str(folder) in message


def shard(folder: Path, weight_map: object) -> None:
    (folder / "config.json").write_text("{}")
    (folder / "model-00001-of-00002.safetensors").write_bytes(build({"a": ONE}, b"AAAA"))
    (folder / "model-00002-of-00002.safetensors").write_bytes(build({"b": ONE}, b"BBBB"))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


WEIGHT_MAP = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}


def test_shards_are_one_model(tmp_path: Path) -> None:
    shard(tmp_path, WEIGHT_MAP)
    with open_checkpoint(tmp_path) as checkpoint:
        assert {name: bytes(tensor.data) for name, tensor in checkpoint.tensors.items()} == {"a": b"AAAA", "b": b"BBBB"}
        assert [path.name for path in checkpoint.files] == sorted(WEIGHT_MAP.values())
        assert checkpoint.tensor("b").source.name == WEIGHT_MAP["b"]


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    shard(tmp_path, WEIGHT_MAP)
    (tmp_path / WEIGHT_MAP["b"]).unlink()
    with pytest.raises(ModelNotFoundError, match=r"half a sharded checkpoint.*1 of its 2.*model-00002-of-00002"):
        open_checkpoint(tmp_path)


def test_a_shard_without_the_tensor_it_should_have_is_named(tmp_path: Path) -> None:
    shard(tmp_path, {**WEIGHT_MAP, "c": WEIGHT_MAP["a"]})
    with pytest.raises(ModelFormatError, match=r"'c' is in 'model-00001-of-00002\.safetensors', and it is not"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["../other.safetensors", "/etc/passwd", "a/b.safetensors", "", ".", "..", "a\\b", "C:x", "a\0b", 5, ["x"], None],
)
def test_an_index_cannot_lead_out_of_its_folder(tmp_path: Path, name: object) -> None:
    shard(tmp_path, {"a": name})
    with pytest.raises(ModelFormatError, match="plain names"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("weight_map", [None, {}, [], "model.safetensors"])
def test_an_index_without_a_weight_map_is_damaged(tmp_path: Path, weight_map: object) -> None:
    shard(tmp_path, weight_map)
    with pytest.raises(ModelFormatError, match=r"index\.json is damaged: it has no weight_map"):
        open_checkpoint(tmp_path)


def test_a_shard_given_alone_asks_for_the_folder(tmp_path: Path) -> None:
    shard(tmp_path, WEIGHT_MAP)
    with pytest.raises(UnsupportedModelError, match="Give the folder"):
        open_checkpoint(tmp_path / WEIGHT_MAP["a"])
