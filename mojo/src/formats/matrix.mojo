"""A matrix in memory, as a file stores it or packed, and where its parts are."""

from formats.format import WeightFormat
from formats.rows import LANES, PackedRows, StoredRows
from formats.tile import TILE_COLUMNS
from runtime.views import CACHE_LINE, BytePtr, round_up

comptime STORED = Int32(0)
"""Rows one after another, blocks in each."""

comptime PACKED = Int32(1)
"""Groups of 16 rows one after another; in a group what `unpack` reads, block by
block: first all halves, then all words."""


@always_inline
def step_columns[F: WeightFormat]() -> Int:
    """Columns that are unpacked at once: a block, or a tile's of floats."""
    return max(F.BLOCK_WEIGHTS, TILE_COLUMNS)


@always_inline
def step_bytes[F: WeightFormat]() -> Int:
    """Bytes of them in a row."""
    return step_columns[F]() // F.BLOCK_WEIGHTS * F.BLOCK_BYTES


@fieldwise_init
struct Matrix(ImplicitlyCopyable):
    """`mogemma_matrix`: borrowed from the caller."""

    var data: Optional[BytePtr]
    var n_rows: Int64
    var n_columns: Int64
    var format: Int32
    var layout: Int32

    @always_inline
    def rows(self) -> Int:
        return Int(self.n_rows)

    @always_inline
    def columns(self) -> Int:
        return Int(self.n_columns)

    @always_inline
    def row_bytes[F: WeightFormat](self) -> Int:
        return self.columns() // F.BLOCK_WEIGHTS * F.BLOCK_BYTES

    @always_inline
    def row[F: WeightFormat](self, index: Int) -> BytePtr:
        """Where a stored row begins."""
        return self.data.unsafe_value().unsafe_offset(
            index * self.row_bytes[F]()
        )

    @always_inline
    def halves_bytes[F: WeightFormat](self) -> Int:
        """Bytes of the halves of a packed group."""
        var steps = self.columns() // step_columns[F]()
        return round_up(2 * LANES * F.N_HALVES * steps, CACHE_LINE)

    @always_inline
    def group_bytes[F: WeightFormat](self) -> Int:
        """Bytes of 16 packed rows."""
        var steps = self.columns() // step_columns[F]()
        # MXFP4 reads its exponent as the half that it is the first byte of.
        comptime word_bytes = round_up(step_bytes[F](), 2) - 2 * F.N_HALVES
        return self.halves_bytes[F]() + LANES * word_bytes * steps

    @always_inline
    def packed[F: WeightFormat](self, row: Int, column: Int) -> PackedRows:
        """The packed group that begins at `row`, from `column` on."""
        comptime word_bytes = round_up(step_bytes[F](), 2) - 2 * F.N_HALVES
        var step = column // step_columns[F]()
        var group = self.data.unsafe_value().unsafe_offset(
            row // LANES * self.group_bytes[F]()
        )
        return PackedRows(
            group.unsafe_offset(2 * LANES * F.N_HALVES * step),
            group.unsafe_offset(
                self.halves_bytes[F]() + LANES * word_bytes * step
            ),
        )

    @always_inline
    def stored[F: WeightFormat](self, row: Int, column: Int) -> StoredRows:
        """Up to 16 stored rows from `row` on, from `column` on."""
        var block = column // step_columns[F]() * step_bytes[F]()
        return StoredRows(
            self.row[F](row).unsafe_offset(block),
            self.row_bytes[F](),
            self.rows() - row,
        )
