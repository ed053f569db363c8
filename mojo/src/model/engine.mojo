"""An engine: a model, a team of threads and the scratch memory of a call.

All of it is laid out in memory of the caller's, once, when it is opened.
"""

from formats import ALL_FORMATS
from formats.matrix import Matrix
from formats.rows import LANES
from model.kv_cache import LayerCache, layer_bytes, n_slots
from model.spec import BFLOAT16, FLOAT32, Model, ModelPtr, Options
from ops.attention import SEGMENT, part_floats
from ops.attention_tile import KEY_BLOCK, workspace_bytes
from ops.bfloat16 import halves_bytes
from ops.matmul import SCRATCH_BYTES, Activations
from ops.quantize import BLOCK, quantized_bytes
from runtime.threads import TeamPtr, Team, team_bytes
from runtime.views import CACHE_LINE, BytePtr, F32Ptr, I32Ptr, floats, round_up

comptime CALL_BYTES = 512
"""Room for the arguments of a job; they outlive the function that starts it."""

comptime NOT_A_NUMBER = CACHE_LINE // 4
"""Word of `state`: non-zero once a candidate is not finite."""

comptime EnginePtr = Pointer[Engine, MutUntrackedOrigin]


@fieldwise_init
struct Widths(TrivialRegisterPassable):
    """The greatest sizes among the layers: what scratch memory is made for."""

    var q: Int
    var heads: Int
    var kv: Int
    var mlp: Int
    var pairs: Int
    """Rotated pairs of a head."""
    var dense: Int
    """Sizes between the dense matrices, hidden_dim among them."""
    var columns: Int
    """Columns of any matrix."""


def widths_of(model: Model) -> Widths:
    var d = Int(model.hidden_dim)
    var w = Widths(0, 0, 0, 0, 0, d, d)
    for i in range(Int(model.n_layers)):
        var layer = model.layer(i)[]
        w.q = max(w.q, layer.q_dim())
        w.heads = max(w.heads, Int(layer.n_heads))
        w.kv = max(w.kv, layer.kv_dim())
        w.mlp = max(w.mlp, Int(layer.mlp_dim))
    for i in range(Int(model.n_ropes)):
        var rope = model.ropes.unsafe_value()[unsafe_offset=i]
        w.pairs = max(w.pairs, Int(rope.n_pairs))
    for i in range(Int(model.n_dense)):
        w.dense = max(
            w.dense, model.dense.unsafe_value()[unsafe_offset=i].rows()
        )
    w.columns = max(max(w.columns, w.dense), max(w.q, w.mlp))
    return w


def segments_of(options: Options) -> Int:
    """Segments of attention that a whole context has."""
    return (Int(options.n_context) + SEGMENT - 1) // SEGMENT


struct Layout(TrivialRegisterPassable):
    """Hands out stretches of memory one after another; also counts them."""

    var base: BytePtr
    var used: Int

    def __init__(out self, base: BytePtr):
        self.base = base
        self.used = 0

    def take(mut self, n_bytes: Int) -> BytePtr:
        """The next `n_bytes`, on a boundary of a cache line."""
        var place = self.base.unsafe_offset(self.used)
        self.used += round_up(n_bytes, CACHE_LINE)
        return place

    def floats(mut self, n: Int) -> F32Ptr:
        return floats(self.take(4 * n))

    def ints(mut self, n: Int) -> I32Ptr:
        return self.take(4 * n).unsafe_bitcast[Int32]()


@fieldwise_init
struct Engine(ImplicitlyCopyable):
    """Where everything lies. T is max_tokens, O is max_outputs."""

    var model: ModelPtr
    var options: Options
    var widths: Widths
    var team: TeamPtr
    var caches: Pointer[LayerCache, MutUntrackedOrigin]
    """[n_layers]."""
    var call: BytePtr
    """What the threads of the running call are given."""
    var state: I32Ptr
    """[1] non-zero once a call is cancelled; NOT_A_NUMBER is another."""
    var ids: I32Ptr
    """[T] token ids of a call."""
    var positions: I32Ptr
    """[T] the position of each in its sequence."""
    var owners: I32Ptr
    """[T] the sequence of each."""
    var first_tokens: I32Ptr
    """[T] the first token of each sequence."""
    var first_rows: I32Ptr
    """[T + 1] the first row of each sequence in `passing`, and the end."""
    var outputs: I32Ptr
    """[O] tokens that get logits."""
    var logits: F32Ptr
    """[vocab_size] of one token, when candidates are chosen from them."""
    var bounds: F32Ptr
    """[vocab_size / 16] the most that the logits of 16 rows can be."""
    var marks: BytePtr
    """[vocab_size / 16] whether they are asked for whatever they are."""
    var floors: F32Ptr
    """[2] what threads tell each other about `bounds`."""
    var angles: F32Ptr
    """[n_ropes, T, 2, pairs] cosines and sines."""
    var residual: F32Ptr
    """[T, hidden_dim]."""
    var normed: F32Ptr
    """[T, hidden_dim]."""
    var blocks: BytePtr
    """[T, columns] the right side of a product as int8 blocks."""
    var halves: BytePtr
    """[T, columns] the same as rows of bfloat16."""
    var q: F32Ptr
    """[T, q]."""
    var k: F32Ptr
    """[T, kv]."""
    var v: F32Ptr
    """[T, kv]."""
    var passing: BytePtr
    """[2, T + 32 O, kv] keys and values of sequences without a cache."""
    var parts: F32Ptr
    """[n_segments, heads, part_floats] of one token's attention."""
    var attended: F32Ptr
    """[T, q]."""
    var gate: F32Ptr
    """[T, mlp]."""
    var up: F32Ptr
    """[T, mlp]."""
    var branch: F32Ptr
    """[T, hidden_dim] what attention or MLP add to the residual."""
    var pooled: F32Ptr
    """[2, O, dense]."""
    var scratch: BytePtr
    """[n_threads, SCRATCH_BYTES]."""
    var workspace: BytePtr
    """[n_threads, workspace_bytes]."""
    var n_bytes: Int

    @always_inline
    def scratch_of(self, thread: Int) -> BytePtr:
        return self.scratch.unsafe_offset(thread * SCRATCH_BYTES)

    @always_inline
    def workspace_of(self, thread: Int) -> BytePtr:
        return self.workspace.unsafe_offset(
            thread * workspace_bytes(2 * self.widths.pairs)
        )

    @always_inline
    def is_exact(self) -> Bool:
        """Whether quantised weights are multiplied in float32."""
        return self.options.arithmetic == FLOAT32

    @always_inline
    def forms(self, matrix: Matrix) -> Forms:
        """In which forms a product with `matrix` reads activations."""
        if is_quantized(matrix.format):
            return Forms(not self.is_exact(), False)
        return Forms(False, self.options.arithmetic == BFLOAT16)

    @always_inline
    def activations(self, values: F32Ptr, n_tokens: Int) -> Activations:
        """The right side of a product; its other forms are made before."""
        var halves: Optional[BytePtr] = None
        if self.options.arithmetic == BFLOAT16:
            halves = self.halves
        return Activations(values, self.blocks, halves, n_tokens)


@fieldwise_init
struct Forms(TrivialRegisterPassable):
    """How products read activations, if not as float32."""

    var blocks: Bool
    """As int8 blocks."""
    var halves: Bool
    """As bfloat16."""

    @always_inline
    def any(self) -> Bool:
        return self.blocks or self.halves

    @always_inline
    def __or__(self, other: Self) -> Self:
        return Self(self.blocks or other.blocks, self.halves or other.halves)


def is_quantized(format: Int32) -> Bool:
    """Whether a format's weights are integers with scales."""
    comptime for i in range(ALL_FORMATS.length):
        comptime F = ALL_FORMATS[i]
        if format == F.ID:
            return not F.KIND.is_float
    return False


def lay_out(model: ModelPtr, options: Options, memory: BytePtr) -> Engine:
    """An engine in `memory`; nothing of it is touched, so it also counts."""
    var w = widths_of(model[])
    var t = Int(options.max_tokens)
    var o = Int(options.max_outputs)
    var d = Int(model[].hidden_dim)
    var vocab = Int(model[].vocab_size)
    var layout = Layout(memory)
    _ = layout.take(1024)  # the Engine itself
    var team = layout.take(team_bytes(Int(options.n_threads)))
    var caches = layout.take(32 * Int(model[].n_layers))
    var engine = Engine(
        model=model,
        options=options,
        widths=w,
        team=team.unsafe_bitcast[Team](),
        caches=caches.unsafe_bitcast[LayerCache](),
        call=layout.take(CALL_BYTES),
        state=layout.ints(NOT_A_NUMBER + 1),
        ids=layout.ints(t),
        positions=layout.ints(t),
        owners=layout.ints(t),
        first_tokens=layout.ints(t),
        first_rows=layout.ints(t + 1),
        outputs=layout.ints(o),
        logits=layout.floats(round_up(vocab, LANES)),
        bounds=layout.floats(round_up(vocab // LANES + 1, LANES)),
        marks=layout.take(round_up(vocab // LANES + 1, LANES)),
        floors=layout.floats(2),
        angles=layout.floats(2 * Int(model[].n_ropes) * t * w.pairs),
        residual=layout.floats(t * d),
        normed=layout.floats(t * d),
        blocks=layout.take(t * quantized_bytes(round_up(w.columns, BLOCK))),
        halves=layout.take(t * halves_bytes(w.columns)),
        q=layout.floats(t * w.q),
        k=layout.floats(t * w.kv),
        v=layout.floats(t * w.kv),
        passing=layout.take(8 * (t + KEY_BLOCK * o) * w.kv),
        parts=layout.floats(
            segments_of(options) * w.heads * part_floats(2 * w.pairs)
        ),
        attended=layout.floats(t * w.q),
        gate=layout.floats(t * w.mlp),
        up=layout.floats(t * w.mlp),
        branch=layout.floats(t * d),
        pooled=layout.floats(2 * o * w.dense),
        scratch=layout.take(Int(options.n_threads) * SCRATCH_BYTES),
        workspace=layout.take(
            Int(options.n_threads) * workspace_bytes(2 * w.pairs)
        ),
        n_bytes=0,
    )
    engine.n_bytes = layout.used
    return engine


def place_caches(engine: Engine):
    """Write where each layer's keys and values lie in a cache."""
    var byte = 0
    for i in range(Int(engine.model[].n_layers)):
        var layer = engine.model[].layer(i)[]
        var size = layer_bytes(layer, engine.options)
        engine.caches[unsafe_offset=i] = LayerCache(
            byte, byte + size, n_slots(layer, engine.options)
        )
        byte += 2 * size
