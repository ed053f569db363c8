"""One layer: its phases in order, and the barriers between them.

All threads run `run_layer`. What is absent in most models (experts, LAuReL,
per-layer embeddings, streams) is a phase only where a layer has it.
"""

from std.atomic import Atomic, Ordering

from model.attention import (
    join_heads,
    place_token,
    share_attention,
    share_segments,
    splits_segments,
)
from model.engine import Engine, EnginePtr
from model.experts import join_experts, run_experts
from model.layer import (
    add_branch,
    gate_token,
    norm_for_attention,
    norm_for_mlp,
    round_for_laurel,
    round_token,
    share_down,
    share_gate_and_up,
    share_laurel,
    share_output,
    share_qkv,
    token_row,
)
from model.layer_embedding import (
    gate_layer_embedding,
    round_for_gate,
    share_layer_gate,
    share_layer_up,
)
from model.spec import Batch, Layer
from model.streams import (
    add_to_other_streams,
    correct_streams,
    predict_streams,
)
from ops.vectors import scale


@fieldwise_init
struct Call(ImplicitlyCopyable):
    """What the threads of one forward pass are given."""

    var engine: EnginePtr
    var batch: Batch
    var n_tokens: Int
    var n_outputs: Int


def note_cancel(call: Call, thread: Int):
    """One thread looks, so that all see the same after the next barrier."""
    if thread == 0 and call.batch.cancel:
        call.engine[].state[] = Atomic[Int32].load[ordering=Ordering.RELAXED](
            call.batch.cancel.unsafe_value()
        )


def begin_layer(engine: Engine, layer: Layer, token: Int):
    """What a layer's products get of a token."""
    if engine.model[].has_streams():
        predict_streams(engine, layer, token)
    norm_for_attention(engine, layer, token)


def run_attention(call: Call, layer: Layer, index: Int, thread: Int):
    """The first half of a layer: normed residuals to the branch."""
    ref engine = call.engine[]
    var n = call.n_tokens
    share_qkv(engine, layer, n, thread)
    engine.team[].barrier()
    var token = engine.team[].take()
    while token < n:
        place_token(engine, call.batch, layer, index, token)
        if layer.has_laurel():
            round_for_laurel(engine, layer, token)
        token = engine.team[].take()
    engine.team[].barrier()
    if layer.has_laurel():
        share_laurel(engine, layer, n, thread)
        engine.team[].barrier()
    if splits_segments(engine, call.batch, layer):
        share_segments(engine, call.batch, layer, index, thread)
        engine.team[].barrier()
        join_heads(engine, call.batch, layer)
    else:
        share_attention(engine, call.batch, layer, index, n, thread)
    engine.team[].barrier()
    var forms = engine.forms(layer.o_proj)
    if forms.any():
        token = engine.team[].take()
        while token < n:
            var attended = token_row(engine.attended, token, layer.q_dim())
            round_token(engine, attended, layer.q_dim(), token, forms)
            token = engine.team[].take()
        engine.team[].barrier()
    share_output(engine, layer, n, thread)
    engine.team[].barrier()


def run_mlp(call: Call, layer: Layer, thread: Int):
    """The second half: the branch of attention to that of the MLP."""
    ref engine = call.engine[]
    var n = call.n_tokens
    var token = engine.team[].take()
    while token < n:
        norm_for_mlp(engine, layer, token)
        token = engine.team[].take()
    engine.team[].barrier()
    share_gate_and_up(engine, layer, n, thread)
    engine.team[].barrier()
    token = engine.team[].take()
    while token < n:
        gate_token(engine, layer, token)
        token = engine.team[].take()
    engine.team[].barrier()
    share_down(engine, layer, n, thread)
    note_cancel(call, thread)
    engine.team[].barrier()
    if layer.n_experts > 0:
        run_experts(engine, layer, n, thread)


def add_mlp(engine: Engine, layer: Layer, token: Int):
    """What the MLP and experts give joins the residual, or all streams."""
    if layer.n_experts > 0:
        join_experts(engine, layer, token)
    add_branch(engine, token, layer.post_mlp_norm)
    if engine.model[].has_streams():
        correct_streams(engine, layer, token)


def run_layer_embedding(call: Call, layer: Layer, index: Int, thread: Int):
    """The branch of the per-layer embedding; first that of the MLP is added."""
    ref engine = call.engine[]
    var n = call.n_tokens
    var token = engine.team[].take()
    while token < n:
        add_mlp(engine, layer, token)
        round_for_gate(engine, layer, token)
        token = engine.team[].take()
    engine.team[].barrier()
    share_layer_gate(engine, layer, n, thread)
    engine.team[].barrier()
    token = engine.team[].take()
    while token < n:
        gate_layer_embedding(engine, layer, index, token)
        token = engine.team[].take()
    engine.team[].barrier()
    share_layer_up(engine, layer, n, thread)
    engine.team[].barrier()


def end_layer(engine: Engine, layer: Layer, token: Int):
    """The last branch joins the residual, or the other streams."""
    if engine.model[].ple_dim == 0:
        add_mlp(engine, layer, token)
    elif engine.model[].has_streams():
        add_to_other_streams(engine, layer, token)
    else:
        add_branch(engine, token, layer.ple_norm)
    if layer.output_scale != 0:
        var d = Int(engine.model[].hidden_dim)
        scale(token_row(engine.residual, token, d), d, layer.output_scale)


def run_layer(call: Call, index: Int, thread: Int):
    """A layer, from normed residuals to the normed residuals of the next."""
    ref engine = call.engine[]
    ref model = engine.model[]
    var layer = model.layer(index)[]
    run_attention(call, layer, index, thread)
    run_mlp(call, layer, thread)
    if model.ple_dim > 0:
        run_layer_embedding(call, layer, index, thread)
    var token = engine.team[].take()
    while token < call.n_tokens:
        end_layer(engine, layer, token)
        if index + 1 < Int(model.n_layers):
            begin_layer(engine, model.layer(index + 1)[], token)
        token = engine.team[].take()
    engine.team[].barrier()
