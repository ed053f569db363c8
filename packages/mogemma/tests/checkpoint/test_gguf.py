"""GGUF files: what is written is read, and whatever else is in the file costs an exception and nothing more."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mogemma.checkpoint import Checkpoint, StringArray, TensorType, open_checkpoint
from mogemma.errors import ModelFormatError, MogemmaError, UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

DATA = Path(__file__).parents[1] / "data"
U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def key(name: str | bytes, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def array(kind: int, count: int, items: bytes) -> bytes:
    return struct.pack("<IQ", kind, count) + items


def tensor(name: str | bytes, dims: tuple[int, ...], kind: int = TensorType.F32, offset: int = 0) -> bytes:
    """One description; `dims` begins with the innermost, as in the file."""
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def build(
    keys: list[bytes],
    tensors: list[bytes],
    data: bytes = b"",
    *,
    version: int = 3,
    n_keys: int | None = None,
    n_tensors: int | None = None,
    alignment: int = 32,
) -> bytes:
    counts = (len(tensors) if n_tensors is None else n_tensors, len(keys) if n_keys is None else n_keys)
    header = b"GGUF" + struct.pack("<IQQ", version, *counts) + b"".join(keys + tensors)
    return header + bytes(-len(header) % alignment) + data


def small_file() -> bytes:
    """Every kind of value, and three tensors of which one is quantised."""
    keys = [
        key("general.architecture", STRING, text("gemma3")),
        key("flag", BOOL, b"\1"),
        key("epsilon", F32, struct.pack("<f", 0.5)),
        key("negative", I64, struct.pack("<q", -5)),
        key("tokens", ARRAY, array(STRING, 3, text("a") + text("") + text("\N{GRINNING FACE}"))),
        key("scores", ARRAY, array(F32, 2, struct.pack("<2f", -1, 0.25))),
        key("flags", ARRAY, array(BOOL, 2, b"\0\1")),
    ]
    tensors = [
        tensor("norm", (3,), TensorType.F32, 0),
        tensor("matrix", (2, 3), TensorType.F16, 32),
        tensor("quantised", (64, 2), TensorType.Q8_0, 64),
    ]
    return build(keys, tensors, bytes(range(12)) + bytes(20) + bytes(range(12)) + bytes(20) + bytes(4 * 34))


def opened(folder: Path, data: bytes) -> Checkpoint:
    path = folder / "model.gguf"
    path.write_bytes(data)
    return open_checkpoint(path)


def read_everything(checkpoint: Checkpoint) -> None:
    """Look at all that a damaged file may have got past the reader."""
    for tensor in checkpoint.tensors.values():
        assert len(bytes(tensor.data)) == tensor.type.n_bytes(tensor.n_weights)
    for value in checkpoint.metadata.values():
        if isinstance(value, StringArray):
            assert len(value.to_list()) == len(value)


def test_keys_come_out_as_they_were_written(tmp_path: Path) -> None:
    with opened(tmp_path, small_file()) as checkpoint:
        metadata = checkpoint.metadata
        assert checkpoint.kind == "gguf"
        assert checkpoint.config == {}
        assert next(iter(metadata)) == "general.architecture"
        assert metadata["general.architecture"] == "gemma3"
        assert metadata["flag"] is True
        assert metadata["epsilon"] == 0.5
        assert metadata["negative"] == -5
        np.testing.assert_array_equal(metadata["scores"], np.array([-1, 0.25], np.float32))
        np.testing.assert_array_equal(metadata["flags"], [False, True])
        assert metadata["scores"].dtype == np.float32
        assert metadata["flags"].dtype == np.bool_


@pytest.mark.parametrize(
    ("kind", "code", "value"),
    [(U8, "B", 255), (I8, "b", -128), (U16, "H", 65535), (I16, "h", -32768), (U32, "I", 2**32 - 1), (I32, "i", -(2**31)),
     (U64, "Q", 2**64 - 1), (I64, "q", -(2**63)), (F64, "d", 1e300)],
)  # fmt: skip
def test_numbers_keep_their_full_range_alone_and_in_arrays(tmp_path: Path, kind: int, code: str, value: float) -> None:
    number = struct.pack("<" + code, value)
    keys = [key("one", kind, number), key("many", ARRAY, array(kind, 2, number * 2))]
    with opened(tmp_path, build(keys, [])) as checkpoint:
        assert checkpoint.metadata["one"] == value
        assert checkpoint.metadata["many"].tolist() == [value, value]
        assert checkpoint.metadata["many"].dtype == np.dtype(code)


def test_arrays_of_strings_give_text_and_bytes_one_by_one_and_at_once(tmp_path: Path) -> None:
    with opened(tmp_path, small_file()) as checkpoint:
        tokens = checkpoint.metadata["tokens"]
        expected = ["a", "", "\N{GRINNING FACE}"]
        assert isinstance(tokens, StringArray)
        assert len(tokens) == 3
        assert repr(tokens) == "<3 strings of tokens>"
        assert tokens.to_list() == list(tokens) == tokens[:] == [tokens[i] for i in range(3)] == expected
        assert tokens.to_bytes_list() == [tokens.bytes_at(i) for i in range(3)] == [item.encode() for item in expected]
        assert tokens[-1] == expected[-1]
        with pytest.raises(IndexError):
            tokens.bytes_at(3)


def test_tokens_that_are_not_utf8_are_bytes_but_no_text(tmp_path: Path) -> None:
    """A token may be part of a character; only asking for its text is an error."""
    with opened(
        tmp_path, build([key("tokens", ARRAY, array(STRING, 2, text("a") + text(b"\xff\xfe")))], [])
    ) as checkpoint:
        tokens = checkpoint.metadata["tokens"]
        assert tokens.to_bytes_list() == [b"a", b"\xff\xfe"]
        for ask in (tokens.to_list, lambda: tokens[1]):
            with pytest.raises(ModelFormatError, match="tokens"):
                ask()


def test_tensors_are_the_bytes_of_the_file(tmp_path: Path) -> None:
    with opened(tmp_path, small_file()) as checkpoint:
        norm, matrix, quantised = checkpoint.tensors.values()
        assert (norm.name, norm.shape, norm.type, bytes(norm.data)) == ("norm", (3,), TensorType.F32, bytes(range(12)))
        assert (matrix.shape, matrix.type, bytes(matrix.data)) == ((3, 2), TensorType.F16, bytes(range(12)))
        assert (quantised.shape, quantised.type, len(quantised.data)) == ((2, 64), TensorType.Q8_0, 4 * 34)
        assert all(tensor.data.readonly for tensor in checkpoint.tensors.values())
        assert checkpoint.n_bytes == (tmp_path / "model.gguf").stat().st_size


@pytest.mark.parametrize("case", ["gemma3-text", "quant-zoo", "embeddinggemma"])
def test_the_gguf_package_reads_the_same(case: str) -> None:
    path = DATA / "tiny" / case / "model.gguf"
    theirs = gguf.GGUFReader(path)
    with open_checkpoint(path) as ours:
        assert list(ours.tensors) == [tensor.name for tensor in theirs.tensors]
        for tensor in theirs.tensors:
            mine = ours.tensor(tensor.name)
            assert mine.shape == tuple(reversed(tensor.shape.tolist()))
            assert int(mine.type) == int(tensor.tensor_type)
            assert bytes(mine.data) == tensor.data.tobytes()
        fields: dict[str, Any] = {name: field for name, field in theirs.fields.items() if not name.startswith("GGUF.")}
        assert list(ours.metadata) == list(fields)
        for name, field in fields.items():
            value = ours.metadata[name]
            assert (value.tolist() if isinstance(value, np.ndarray) else value) == field.contents() or list(
                value
            ) == field.contents()


def test_version_2_is_read_like_version_3(tmp_path: Path) -> None:
    with opened(tmp_path, build([], [tensor("norm", (1,))], bytes(4), version=2)) as checkpoint:
        assert list(checkpoint.tensors) == ["norm"]


def test_a_stated_alignment_moves_the_data(tmp_path: Path) -> None:
    keys = [key("general.alignment", U32, struct.pack("<I", 256))]
    data = build(
        keys, [tensor("norm", (1,)), tensor("more", (1,), offset=256)], b"ABCD" + bytes(252) + b"EFGH", alignment=256
    )
    with opened(tmp_path, data) as checkpoint:
        assert bytes(checkpoint.tensor("norm").data) == b"ABCD"
        assert bytes(checkpoint.tensor("more").data) == b"EFGH"


UNSUPPORTED = {
    "version 1": (build([], [], version=1), "version 1"),
    "version of the future": (build([], [], version=4), "Update mogemma"),
    "big endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "split file": (build([key("split.count", U16, b"\3\0")], []), "one of 3 parts"),
    "unknown type with a name": (build([], [tensor("odd", (256,), 16)], bytes(99)), "'odd' has type IQ2_XXS 16"),
    "unknown type": (build([], [tensor("odd", (256,), 999)], bytes(99)), "'odd' has type number 999"),
    "array of arrays": (
        build([key("deep", ARRAY, array(ARRAY, 1, array(U8, 1, b"\0")))], []),
        "'deep': arrays of arrays",
    ),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_sound_files_of_another_kind_are_named_as_such(tmp_path: Path, name: str) -> None:
    data, message = UNSUPPORTED[name]
    with pytest.raises(UnsupportedModelError, match=message) as caught:
        opened(tmp_path, data)
    assert "model.gguf" in str(caught.value)


HUGE = 2**63
SOME = bytes(64)
DAMAGED = {
    "no such many tensors": (build([], [], SOME, n_tensors=HUGE), "tensors"),
    "tensors that cannot fit": (build([], [], SOME, n_tensors=4), "4 tensors"),
    "no such many keys": (build([], [], SOME, n_keys=2**64 - 1), "keys"),
    "key longer than the file": (build([struct.pack("<Q", HUGE)], [], SOME), "key 0"),
    "key without a name": (build([key("", U8, b"\0")], []), "key 0.*0 bytes"),
    "key with a long name": (build([key("k" * 256, U8, b"\0")], []), "256 bytes"),
    "key that is not UTF-8": (build([key(b"\xff", U8, b"\0")], []), "UTF-8"),
    "key twice": (build([key("k", U8, b"\0")] * 2, []), "'k'.*twice"),
    "value of no type": (build([key("k", 13, SOME)], []), "'k'.*type 13"),
    "string longer than the file": (build([key("k", STRING, struct.pack("<Q", HUGE))], [], SOME), "'k'.*string"),
    "string that is not UTF-8": (build([key("k", STRING, text(b"\xff"))], []), "'k'.*UTF-8"),
    "bool of 2": (build([key("k", BOOL, b"\2")], []), "'k'.*bool"),
    "bools of 2": (build([key("k", ARRAY, array(BOOL, 2, b"\1\2"))], []), "'k'.*bool"),
    "array longer than the file": (build([key("k", ARRAY, array(F64, 2**61, b""))], [], SOME), "'k'.*array of"),
    "array of no type": (build([key("k", ARRAY, array(77, 1, SOME))], []), "'k'.*type 77"),
    "array with too many strings": (build([key("k", ARRAY, array(STRING, HUGE, b""))], [], SOME), "'k'.*strings"),
    "array with a string too long": (build([key("k", ARRAY, array(STRING, 2, text("a") + b"\xff" * 8))], [], SOME), "'k'"),
    "alignment of 0": (build([key("general.alignment", U32, bytes(4))], []), "general.alignment.*power of two"),
    "alignment of 24": (build([key("general.alignment", U32, struct.pack("<I", 24))], []), "general.alignment.*24"),
    "alignment of a gigabyte": (build([key("general.alignment", U32, struct.pack("<I", 1 << 30))], []), "alignment"),
    "alignment of text": (build([key("general.alignment", STRING, text("32"))], []), "general.alignment.*'32'"),
    "alignment of true": (build([key("general.alignment", BOOL, b"\1")], []), "general.alignment.*True"),
    "no dimensions": (build([], [tensor("t", ())], SOME), "'t'.*0 dimensions"),
    "five dimensions": (build([], [tensor("t", (1,) * 5)], SOME), "'t'.*5 dimensions"),
    "2**32 dimensions": (build([], [text("t") + b"\xff" * 4], SOME), "'t'.*4294967295 dimensions"),
    "dimension of 0": (build([], [tensor("t", (0, 4))], SOME), "'t'.*impossible"),
    "dimensions that overflow": (build([], [tensor("t", (2**32, 2**32))], SOME), "'t'.*impossible"),
    "dimensions that wrap to little": (build([], [tensor("t", (2**33, 2**33, 2**33, 1))], SOME), "'t'.*impossible"),
    "rows of half a block": (build([], [tensor("t", (48, 2), TensorType.Q8_0)], bytes(999)), "'t'.*rows of 48.*Q8_0"),
    "tensor twice": (build([], [tensor("t", (8,)), tensor("t", (8,), offset=32)], SOME), "'t'.*two tensors"),
    "tensor between alignments": (build([], [tensor("t", (1,), offset=4)], SOME), "'t'.*4 is not a multiple"),
    "tensor past the end": (build([], [tensor("t", (17,))], SOME), "'t'.*4 bytes past"),
    "tensor far past the end": (build([], [tensor("t", (1,), offset=2**64 - 32)], SOME), "'t'.*past the end"),
    "tensors that overlap": (build([], [tensor("s", (9,)), tensor("t", (1,), offset=32)], SOME), "'s' and 't' overlap"),
    "tensors in one place": (build([], [tensor("s", (1,)), tensor("t", (1,))], SOME), "'s' and 't' overlap"),
    "nothing after the magic": (b"GGUF", "version"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_costs_a_sentence_and_nothing_more(
    tmp_path: Path, name: str, costs_little: Callable[[], AbstractContextManager[None]]
) -> None:
    data, message = DAMAGED[name]
    with costs_little(), pytest.raises(ModelFormatError, match=message) as caught:
        opened(tmp_path, data)
    assert "model.gguf" in str(caught.value)


def test_a_file_cut_at_any_byte_is_refused(tmp_path: Path) -> None:
    data = small_file()
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    for length in range(len(data) - 1, -1, -1):
        os.truncate(path, length)
        with pytest.raises(ModelFormatError):
            open_checkpoint(path)


def test_any_single_damaged_byte_is_survived(tmp_path: Path) -> None:
    """Each byte is set to values that make numbers huge, zero, negative or slightly wrong."""
    data = small_file()
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    descriptor = os.open(path, os.O_WRONLY)
    for position, byte in enumerate(data):
        for value in {0, 0xFF, byte ^ 0x80, (byte + 1) & 0xFF}:
            os.pwrite(descriptor, bytes([value]), position)
            try:
                with open_checkpoint(path) as checkpoint:
                    read_everything(checkpoint)
            except MogemmaError:
                continue
        os.pwrite(descriptor, bytes([byte]), position)
    os.close(descriptor)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


PIECES = st.binary(max_size=24) | st.integers(0, 2**64 - 1).map(lambda number: struct.pack("<Q", number))


@settings(max_examples=400, deadline=None)
@given(edits=st.lists(st.tuples(st.integers(0, len(small_file())), st.integers(0, 24), PIECES), min_size=1, max_size=6))
def test_cutting_and_pasting_never_gets_more_than_an_exception(
    folder: Path, edits: list[tuple[int, int, bytes]]
) -> None:
    data = small_file()
    for position, n_removed, inserted in edits:
        data = data[:position] + inserted + data[position + n_removed :]
    message = str(folder)
    try:
        with opened(folder, data) as checkpoint:
            read_everything(checkpoint)
    except MogemmaError as error:
        message = str(error)
    assert str(folder) in message


def test_a_header_without_end_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of many gigabytes may be one long header; reading stops at a limit, whatever the file's length."""
    monkeypatch.setattr("mogemma.checkpoint.gguf_values.MAX_HEADER_BYTES", 200)
    with pytest.raises(ModelFormatError, match="'k': string: 1000 bytes lead out of the header, which has at most 200"):
        opened(tmp_path, build([key("k", STRING, text("x" * 1000))], []))


def test_more_strings_than_any_vocabulary_has_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mogemma.checkpoint.gguf_values._MAX_STRINGS", 5)
    keys = [key(name, ARRAY, array(STRING, 3, text("") * 3)) for name in ("one", "two")]
    with pytest.raises(UnsupportedModelError, match="'two': more than 5 strings"):
        opened(tmp_path, build(keys, []))
