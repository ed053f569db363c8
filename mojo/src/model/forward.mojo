"""One forward pass: prefill, decode and embedding are the same steps.

All threads run `forward_job`; the barriers of a layer are here. Between
two of them a phase shares out tokens, heads or rows.
"""

from std.atomic import Atomic, Ordering

from model.attention import (
    join_heads,
    place_token,
    share_attention,
    share_segments,
    splits_segments,
)
from model.candidates import (
    choose_candidates,
    find_candidates,
    is_certified,
    mark_also,
)
from model.engine import NOT_A_NUMBER, Engine, EnginePtr
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
    embed_for_layers,
    gate_layer_embedding,
    round_beginning,
    round_for_gate,
    share_beginning,
    share_layer_gate,
    share_layer_up,
)
from model.pool import pool_sequences
from model.spec import Batch, Layer
from model.streams import (
    add_to_other_streams,
    begin_streams,
    correct_streams,
    join_streams,
    predict_streams,
)
from ops.dequantize import dequantize_row
from ops.matmul import Product, share_products
from ops.rms_norm import rms_norm
from ops.rope import rope_angles
from ops.softcap import softcap
from ops.vectors import scale
from runtime.threads import Opaque, TeamPtr, team_run
from runtime.views import F32Ptr


@fieldwise_init
struct Call(ImplicitlyCopyable):
    """What the threads of one forward pass are given."""

    var engine: EnginePtr
    var batch: Batch
    var n_tokens: Int
    var n_outputs: Int


def embed_token(engine: Engine, token: Int, thread: Int):
    """The scaled embedding of a token, and its angles of rotation."""
    ref model = engine.model[]
    var d = Int(model.hidden_dim)
    var residual = token_row(engine.residual, token, d)
    dequantize_row(
        model.token_embedding,
        Int(engine.ids[unsafe_offset=token]),
        residual,
        engine.scratch_of(thread),
    )
    for i in range(d):
        residual[unsafe_offset=i] *= model.embedding_scale
    var pairs = engine.widths.pairs
    for i in range(Int(model.n_ropes)):
        var kind = model.ropes.unsafe_value()[unsafe_offset=i]
        var n = Int(kind.n_pairs)
        var cosines = engine.angles.unsafe_offset(
            (i * Int(engine.options.max_tokens) + token) * 2 * pairs
        )
        rope_angles(
            Int(engine.positions[unsafe_offset=token]),
            kind.frequencies.unsafe_value(),
            n,
            cosines,
            cosines.unsafe_offset(n),
        )


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


def begin_with_embeddings(call: Call, thread: Int):
    """What the embeddings are multiplied with before the first layer."""
    ref engine = call.engine[]
    var token = engine.team[].take()
    while token < call.n_tokens:
        embed_token(engine, token, thread)
        round_beginning(engine, token)
        token = engine.team[].take()
    engine.team[].barrier()
    share_beginning(engine, call.n_tokens, thread)
    engine.team[].barrier()
    token = engine.team[].take()
    while token < call.n_tokens:
        if engine.model[].ple_dim > 0:
            embed_for_layers(engine, token, thread)
        if engine.model[].has_streams():
            begin_streams(engine, token)
        begin_layer(engine, engine.model[].layer(0)[], token)
        token = engine.team[].take()


def run_beginning(call: Call, thread: Int):
    """All up to the normed residuals of the first layer; a barrier has to follow."""
    ref engine = call.engine[]
    ref model = engine.model[]
    if model.ple_dim > 0 or model.has_streams():
        begin_with_embeddings(call, thread)
        return
    var token = engine.team[].take()
    while token < call.n_tokens:
        embed_token(engine, token, thread)
        begin_layer(engine, model.layer(0)[], token)
        token = engine.team[].take()


def finish_token(call: Call, token: Int):
    """The hidden state of a token after the final norm, where asked for."""
    ref engine = call.engine[]
    var d = Int(engine.model[].hidden_dim)
    rms_norm(
        token_row(call.batch.hidden.unsafe_value(), token, d),
        token_row(engine.residual, token, d),
        engine.model[].final_norm.unsafe_value(),
        d,
        engine.model[].norm_epsilon,
    )


def gather_outputs(call: Call):
    """Move the tokens that get logits to the front, normed and rounded."""
    ref engine = call.engine[]
    var d = Int(engine.model[].hidden_dim)
    for i in range(call.n_outputs):
        var token = Int(engine.outputs[unsafe_offset=i])
        var normed = token_row(engine.normed, i, d)
        rms_norm(
            normed,
            token_row(engine.residual, token, d),
            engine.model[].final_norm.unsafe_value(),
            d,
            engine.model[].norm_epsilon,
        )
        round_token(engine, normed, d, i, engine.forms(engine.model[].head))
    if call.batch.candidates and is_certified(engine):
        mark_also(engine, call.batch.candidates.unsafe_value()[], 1)


def share_logits(call: Call, logits: F32Ptr, thread: Int):
    """Logits of the gathered tokens."""
    ref engine = call.engine[]
    var vocab = Int(engine.model[].vocab_size)
    share_products[1](
        engine.team,
        Array[Product, 1](fill=Product(engine.model[].head, logits, vocab)),
        engine.activations(engine.normed, call.n_outputs),
        engine.is_exact(),
        engine.scratch_of(thread),
    )


def cap_logits(call: Call):
    """The soft cap of the logits, a row at a time."""
    ref engine = call.engine[]
    var vocab = Int(engine.model[].vocab_size)
    var row = engine.team[].take()
    while row < call.n_outputs:
        softcap(
            token_row(call.batch.logits.unsafe_value(), row, vocab),
            vocab,
            engine.model[].logit_softcap,
        )
        row = engine.team[].take()


def share_outputs(call: Call, thread: Int):
    """Logits of the gathered tokens, or the candidates of one."""
    ref engine = call.engine[]
    if call.batch.candidates:
        var candidates = call.batch.candidates.unsafe_value()
        if is_certified(engine):
            find_candidates(engine, candidates, thread)
            return
        share_logits(call, engine.logits, thread)
        engine.team[].barrier()
        if thread == 0:
            choose_candidates(engine, candidates)
        return
    share_logits(call, call.batch.logits.unsafe_value(), thread)
    engine.team[].barrier()
    if engine.model[].logit_softcap > 0:
        cap_logits(call)


def forward_job(context: Opaque, team: TeamPtr, thread: Int):
    """What each thread does in a forward pass."""
    var call = context.unsafe_bitcast[Call]()[]
    ref engine = call.engine[]
    ref model = engine.model[]
    run_beginning(call, thread)
    note_cancel(call, thread)
    team[].barrier()
    for index in range(Int(model.n_layers)):
        if engine.state[] != 0:
            return
        run_layer(call, index, thread)
    var is_wanted = call.batch.hidden or call.batch.embeddings
    if model.has_streams() and (is_wanted or call.n_outputs > 0):
        join_streams(engine, call.n_tokens, thread)
    if call.batch.hidden:
        var token = team[].take()
        while token < call.n_tokens:
            finish_token(call, token)
            token = team[].take()
        team[].barrier()
    if call.batch.embeddings:
        pool_sequences(engine, call.batch, thread)
    if call.n_outputs > 0:
        if thread == 0:
            gather_outputs(call)
        team[].barrier()
        share_outputs(call, thread)


def run_forward(call: Call):
    """Run a call whose tokens are laid out in the engine."""
    call.engine[].state[] = 0
    call.engine[].state[unsafe_offset=NOT_A_NUMBER] = 0
    var shared = call.engine[].call.unsafe_bitcast[Call]()
    shared.unsafe_write(call.copy())
    team_run(call.engine[].team, forward_job, shared.unsafe_bitcast[NoneType]())
