"""Single operations on the engine's threads: a product, packing and quantising a matrix."""

from formats.matrix import Matrix
from model.engine import EnginePtr
from model.layer import round_token, token_row
from ops.matmul import Activations, Product, share_products
from ops.pack import share_packing
from ops.quantize_weights import share_quantizing
from runtime.threads import Opaque, TeamPtr, team_run
from runtime.views import BytePtr


@fieldwise_init
struct MatmulCall(ImplicitlyCopyable):
    """What the threads of one product are given."""

    var engine: EnginePtr
    var product: Product
    var x: Activations


def matmul_job(context: Opaque, team: TeamPtr, thread: Int):
    """Round the activations, then multiply."""
    var call = context.unsafe_bitcast[MatmulCall]()[]
    ref engine = call.engine[]
    var n = call.product.weights.columns()
    var forms = engine.forms(call.product.weights)
    if forms.any():
        var token = team[].take()
        while token < call.x.n_tokens:
            var row = token_row(call.x.values, token, n)
            round_token(engine, row, n, token, forms)
            token = team[].take()
        team[].barrier()
    share_products[1](
        team,
        Array[Product, 1](fill=call.product),
        call.x,
        engine.is_exact(),
        engine.scratch_of(thread),
    )


def run_matmul(engine: EnginePtr, product: Product, x: Activations):
    """Multiply on all threads; the values of `x` are given, other forms made."""
    var shared = engine[].call.unsafe_bitcast[MatmulCall]()
    shared.unsafe_write(MatmulCall(engine, product, x))
    team_run(engine[].team, matmul_job, shared.unsafe_bitcast[NoneType]())


@fieldwise_init
struct PackCall(ImplicitlyCopyable):
    """What the threads that pack a matrix are given."""

    var engine: EnginePtr
    var matrix: Matrix
    var packed: Matrix
    var first: Int
    var end: Int


def pack_job(context: Opaque, team: TeamPtr, thread: Int):
    """Pack rows of a matrix together, in its own format or another."""
    var call = context.unsafe_bitcast[PackCall]()[]
    if call.packed.format != call.matrix.format:
        share_quantizing(
            team,
            call.matrix,
            call.packed,
            call.first,
            call.end,
            call.engine[].scratch_of(thread),
        )
        return
    share_packing(
        team,
        call.matrix,
        call.packed,
        call.first,
        call.end,
        call.engine[].scratch_of(thread),
    )


def run_packing(
    engine: EnginePtr,
    matrix: Matrix,
    format: Int32,
    layout: Int32,
    memory: BytePtr,
    first: Int,
    end: Int,
):
    """Pack rows `first` to `end` - 1 into memory of the whole packed matrix.

    A format other than the matrix's own is one that it can be quantised to.
    """
    var packed = matrix
    packed.format = format
    packed.data = memory
    packed.layout = layout
    var shared = engine[].call.unsafe_bitcast[PackCall]()
    shared.unsafe_write(PackCall(engine, matrix, packed, first, end))
    team_run(engine[].team, pack_job, shared.unsafe_bitcast[NoneType]())
