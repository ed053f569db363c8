"""What every format of the list keeps to: the kernels rely on it unasked.

That the numbers are right is for packages/mogemma/tests/test_kernels.py to say.
"""

from std.testing import TestSuite, assert_equal, assert_true

from formats import ALL_FORMATS
from formats.format import WeightFormat
from formats.matrix import step_bytes, step_columns
from formats.rows import Bytes, LANES, Source, StoredRows, Vector, Words
from formats.tile import TILE_COLUMNS, Sink
from memory import Random, some_bytes
from runtime.views import BytePtr, round_up


struct WatchedRows(Source):
    """Rows that count how often each byte of a block is read."""

    var rows: StoredRows
    var reads: BytePtr
    var n_halves: Int

    def __init__(out self, var rows: StoredRows, n_bytes: Int):
        self.rows = rows^
        self.reads = some_bytes(n_bytes + 1)
        self.n_halves = 0

    def note(mut self, byte: Int, n_bytes: Int):
        for i in range(byte, byte + n_bytes):
            self.reads[unsafe_offset=i] += 1

    def half[byte: Int](mut self) -> Words:
        self.note(byte, 2)
        self.n_halves += 1
        return self.rows.half[byte]()

    def word[byte: Int](mut self) -> Words:
        self.note(byte, 4)
        return self.rows.word[byte]()

    def words[byte: Int](mut self) -> Array[Words, 4]:
        self.note(byte, 16)
        return self.rows.words[byte]()


struct WatchingSink(Sink):
    """Counts what a format gives for each tile."""

    var groups: BytePtr
    var scales: BytePtr
    var mins: BytePtr
    var columns: BytePtr
    var greatest: UInt8

    def __init__(out self):
        self.groups = some_bytes(64)
        self.scales = some_bytes(16)
        self.mins = some_bytes(16)
        self.columns = some_bytes(TILE_COLUMNS)
        self.greatest = 0

    def values[tile: Int, group: Int](mut self, values: Bytes):
        self.groups[unsafe_offset=8 * tile + group] += 1
        self.greatest = max(self.greatest, values.reduce_max())

    def scale[tile: Int, half: Int](mut self, scale: Vector):
        self.scales[unsafe_offset=2 * tile + half] += 1

    def min[tile: Int, half: Int](mut self, least: Vector):
        self.mins[unsafe_offset=2 * tile + half] += 1

    def column[index: Int](mut self, weights: Vector):
        self.columns[unsafe_offset=index] += 1


def check_counts(
    counts: BytePtr, n: Int, expected: Int, every: Int, what: String
) raises:
    """The first of `every` is `expected`, the others are too or are 0."""
    for i in range(n):
        var wanted = expected if i % every == 0 else 0
        assert_equal(Int(counts[unsafe_offset=i]), wanted, what)


def check_format[F: WeightFormat]() raises:
    comptime n_bytes = step_bytes[F]()
    comptime n_tiles = step_columns[F]() // TILE_COLUMNS
    var name = String(F.NAME)
    var random = Random(Int(F.ID))
    var raw = some_bytes(LANES * n_bytes)
    for i in range(LANES * n_bytes):
        raw[unsafe_offset=i] = UInt8(random.below(256))
    var source = WatchedRows(StoredRows(raw, n_bytes, LANES), n_bytes)
    var sink = WatchingSink()
    F.unpack(source, sink)
    assert_equal(source.n_halves, F.N_HALVES, name)
    var n_read = 0
    for i in range(n_bytes):
        assert_true(source.reads[unsafe_offset=i] > 0, name)
    for i in range(n_bytes + 1):
        n_read += Int(source.reads[unsafe_offset=i])
    # Packed rows keep what is read: nothing may be kept twice.
    assert_equal(n_read, round_up(n_bytes, 2), name)
    comptime each = 1 if F.KIND.halves else 2
    comptime if F.KIND.is_float:
        check_counts(sink.columns, TILE_COLUMNS, 1, 1, name)
        check_counts(sink.scales, 2, 0, 1, name)
    else:
        check_counts(sink.groups, 8 * n_tiles, 1, 1, name)
        check_counts(sink.scales, 2 * n_tiles, 1, each, name)
        check_counts(sink.mins, 2 * n_tiles, Int(F.KIND.has_min), each, name)
        if not F.KIND.is_wide:
            assert_true(sink.greatest < 128, name)
            assert_true(F.ZERO < 128, name)


def test_every_byte_of_a_block_is_read_once_and_every_part_of_a_tile_given() raises:
    comptime for i in range(ALL_FORMATS.length):
        check_format[ALL_FORMATS[i]]()


def test_blocks_fit_the_tiles() raises:
    comptime for i in range(ALL_FORMATS.length):
        comptime F = ALL_FORMATS[i]
        comptime weights = F.BLOCK_WEIGHTS
        assert_true(weights == 1 or weights == 32 or weights == 256)
        assert_equal(F.KIND.is_float, weights == 1)


def test_no_two_formats_have_one_number_or_name() raises:
    comptime for i in range(ALL_FORMATS.length):
        comptime for j in range(i):
            assert_true(ALL_FORMATS[i].ID != ALL_FORMATS[j].ID)
            assert_true(ALL_FORMATS[i].NAME != ALL_FORMATS[j].NAME)


def main() raises:
    TestSuite.discover_tests[__functions_in_module()]().run()
