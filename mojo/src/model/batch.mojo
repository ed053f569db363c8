"""A batch of sequences: whether it fits the engine, and where its tokens are."""

from model.check import BAD_ARGUMENT, BAD_TOKEN, CONTEXT_FULL, OK
from model.engine import Engine
from model.spec import Batch, Candidates, Sequence
from ops.attention_tile import KEY_BLOCK
from runtime.views import F32Ptr, round_up


def is_whole(engine: Engine) -> Bool:
    """Whether some layer sees tokens after a query's own."""
    for i in range(Int(engine.model[].n_layers)):
        if engine.model[].layer(i)[].n_after > 0:
            return True
    return False


def check_sequence(engine: Engine, sequence: Sequence) -> Int32:
    """Whether a sequence's fields are in range and its tokens known."""
    if not sequence.token_ids or sequence.n_tokens < 1:
        return BAD_ARGUMENT
    if sequence.position < 0 or sequence.n_outputs < 0:
        return BAD_ARGUMENT
    if sequence.n_outputs > sequence.n_tokens:
        return BAD_ARGUMENT
    if sequence.position > 0 and (not sequence.cache or is_whole(engine)):
        return BAD_ARGUMENT
    if Int(sequence.position) + Int(sequence.n_tokens) > Int(
        engine.options.n_context
    ):
        return CONTEXT_FULL
    var ids = sequence.token_ids.unsafe_value()
    for i in range(Int(sequence.n_tokens)):
        var id = ids[unsafe_offset=i]
        if id < 0 or id >= engine.model[].vocab_size:
            return BAD_TOKEN
    return OK


def lay_out_tokens(engine: Engine, batch: Batch) -> Int:
    """Write where all tokens and sequences are; gives the rows of logits."""
    var token = 0
    var row = 0
    var n_outputs = 0
    for s in range(Int(batch.n_sequences)):
        var sequence = batch.sequence(s)
        var n = Int(sequence.n_tokens)
        engine.first_tokens[unsafe_offset=s] = Int32(token)
        engine.first_rows[unsafe_offset=s] = Int32(row)
        if not sequence.cache:
            row += round_up(n, KEY_BLOCK)
        engine.first_rows[unsafe_offset=s + 1] = Int32(row)
        for i in range(n):
            engine.ids[unsafe_offset=token] = sequence.token_ids.unsafe_value()[
                unsafe_offset=i
            ]
            engine.positions[unsafe_offset=token] = sequence.position + Int32(i)
            engine.owners[unsafe_offset=token] = Int32(s)
            if i >= n - Int(sequence.n_outputs):
                engine.outputs[unsafe_offset=n_outputs] = Int32(token)
                n_outputs += 1
            token += 1
    return n_outputs


def check_candidates(engine: Engine, wanted: Candidates) -> Int32:
    """Whether there are so many tokens, and a place for what is asked for."""
    if wanted.vocab_size < 1 or wanted.vocab_size > engine.model[].vocab_size:
        return BAD_ARGUMENT
    if wanted.k < 1 or wanted.n_also < 0:
        return BAD_ARGUMENT
    if Int(wanted.k) + Int(wanted.n_also) > Int(wanted.vocab_size):
        return BAD_ARGUMENT
    if not wanted.ids or not wanted.logits:
        return BAD_ARGUMENT
    if wanted.n_also > 0 and not (wanted.also and wanted.also_logits):
        return BAD_ARGUMENT
    for i in range(Int(wanted.n_also)):
        var id = wanted.also.unsafe_value()[unsafe_offset=i]
        if id < 0 or id >= wanted.vocab_size:
            return BAD_TOKEN
    return OK


def check_batch(engine: Engine, batch: Batch) -> Int32:
    """Whether a batch fits the engine."""
    if not batch.sequences or batch.n_sequences < 1:
        return BAD_ARGUMENT
    var n_tokens = 0
    var n_passing = 0
    var n_outputs = 0
    for s in range(Int(batch.n_sequences)):
        var sequence = batch.sequence(s)
        var status = check_sequence(engine, sequence)
        if status != OK:
            return status
        if not sequence.cache:
            n_passing += 1
        n_tokens += Int(sequence.n_tokens)
        n_outputs += Int(sequence.n_outputs)
    if n_tokens > Int(engine.options.max_tokens):
        return BAD_ARGUMENT
    if max(n_outputs, n_passing) > Int(engine.options.max_outputs):
        return BAD_ARGUMENT
    if batch.candidates:
        if n_outputs != 1:
            return BAD_ARGUMENT
        var status = check_candidates(engine, batch.candidates.unsafe_value()[])
        if status != OK:
            return status
    elif n_outputs > 0 and not batch.logits:
        return BAD_ARGUMENT
    if batch.embeddings and batch.n_sequences > engine.options.max_outputs:
        return BAD_ARGUMENT
    return OK


def count_tokens(batch: Batch) -> Int:
    var n = 0
    for s in range(Int(batch.n_sequences)):
        n += Int(batch.sequence(s).n_tokens)
    return n


def are_finite(x: F32Ptr, n: Int) -> Bool:
    """Whether no number is NaN or infinite."""
    for i in range(n):
        # NaN compares false with everything.
        if not abs(x[unsafe_offset=i]) <= Float32.MAX_FINITE:
            return False
    return True
