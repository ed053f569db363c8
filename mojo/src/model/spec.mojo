"""The structs of mogemma.h, field for field; the header says what they mean."""

from formats.matrix import Matrix
from runtime.views import BytePtr, F32Ptr, I32Ptr

comptime Weights = Optional[F32Ptr]
"""Norm weights, or none."""

comptime Matrices = Optional[Pointer[Matrix, MutUntrackedOrigin]]
comptime LayerPtr = Pointer[Layer, MutUntrackedOrigin]
comptime ModelPtr = Pointer[Model, MutUntrackedOrigin]
comptime OptionsPtr = Pointer[Options, MutUntrackedOrigin]
comptime BatchPtr = Pointer[Batch, MutUntrackedOrigin]

comptime ALL = 2147483647
comptime INT8 = Int32(1)
comptime FLOAT32 = Int32(2)
comptime BFLOAT16 = Int32(3)
comptime MAX_THREADS = 256
comptime MAX_STREAMS = 4


@fieldwise_init
struct Rope(ImplicitlyCopyable):
    """`mogemma_rope`."""

    var frequencies: Optional[F32Ptr]
    var n_pairs: Int32
    var reserved: Int32


@fieldwise_init
struct Expert(ImplicitlyCopyable):
    """`mogemma_expert`."""

    var gate_proj: Matrix
    var up_proj: Matrix
    var down_proj: Matrix


@fieldwise_init
struct Layer(ImplicitlyCopyable):
    """`mogemma_layer`."""

    var attention_norm: Weights
    var q_norm: Weights
    var k_norm: Weights
    var v_norm: Weights
    var post_attention_norm: Weights
    var mlp_norm: Weights
    var post_mlp_norm: Weights
    var q_proj: Matrix
    var k_proj: Matrix
    var v_proj: Matrix
    var o_proj: Matrix
    var gate_proj: Matrix
    var up_proj: Matrix
    var down_proj: Matrix
    var laurel_left: Matrix
    var laurel_right: Matrix
    var laurel_norm: Weights
    var router: Matrix
    var router_norm: Weights
    var expert_scales: Weights
    var expert_norm: Weights
    var post_expert_norm: Weights
    var post_dense_norm: Weights
    var experts: Optional[Pointer[Expert, MutUntrackedOrigin]]
    var ple_gate: Matrix
    var ple_up: Matrix
    var ple_norm: Weights
    var stream_router: Weights
    var stream_predict: Weights
    var stream_correct: Weights
    var stream_scale: Weights
    var n_heads: Int32
    var n_kv_heads: Int32
    var head_dim: Int32
    var mlp_dim: Int32
    var rope: Int32
    var n_before: Int32
    var n_after: Int32
    var kv_back: Int32
    var n_experts: Int32
    var n_experts_used: Int32
    var expert_dim: Int32
    var attention_scale: Float32
    var attention_softcap: Float32
    var gate_cutoff: Float32
    var laurel_scale: Float32
    var output_scale: Float32

    @always_inline
    def expert(self, index: Int) -> Expert:
        return self.experts.unsafe_value()[unsafe_offset=index]

    @always_inline
    def has_laurel(self) -> Bool:
        return Bool(self.laurel_left.data)

    @always_inline
    def q_dim(self) -> Int:
        """Size of all query heads together."""
        return Int(self.n_heads) * Int(self.head_dim)

    @always_inline
    def kv_dim(self) -> Int:
        """Size of all key heads together, and of all value heads."""
        return Int(self.n_kv_heads) * Int(self.head_dim)


@fieldwise_init
struct Model(ImplicitlyCopyable):
    """`mogemma_model`."""

    var n_layers: Int32
    var n_ropes: Int32
    var n_dense: Int32
    var hidden_dim: Int32
    var vocab_size: Int32
    var ple_dim: Int32
    var n_streams: Int32
    var norm_epsilon: Float32
    var embedding_scale: Float32
    var logit_softcap: Float32
    var ple_scale: Float32
    var ple_projection_scale: Float32
    var layers: Optional[LayerPtr]
    var ropes: Optional[Pointer[Rope, MutUntrackedOrigin]]
    var dense: Matrices
    var final_norm: Weights
    var token_embedding: Matrix
    var head: Matrix
    var ple_projection: Matrix
    var ple_embedding: Matrix
    var ple_norm: Weights
    var stream_begin: Matrices
    var stream_end: Matrices

    @always_inline
    def ple_columns(self) -> Int:
        """Size of a token's embeddings for all layers together."""
        return Int(self.n_layers) * Int(self.ple_dim)

    @always_inline
    def has_streams(self) -> Bool:
        return self.n_streams > 1

    @always_inline
    def layer(self, index: Int) -> LayerPtr:
        return self.layers.unsafe_value().unsafe_offset(index)


@fieldwise_init
struct Options(TrivialRegisterPassable):
    """`mogemma_options`."""

    var n_threads: Int32
    var max_tokens: Int32
    var max_outputs: Int32
    var n_context: Int32
    var cache_format: Int32
    var arithmetic: Int32


@fieldwise_init
struct Sequence(ImplicitlyCopyable):
    """`mogemma_sequence`."""

    var cache: Optional[BytePtr]
    var token_ids: Optional[I32Ptr]
    var n_tokens: Int32
    var position: Int32
    var n_outputs: Int32
    var reserved: Int32


@fieldwise_init
struct Candidates(ImplicitlyCopyable):
    """`mogemma_candidates`."""

    var k: Int32
    var vocab_size: Int32
    var n_also: Int32
    var n_finished: Int32
    var also: Optional[I32Ptr]
    var also_logits: Optional[F32Ptr]
    var ids: Optional[I32Ptr]
    var logits: Optional[F32Ptr]


@fieldwise_init
struct Batch(ImplicitlyCopyable):
    """`mogemma_batch`."""

    var sequences: Optional[Pointer[Sequence, MutUntrackedOrigin]]
    var n_sequences: Int32
    var reserved: Int32
    var logits: Optional[F32Ptr]
    var candidates: Optional[Pointer[Candidates, MutUntrackedOrigin]]
    var hidden: Optional[F32Ptr]
    var embeddings: Optional[F32Ptr]
    var cancel: Optional[I32Ptr]

    @always_inline
    def sequence(self, index: Int) -> Sequence:
        return self.sequences.unsafe_value()[unsafe_offset=index]
