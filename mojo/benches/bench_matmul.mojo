"""Time, bytes and products a second of every matrix of Gemma 3 270M (Q4_K_M).

    mojo run -I mojo/src mojo/benches/bench_matmul.mojo [THREADS] [TOKENS]

A product with one token is decode, one with TOKENS (default 256) is prefill.
Copies of a small matrix take turns, so that decode reads memory and not a cache.
Prints a table, and as the last line the same as JSON.
"""

from std.memory import Alignment, Layout, alloc
from std.subprocess import run
from std.sys import argv
from std.time import perf_counter_ns

from formats import ALL_FORMATS
from formats.matrix import PACKED, STORED, Matrix
from ops.matmul import (
    SCRATCH_BYTES,
    Activations,
    Product,
    share_products,
)
from ops.pack import packed_bytes, share_packing
from ops.quantize import quantize_row, quantized_bytes
from runtime.threads import (
    Opaque,
    Team,
    TeamPtr,
    team_bytes,
    team_run,
    team_start,
    team_stop,
)
from runtime.views import BytePtr, F32Ptr, floats

comptime ROUNDS = 15
comptime MOVED = 96 << 20
"""Bytes of weights that a round of decode reads at least: beyond any cache."""

comptime Q5_0 = 6
comptime Q8_0 = 8
comptime Q4_K = 12
comptime Q6_K = 14


@fieldwise_init
struct Shape(Copyable):
    """A matrix of the model."""

    var name: String
    var rows: Int
    var columns: Int
    var format: Int
    var format_name: String


@fieldwise_init
struct Times(Copyable):
    """Seconds of one product, of all rounds."""

    var least: Float64
    var median: Float64
    var greatest: Float64


@fieldwise_init
struct Work(ImplicitlyCopyable):
    """What the threads are given: the copies of a matrix, multiplied in turn."""

    var copies: Pointer[Matrix, MutUntrackedOrigin]
    var packed: Pointer[Matrix, MutUntrackedOrigin]
    var n_copies: Int
    var x: F32Ptr
    var y: F32Ptr
    var blocks: BytePtr
    var n_tokens: Int
    var scratch: BytePtr


def aligned(n_bytes: Int) -> BytePtr:
    return alloc(
        Layout[UInt8, alignment=Alignment.of_bytes[64]()](count=n_bytes)
    ).unsafe_leak()


def stored_bytes(shape: Shape) -> Int:
    comptime for i in range(ALL_FORMATS.length):
        comptime F = ALL_FORMATS[i]
        if Int(F.ID) == shape.format:
            return shape.rows * shape.columns // F.BLOCK_WEIGHTS * F.BLOCK_BYTES
    return 0


def pack_all(context: Opaque, team: TeamPtr, thread: Int):
    var work = context.unsafe_bitcast[Work]()[]
    for i in range(work.n_copies):
        var matrix = work.copies[unsafe_offset=i]
        share_packing(
            team,
            matrix,
            work.packed[unsafe_offset=i],
            0,
            matrix.rows(),
            work.scratch.unsafe_offset(thread * SCRATCH_BYTES),
        )
        team[].barrier()


def multiply_all(context: Opaque, team: TeamPtr, thread: Int):
    """As a forward pass does: quantise, then multiply."""
    var work = context.unsafe_bitcast[Work]()[]
    for i in range(work.n_copies):
        var matrix = work.packed[unsafe_offset=i]
        var n = matrix.columns()
        var token = team[].take()
        while token < work.n_tokens:
            quantize_row(
                work.x.unsafe_offset(token * n),
                n,
                work.blocks.unsafe_offset(token * quantized_bytes(n)),
            )
            token = team[].take()
        team[].barrier()
        share_products[1](
            team,
            Array[Product, 1](fill=Product(matrix, work.y, matrix.rows())),
            Activations(work.x, work.blocks, None, work.n_tokens),
            False,
            work.scratch.unsafe_offset(thread * SCRATCH_BYTES),
        )
        team[].barrier()


def prepared(
    shape: Shape, n_copies: Int, n_tokens: Int, n_threads: Int
) -> Work:
    """Copies with random bytes, and room for everything."""
    var n_bytes = stored_bytes(shape)
    var copies = alloc(Layout[Matrix](count=n_copies)).unsafe_leak()
    var packed = alloc(Layout[Matrix](count=n_copies)).unsafe_leak()
    for i in range(n_copies):
        var data = aligned(n_bytes)
        var bits = UInt32(i + 1)
        for k in range(n_bytes):
            bits = bits * 1664525 + 1013904223
            # No exponent of a scale is all ones.
            data[unsafe_offset=k] = UInt8((bits >> 24) & 0xBF)
        var matrix = Matrix(
            data,
            Int64(shape.rows),
            Int64(shape.columns),
            Int32(shape.format),
            STORED,
        )
        copies.unsafe_offset(i).unsafe_write(matrix)
        matrix.data = aligned(packed_bytes(matrix))
        matrix.layout = PACKED
        packed.unsafe_offset(i).unsafe_write(matrix)
    var x = floats(aligned(4 * n_tokens * shape.columns))
    for k in range(n_tokens * shape.columns):
        x[unsafe_offset=k] = Float32(k % 61) / 30 - 1
    return Work(
        copies,
        packed,
        n_copies,
        x,
        floats(aligned(4 * n_tokens * shape.rows)),
        aligned(n_tokens * quantized_bytes(shape.columns)),
        n_tokens,
        aligned(n_threads * SCRATCH_BYTES),
    )


def release(work: Work):
    for i in range(work.n_copies):
        work.copies[unsafe_offset=i].data.unsafe_value().unsafe_free()
        work.packed[unsafe_offset=i].data.unsafe_value().unsafe_free()
    work.x.unsafe_free()
    work.y.unsafe_free()
    work.blocks.unsafe_free()
    work.scratch.unsafe_free()


def time_work(team: TeamPtr, place: Opaque, n_copies: Int) raises -> Times:
    """Times of one product; the first round warms up."""
    var seconds = List[Float64]()
    for round in range(ROUNDS + 1):
        var started = perf_counter_ns()
        team_run(team, multiply_all, place)
        var taken = Float64(perf_counter_ns() - started) * 1e-9
        if round > 0:
            seconds.append(taken / Float64(n_copies))
    sort(seconds)
    return Times(
        seconds[0], seconds[len(seconds) // 2], seconds[len(seconds) - 1]
    )


def padded(text: String, width: Int) -> String:
    return " " * max(0, width - text.byte_length()) + text


def fixed(x: Float64, decimals: Int) -> String:
    """`x` with so many decimals."""
    var scale = 10**decimals
    var n = Int(round(x * Float64(scale)))
    var fraction = String(n % scale)
    while fraction.byte_length() < decimals:
        fraction = "0" + fraction
    return String(n // scale) + "." + fraction


def report(shape: Shape, n_tokens: Int, n_bytes: Int, times: Times) -> String:
    """Print a row of the table; its JSON."""
    var macs = Float64(shape.rows * shape.columns * n_tokens)
    var gmacs = macs / times.median * 1e-9
    var gigabytes = Float64(n_bytes) / times.median * 1e-9
    print(
        padded(shape.name, 10),
        padded(String(shape.rows) + " x " + String(shape.columns), 14),
        padded(shape.format_name, 6),
        padded(String(n_tokens), 7),
        padded(fixed(times.median * 1e6, 1), 11),
        padded(fixed(gigabytes, 2), 8),
        padded(fixed(gmacs, 2), 8),
    )
    return String(
        '{"name": "', shape.name, '", "rows": ', shape.rows,
        ', "columns": ', shape.columns, ', "format": "', shape.format_name,
        '", "tokens": ', n_tokens, ', "bytes": ', n_bytes,
        ', "seconds": {"median": ', times.median, ', "min": ', times.least,
        ', "max": ', times.greatest, '}, "gigabytes_per_second": ', gigabytes,
        ', "gigamacs_per_second": ', gmacs, "}",
    )  # fmt: skip


def measure(
    team: TeamPtr, n_threads: Int, shape: Shape, n_tokens: Int
) raises -> String:
    var n_bytes = stored_bytes(shape)
    var n_copies = max(1, MOVED // n_bytes) if n_tokens == 1 else 1
    var place = alloc(Layout[Work].single()).unsafe_leak()
    place.unsafe_write(prepared(shape, n_copies, n_tokens, n_threads))
    var context = place.unsafe_bitcast[NoneType]()
    team_run(team, pack_all, context)
    var times = time_work(team, context, n_copies)
    release(place[])
    return report(shape, n_tokens, n_bytes, times)


def said_by(command: String) -> String:
    """What a command prints, on one line; nothing where it fails."""
    try:
        return String(run(command).strip())
    except:
        return ""


def main() raises:
    var n_threads = Int(argv()[1]) if len(argv()) > 1 else 2
    var n_prefill = Int(argv()[2]) if len(argv()) > 2 else 256
    var shapes: List[Shape] = [
        Shape("q_proj", 1024, 640, Q5_0, "Q5_0"),
        Shape("v_proj", 256, 640, Q8_0, "Q8_0"),
        Shape("o_proj", 640, 1024, Q4_K, "Q4_K"),
        Shape("gate_proj", 2048, 640, Q5_0, "Q5_0"),
        Shape("down_proj", 640, 2048, Q6_K, "Q6_K"),
        Shape("down_proj", 640, 2048, Q4_K, "Q4_K"),
        Shape("head", 262144, 640, Q8_0, "Q8_0"),
    ]
    var team = aligned(team_bytes(n_threads))
    for i in range(team_bytes(n_threads)):
        team[unsafe_offset=i] = 0
    var threads = team.unsafe_bitcast[Team]()
    if not team_start(threads, n_threads):
        raise Error("The system gives no ", n_threads, " threads.")
    print(
        "    matrix  rows x columns format  tokens microseconds   GB/s  GMAC/s"
    )
    var results = List[String]()
    for n_tokens in [1, n_prefill]:
        for shape in shapes:
            # A forward pass takes the logits of one token, not of all.
            if shape.name != "head" or n_tokens == 1:
                results.append(measure(threads, n_threads, shape, n_tokens))
    team_stop(threads)
    print(
        '{"bench": "matmul", "threads": ', n_threads, ', "rounds": ', ROUNDS,
        ', "machine": "', said_by("uname -m"), " ",
        said_by("sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1"),
        '", "commit": "', said_by("git describe --always --dirty"),
        '", "results": [', String(", ").join(results), "]}", sep="",
    )  # fmt: skip
