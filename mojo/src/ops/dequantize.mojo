"""A row of a stored matrix as float32: token embeddings."""

from formats import ALL_FORMATS
from formats.format import WeightFormat
from formats.matrix import Matrix, step_bytes, step_columns
from formats.rows import LANES, StoredRows
from formats.tile import FLOAT_TILE_BYTES, TILE_COLUMNS
from ops.matmul import PANEL_BYTES, tile_at, unpack_step
from runtime.views import BytePtr, F32Ptr, floats


def dequantize_row_as[
    F: WeightFormat
](matrix: Matrix, row: Int, values: F32Ptr, scratch: BytePtr):
    """The row is unpacked as every other is; the first of 16 lanes is taken.

    All lanes read this row, so that no page of another one is touched: tables
    may be larger than memory.
    """
    comptime step = step_columns[F]()
    var spare = scratch.unsafe_offset(PANEL_BYTES)
    var columns = matrix.columns()
    for column in range(0, columns, step):
        var start = column // step * step_bytes[F]()
        var source = StoredRows(matrix.row[F](row).unsafe_offset(start), 0, 1)
        var n = min(step, columns - column)
        if n < step:
            source = source.copy_end(n * F.BLOCK_BYTES, spare)
        unpack_step[F, True](source, scratch, spare)
        for i in range(n):
            var tile = floats(tile_at(scratch, i, FLOAT_TILE_BYTES))
            values[unsafe_offset=column + i] = tile[
                unsafe_offset=i % TILE_COLUMNS * LANES
            ]


def dequantize_row(matrix: Matrix, row: Int, values: F32Ptr, scratch: BytePtr):
    """Write row `row`, [n_columns].

    Args:
        matrix: Stored, not packed, in any format of the list.
        row: 0 to n_rows - 1.
        values: Result.
        scratch: `ops.matmul.SCRATCH_BYTES` on a 64-byte boundary.
    """
    comptime for i in range(ALL_FORMATS.length):
        comptime F = ALL_FORMATS[i]
        if matrix.format == F.ID:
            dequantize_row_as[F](matrix, row, values, scratch)
