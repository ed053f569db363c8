"""What a weight format has to say about itself."""

from formats.rows import Source
from formats.tile import Kind, Sink


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

    comptime N_HALVES: Int
    """Times that `unpack` reads 2 bytes of a block; the others it reads as
    words."""

    @staticmethod
    def unpack[S: Source, K: Sink](mut source: S, mut sink: K):
        """Unpack one block of each row: a tile, or eight of 256 weights. A float
        format's blocks are one weight: it unpacks 32 of them, a tile.

        Args:
            source: The block of each of sixteen rows.
            sink: Gets everything that a tile of this kind has.
        """
        ...
