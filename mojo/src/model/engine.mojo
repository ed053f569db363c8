"""An engine: a model, a team of threads and the scratch memory of a call.

All of it is laid out in memory of the caller's, once, when it is opened.
"""

from std.sys import size_of

from formats import ALL_FORMATS
from formats.matrix import Matrix
from formats.rows import LANES
from model.kv_cache import (
    LayerCache,
    is_read_again,
    layer_bytes,
    n_passing,
    n_slots,
)
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
    """Of what is between two matrices of a branch: MLP, LAuReL, per-layer
    embedding."""
    var laurel: Int
    """hidden_dim where there is LAuReL, else 0."""
    var experts: Int
    var used: Int
    """Experts of a token."""
    var expert: Int
    """expert_dim."""
    var pairs: Int
    """Rotated pairs of a head."""
    var dense: Int
    """Sizes between the dense matrices, hidden_dim among them."""
    var columns: Int
    """Columns of any matrix."""


def widths_of(model: Model) -> Widths:
    var d = Int(model.hidden_dim)
    var w = Widths(
        q=0,
        heads=0,
        kv=0,
        mlp=Int(model.ple_dim),
        laurel=0,
        experts=0,
        used=0,
        expert=0,
        pairs=0,
        dense=d,
        columns=d,
    )
    for i in range(Int(model.n_layers)):
        var layer = model.layer(i)[]
        w.q = max(w.q, layer.q_dim())
        w.heads = max(w.heads, Int(layer.n_heads))
        w.kv = max(w.kv, layer.kv_dim())
        w.mlp = max(w.mlp, Int(layer.mlp_dim))
        if layer.has_laurel():
            w.mlp = max(w.mlp, layer.laurel_left.rows())
            w.laurel = d
        w.experts = max(w.experts, Int(layer.n_experts))
        w.used = max(w.used, Int(layer.n_experts_used))
        w.expert = max(w.expert, Int(layer.expert_dim))
    for i in range(Int(model.n_ropes)):
        var rope = model.ropes.unsafe_value()[unsafe_offset=i]
        w.pairs = max(w.pairs, Int(rope.n_pairs))
    for i in range(Int(model.n_dense)):
        w.dense = max(
            w.dense, model.dense.unsafe_value()[unsafe_offset=i].rows()
        )
    w.columns = max(max(w.columns, w.dense), max(w.q, w.mlp))
    w.columns = max(w.columns, w.expert)
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
    """[places, 2, T + 32 O, kv] keys and values of sequences without a cache."""
    var passing_bytes: Int
    """Of a place."""
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
    var laurel: F32Ptr
    """[T, hidden_dim] what LAuReL adds to it."""
    var streams: F32Ptr
    """[n_streams, T, hidden_dim]."""
    var ple: F32Ptr
    """[T, n_layers, ple_dim] embeddings of the tokens for each layer."""
    var ple_row: F32Ptr
    """[n_threads, n_layers, ple_dim] a row of the table."""
    var routes: Routes
    """Which experts a token goes to; S = T * used is the number of visits."""
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
    def stream(self, index: Int) -> F32Ptr:
        """[T, hidden_dim]."""
        var size = Int(self.options.max_tokens) * Int(self.model[].hidden_dim)
        return self.streams.unsafe_offset(index * size)

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
struct Routes(TrivialRegisterPassable):
    """Tokens on their way through experts. Visits of one expert lie together."""

    var logits: F32Ptr
    """[T, experts] the router's."""
    var experts: I32Ptr
    """[T, used] the experts of a token."""
    var shares: F32Ptr
    """[T, used] what their results are multiplied by."""
    var visits: I32Ptr
    """[T, used] where among all visits they are."""
    var tokens: I32Ptr
    """[S] the token of each visit."""
    var hosts: I32Ptr
    """[S] the expert of each visit."""
    var first: I32Ptr
    """[experts + 1] the first visit of each expert, and the end."""
    var x: F32Ptr
    """[S, hidden_dim] what an expert gets, later what it gives."""
    var gate: F32Ptr
    """[S, expert]."""
    var up: F32Ptr
    """[S, expert]."""
    var blocks: BytePtr
    """[S, hidden_dim or expert] the right side of a product as int8 blocks."""
    var halves: BytePtr
    """The same as rows of bfloat16."""


def lay_out_routes(mut layout: Layout, w: Widths, t: Int, d: Int) -> Routes:
    """Nothing, where there are no experts."""
    var s = t * w.used
    var widest = max(d, w.expert)
    return Routes(
        logits=layout.floats(t * w.experts),
        experts=layout.ints(s),
        shares=layout.floats(s),
        visits=layout.ints(s),
        tokens=layout.ints(s),
        hosts=layout.ints(s),
        first=layout.ints(w.experts + 1),
        x=layout.floats(s * d),
        gate=layout.floats(s * w.expert),
        up=layout.floats(s * w.expert),
        blocks=layout.take(s * quantized_bytes(round_up(widest, BLOCK))),
        halves=layout.take(s * halves_bytes(widest)),
    )


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
    var layers = model[].ple_columns()
    var n_streams = Int(model[].n_streams) if model[].has_streams() else 0
    var passing_bytes = 8 * (t + KEY_BLOCK * o) * w.kv
    var layout = Layout(memory)
    _ = layout.take(size_of[Engine]())
    var team = layout.take(team_bytes(Int(options.n_threads)))
    var caches = layout.take(size_of[LayerCache]() * Int(model[].n_layers))
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
        passing=layout.take(n_passing(model[]) * passing_bytes),
        passing_bytes=passing_bytes,
        parts=layout.floats(
            segments_of(options) * w.heads * part_floats(2 * w.pairs)
        ),
        attended=layout.floats(t * w.q),
        gate=layout.floats(t * w.mlp),
        up=layout.floats(t * w.mlp),
        branch=layout.floats(t * d),
        laurel=layout.floats(t * w.laurel),
        streams=layout.floats(n_streams * t * d),
        ple=layout.floats(t * layers),
        ple_row=layout.floats(Int(options.n_threads) * layers),
        routes=lay_out_routes(layout, w, t, d),
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
    ref model = engine.model[]
    var byte = 0
    var passing = 0
    for i in range(Int(model.n_layers)):
        var layer = model.layer(i)[]
        var size = layer_bytes(layer, engine.options)
        var is_source = is_read_again(model, i)
        if is_source:
            passing += 1
        engine.caches[unsafe_offset=i] = LayerCache(
            byte,
            byte + size,
            n_slots(layer, engine.options),
            passing if is_source else 0,
        )
        byte += 2 * size
