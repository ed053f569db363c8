"""Several residual streams, of which a layer runs on the first (AltUp).

Every function is a step of one token, but `join_streams`, which all threads run.
"""

from model.engine import Engine
from model.layer import round_token, token_row
from model.spec import Layer
from ops.altup import Streams, bring_to_size, correct, modality, predict
from ops.matmul import Product, share_products
from ops.rms_norm import add_rms_norm
from ops.vectors import add_scaled, copy, multiply, scale


@always_inline
def streams_of(engine: Engine, token: Int) -> Streams:
    ref model = engine.model[]
    var d = Int(model.hidden_dim)
    return Streams(
        token_row(engine.streams, token, d),
        Int(model.n_streams),
        d,
        Int(engine.options.max_tokens) * d,
    )


def begin_streams(engine: Engine, token: Int):
    """All streams of a token; products with its embedding lie in all but the
    first."""
    var streams = streams_of(engine, token)
    copy(
        streams.first,
        token_row(engine.residual, token, streams.dim),
        streams.dim,
    )
    for k in range(1, streams.n):
        bring_to_size(streams.at(k), streams.first, streams.dim)


def predict_streams(engine: Engine, layer: Layer, token: Int):
    """What a layer gets: its prediction of the first stream."""
    var streams = streams_of(engine, token)
    var coefficients = modality(
        layer.stream_router.unsafe_value(),
        streams.first,
        streams.n,
        streams.dim,
        engine.model[].norm_epsilon,
    )
    predict(streams, layer.stream_predict.unsafe_value(), coefficients)
    copy(
        token_row(engine.residual, token, streams.dim),
        streams.first,
        streams.dim,
    )


def correct_streams(engine: Engine, layer: Layer, token: Int):
    """All streams, by what the layer made of the first.

    `normed` becomes what the per-layer embedding looks at.
    """
    var streams = streams_of(engine, token)
    var x = token_row(engine.residual, token, streams.dim)
    var coefficients = modality(
        layer.stream_router.unsafe_value(),
        x,
        streams.n,
        streams.dim,
        engine.model[].norm_epsilon,
    )
    correct(streams, layer.stream_correct.unsafe_value(), x, coefficients)
    multiply(
        token_row(engine.normed, token, streams.dim),
        streams.first,
        layer.stream_scale.unsafe_value(),
        streams.dim,
    )


def add_to_other_streams(engine: Engine, layer: Layer, token: Int):
    """The branch of the per-layer embedding."""
    var streams = streams_of(engine, token)
    for k in range(1, streams.n):
        add_rms_norm(
            streams.at(k),
            token_row(engine.branch, token, streams.dim),
            layer.ple_norm.unsafe_value(),
            streams.dim,
            engine.model[].norm_epsilon,
        )


def join_streams(engine: Engine, n_tokens: Int, thread: Int):
    """The residuals that the final norm gets: the mean of all streams."""
    ref model = engine.model[]
    var d = Int(model.hidden_dim)
    var n = Int(model.n_streams)
    for k in range(1, n):
        var matrix = model.stream_end.unsafe_value()[unsafe_offset=k - 1]
        var forms = engine.forms(matrix)
        var token = engine.team[].take()
        while token < n_tokens:
            if k == 1:
                copy(
                    token_row(engine.residual, token, d),
                    token_row(engine.streams, token, d),
                    d,
                )
            var row = token_row(engine.stream(k), token, d)
            round_token(engine, row, d, token, forms)
            token = engine.team[].take()
        engine.team[].barrier()
        share_products[1](
            engine.team,
            Array[Product, 1](fill=Product(matrix, engine.branch, d)),
            engine.activations(engine.stream(k), n_tokens),
            engine.is_exact(),
            engine.scratch_of(thread),
        )
        engine.team[].barrier()
        token = engine.team[].take()
        while token < n_tokens:
            var branch = token_row(engine.branch, token, d)
            var residual = token_row(engine.residual, token, d)
            bring_to_size(branch, token_row(engine.streams, token, d), d)
            add_scaled(residual, branch, 1, d)
            if k == n - 1:
                scale(residual, d, 1 / Float32(n))
            token = engine.team[].take()
        engine.team[].barrier()
