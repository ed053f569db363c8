"""The border's customs: a model and options are checked once, here.

Behind it kernels are bare loops. A status other than OK goes back to the
caller, who knows names and sizes and writes the sentence.
"""

from formats import ALL_FORMATS
from formats.matrix import PACKED, STORED, Matrix
from formats.planes import PLANES
from model.spec import BFLOAT16, INT8, MAX_THREADS, Layer, Model, Options
from ops.pack import packed_bytes

comptime OK = Int32(0)
comptime BAD_ARGUMENT = Int32(1)
comptime BAD_MODEL = Int32(2)
comptime BAD_FORMAT = Int32(3)
comptime BAD_TOKEN = Int32(4)
comptime CONTEXT_FULL = Int32(5)
comptime CANCELLED = Int32(6)
comptime NO_THREADS = Int32(7)
comptime NOT_FINITE = Int32(8)

comptime MOST = 1 << 24
"""No dimension of a model is greater; products of two fit 64 bits well."""


def check_format(format: Int32, n_columns: Int) -> Int32:
    """Whether a row of so many columns is whole blocks of a known format."""
    comptime for i in range(ALL_FORMATS.length):
        comptime F = ALL_FORMATS[i]
        if format == F.ID:
            return OK if n_columns % F.BLOCK_WEIGHTS == 0 else BAD_FORMAT
    return BAD_FORMAT


def check_matrix(matrix: Matrix, n_rows: Int, n_columns: Int) -> Int32:
    """Whether a matrix is there, has this shape and a known format."""
    if not matrix.data:
        return BAD_MODEL
    if matrix.rows() != n_rows or matrix.columns() != n_columns:
        return BAD_MODEL
    if matrix.layout < STORED or matrix.layout > PLANES:
        return BAD_MODEL
    if matrix.layout != STORED and packed_bytes(matrix, matrix.layout) == 0:
        return BAD_FORMAT
    return check_format(matrix.format, n_columns)


def within(value: Int32, least: Int, most: Int) -> Bool:
    return least <= Int(value) and Int(value) <= most


def check_numbers(layer: Layer, model: Model) -> Bool:
    """Whether a layer's sizes are in range and fit each other."""
    if not within(layer.n_heads, 1, 1024) or not within(
        layer.n_kv_heads, 1, Int(layer.n_heads)
    ):
        return False
    if layer.n_heads % layer.n_kv_heads != 0:
        return False
    if not within(layer.head_dim, 16, 4096) or layer.head_dim % 16 != 0:
        return False
    if not within(layer.mlp_dim, 1, MOST) or layer.n_before < 0:
        return False
    if layer.n_after < 0 or not within(layer.rope, 0, Int(model.n_ropes) - 1):
        return False
    var rope = model.ropes.unsafe_value()[unsafe_offset=Int(layer.rope)]
    return rope.n_pairs * 2 == layer.head_dim


def check_ropes(model: Model) -> Bool:
    """Whether every kind of rotation can be computed, used or not."""
    for i in range(Int(model.n_ropes)):
        var rope = model.ropes.unsafe_value()[unsafe_offset=i]
        if not rope.frequencies or not within(rope.n_pairs, 8, 2048):
            return False
        if rope.n_pairs % 8 != 0:
            return False
    return True


def check_layer(layer: Layer, model: Model) -> Int32:
    """Whether a layer has every weight it needs, each of the right shape."""
    if not layer.attention_norm or not layer.mlp_norm:
        return BAD_MODEL
    if not check_numbers(layer, model):
        return BAD_MODEL
    var d = Int(model.hidden_dim)
    var mlp = Int(layer.mlp_dim)
    var status = check_matrix(layer.q_proj, layer.q_dim(), d)
    if status == OK:
        status = check_matrix(layer.k_proj, layer.kv_dim(), d)
    if status == OK:
        status = check_matrix(layer.v_proj, layer.kv_dim(), d)
    if status == OK:
        status = check_matrix(layer.o_proj, d, layer.q_dim())
    if status == OK:
        status = check_matrix(layer.gate_proj, mlp, d)
    if status == OK:
        status = check_matrix(layer.up_proj, mlp, d)
    if status == OK:
        status = check_matrix(layer.down_proj, d, mlp)
    return status


def check_dense(model: Model) -> Int32:
    """Whether each dense matrix takes what the one before it gives."""
    var size = Int(model.hidden_dim)
    for i in range(Int(model.n_dense)):
        var matrix = model.dense.unsafe_value()[unsafe_offset=i]
        if not 1 <= matrix.rows() <= MOST:
            return BAD_MODEL
        var status = check_matrix(matrix, matrix.rows(), size)
        if status != OK:
            return status
        size = matrix.rows()
    return OK


def check_model(model: Model, mut layer: Int32) -> Int32:
    """Check everything; `layer` becomes the layer at fault, or -1."""
    layer = -1
    if not within(model.n_layers, 1, 4096) or not within(
        model.n_ropes, 1, 4096
    ):
        return BAD_MODEL
    if not within(model.n_dense, 0, 16) or not model.layers or not model.ropes:
        return BAD_MODEL
    if model.n_dense > 0 and not model.dense:
        return BAD_MODEL
    if not within(model.hidden_dim, 1, MOST) or not model.final_norm:
        return BAD_MODEL
    if not within(model.vocab_size, 1, MOST) or not check_ropes(model):
        return BAD_MODEL
    var vocab = Int(model.vocab_size)
    if model.token_embedding.layout != STORED:
        return BAD_MODEL
    var status = check_matrix(
        model.token_embedding, vocab, Int(model.hidden_dim)
    )
    if status == OK:
        status = check_matrix(model.head, vocab, Int(model.hidden_dim))
    if status == OK:
        status = check_dense(model)
    for i in range(Int(model.n_layers)):
        if status == OK:
            layer = Int32(i)
            status = check_layer(model.layer(i)[], model)
    if status == OK:
        layer = -1
    return status


def check_options(options: Options) -> Bool:
    """Whether every option is in its range."""
    if not within(options.n_threads, 1, MAX_THREADS):
        return False
    if not within(options.max_tokens, 1, 1 << 20):
        return False
    if not within(options.max_outputs, 1, Int(options.max_tokens)):
        return False
    if not within(options.n_context, 1, MOST):
        return False
    if not within(options.arithmetic, Int(INT8), Int(BFLOAT16)):
        return False
    var cache = options.cache_format
    return cache == 0 or cache == 1 or cache == 30
