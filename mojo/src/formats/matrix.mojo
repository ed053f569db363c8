"""A stored matrix, and what each format does with it."""

from formats.format import WeightFormat
from runtime.views import BytePtr


@fieldwise_init
struct Matrix(ImplicitlyCopyable):
    """`mogemma_matrix`: rows of whole blocks, borrowed from the caller."""

    var data: Optional[BytePtr]
    var n_rows: Int64
    var n_columns: Int64
    var format: Int32
    var reserved: Int32

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
        return self.data.unsafe_value().unsafe_offset(
            index * self.row_bytes[F]()
        )
