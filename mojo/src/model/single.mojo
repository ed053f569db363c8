"""Single operations on the engine's threads: a product, packing and quantising a matrix."""

from formats.matrix import Matrix
from model.engine import NOT_A_NUMBER, EnginePtr
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


def quantize_job(context: Opaque, team: TeamPtr, thread: Int):
    """Bring rows of a matrix to another format together."""
    var call = context.unsafe_bitcast[PackCall]()[]
    var is_done = share_quantizing(
        team,
        call.matrix,
        call.packed,
        call.first,
        call.end,
        call.engine[].scratch_of(thread),
    )
    if not is_done:
        call.engine[].state[unsafe_offset=NOT_A_NUMBER] = 1


def changed(
    matrix: Matrix, format: Int32, layout: Int32, memory: BytePtr
) -> Matrix:
    """The matrix that another becomes in `memory`."""
    var result = matrix
    result.format = format
    result.data = memory
    result.layout = layout
    return result


def run_packing(
    engine: EnginePtr, matrix: Matrix, packed: Matrix, first: Int, end: Int
):
    """Pack rows `first` to `end` - 1 into the memory of the packed matrix."""
    var shared = engine[].call.unsafe_bitcast[PackCall]()
    shared.unsafe_write(PackCall(engine, matrix, packed, first, end))
    team_run(engine[].team, pack_job, shared.unsafe_bitcast[NoneType]())


def run_quantizing(
    engine: EnginePtr, matrix: Matrix, encoded: Matrix, first: Int, end: Int
) -> Bool:
    """The same, and bring them to the other matrix's format.

    False where a weight is not finite, or would not be in that format.
    """
    engine[].state[unsafe_offset=NOT_A_NUMBER] = 0
    var shared = engine[].call.unsafe_bitcast[PackCall]()
    shared.unsafe_write(PackCall(engine, matrix, encoded, first, end))
    team_run(engine[].team, quantize_job, shared.unsafe_bitcast[NoneType]())
    return engine[].state[unsafe_offset=NOT_A_NUMBER] == 0
