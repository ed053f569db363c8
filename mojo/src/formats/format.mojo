"""What a weight format has to say about itself."""

from formats.rows import Rows
from formats.tile import Kind
from runtime.views import BytePtr


trait WeightFormat:
    """How a format stores weights, and how they become tiles."""

    comptime NAME: StaticString
    comptime ID: Int32
    """The format's number in GGUF and in mogemma.h."""

    comptime BLOCK_WEIGHTS: Int
    """Weights that are stored together; a row is whole blocks."""

    comptime BLOCK_BYTES: Int

    comptime KIND: Kind
    comptime ZERO: Int
    """The value in a tile that stands for zero."""

    @staticmethod
    def unpack(rows: Rows, byte: Int, n_columns: Int, tile: BytePtr, step: Int):
        """Write the tiles of one block of each row, `step` bytes apart.

        Args:
            rows: The sixteen rows.
            byte: Where in each row the block begins.
            n_columns: Columns left in the row, at least 1. Float formats have
                blocks of one weight: they unpack 32 at once, or what is left.
            tile: The first tile; a block of 256 weights gives eight.
            step: Bytes from a tile to the next.
        """
        ...
