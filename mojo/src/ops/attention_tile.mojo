"""A tile of attention: its queries, what they see, and where a thread works on it."""

from runtime.views import BytePtr, F32Ptr, floats

comptime KEY_BLOCK = 32
"""Positions whose scores are turned to weights together."""

comptime MAX_QUERIES = 48
"""Queries of a tile: tokens times query heads of a kv head."""


@always_inline
def workspace_bytes(head_dim: Int) -> Int:
    """Memory of a thread's own for tiles of this head size."""
    return 4 * (
        2 * KEY_BLOCK * head_dim
        + MAX_QUERIES * (KEY_BLOCK + 2 * head_dim)
        + 8 * MAX_QUERIES
    )


struct Workspace(TrivialRegisterPassable):
    """Where a thread keeps a block's keys and values and a segment's results."""

    var keys: F32Ptr
    """[2, head_dim, 16] a block of keys."""
    var values: F32Ptr
    """[32, head_dim] a block of values."""
    var weights: F32Ptr
    """[MAX_QUERIES, 32] scores, then weights, of a block."""
    var q: F32Ptr
    """[MAX_QUERIES, head_dim] the queries, as the keys are multiplied."""
    var partial: F32Ptr
    """[MAX_QUERIES, head_dim] the weighted sum of a segment."""
    var tops: F32Ptr
    """[MAX_QUERIES] the greatest score of a segment so far."""
    var totals: F32Ptr
    """[MAX_QUERIES] the sum of its weights."""
    var keeps: F32Ptr
    """[MAX_QUERIES] what a new greatest score leaves of `partial`."""
    var all_tops: F32Ptr
    """[MAX_QUERIES] as `tops`, of the segments that are joined."""
    var all_totals: F32Ptr
    """[MAX_QUERIES]."""

    def __init__(out self, memory: BytePtr, head_dim: Int):
        self.keys = floats(memory)
        self.values = self.keys.unsafe_offset(KEY_BLOCK * head_dim)
        self.weights = self.values.unsafe_offset(KEY_BLOCK * head_dim)
        self.q = self.weights.unsafe_offset(MAX_QUERIES * KEY_BLOCK)
        self.partial = self.q.unsafe_offset(MAX_QUERIES * head_dim)
        self.tops = self.partial.unsafe_offset(MAX_QUERIES * head_dim)
        self.totals = self.tops.unsafe_offset(MAX_QUERIES)
        self.keeps = self.totals.unsafe_offset(MAX_QUERIES)
        self.all_tops = self.keeps.unsafe_offset(MAX_QUERIES)
        self.all_totals = self.all_tops.unsafe_offset(MAX_QUERIES)


@fieldwise_init
struct KeyValues[dtype: DType](TrivialRegisterPassable):
    """Keys and values of one kv head; position p lies in slot p mod n_slots.

    How they lie: `attention_floats.mojo`, and `attention_pairs.mojo` for bfloat16.

    `n_slots` is a multiple of 32, so that a block is never torn.
    """

    var keys: Pointer[Scalar[Self.dtype], MutUntrackedOrigin]
    var values: Pointer[Scalar[Self.dtype], MutUntrackedOrigin]
    var n_slots: Int


@fieldwise_init
struct Sight(TrivialRegisterPassable):
    """The positions that a query sees, first and last."""

    var first: Int
    var last: Int

    @always_inline
    def within(self, block: Int) -> Self:
        """The part of it in a block, counted from the block's first position."""
        var start = block * KEY_BLOCK
        return Self(
            max(0, self.first - start), min(KEY_BLOCK - 1, self.last - start)
        )


@fieldwise_init
struct Queries(TrivialRegisterPassable):
    """A tile: `n_heads` neighbouring heads of `n_tokens` neighbouring tokens.

    Query i is head i mod n_heads of token i / n_heads.
    """

    var q: F32Ptr
    """Queries, after norm and rotation; the first head of the first token."""
    var result: F32Ptr
    """Results, in the same places."""
    var token_stride: Int
    """Numbers from a token to the next."""
    var n_tokens: Int
    var n_heads: Int
    var head_dim: Int
    var position: Int
    """Of the first token."""
    var n_before: Int
    """Positions before a query that it sees."""
    var n_after: Int
    """Positions after it that it sees."""
    var n_positions: Int
    """Positions of the sequence that have keys by now."""

    @always_inline
    def count(self) -> Int:
        return self.n_tokens * self.n_heads

    @always_inline
    def offset(self, query: Int) -> Int:
        """Where a query, and its result, lies."""
        return (
            query // self.n_heads * self.token_stride
            + query % self.n_heads * self.head_dim
        )

    @always_inline
    def sight(self, query: Int) -> Sight:
        var position = self.position + query // self.n_heads
        return Sight(
            max(0, position - self.n_before),
            min(self.n_positions - 1, position + self.n_after),
        )
