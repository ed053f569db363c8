"""Per-layer embeddings: what each layer is told of a token beside the residual.
"""

from model.engine import Engine
from model.layer import round_token, token_row
from model.spec import Layer
from ops.dequantize import dequantize_row
from ops.geglu import geglu
from ops.matmul import Product, share_products
from ops.rms_norm import rms_norm
from ops.vectors import add_scaled, scale
from runtime.views import F32Ptr


def round_beginning(engine: Engine, token: Int):
    """The scaled embedding of a token, rounded for what `share_beginning`
    multiplies it with."""
    ref model = engine.model[]
    var forms = engine.forms(model.ple_projection)
    for k in range(Int(model.n_streams) - 1):
        forms = forms | engine.forms(
            model.stream_begin.unsafe_value()[unsafe_offset=k]
        )
    var d = Int(model.hidden_dim)
    round_token(engine, token_row(engine.residual, token, d), d, token, forms)


def share_beginning(engine: Engine, n_tokens: Int, thread: Int):
    """Products with the embeddings: for per-layer embeddings, for streams."""
    ref model = engine.model[]
    var products = Array[Product, 4](
        fill=Product(model.ple_projection, engine.ple, model.ple_columns())
    )
    for k in range(1, 4):
        # A product of no rows is no work.
        products[k].weights.n_rows = 0
        if k < Int(model.n_streams):
            products[k] = Product(
                model.stream_begin.unsafe_value()[unsafe_offset=k - 1],
                engine.stream(k),
                Int(model.hidden_dim),
            )
    share_products[4](
        engine.team,
        products,
        engine.activations(engine.residual, n_tokens),
        engine.is_exact(),
        engine.scratch_of(thread),
    )


def embed_for_layers(engine: Engine, token: Int, thread: Int):
    """A token's embeddings for all layers, from its product and the table."""
    ref model = engine.model[]
    var n = model.ple_columns()
    var dim = Int(model.ple_dim)
    var embeddings = token_row(engine.ple, token, n)
    scale(embeddings, n, model.ple_projection_scale)
    for i in range(Int(model.n_layers)):
        var one = embeddings.unsafe_offset(i * dim)
        rms_norm(
            one, one, model.ple_norm.unsafe_value(), dim, model.norm_epsilon
        )
    if not model.ple_embedding.data:
        return
    var id = Int(engine.ids[unsafe_offset=token])
    if id >= model.ple_embedding.rows():
        id = 0
    var row = token_row(engine.ple_row, thread, n)
    dequantize_row(model.ple_embedding, id, row, engine.scratch_of(thread))
    add_scaled(embeddings, row, model.ple_scale, n)


@always_inline
def layer_input(engine: Engine) -> F32Ptr:
    """What the gate looks at, [T, hidden_dim]."""
    return engine.normed if engine.model[].has_streams() else engine.residual


def round_for_gate(engine: Engine, layer: Layer, token: Int):
    var d = Int(engine.model[].hidden_dim)
    var x = token_row(layer_input(engine), token, d)
    round_token(engine, x, d, token, engine.forms(layer.ple_gate))


def share_layer_gate(engine: Engine, layer: Layer, n_tokens: Int, thread: Int):
    share_products[1](
        engine.team,
        Array[Product, 1](
            fill=Product(
                layer.ple_gate, engine.gate, Int(engine.model[].ple_dim)
            )
        ),
        engine.activations(layer_input(engine), n_tokens),
        engine.is_exact(),
        engine.scratch_of(thread),
    )


def gate_layer_embedding(engine: Engine, layer: Layer, index: Int, token: Int):
    """What passes the gate of the layer's embedding of a token, rounded."""
    ref model = engine.model[]
    var dim = Int(model.ple_dim)
    var gate = token_row(engine.gate, token, dim)
    var embeddings = token_row(engine.ple, token, model.ple_columns())
    geglu(gate, embeddings.unsafe_offset(index * dim), dim)
    round_token(engine, gate, dim, token, engine.forms(layer.ple_up))


def share_layer_up(engine: Engine, layer: Layer, n_tokens: Int, thread: Int):
    """The branch of the per-layer embedding."""
    share_products[1](
        engine.team,
        Array[Product, 1](
            fill=Product(
                layer.ple_up, engine.branch, Int(engine.model[].hidden_dim)
            )
        ),
        engine.activations(engine.gate, n_tokens),
        engine.is_exact(),
        engine.scratch_of(thread),
    )
