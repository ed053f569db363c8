"""The C ABI: check the arguments, call down, return a status.

The only exports of the library; mogemma.h has their contract.
"""

from std.memory import unsafe_stack_allocation
from std.sys import size_of

from formats.matrix import PACKED, STORED, Matrix
from model.check import (
    BAD_ARGUMENT,
    BAD_FORMAT,
    BAD_MODEL,
    BAD_TOKEN,
    CANCELLED,
    CONTEXT_FULL,
    NOT_FINITE,
    NO_THREADS,
    OK,
    check_format,
    check_matrix,
    check_model,
    check_options,
)
from model.engine import Engine, EnginePtr, lay_out, place_caches
from model.forward import Call, run_forward
from model.kv_cache import cache_bytes
from model.pool import embedding_dim
from model.spec import (
    Batch,
    BatchPtr,
    Layer,
    Model,
    ModelPtr,
    Options,
    OptionsPtr,
    Rope,
    Sequence,
)
from ops.attention import KEY_BLOCK
from ops.dequantize import dequantize_row
from ops.matmul import (
    SCRATCH_BYTES,
    Activations,
    Product,
    share_products,
)
from ops.pack import packed_bytes, share_packing
from ops.quantize import quantize_row, quantized_bytes
from ops.top_k import top_k
from runtime.threads import (
    Opaque,
    TeamPtr,
    team_run,
    team_start,
    team_stop,
)
from runtime.views import BytePtr, F32Ptr, I32Ptr, round_up

comptime ABI_VERSION = Int32(1)


@export("mogemma_abi_version")
def mogemma_abi_version() abi("C") -> Int32:
    return ABI_VERSION


@export("mogemma_struct_bytes")
def mogemma_struct_bytes(index: Int32) abi("C") -> Int64:
    var sizes = SIMD[DType.int64, 8](0)
    sizes[0] = Int64(size_of[Matrix]())
    sizes[1] = Int64(size_of[Rope]())
    sizes[2] = Int64(size_of[Layer]())
    sizes[3] = Int64(size_of[Model]())
    sizes[4] = Int64(size_of[Options]())
    sizes[5] = Int64(size_of[Sequence]())
    sizes[6] = Int64(size_of[Batch]())
    return sizes[Int(index)] if index >= 0 and index < 7 else Int64(0)


@export("mogemma_engine_bytes")
def mogemma_engine_bytes(
    model: Optional[ModelPtr],
    options: Optional[OptionsPtr],
    layer: Optional[I32Ptr],
) abi("C") -> Int64:
    var at_fault = Int32(-1)
    var status = BAD_ARGUMENT
    if model and options and check_options(options.unsafe_value()[]):
        status = check_model(model.unsafe_value()[], at_fault)
    if layer:
        layer.unsafe_value()[] = at_fault
    if status != OK:
        return -Int64(status)
    # Counting needs no memory: any address will do.
    var anywhere = model.unsafe_value().unsafe_bitcast[UInt8]()
    var engine = lay_out(
        model.unsafe_value(), options.unsafe_value()[], anywhere
    )
    return Int64(engine.n_bytes)


@export("mogemma_engine_open")
def mogemma_engine_open(
    model: Optional[ModelPtr],
    options: Optional[OptionsPtr],
    memory: Optional[EnginePtr],
) abi("C") -> Int32:
    if not memory:
        return BAD_ARGUMENT
    var n_bytes = mogemma_engine_bytes(model, options, None)
    if n_bytes < 0:
        return Int32(-n_bytes)
    var place = memory.unsafe_value()
    place.unsafe_write(
        lay_out(
            model.unsafe_value(),
            options.unsafe_value()[],
            place.unsafe_bitcast[UInt8](),
        )
    )
    place_caches(place[])
    var n_threads = Int(options.unsafe_value()[].n_threads)
    return OK if team_start(place[].team, n_threads) else NO_THREADS


@export("mogemma_engine_close")
def mogemma_engine_close(engine: Optional[EnginePtr]) abi("C") -> Int32:
    if not engine:
        return BAD_ARGUMENT
    team_stop(engine.unsafe_value()[].team)
    return OK


@export("mogemma_cache_bytes")
def mogemma_cache_bytes(
    model: Optional[ModelPtr], options: Optional[OptionsPtr]
) abi("C") -> Int64:
    if not model or not options:
        return -Int64(BAD_ARGUMENT)
    if not check_options(options.unsafe_value()[]):
        return -Int64(BAD_ARGUMENT)
    var layer = Int32(0)
    var status = check_model(model.unsafe_value()[], layer)
    if status != OK:
        return -Int64(status)
    return Int64(cache_bytes(model.unsafe_value()[], options.unsafe_value()[]))


def is_whole(engine: Engine) -> Bool:
    """Whether some layer sees tokens after a query's own."""
    for i in range(Int(engine.model[].n_layers)):
        if engine.model[].layer(i)[].n_after > 0:
            return True
    return False


def check_sequence(engine: Engine, sequence: Sequence) -> Int32:
    """Whether a sequence's fields are in range and its tokens known."""
    if not sequence.token_ids or sequence.n_tokens < 1:
        return BAD_ARGUMENT
    if sequence.position < 0 or sequence.n_outputs < 0:
        return BAD_ARGUMENT
    if sequence.n_outputs > sequence.n_tokens:
        return BAD_ARGUMENT
    if sequence.position > 0 and (not sequence.cache or is_whole(engine)):
        return BAD_ARGUMENT
    if Int(sequence.position) + Int(sequence.n_tokens) > Int(
        engine.options.n_context
    ):
        return CONTEXT_FULL
    var ids = sequence.token_ids.unsafe_value()
    for i in range(Int(sequence.n_tokens)):
        var id = ids[unsafe_offset=i]
        if id < 0 or id >= engine.model[].vocab_size:
            return BAD_TOKEN
    return OK


def lay_out_tokens(engine: Engine, batch: Batch) -> Int:
    """Write where all tokens and sequences are; gives the rows of logits."""
    var token = 0
    var row = 0
    var n_outputs = 0
    for s in range(Int(batch.n_sequences)):
        var sequence = batch.sequence(s)
        var n = Int(sequence.n_tokens)
        engine.first_tokens[unsafe_offset=s] = Int32(token)
        engine.first_rows[unsafe_offset=s] = Int32(row)
        if not sequence.cache:
            row += round_up(n, KEY_BLOCK)
        engine.first_rows[unsafe_offset=s + 1] = Int32(row)
        for i in range(n):
            engine.ids[unsafe_offset=token] = sequence.token_ids.unsafe_value()[
                unsafe_offset=i
            ]
            engine.positions[unsafe_offset=token] = sequence.position + Int32(i)
            engine.owners[unsafe_offset=token] = Int32(s)
            if i >= n - Int(sequence.n_outputs):
                engine.outputs[unsafe_offset=n_outputs] = Int32(token)
                n_outputs += 1
            token += 1
    return n_outputs


def check_batch(engine: Engine, batch: Batch) -> Int32:
    """Whether a batch fits the engine."""
    if not batch.sequences or batch.n_sequences < 1:
        return BAD_ARGUMENT
    var n_tokens = 0
    var n_passing = 0
    var n_outputs = 0
    for s in range(Int(batch.n_sequences)):
        var sequence = batch.sequence(s)
        var status = check_sequence(engine, sequence)
        if status != OK:
            return status
        if not sequence.cache:
            n_passing += 1
        n_tokens += Int(sequence.n_tokens)
        n_outputs += Int(sequence.n_outputs)
    if n_tokens > Int(engine.options.max_tokens):
        return BAD_ARGUMENT
    if max(n_outputs, n_passing) > Int(engine.options.max_outputs):
        return BAD_ARGUMENT
    if n_outputs > 0 and not batch.logits:
        return BAD_ARGUMENT
    if batch.embeddings and batch.n_sequences > engine.options.max_outputs:
        return BAD_ARGUMENT
    return OK


def count_tokens(batch: Batch) -> Int:
    var n = 0
    for s in range(Int(batch.n_sequences)):
        n += Int(batch.sequence(s).n_tokens)
    return n


def are_finite(x: F32Ptr, n: Int) -> Bool:
    """Whether no number is NaN or infinite."""
    for i in range(n):
        # NaN compares false with everything.
        if not abs(x[unsafe_offset=i]) <= Float32.MAX_FINITE:
            return False
    return True


@export("mogemma_forward")
def mogemma_forward(
    engine: Optional[EnginePtr], batch: Optional[BatchPtr]
) abi("C") -> Int32:
    if not engine or not batch:
        return BAD_ARGUMENT
    ref at = engine.unsafe_value()[]
    var work = batch.unsafe_value()[]
    var status = check_batch(at, work)
    if status != OK:
        return status
    var n_outputs = lay_out_tokens(at, work)
    run_forward(
        Call(engine.unsafe_value(), work, count_tokens(work), n_outputs)
    )
    if at.state[] != 0:
        return CANCELLED
    if work.embeddings:
        var n = Int(work.n_sequences) * embedding_dim(at)
        if not are_finite(work.embeddings.unsafe_value(), n):
            return NOT_FINITE
    return OK


@export("mogemma_top_k")
def mogemma_top_k(
    logits: Optional[F32Ptr],
    n: Int64,
    k: Int32,
    ids: Optional[I32Ptr],
    values: Optional[F32Ptr],
) abi("C") -> Int32:
    if not logits or not ids or not values:
        return BAD_ARGUMENT
    if k < 1 or Int64(k) > n:
        return BAD_ARGUMENT
    var finite = top_k(
        logits.unsafe_value(),
        Int(n),
        Int(k),
        ids.unsafe_value(),
        values.unsafe_value(),
    )
    return OK if finite else NOT_FINITE


@fieldwise_init
struct MatmulCall(ImplicitlyCopyable):
    """What the threads of one product are given."""

    var engine: EnginePtr
    var product: Product
    var x: Activations


def matmul_job(context: Opaque, team: TeamPtr, thread: Int):
    """Quantise, then multiply."""
    var call = context.unsafe_bitcast[MatmulCall]()[]
    ref engine = call.engine[]
    var n = call.product.weights.columns()
    if engine.wants_blocks(call.product.weights):
        var token = team[].take()
        while token < call.x.n_tokens:
            quantize_row(
                call.x.values.unsafe_offset(token * n),
                n,
                call.x.blocks.unsafe_offset(token * quantized_bytes(n)),
            )
            token = team[].take()
        team[].barrier()
    share_products[1](
        team,
        Array[Product, 1](fill=call.product),
        call.x,
        engine.is_exact(),
        engine.scratch_of(thread),
    )


@export("mogemma_matmul")
def mogemma_matmul(
    engine: Optional[EnginePtr],
    matrix: Optional[Pointer[Matrix, MutUntrackedOrigin]],
    x: Optional[F32Ptr],
    n_tokens: Int32,
    y: Optional[F32Ptr],
) abi("C") -> Int32:
    if not engine or not matrix or not x or not y:
        return BAD_ARGUMENT
    ref at = engine.unsafe_value()[]
    var weights = matrix.unsafe_value()[]
    if n_tokens < 1 or n_tokens > at.options.max_tokens:
        return BAD_ARGUMENT
    if weights.columns() > at.widths.columns:
        return BAD_ARGUMENT
    var status = check_matrix(weights, weights.rows(), weights.columns())
    if status == OK and min(weights.rows(), weights.columns()) < 1:
        status = BAD_ARGUMENT
    if status != OK:
        return status
    var call = MatmulCall(
        engine.unsafe_value(),
        Product(weights, y.unsafe_value(), weights.rows()),
        Activations(x.unsafe_value(), at.blocks, Int(n_tokens)),
    )
    var shared = at.call.unsafe_bitcast[MatmulCall]()
    shared.unsafe_write(call.copy())
    team_run(at.team, matmul_job, shared.unsafe_bitcast[NoneType]())
    return OK


@fieldwise_init
struct PackCall(ImplicitlyCopyable):
    """What the threads that pack a matrix are given."""

    var engine: EnginePtr
    var matrix: Matrix
    var packed: Matrix
    var first: Int
    var end: Int


def pack_job(context: Opaque, team: TeamPtr, thread: Int):
    """Pack rows of a matrix together."""
    var call = context.unsafe_bitcast[PackCall]()[]
    share_packing(
        team,
        call.matrix,
        call.packed,
        call.first,
        call.end,
        call.engine[].scratch_of(thread),
    )


def check_stored(matrix: Matrix) -> Int32:
    """Whether a matrix by itself is one, as a file stores it."""
    if not matrix.data or matrix.layout != STORED:
        return BAD_ARGUMENT
    if matrix.rows() < 1 or matrix.columns() < 1:
        return BAD_ARGUMENT
    return check_format(matrix.format, matrix.columns())


@export("mogemma_packed_bytes")
def mogemma_packed_bytes(
    matrix: Optional[Pointer[Matrix, MutUntrackedOrigin]]
) abi("C") -> Int64:
    if not matrix:
        return -Int64(BAD_ARGUMENT)
    var status = check_stored(matrix.unsafe_value()[])
    if status != OK:
        return -Int64(status)
    return Int64(packed_bytes(matrix.unsafe_value()[]))


@export("mogemma_pack")
def mogemma_pack(
    engine: Optional[EnginePtr],
    matrix: Optional[Pointer[Matrix, MutUntrackedOrigin]],
    first_row: Int64,
    n_rows: Int64,
    memory: Optional[BytePtr],
) abi("C") -> Int32:
    if not engine or not matrix or not memory:
        return BAD_ARGUMENT
    var stored = matrix.unsafe_value()[]
    var status = check_stored(stored)
    if status != OK:
        return status
    if packed_bytes(stored) == 0:
        return BAD_FORMAT
    if first_row < 0 or first_row % 16 != 0 or n_rows < 1:
        return BAD_ARGUMENT
    if n_rows > stored.n_rows - first_row:
        return BAD_ARGUMENT
    ref at = engine.unsafe_value()[]
    var packed = stored
    packed.data = memory.unsafe_value()
    packed.layout = PACKED
    var shared = at.call.unsafe_bitcast[PackCall]()
    shared.unsafe_write(
        PackCall(
            engine.unsafe_value(),
            stored,
            packed,
            Int(first_row),
            Int(first_row + n_rows),
        )
    )
    team_run(at.team, pack_job, shared.unsafe_bitcast[NoneType]())
    return OK


@export("mogemma_dequantize")
def mogemma_dequantize(
    matrix: Optional[Pointer[Matrix, MutUntrackedOrigin]],
    row: Int64,
    values: Optional[F32Ptr],
) abi("C") -> Int32:
    if not matrix or not values:
        return BAD_ARGUMENT
    var weights = matrix.unsafe_value()[]
    var status = check_stored(weights)
    if status != OK:
        return status
    if row < 0 or row >= weights.n_rows:
        return BAD_ARGUMENT
    var scratch = unsafe_stack_allocation[SCRATCH_BYTES, UInt8, alignment=64]()
    dequantize_row(
        weights,
        Int(row),
        values.unsafe_value(),
        scratch.unsafe_origin_cast[MutUntrackedOrigin](),
    )
    return OK
