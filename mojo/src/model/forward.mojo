"""One forward pass: prefill, decode and embedding are the same steps.

All threads run `forward_job`; the barriers of a layer are in `run_layer.mojo`.
Between two of them a phase shares out tokens, heads or rows.
"""

from model.candidates import (
    choose_candidates,
    find_candidates,
    is_certified,
    mark_also,
)
from model.engine import NOT_A_NUMBER, Engine
from model.layer import round_token, token_row
from model.layer_embedding import (
    embed_for_layers,
    round_beginning,
    share_beginning,
)
from model.pool import pool_sequences
from model.run_layer import Call, begin_layer, note_cancel, run_layer
from model.streams import begin_streams, join_streams
from ops.dequantize import dequantize_row
from ops.matmul import Product, share_products
from ops.rms_norm import rms_norm
from ops.rope import rope_angles
from ops.softcap import softcap
from runtime.threads import Opaque, TeamPtr, team_run
from runtime.views import F32Ptr


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
