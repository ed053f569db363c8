"""Sixteen rows of a stored matrix, read side by side.

Every kernel works on 16 rows at a time with the rows across the lanes of a
vector, so no sum ever runs across lanes. Files store rows one after another:
`StoredRows` turns them into lanes. `PackedRows` reads what was turned before,
and `Packer` is how it was: a format says what it reads, once, for all three.
"""

from std.memory import bitcast

from runtime.views import F32, U16, U32, U8, BytePtr

comptime LANES = 16
"""Rows in a vector: lanes of 32 bits."""

comptime ROW_END = 128
"""Bytes of 32 float32: what a row of floats may end with a part of."""

comptime Vector = SIMD[F32, LANES]
comptime Words = SIMD[U32, LANES]
comptime Bytes = SIMD[U8, 4 * LANES]


trait Source(Copyable):
    """A block of each of 16 rows; `byte` counts from the block's beginning.

    A format reads every byte of a block once, always in the same order.
    """

    def half[byte: Int](mut self) -> Words:
        """2 bytes of each row, in the low half of its word."""
        ...

    def word[byte: Int](mut self) -> Words:
        """4 bytes of each row."""
        ...

    def words[byte: Int](mut self) -> Array[Words, 4]:
        """16 bytes of each row: word k of every row is vector k."""
        ...


struct StoredRows(Source):
    """Rows as a file has them. Past the last row, it stands in for the missing."""

    var base: BytePtr
    var offsets: Array[Int, LANES]
    """Where in `base` each row's block begins."""

    @always_inline
    def __init__(out self, base: BytePtr, row_bytes: Int, n_rows: Int):
        """The `n_rows` (1 to 16, or more: 16) rows from `base` on."""
        self.base = base
        self.offsets = Array[Int, LANES](fill=0)
        comptime for i in range(LANES):
            self.offsets[i] = min(i, n_rows - 1) * row_bytes

    @always_inline
    def copy_end(self, n_bytes: Int, to: BytePtr) -> Self:
        """The same rows, of which only `n_bytes` are left, followed by zeros.

        `to` is memory for 128 bytes of each.
        """
        for r in range(LANES):
            var row = self.base.unsafe_offset(self.offsets[r])
            for i in range(ROW_END):
                to[unsafe_offset=ROW_END * r + i] = row[
                    unsafe_offset=i
                ] if i < n_bytes else UInt8(0)
        return Self(to, ROW_END, LANES)

    @always_inline
    def move_to(mut self, block: BytePtr):
        """Go to the block that begins at `block` in the first row."""
        self.base = block

    @always_inline
    def half[byte: Int](mut self) -> Words:
        # Always 16 bytes that lie inside the block, whose end may be the file's.
        comptime if byte >= 14:
            return turned(self, byte - 14)[3] >> 16
        else:
            return turned(self, byte)[0] & 0xFFFF

    @always_inline
    def word[byte: Int](mut self) -> Words:
        comptime if byte >= 12:
            return turned(self, byte - 12)[3]
        else:
            return turned(self, byte)[0]

    @always_inline
    def words[byte: Int](mut self) -> Array[Words, 4]:
        return turned(self, byte)


struct PackedRows(Source):
    """Sixteen rows that were turned before: vectors in the order of reading."""

    var halves: BytePtr
    var vectors: BytePtr

    @always_inline
    def __init__(out self, halves: BytePtr, vectors: BytePtr):
        self.halves = halves
        self.vectors = vectors

    @always_inline
    def half[byte: Int](mut self) -> Words:
        var v = self.halves.unsafe_bitcast[UInt16]().unsafe_load[
            width=LANES, alignment=32
        ]()
        self.halves = self.halves.unsafe_offset(2 * LANES)
        return v.cast[U32]()

    @always_inline
    def word[byte: Int](mut self) -> Words:
        var v = self.vectors.unsafe_bitcast[UInt32]().unsafe_load[
            width=LANES, alignment=64
        ]()
        self.vectors = self.vectors.unsafe_offset(4 * LANES)
        return v

    @always_inline
    def words[byte: Int](mut self) -> Array[Words, 4]:
        var result = Array[Words, 4](fill=Words(0))
        comptime for k in range(4):
            result[k] = self.word[byte + 4 * k]()
        return result^


struct Packer(Source):
    """Stored rows; whatever is read of them is written as `PackedRows` wants."""

    var rows: StoredRows
    var to: PackedRows

    @always_inline
    def __init__(out self, var rows: StoredRows, var to: PackedRows):
        self.rows = rows^
        self.to = to^

    @always_inline
    def half[byte: Int](mut self) -> Words:
        var v = self.rows.half[byte]()
        self.to.halves.unsafe_bitcast[UInt16]().unsafe_store(0, v.cast[U16]())
        self.to.halves = self.to.halves.unsafe_offset(2 * LANES)
        return v

    @always_inline
    def word[byte: Int](mut self) -> Words:
        var v = self.rows.word[byte]()
        self.put(v)
        return v

    @always_inline
    def words[byte: Int](mut self) -> Array[Words, 4]:
        var v = self.rows.words[byte]()
        comptime for k in range(4):
            self.put(v[k])
        return v^

    @always_inline
    def put(mut self, v: Words):
        self.to.vectors.unsafe_bitcast[UInt32]().unsafe_store(0, v)
        self.to.vectors = self.to.vectors.unsafe_offset(4 * LANES)


@always_inline
def unpack_pairs[width: Int, high: Bool](a: Words, b: Words) -> Words:
    """A half of each 128 bits of `a` and `b`, `width` words in turn."""
    comptime if width == 1 and not high:
        # fmt: off
        return a.shuffle[
            0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29
        ](b)
    elif width == 1:
        return a.shuffle[
            2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31
        ](b)
    elif not high:
        return a.shuffle[
            0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29
        ](b)
    else:
        return a.shuffle[
            2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31
        ](b)
        # fmt: on


@always_inline
def turned(rows: StoredRows, byte: Int) -> Array[Words, 4]:
    """16 bytes of each row, from `byte` on: word k of every row is vector k."""
    var quarters = Array[Words, 4](fill=Words(0))
    comptime for a in range(4):
        # Quarter c of vector a is row 4c + a: turning the 4 x 4 words within
        # each quarter then leaves the rows in order.
        var part = Array[SIMD[U32, 4], 4](fill=SIMD[U32, 4](0))
        comptime for c in range(4):
            var row = rows.base.unsafe_offset(rows.offsets[4 * c + a] + byte)
            part[c] = bitcast[U32, 4](row.unsafe_load[width=16]())
        quarters[a] = rebind[Words](
            part[0].join(part[1]).join(part[2].join(part[3]))
        )
    var a = unpack_pairs[1, False](quarters[0], quarters[1])
    var b = unpack_pairs[1, True](quarters[0], quarters[1])
    var c = unpack_pairs[1, False](quarters[2], quarters[3])
    var d = unpack_pairs[1, True](quarters[2], quarters[3])
    var result = Array[Words, 4](fill=unpack_pairs[2, False](a, c))
    result[1] = unpack_pairs[2, True](a, c)
    result[2] = unpack_pairs[2, False](b, d)
    result[3] = unpack_pairs[2, True](b, d)
    return result^


@always_inline
def low_halves(words: Words) -> Vector:
    """The f16 in the low half of each word, as float32."""
    return bitcast[DType.float16, LANES](words.cast[U16]()).cast[F32]()


@always_inline
def high_halves(words: Words) -> Vector:
    """The f16 in the high half of each word, as float32."""
    return low_halves(words >> 16)


@always_inline
def byte_of[index: Int](words: Words) -> Words:
    """Byte `index` of each word, 0 to 255."""
    return (words >> UInt32(8 * index)) & 0xFF


@always_inline
def spread_byte[index: Int](words: Words) -> Bytes:
    """Byte `index` of each word, in all four bytes of the word."""
    return bitcast[U8, 4 * LANES](byte_of[index](words) * 0x01010101)
