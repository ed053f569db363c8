"""The C ABI: check the arguments, call down, return a status.

The only exports of the library; mogemma.h has their contract.
"""

from std.memory import unsafe_stack_allocation
from std.sys import size_of

from formats.matrix import STORED, Matrix
from model.batch import (
    are_finite,
    check_batch,
    count_tokens,
    lay_out_tokens,
)
from model.check import (
    BAD_ARGUMENT,
    BAD_FORMAT,
    CANCELLED,
    NOT_FINITE,
    NO_THREADS,
    OK,
    check_format,
    check_matrix,
    check_model,
    check_options,
)
from model.engine import NOT_A_NUMBER, EnginePtr, lay_out, place_caches
from model.forward import Call, run_forward
from model.kv_cache import cache_bytes
from model.pool import embedding_dim
from model.single import (
    changed,
    run_matmul,
    run_packing,
    run_quantizing,
)
from model.spec import (
    Batch,
    BatchPtr,
    Candidates,
    Expert,
    Layer,
    Model,
    ModelPtr,
    Options,
    OptionsPtr,
    Rope,
    Sequence,
)
from ops.dequantize import dequantize_row
from ops.matmul import SCRATCH_BYTES, Product
from ops.pack import packed_bytes
from ops.peak import (
    READ_STEP,
    bfloat16_peak,
    float_peak,
    int8_peak,
    read_memory,
)
from ops.quantize_weights import quantized_weight_bytes
from ops.top_k import top_k
from runtime.threads import team_start, team_stop
from runtime.views import F32, BytePtr, F32Ptr, I32Ptr

comptime ABI_VERSION = Int32(5)


@export("mogemma_abi_version")
def mogemma_abi_version() abi("C") -> Int32:
    return ABI_VERSION


@export("mogemma_struct_bytes")
def mogemma_struct_bytes(index: Int32) abi("C") -> Int64:
    var sizes = SIMD[DType.int64, 16](0)
    sizes[0] = Int64(size_of[Matrix]())
    sizes[1] = Int64(size_of[Rope]())
    sizes[2] = Int64(size_of[Expert]())
    sizes[3] = Int64(size_of[Layer]())
    sizes[4] = Int64(size_of[Model]())
    sizes[5] = Int64(size_of[Options]())
    sizes[6] = Int64(size_of[Sequence]())
    sizes[7] = Int64(size_of[Candidates]())
    sizes[8] = Int64(size_of[Batch]())
    return sizes[Int(index)] if index >= 0 and index < 16 else Int64(0)


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
    if at.state[unsafe_offset=NOT_A_NUMBER] != 0:
        return NOT_FINITE
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
    run_matmul(
        engine.unsafe_value(),
        Product(weights, y.unsafe_value(), weights.rows()),
        at.activations(x.unsafe_value(), Int(n_tokens)),
    )
    return OK


def check_stored(matrix: Matrix) -> Int32:
    """Whether a matrix by itself is one, as a file stores it."""
    if not matrix.data or matrix.layout != STORED:
        return BAD_ARGUMENT
    if matrix.rows() < 1 or matrix.columns() < 1:
        return BAD_ARGUMENT
    return check_format(matrix.format, matrix.columns())


@export("mogemma_packed_bytes")
def mogemma_packed_bytes(
    matrix: Optional[Pointer[Matrix, MutUntrackedOrigin]], layout: Int32
) abi("C") -> Int64:
    if not matrix:
        return -Int64(BAD_ARGUMENT)
    var status = check_stored(matrix.unsafe_value()[])
    if status != OK:
        return -Int64(status)
    return Int64(packed_bytes(matrix.unsafe_value()[], layout))


def check_stretch(matrix: Matrix, first_row: Int64, n_rows: Int64) -> Int32:
    """Whether rows of a stored matrix can be packed together."""
    if first_row < 0 or first_row % 16 != 0 or n_rows < 1:
        return BAD_ARGUMENT
    return BAD_ARGUMENT if n_rows > matrix.n_rows - first_row else OK


@export("mogemma_pack")
def mogemma_pack(
    engine: Optional[EnginePtr],
    matrix: Optional[Pointer[Matrix, MutUntrackedOrigin]],
    layout: Int32,
    first_row: Int64,
    n_rows: Int64,
    memory: Optional[BytePtr],
) abi("C") -> Int32:
    if not engine or not matrix or not memory:
        return BAD_ARGUMENT
    var stored = matrix.unsafe_value()[]
    var status = check_stored(stored)
    if status == OK and packed_bytes(stored, layout) == 0:
        status = BAD_FORMAT
    if status == OK:
        status = check_stretch(stored, first_row, n_rows)
    if status != OK:
        return status
    run_packing(
        engine.unsafe_value(),
        stored,
        changed(stored, stored.format, layout, memory.unsafe_value()),
        Int(first_row),
        Int(first_row + n_rows),
    )
    return OK


@export("mogemma_quantized_bytes")
def mogemma_quantized_bytes(
    matrix: Optional[Pointer[Matrix, MutUntrackedOrigin]],
    format: Int32,
    layout: Int32,
) abi("C") -> Int64:
    if not matrix:
        return -Int64(BAD_ARGUMENT)
    var status = check_stored(matrix.unsafe_value()[])
    if status != OK:
        return -Int64(status)
    return Int64(
        quantized_weight_bytes(matrix.unsafe_value()[], format, layout)
    )


@export("mogemma_quantize")
def mogemma_quantize(
    engine: Optional[EnginePtr],
    matrix: Optional[Pointer[Matrix, MutUntrackedOrigin]],
    format: Int32,
    layout: Int32,
    first_row: Int64,
    n_rows: Int64,
    memory: Optional[BytePtr],
) abi("C") -> Int32:
    if not engine or not matrix or not memory:
        return BAD_ARGUMENT
    var stored = matrix.unsafe_value()[]
    var status = check_stored(stored)
    if status == OK and quantized_weight_bytes(stored, format, layout) == 0:
        status = BAD_FORMAT
    if status == OK:
        status = check_stretch(stored, first_row, n_rows)
    if status != OK:
        return status
    var are_finite = run_quantizing(
        engine.unsafe_value(),
        stored,
        changed(stored, format, layout, memory.unsafe_value()),
        Int(first_row),
        Int(first_row + n_rows),
    )
    return OK if are_finite else NOT_FINITE


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


@export("mogemma_peak")
def mogemma_peak(
    kind: Int32, n: Int64, memory: Optional[BytePtr], kept: Optional[I32Ptr]
) abi("C") -> Int64:
    if not kept or n < 1:
        return -Int64(BAD_ARGUMENT)
    var to = kept.unsafe_value()
    if kind == 0 and memory and Int(n) % READ_STEP == 0:
        return Int64(read_memory(memory.unsafe_value(), Int(n), to))
    if kind == 1:
        return Int64(int8_peak(Int(n), to))
    if kind == 2:
        return Int64(bfloat16_peak(Int(n), to))
    if kind == 3:
        return Int64(float_peak[F32](Int(n), to))
    return -Int64(BAD_ARGUMENT)
