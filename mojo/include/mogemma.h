/* mogemma.h: the whole border between the Mojo kernels and whoever calls them.
 *
 * Rules that hold for every function
 *   - The library allocates nothing and keeps no global state. The caller asks how many bytes something needs, gives
 *     zeroed memory on a 64-byte boundary, keeps it until it is closed, and frees it.
 *   - Pointers in a struct are borrowed for as long as the struct is in use; nothing is copied, nothing is written
 *     through a const pointer.
 *   - Functions return MOGEMMA_OK or another status below; those that return a size return the negated status instead.
 *   - One engine serves one call at a time; different engines are independent. All functions may be called from any
 *     thread of the process that opened the engine (never from a forked child: its worker threads are not there).
 *   - An architecture is nothing but the numbers in these structs: no function asks which Gemma it runs.
 *
 * The file is plain C declarations, so that cffi can read it as it is once the preprocessor lines are dropped.
 */
#ifndef MOGEMMA_H
#define MOGEMMA_H
#include <stdint.h>

/* Raised whenever a struct or a function here changes. */
#define MOGEMMA_ABI_VERSION 5

/* --- status ------------------------------------------------------------------------------------------------------ */
#define MOGEMMA_OK 0
#define MOGEMMA_BAD_ARGUMENT 1    /* a size, a flag or a pointer outside its range */
#define MOGEMMA_BAD_MODEL 2       /* mogemma_model: a shape that does not fit the others, or a missing weight */
#define MOGEMMA_BAD_FORMAT 3      /* a weight format this library does not know, or a row that is not whole blocks */
#define MOGEMMA_BAD_TOKEN 4       /* a token id outside 0 .. vocab_size - 1; nothing was computed */
#define MOGEMMA_CONTEXT_FULL 5    /* position + n_tokens passes n_context; nothing was computed */
#define MOGEMMA_CANCELLED 6       /* *cancel became non-zero; the cache holds what it held, from position on it is undefined */
#define MOGEMMA_NO_THREADS 7      /* the system gave no worker thread */
#define MOGEMMA_NOT_FINITE 8      /* a logit, an embedding or a weight is NaN or infinite, or would be: damaged weights */

/* --- weights ----------------------------------------------------------------------------------------------------- */
/* Formats carry the numbers that GGUF gives them (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). */
#define MOGEMMA_F32 0
#define MOGEMMA_F16 1
#define MOGEMMA_Q4_0 2
#define MOGEMMA_Q4_1 3
#define MOGEMMA_Q5_0 6
#define MOGEMMA_Q5_1 7
#define MOGEMMA_Q8_0 8
#define MOGEMMA_Q2_K 10
#define MOGEMMA_Q3_K 11
#define MOGEMMA_Q4_K 12
#define MOGEMMA_Q5_K 13
#define MOGEMMA_Q6_K 14
#define MOGEMMA_IQ4_NL 20
#define MOGEMMA_IQ4_XS 23
#define MOGEMMA_BF16 30
#define MOGEMMA_MXFP4 39

/* A matrix. Stored, as it lies in the file: n_rows rows of n_columns weights, row after row without gaps; a row is whole
   blocks of its format. Any alignment. Packed: the same weights in the order in which the kernels read them, from
   mogemma_pack. Planes: packed, the upper and the lower bits of Q8_0 weights apart, for a head. data == NULL: there is no such weight. */
typedef struct {
    const void *data;
    int64_t n_rows;
    int64_t n_columns;
    int32_t format;
    int32_t layout;
} mogemma_matrix;
#define MOGEMMA_STORED 0
#define MOGEMMA_PACKED 1
#define MOGEMMA_PLANES 2

/* Rotation frequencies of one kind of layer (RoPE, arXiv:2104.09864): the pair (j, j + n_pairs) of a head turns by
   position * frequencies[j] radians. Scaling and partial rotation are already in the numbers. */
typedef struct {
    const float *frequencies; /* [n_pairs] */
    int32_t n_pairs;          /* head_dim / 2 of every layer that uses it */
    int32_t reserved;         /* 0 */
} mogemma_rope;

/* One of a layer's experts: a gated MLP of its own. */
typedef struct {
    mogemma_matrix gate_proj; /* [expert_dim, hidden_dim] */
    mogemma_matrix up_proj;   /* [expert_dim, hidden_dim] */
    mogemma_matrix down_proj; /* [hidden_dim, expert_dim] */
} mogemma_expert;

/* One layer: norm, attention, norm, residual; norm, gated MLP, norm, residual. Norm weights are what the normed vector
   is multiplied by (a family that stores weight - 1 has the 1 added by the caller; one that norms without weights has
   ones); NULL means that there is no such norm. What follows the seven matrices is absent in most models: a matrix of zeros,
   NULL, 0. Written for one token, with x the residual, n = norm(x) and m what the MLP gives. */
typedef struct {
    const float *attention_norm;      /* [hidden_dim], required */
    const float *q_norm;              /* [head_dim] or NULL */
    const float *k_norm;              /* [head_dim] or NULL */
    const float *v_norm;              /* [head_dim] or NULL */
    const float *post_attention_norm; /* [hidden_dim] or NULL */
    const float *mlp_norm;            /* [hidden_dim], required */
    const float *post_mlp_norm;       /* [hidden_dim] or NULL */
    mogemma_matrix q_proj;            /* [n_heads * head_dim, hidden_dim] */
    mogemma_matrix k_proj;            /* [n_kv_heads * head_dim, hidden_dim]; absent with kv_back */
    mogemma_matrix v_proj;            /* the same; also absent where values are what k_proj gives, before its norm */
    mogemma_matrix o_proj;            /* [hidden_dim, n_heads * head_dim] */
    mogemma_matrix gate_proj;         /* [mlp_dim, hidden_dim] */
    mogemma_matrix up_proj;           /* [mlp_dim, hidden_dim] */
    mogemma_matrix down_proj;         /* [hidden_dim, mlp_dim] */

    /* LAuReL (arXiv:2411.07501): x becomes laurel_scale * (x + attention + n + norm(right . left . n)). */
    mogemma_matrix laurel_left;       /* [rank, hidden_dim] */
    mogemma_matrix laurel_right;      /* [hidden_dim, rank] */
    const float *laurel_norm;         /* [hidden_dim] */

    /* A mixture of experts beside the MLP: m becomes norm(m) + norm(sum of w_e * expert_e(norm(x))). The w_e are the
       n_experts_used greatest of softmax(router . norm(x)), brought to a sum of 1, times expert_scales[e]. */
    mogemma_matrix router;            /* [n_experts, hidden_dim] */
    const float *router_norm;         /* [hidden_dim] */
    const float *expert_scales;       /* [n_experts] */
    const float *expert_norm;         /* [hidden_dim], of what experts get */
    const float *post_expert_norm;    /* [hidden_dim], of their sum */
    const float *post_dense_norm;     /* [hidden_dim], of what the MLP gives */
    const mogemma_expert *experts;    /* [n_experts] */

    /* Per-layer embedding: x + norm(ple_up . (gelu(ple_gate . x) * this layer's embedding of the token)). */
    mogemma_matrix ple_gate;          /* [ple_dim, hidden_dim] */
    mogemma_matrix ple_up;            /* [hidden_dim, ple_dim] */
    const float *ple_norm;            /* [hidden_dim] */

    /* AltUp (arXiv:2301.13310), where the model has n_streams > 1: r(x) = tanh(stream_router . x / rms(x)). Before the layer
       stream o becomes h_o + sum of (stream_predict . r(h_0))[o, i] * h_i; the layer runs on stream 0 and gives x; then
       h_k = h_k + ((stream_correct . r(x))[k] + 1) * (x - h_0). The per-layer embedding takes h_0 * stream_scale for x, and
       is added to the others. */
    const float *stream_router;       /* [n_streams, hidden_dim] */
    const float *stream_predict;      /* [n_streams, n_streams, n_streams] */
    const float *stream_correct;      /* [n_streams, n_streams] */
    const float *stream_scale;        /* [hidden_dim] */

    int32_t n_heads;                  /* a multiple of n_kv_heads */
    int32_t n_kv_heads;
    int32_t head_dim;                 /* a multiple of 16 */
    int32_t mlp_dim;
    int32_t rope;                     /* index into mogemma_model.ropes */
    int32_t n_before;                 /* keys before a query that it sees, MOGEMMA_ALL for every one */
    int32_t n_after;                  /* keys after it that it sees; 0 in a causal layer */
    int32_t kv_back;                  /* keys and values are those of so many layers before, which has its own; 0: own ones */
    int32_t n_experts;                /* 0: no mixture */
    int32_t n_experts_used;
    int32_t expert_dim;
    float attention_scale;            /* scores = scale * (q . k) */
    float attention_softcap;          /* cap * tanh(score / cap) where > 0 */
    float gate_cutoff;                /* where > 0, the MLP's gate g becomes max(g - mean(g) - cutoff * std(g), 0) first */
    float laurel_scale;
    float output_scale;               /* what x is multiplied by at the layer's end; 0: by nothing */
} mogemma_layer;
#define MOGEMMA_ALL 2147483647
#define MOGEMMA_MAX_STREAMS 4

typedef struct {
    int32_t n_layers;
    int32_t n_ropes;
    int32_t n_dense;          /* matrices between the pooled hidden state and the embedding */
    int32_t hidden_dim;
    int32_t vocab_size;
    int32_t ple_dim;          /* size of a token's per-layer embedding; 0: there is none, and no ple_* in a layer */
    int32_t n_streams;        /* residual streams, at most MOGEMMA_MAX_STREAMS; 0 or 1: one, and no stream_* in a layer */
    float norm_epsilon;
    float embedding_scale;    /* what a row of token_embedding is multiplied by */
    float logit_softcap;      /* cap * tanh(logit / cap) where > 0 */
    float ple_scale;          /* what a row of ple_embedding is multiplied by */
    float ple_projection_scale;
    const mogemma_layer *layers;
    const mogemma_rope *ropes;
    const mogemma_matrix *dense; /* n_dense, each [out, in]; the first takes hidden_dim, the last gives embedding_dim */
    const float *final_norm;     /* [hidden_dim] */
    mogemma_matrix token_embedding; /* [vocab_size, hidden_dim] */
    mogemma_matrix head;            /* [vocab_size, hidden_dim]; the same data as token_embedding when they are tied */

    /* A token's embedding for each layer: norm(ple_projection_scale * ple_projection . x), layer by layer, with x the scaled
       token embedding, plus its row of ple_embedding, or the first row where the token has none. */
    mogemma_matrix ple_projection;  /* [n_layers * ple_dim, hidden_dim] */
    mogemma_matrix ple_embedding;   /* stored, [tokens, n_layers * ple_dim]; may be absent */
    const float *ple_norm;          /* [ple_dim] */

    /* Streams begin as x, and stream_begin[k] . x brought to the size of x; at the end x is the mean of h_0 and of
       stream_end[k] . h_(k + 1), each brought to the size of h_0. A size is the root of the mean square. */
    const mogemma_matrix *stream_begin; /* n_streams - 1, each [hidden_dim, hidden_dim] */
    const mogemma_matrix *stream_end;   /* the same */
} mogemma_model;

/* --- engine: a model, its worker threads and the scratch memory of one call --------------------------------------- */
#define MOGEMMA_INT8 1            /* activations as int8 with a scale per 32 against quantised weights; float32 against others */
#define MOGEMMA_FLOAT32 2         /* float32 activations against every format: slower, exact to rounding */
#define MOGEMMA_BFLOAT16 3        /* as MOGEMMA_INT8, but float weights and what meets them are rounded to bfloat16 */
#define MOGEMMA_MAX_THREADS 256

typedef struct {
    int32_t n_threads;        /* 1 .. MOGEMMA_MAX_THREADS, the calling thread among them */
    int32_t max_tokens;       /* most tokens in one call of mogemma_forward, all sequences together */
    int32_t max_outputs;      /* most rows of logits in one such call */
    int32_t n_context;        /* positions that a cache has room for */
    int32_t cache_format;     /* of keys and values: MOGEMMA_F32, MOGEMMA_F16 (saturating) or MOGEMMA_BF16 */
    int32_t arithmetic;       /* MOGEMMA_INT8, MOGEMMA_FLOAT32 or MOGEMMA_BFLOAT16 */
} mogemma_options;

typedef struct mogemma_engine mogemma_engine;

/* MOGEMMA_ABI_VERSION of the library. */
int32_t mogemma_abi_version(void);

/* sizeof of the structs in the library: matrix, rope, expert, layer, model, options, sequence, candidates, batch; 0 past the last. */
int64_t mogemma_struct_bytes(int32_t index);

/* Check a model and options; bytes an engine needs, or the negated status. *layer, where not NULL, gets the layer that
   is at fault, -1 for the model's own fields. */
int64_t mogemma_engine_bytes(const mogemma_model *model, const mogemma_options *options, int32_t *layer);

/* Lay the engine out in memory and start its threads. The engine is the memory's first byte. */
int32_t mogemma_engine_open(const mogemma_model *model, const mogemma_options *options, mogemma_engine *memory);

/* Stop the threads; the memory is the caller's again. */
int32_t mogemma_engine_close(mogemma_engine *engine);

/* Bytes of the KV cache of one sequence under these options, or the negated status. Layers whose window slides keep a
   ring of n_before + max_tokens positions (in whole blocks of 32), so the size is independent of n_context there. */
int64_t mogemma_cache_bytes(const mogemma_model *model, const mogemma_options *options);

/* Bytes that a stored matrix takes in another layout, about as many as it has; 0 where it cannot be (packed: a row of floats
   that is no multiple of 32; planes: another format than Q8_0, or a row that is no multiple of 64), or the negated status. */
int64_t mogemma_packed_bytes(const mogemma_matrix *matrix, int32_t layout);

/* Pack rows first_row .. first_row + n_rows - 1 of a stored matrix with the engine's threads; first_row is a multiple of
   16, memory that of the whole packed matrix. When all rows are packed the caller makes it the matrix's data, and
   the layout its layout: also in the engine's own model, between calls, but not in token_embedding and ple_embedding, whose
   rows are looked up one by one. */
int32_t mogemma_pack(mogemma_engine *engine, const mogemma_matrix *matrix, int32_t layout, int64_t first_row,
                     int64_t n_rows, void *memory);

/* Bytes that a stored matrix of floats takes when its weights are brought to `format` in a layout, MOGEMMA_STORED or
   MOGEMMA_PACKED. Formats are F32, F16, BF16, Q8_0, Q6_K, Q5_0, Q4_K and Q4_0. 0 where they cannot be: they are no floats,
   a row is not whole blocks (of at least 32), or the format or the layout is another. */
int64_t mogemma_quantized_bytes(const mogemma_matrix *matrix, int32_t format, int32_t layout);

/* As mogemma_pack, and bring the weights to `format`, which becomes the matrix's with its data and layout: to the nearest
   number or the even one, to the blocks that ggml would make (Q8_0, Q5_0, Q4_0), or to blocks of the same search (Q6_K, Q4_K).
   MOGEMMA_NOT_FINITE where a weight is not, or would not be in that format; the memory is then undefined. */
int32_t mogemma_quantize(mogemma_engine *engine, const mogemma_matrix *matrix, int32_t format, int32_t layout,
                         int64_t first_row, int64_t n_rows, void *memory);

/* --- one forward pass --------------------------------------------------------------------------------------------- */
typedef struct {
    void *cache;              /* mogemma_cache_bytes; NULL: keys and values live for this call only, position must be 0,
                                 and a batch has at most max_outputs of such sequences */
    const int32_t *token_ids; /* [n_tokens] */
    int32_t n_tokens;         /* at least 1 */
    int32_t position;         /* tokens of this sequence that the cache holds already */
    int32_t n_outputs;        /* the last n_outputs tokens get a row of logits; 0: none */
    int32_t reserved;         /* 0 */
} mogemma_sequence;

/* What a sampler needs of the logits of one token: the k greatest, greatest first, equal ones by lower id, without those of
   `also`, whose logits are given beside them (as they are, for penalties and biases change them). They are the bits that
   `logits` would get. A head in planes is for that read in part (see docs/certified-head.md), any other as a whole. */
typedef struct {
    int32_t k;                /* at least 1; k + n_also is at most vocab_size */
    int32_t vocab_size;       /* tokens from here on are left out; at most the model's */
    int32_t n_also;
    int32_t n_finished;       /* result: rows of the head that were read as a whole */
    const int32_t *also;      /* [n_also], distinct, below vocab_size */
    float *also_logits;       /* result, [n_also] */
    int32_t *ids;             /* result, [k] */
    float *logits;            /* result, [k] */
} mogemma_candidates;

typedef struct {
    const mogemma_sequence *sequences;
    int32_t n_sequences;
    int32_t reserved;         /* 0 */
    float *logits;            /* [sum of n_outputs, vocab_size]; may be NULL when that sum is 0, or with candidates */
    mogemma_candidates *candidates; /* instead of logits, where the sum of n_outputs is 1; or NULL. MOGEMMA_NOT_FINITE when
                                 one of the logits is */
    float *hidden;            /* [sum of n_tokens, hidden_dim] after the final norm, or NULL */
    float *embeddings;        /* [n_sequences, embedding_dim]: mean over the tokens, dense, unit length; or NULL */
    const int32_t *cancel;    /* looked at once a layer; NULL: cannot be cancelled */
} mogemma_batch;

/* Run the tokens of all sequences through the model: a prefill chunk, a decode step, or a batch of texts to embed. A
   token's result depends on its own sequence alone, to the bit: not on the batch, the chunks or the number of threads.
   A layer with n_after > 0 sees only tokens of the same call, so such a sequence comes whole. */
int32_t mogemma_forward(mogemma_engine *engine, const mogemma_batch *batch);

/* --- single operations, for sampling and for tests ----------------------------------------------------------------- */

/* The k greatest of n logits, greatest first, equal ones by lower id. For a small k: each that is found is inserted into
   a sorted list. MOGEMMA_NOT_FINITE where a NaN or +inf is among
   the n. */
int32_t mogemma_top_k(const float *logits, int64_t n, int32_t k, int32_t *ids, float *values);

/* y[n_tokens, n_rows] = x[n_tokens, n_columns] . matrix^T in the engine's arithmetic; n_tokens <= max_tokens, and
   n_columns no more than the model's widest matrix has. */
int32_t mogemma_matmul(mogemma_engine *engine, const mogemma_matrix *matrix, const float *x, int32_t n_tokens, float *y);

/* Row `row` of a stored matrix as float32, values[n_columns]. */
int32_t mogemma_dequantize(const mogemma_matrix *matrix, int64_t row, float *values);

/* The most that a core can do, for the caller to time: n steps of a dot-product loop in registers, or n bytes read from
   memory (on a 64-byte boundary, n a multiple of 256), on the calling thread. *kept is changed by the result, so that
   nothing is left out. Returns the multiply-accumulates done, or the bytes read; 0 where the CPU level has no instruction
   for such a product; or the negated status. */
int64_t mogemma_peak(int32_t kind, int64_t n, const void *memory, int32_t *kept);
#define MOGEMMA_PEAK_READ 0
#define MOGEMMA_PEAK_INT8 1
#define MOGEMMA_PEAK_BFLOAT16 2
#define MOGEMMA_PEAK_FLOAT32 3

#endif
