"""The border's customs: a model and options are checked once, here.

Behind it kernels are bare loops. A status other than OK goes back to the
caller, who knows names and sizes and writes the sentence.
"""

from formats import ALL_FORMATS
from formats.matrix import PACKED, STORED, Matrix
from formats.planes import PLANES
from model.spec import (
    BFLOAT16,
    INT8,
    MAX_STREAMS,
    MAX_THREADS,
    Layer,
    Model,
    Options,
)
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

comptime MOST_EXPERTS = 4096


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


def is_absent(matrix: Matrix) -> Bool:
    """Whether there is no such matrix, and nothing says that there should be."""
    return not matrix.data and matrix.n_rows == 0 and matrix.n_columns == 0


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
    if not is_finite(layer.output_scale) or not is_finite(layer.laurel_scale):
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


def is_finite(number: Float32) -> Bool:
    return abs(number) <= Float32.MAX_FINITE


def check_keys_and_values(layer: Layer, model: Model, index: Int) -> Int32:
    """Whether a layer has keys and values, or an earlier one has them for it."""
    var d = Int(model.hidden_dim)
    if layer.kv_back == 0:
        var status = check_matrix(layer.k_proj, layer.kv_dim(), d)
        if status != OK or is_absent(layer.v_proj):
            return status
        return check_matrix(layer.v_proj, layer.kv_dim(), d)
    if not within(layer.kv_back, 1, index):
        return BAD_MODEL
    if not is_absent(layer.k_proj) or not is_absent(layer.v_proj):
        return BAD_MODEL
    ref source = model.layer(index - Int(layer.kv_back))[]
    if source.kv_back != 0 or source.head_dim != layer.head_dim:
        return BAD_MODEL
    if source.n_kv_heads != layer.n_kv_heads:
        return BAD_MODEL
    # Its cache is a ring for its own sight.
    var fits = (
        layer.n_before == source.n_before and layer.n_after == source.n_after
    )
    return OK if fits else BAD_MODEL


def check_laurel(layer: Layer, model: Model) -> Int32:
    """Whether LAuReL is there as a whole, or not at all."""
    if is_absent(layer.laurel_left) and is_absent(layer.laurel_right):
        return OK
    var d = Int(model.hidden_dim)
    var rank = layer.laurel_left.rows()
    if not 1 <= rank <= MOST or not layer.laurel_norm:
        return BAD_MODEL
    var status = check_matrix(layer.laurel_left, rank, d)
    if status == OK:
        status = check_matrix(layer.laurel_right, d, rank)
    return status


def check_experts(layer: Layer, model: Model) -> Int32:
    """Whether a mixture of experts, if there is one, is whole."""
    if layer.n_experts == 0:
        return OK if is_absent(layer.router) else BAD_MODEL
    if not within(layer.n_experts, 1, MOST_EXPERTS):
        return BAD_MODEL
    if not within(layer.n_experts_used, 1, Int(layer.n_experts)):
        return BAD_MODEL
    if not within(layer.expert_dim, 1, MOST) or not layer.experts:
        return BAD_MODEL
    if not (layer.router_norm and layer.expert_scales and layer.expert_norm):
        return BAD_MODEL
    if not layer.post_expert_norm or not layer.post_dense_norm:
        return BAD_MODEL
    var d = Int(model.hidden_dim)
    var dim = Int(layer.expert_dim)
    var status = check_matrix(layer.router, Int(layer.n_experts), d)
    for i in range(Int(layer.n_experts)):
        var expert = layer.expert(i)
        if status == OK:
            status = check_matrix(expert.gate_proj, dim, d)
        if status == OK:
            status = check_matrix(expert.up_proj, dim, d)
        if status == OK:
            status = check_matrix(expert.down_proj, d, dim)
    return status


def check_ple(layer: Layer, model: Model) -> Int32:
    """Whether a layer has what its own embedding passes through."""
    if model.ple_dim == 0:
        var absent = is_absent(layer.ple_gate) and is_absent(layer.ple_up)
        return OK if absent else BAD_MODEL
    if not layer.ple_norm:
        return BAD_MODEL
    var d = Int(model.hidden_dim)
    var status = check_matrix(layer.ple_gate, Int(model.ple_dim), d)
    if status == OK:
        status = check_matrix(layer.ple_up, d, Int(model.ple_dim))
    return status


def check_streams(layer: Layer, model: Model) -> Int32:
    """Whether a layer can tell its streams apart, and join them."""
    if not model.has_streams():
        return OK
    if not layer.stream_router or not layer.stream_predict:
        return BAD_MODEL
    if not layer.stream_correct or not layer.stream_scale:
        return BAD_MODEL
    return OK


def check_layer(layer: Layer, model: Model, index: Int) -> Int32:
    """Whether a layer has every weight it needs, each of the right shape."""
    if not layer.attention_norm or not layer.mlp_norm:
        return BAD_MODEL
    if not check_numbers(layer, model):
        return BAD_MODEL
    var d = Int(model.hidden_dim)
    var mlp = Int(layer.mlp_dim)
    var status = check_matrix(layer.q_proj, layer.q_dim(), d)
    if status == OK:
        status = check_keys_and_values(layer, model, index)
    if status == OK:
        status = check_matrix(layer.o_proj, d, layer.q_dim())
    if status == OK:
        status = check_matrix(layer.gate_proj, mlp, d)
    if status == OK:
        status = check_matrix(layer.up_proj, mlp, d)
    if status == OK:
        status = check_matrix(layer.down_proj, d, mlp)
    if status == OK:
        status = check_laurel(layer, model)
    if status == OK:
        status = check_experts(layer, model)
    if status == OK:
        status = check_ple(layer, model)
    if status == OK:
        status = check_streams(layer, model)
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


def check_layer_embeddings(model: Model) -> Int32:
    """Whether tokens have an embedding for each layer, if there are such."""
    if model.ple_dim == 0:
        var absent = is_absent(model.ple_projection)
        return OK if absent and is_absent(model.ple_embedding) else BAD_MODEL
    if not within(model.ple_dim, 1, MOST) or model.ple_columns() > MOST:
        return BAD_MODEL
    if not model.ple_norm:
        return BAD_MODEL
    var n = model.ple_columns()
    var status = check_matrix(model.ple_projection, n, Int(model.hidden_dim))
    if status != OK or is_absent(model.ple_embedding):
        return status
    var rows = model.ple_embedding.rows()
    if model.ple_embedding.layout != STORED or not 1 <= rows <= MOST:
        return BAD_MODEL
    return check_matrix(model.ple_embedding, rows, n)


def check_stream_matrices(model: Model) -> Int32:
    """Whether all streams but the first have a beginning and an end."""
    if not within(model.n_streams, 0, MAX_STREAMS):
        return BAD_MODEL
    if not model.has_streams():
        return OK
    if not model.stream_begin or not model.stream_end:
        return BAD_MODEL
    var d = Int(model.hidden_dim)
    var status = OK
    for i in range(Int(model.n_streams) - 1):
        if status == OK:
            status = check_matrix(
                model.stream_begin.unsafe_value()[unsafe_offset=i], d, d
            )
        if status == OK:
            status = check_matrix(
                model.stream_end.unsafe_value()[unsafe_offset=i], d, d
            )
    return status


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
    if status == OK:
        status = check_layer_embeddings(model)
    if status == OK:
        status = check_stream_matrices(model)
    for i in range(Int(model.n_layers)):
        if status == OK:
            layer = Int32(i)
            status = check_layer(model.layer(i)[], model, i)
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
