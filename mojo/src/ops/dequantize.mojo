"""A row of a stored matrix as float32: token embeddings."""

from formats import ALL_FORMATS
from formats.format import WeightFormat
from formats.matrix import Matrix
from formats.rows import LANES, Rows
from formats.tile import FLOAT_TILE_BYTES, TILE_COLUMNS
from ops.matmul import PANEL_BYTES, unpack_float
from ops.tiles import VECTORS
from runtime.views import BytePtr, F32Ptr, floats


def dequantize_row_as[
    F: WeightFormat
](matrix: Matrix, row: Int, values: F32Ptr, scratch: BytePtr):
    """The row is unpacked as every other is; the first of 16 lanes is taken."""
    comptime step = max(F.BLOCK_WEIGHTS, TILE_COLUMNS)
    comptime step_bytes = step // F.BLOCK_WEIGHTS * F.BLOCK_BYTES
    var rows = Rows(matrix.row[F](row), 0, 1)
    var columns = matrix.columns()
    for column in range(0, columns, step):
        var n = min(step, columns - column)
        unpack_float[F](
            rows,
            column // step * step_bytes,
            n,
            scratch,
            scratch.unsafe_offset(PANEL_BYTES),
        )
        for i in range(n):
            var tile = floats(scratch).unsafe_offset(
                i // TILE_COLUMNS * VECTORS * FLOAT_TILE_BYTES // 4
            )
            values[unsafe_offset=column + i] = tile[
                unsafe_offset=i % TILE_COLUMNS * LANES
            ]


def dequantize_row(matrix: Matrix, row: Int, values: F32Ptr, scratch: BytePtr):
    """Write row `row`, [n_columns].

    Args:
        matrix: In any format of the list.
        row: 0 to n_rows - 1.
        values: Result.
        scratch: `ops.matmul.SCRATCH_BYTES` on a 64-byte boundary.
    """
    comptime for i in range(ALL_FORMATS.length):
        comptime F = ALL_FORMATS[i]
        if matrix.format == F.ID:
            dequantize_row_as[F](matrix, row, values, scratch)
