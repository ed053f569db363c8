"""Packs a stored matrix: the turning of rows into lanes, done once.

Decode reads every weight for one token, so turning would be most of its work.
Packed, the same bytes are read in the order of use (and the same code in
`formats/` says what that is).
"""

from formats import ALL_FORMATS
from formats.format import WeightFormat
from formats.matrix import PACKED, Matrix, step_bytes, step_columns
from formats.planes import PLANES, can_split, split_bytes
from formats.rows import LANES, Packer
from formats.tile import QUANTISED_TILE_BYTES, TileSink
from ops.split import share_splitting
from runtime.threads import TeamPtr
from runtime.views import BytePtr, round_up


def packed_bytes(matrix: Matrix, layout: Int32 = PACKED) -> Int:
    """Bytes of a matrix in a layout that is not a file's; 0 if it cannot be."""
    if layout == PLANES:
        return split_bytes(matrix) if can_split(matrix) else 0
    if layout != PACKED:
        return 0
    comptime for i in range(ALL_FORMATS.length):
        comptime F = ALL_FORMATS[i]
        if matrix.format == F.ID:
            if matrix.columns() % step_columns[F]() != 0:
                return 0
            var groups = round_up(matrix.rows(), LANES) // LANES
            return groups * matrix.group_bytes[F]()
    return 0


def pack_group[
    F: WeightFormat
](matrix: Matrix, packed: Matrix, row: Int, scratch: BytePtr):
    """Pack the 16 rows from `row` on."""
    var rows = matrix.stored[F](row, 0)
    var packer = Packer(rows^, packed.packed[F](row, 0))
    var sink = TileSink(scratch, QUANTISED_TILE_BYTES)
    for _ in range(0, matrix.columns(), step_columns[F]()):
        # The tiles are of no use here; what is read for them is written.
        F.unpack(packer, sink)
        packer.rows.move_to(packer.rows.base.unsafe_offset(step_bytes[F]()))


def share_packing(
    team: TeamPtr,
    matrix: Matrix,
    packed: Matrix,
    first: Int,
    end: Int,
    scratch: BytePtr,
):
    """This thread's part of packing rows `first` to `end` - 1.

    Threads take groups of 16 rows, which `first` is a multiple of.
    """
    if packed.layout == PLANES:
        share_splitting(team, matrix, packed, first, end)
        return
    comptime for i in range(ALL_FORMATS.length):
        comptime F = ALL_FORMATS[i]
        if matrix.format == F.ID:
            var row = first + team[].take() * LANES
            while row < end:
                pack_group[F](matrix, packed, row, scratch)
                row = first + team[].take() * LANES
