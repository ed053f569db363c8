"""Hidden states to one embedding: mean, dense matrices, unit length."""

from std.math import sqrt

from model.engine import Engine
from model.layer import round_token, token_row
from model.spec import Batch
from ops.matmul import Product, share_products
from ops.rms_norm import rms_norm
from runtime.views import F32Ptr


def embedding_dim(engine: Engine) -> Int:
    """Size of what the last dense matrix gives."""
    ref model = engine.model[]
    if model.n_dense == 0:
        return Int(model.hidden_dim)
    return model.dense.unsafe_value()[
        unsafe_offset=Int(model.n_dense) - 1
    ].rows()


def pool_sequence(engine: Engine, batch: Batch, index: Int, mean: F32Ptr):
    """The mean of a sequence's hidden states after the final norm."""
    ref model = engine.model[]
    var d = Int(model.hidden_dim)
    var first = 0
    for i in range(index):
        first += Int(batch.sequence(i).n_tokens)
    var n = Int(batch.sequence(index).n_tokens)
    for i in range(d):
        mean[unsafe_offset=i] = 0
    for token in range(first, first + n):
        # Rows of `normed` are free here, and this sequence's own.
        var normed = token_row(engine.normed, token, d)
        rms_norm(
            normed,
            token_row(engine.residual, token, d),
            model.final_norm.unsafe_value(),
            d,
            model.norm_epsilon,
        )
        for i in range(d):
            mean[unsafe_offset=i] += normed[unsafe_offset=i]
    for i in range(d):
        mean[unsafe_offset=i] /= Float32(n)


def scale_to_unit(result: F32Ptr, x: F32Ptr, n: Int):
    """Write x / |x|; zeros stay zeros."""
    var total = Float32(0)
    for i in range(n):
        total += x[unsafe_offset=i] * x[unsafe_offset=i]
    var length = sqrt(total)
    var factor = 1 / length if length > 0 else Float32(0)
    for i in range(n):
        result[unsafe_offset=i] = x[unsafe_offset=i] * factor


def pool_sequences(engine: Engine, batch: Batch, thread: Int):
    """Embeddings of all sequences; every thread takes part."""
    ref model = engine.model[]
    var n = Int(batch.n_sequences)
    var current = engine.pooled
    var other = current.unsafe_offset(
        Int(engine.options.max_outputs) * engine.widths.dense
    )
    var size = Int(model.hidden_dim)
    var index = engine.team[].take()
    while index < n:
        pool_sequence(engine, batch, index, token_row(current, index, size))
        index = engine.team[].take()
    engine.team[].barrier()
    for i in range(Int(model.n_dense)):
        var dense = model.dense.unsafe_value()[unsafe_offset=i]
        var forms = engine.forms(dense)
        if forms.any():
            if thread == 0:
                for s in range(n):
                    var row = token_row(current, s, size)
                    round_token(engine, row, size, s, forms)
            engine.team[].barrier()
        share_products[1](
            engine.team,
            Array[Product, 1](fill=Product(dense, other, dense.rows())),
            engine.activations(current, n),
            engine.is_exact(),
            engine.scratch_of(thread),
        )
        engine.team[].barrier()
        size = dense.rows()
        var swap = current
        current = other
        other = swap
    index = engine.team[].take()
    while index < n:
        scale_to_unit(
            token_row(batch.embeddings.unsafe_value(), index, size),
            token_row(current, index, size),
            size,
        )
        index = engine.team[].take()
    engine.team[].barrier()
