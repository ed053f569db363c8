"""Where blocks of 16 rows are written: the counterpart of `rows.Source`.

An encoder writes what `unpack` of its format reads, in the same order and under
the same bytes; whether that becomes rows of a file or a packed group is
decided here.
"""

from formats.rows import LANES, PackedRows, Words
from runtime.views import U16, U8, BytePtr


trait Target(Copyable):
    """A block of each of 16 rows; `byte` counts from the block's beginning."""

    def half[byte: Int](mut self, v: Words):
        """2 bytes of each row, in the low half of its word."""
        ...

    def word[byte: Int](mut self, v: Words):
        """4 bytes of each row."""
        ...

    def words[byte: Int](mut self, v: Array[Words, 4]):
        """16 bytes of each row: word k of every row is vector k."""
        ...

    def move_on(mut self, n_bytes: Int):
        """Go to the block that begins `n_bytes` further in each row of a file."""
        ...


struct PackedTarget(Target):
    """A packed group: vectors in the order of writing."""

    var to: PackedRows

    @always_inline
    def __init__(out self, var to: PackedRows):
        self.to = to^

    @always_inline
    def half[byte: Int](mut self, v: Words):
        self.to.halves.unsafe_bitcast[UInt16]().unsafe_store(0, v.cast[U16]())
        self.to.halves = self.to.halves.unsafe_offset(2 * LANES)

    @always_inline
    def word[byte: Int](mut self, v: Words):
        self.to.vectors.unsafe_bitcast[UInt32]().unsafe_store(0, v)
        self.to.vectors = self.to.vectors.unsafe_offset(4 * LANES)

    @always_inline
    def words[byte: Int](mut self, v: Array[Words, 4]):
        comptime for k in range(4):
            self.word[byte + 4 * k](v[k])

    @always_inline
    def move_on(mut self, n_bytes: Int):
        pass


struct StoredTarget(Target):
    """Rows as a file has them, of any alignment; fewer than 16 at the end."""

    var base: BytePtr
    var row_bytes: Int
    var n_rows: Int

    @always_inline
    def __init__(out self, base: BytePtr, row_bytes: Int, n_rows: Int):
        """The `n_rows` (1 to 16, or more: 16) rows from `base` on."""
        self.base = base
        self.row_bytes = row_bytes
        self.n_rows = min(n_rows, LANES)

    @always_inline
    def half[byte: Int](mut self, v: Words):
        for r in range(self.n_rows):
            var place = self.base.unsafe_offset(r * self.row_bytes + byte)
            place[] = v[r].cast[U8]()
            place[unsafe_offset=1] = (v[r] >> 8).cast[U8]()

    @always_inline
    def word[byte: Int](mut self, v: Words):
        for r in range(self.n_rows):
            self.base.unsafe_offset(r * self.row_bytes + byte).unsafe_bitcast[
                UInt32
            ]().unsafe_store[alignment=1](0, v[r])

    @always_inline
    def words[byte: Int](mut self, v: Array[Words, 4]):
        comptime for k in range(4):
            self.word[byte + 4 * k](v[k])

    @always_inline
    def move_on(mut self, n_bytes: Int):
        self.base = self.base.unsafe_offset(n_bytes)
