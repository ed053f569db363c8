"""One layer: norm, attention, norm, MLP and the residuals between.

Every function here is one phase, run by all threads of the team at once;
`forward.mojo` puts the barriers between them.
"""

from model.engine import Engine, Forms
from model.spec import Layer, Weights
from ops.geglu import cut_gate, geglu
from ops.bfloat16 import halve_row, halves_bytes
from ops.matmul import Product, share_products
from ops.quantize import quantize_row, quantized_bytes
from ops.rms_norm import add, add_rms_norm, rms_norm
from ops.vectors import scale
from runtime.views import F32Ptr


@always_inline
def token_row(base: F32Ptr, token: Int, width: Int) -> F32Ptr:
    return base.unsafe_offset(token * width)


@always_inline
def round_token(engine: Engine, x: F32Ptr, n: Int, token: Int, forms: Forms):
    """Write a token's activations in the forms that its products read."""
    if forms.blocks:
        quantize_row(
            x, n, engine.blocks.unsafe_offset(token * quantized_bytes(n))
        )
    if forms.halves:
        halve_row(x, n, engine.halves.unsafe_offset(token * halves_bytes(n)))


def add_branch(engine: Engine, token: Int, norm: Weights):
    """Add the branch of a token to its residual, through its norm if any."""
    var d = Int(engine.model[].hidden_dim)
    var residual = token_row(engine.residual, token, d)
    var branch = token_row(engine.branch, token, d)
    if norm:
        add_rms_norm(
            residual,
            branch,
            norm.unsafe_value(),
            d,
            engine.model[].norm_epsilon,
        )
    else:
        add(residual, branch, d)


def norm_token(engine: Engine, token: Int, norm: Weights, forms: Forms):
    """Norm the residual of a token, and round it for the products."""
    var d = Int(engine.model[].hidden_dim)
    var normed = token_row(engine.normed, token, d)
    rms_norm(
        normed,
        token_row(engine.residual, token, d),
        norm.unsafe_value(),
        d,
        engine.model[].norm_epsilon,
    )
    round_token(engine, normed, d, token, forms)


def norm_for_attention(engine: Engine, layer: Layer, token: Int):
    var forms = (
        engine.forms(layer.q_proj)
        | engine.forms(layer.k_proj)
        | engine.forms(layer.v_proj)
        | engine.forms(layer.laurel_left)
    )
    norm_token(engine, token, layer.attention_norm, forms)


def share_qkv(engine: Engine, layer: Layer, n_tokens: Int, thread: Int):
    """Queries, keys and values of all tokens, and the first half of LAuReL.

    What a layer does not have is a matrix without rows, and no work.
    """
    var products = Array[Product, 4](
        fill=Product(layer.q_proj, engine.q, layer.q_dim())
    )
    products[1] = Product(layer.k_proj, engine.k, layer.kv_dim())
    products[2] = Product(layer.v_proj, engine.v, layer.kv_dim())
    products[3] = Product(
        layer.laurel_left, engine.up, layer.laurel_left.rows()
    )
    share_products[4](
        engine.team,
        products,
        engine.activations(engine.normed, n_tokens),
        engine.is_exact(),
        engine.scratch_of(thread),
    )


def round_for_laurel(engine: Engine, layer: Layer, token: Int):
    """The few numbers between the two matrices of LAuReL."""
    var rank = layer.laurel_left.rows()
    var x = token_row(engine.up, token, rank)
    round_token(engine, x, rank, token, engine.forms(layer.laurel_right))


def share_laurel(engine: Engine, layer: Layer, n_tokens: Int, thread: Int):
    """The second half of LAuReL."""
    share_products[1](
        engine.team,
        Array[Product, 1](
            fill=Product(
                layer.laurel_right,
                engine.laurel,
                Int(engine.model[].hidden_dim),
            )
        ),
        engine.activations(engine.up, n_tokens),
        engine.is_exact(),
        engine.scratch_of(thread),
    )


def add_laurel(engine: Engine, layer: Layer, token: Int):
    """What stands beside attention: its input, and that through few numbers."""
    var d = Int(engine.model[].hidden_dim)
    var residual = token_row(engine.residual, token, d)
    add(residual, token_row(engine.normed, token, d), d)
    add_rms_norm(
        residual,
        token_row(engine.laurel, token, d),
        layer.laurel_norm.unsafe_value(),
        d,
        engine.model[].norm_epsilon,
    )
    scale(residual, d, layer.laurel_scale)


def share_output(engine: Engine, layer: Layer, n_tokens: Int, thread: Int):
    """The branch of attention."""
    share_products[1](
        engine.team,
        Array[Product, 1](
            fill=Product(
                layer.o_proj, engine.branch, Int(engine.model[].hidden_dim)
            )
        ),
        engine.activations(engine.attended, n_tokens),
        engine.is_exact(),
        engine.scratch_of(thread),
    )


def norm_for_mlp(engine: Engine, layer: Layer, token: Int):
    add_branch(engine, token, layer.post_attention_norm)
    if layer.has_laurel():
        add_laurel(engine, layer, token)
    var forms = engine.forms(layer.gate_proj) | engine.forms(layer.up_proj)
    norm_token(engine, token, layer.mlp_norm, forms)


def share_gate_and_up(engine: Engine, layer: Layer, n_tokens: Int, thread: Int):
    var mlp = Int(layer.mlp_dim)
    var products = Array[Product, 2](
        fill=Product(layer.gate_proj, engine.gate, mlp)
    )
    products[1] = Product(layer.up_proj, engine.up, mlp)
    share_products[2](
        engine.team,
        products,
        engine.activations(engine.normed, n_tokens),
        engine.is_exact(),
        engine.scratch_of(thread),
    )


def gate_token(engine: Engine, layer: Layer, token: Int):
    """The gate of one token, rounded for the product."""
    var mlp = Int(layer.mlp_dim)
    var gate = token_row(engine.gate, token, mlp)
    if layer.gate_cutoff > 0:
        cut_gate(gate, mlp, layer.gate_cutoff)
    geglu(gate, token_row(engine.up, token, mlp), mlp)
    round_token(engine, gate, mlp, token, engine.forms(layer.down_proj))


def share_down(engine: Engine, layer: Layer, n_tokens: Int, thread: Int):
    """The branch of the MLP."""
    share_products[1](
        engine.team,
        Array[Product, 1](
            fill=Product(
                layer.down_proj, engine.branch, Int(engine.model[].hidden_dim)
            )
        ),
        engine.activations(engine.gate, n_tokens),
        engine.is_exact(),
        engine.scratch_of(thread),
    )
