"""What an architecture is to the kernels: numbers, layer by layer, and no name.

Every family's file turns its configuration into these; `weights.py` joins them with the tensors.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

ALL = 2**31 - 1
"""As `n_before` or `n_after`: every key there is (MOGEMMA_ALL)."""


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary position embedding of one kind of layer (arXiv:2104.09864).

    Attributes:
        theta: Base of the frequencies.
        factor: Linear scaling: angles are divided by it.
        turning: Share of the pairs of a head that turn, the fastest; the others stand still.
    """

    theta: float
    factor: float = 1.0
    turning: float = 1.0

    def frequencies(self, head_dim: int) -> NDArray[np.float32]:
        """theta ** (-2j / head_dim) / factor for each pair j that turns, float32 [head_dim / 2]."""
        exponents = np.arange(head_dim // 2) * 2.0 / head_dim
        frequencies = (1.0 / self.theta**exponents / self.factor).astype(np.float32)
        frequencies[int(self.turning * head_dim // 2) :] = 0
        return frequencies


@dataclass(frozen=True, slots=True)
class Experts:
    """A layer's mixture of experts, beside its MLP (arXiv:2101.03961).

    Attributes:
        n_used: Experts that a token goes to.
        dim: What `mlp_dim` is to the MLP.
    """

    n: int
    n_used: int
    dim: int


@dataclass(frozen=True, slots=True)
class LayerEmbedding:
    """What each layer is told of a token beside the residual: norm_scale * norm(projection_scale * projection of the token
    embedding) + table_scale * row of a table.

    Attributes:
        dim: Numbers for one layer.
        n_rows: Tokens that the table has a row for; those beyond have the first one. 0: there is no table.
    """

    dim: int
    projection_scale: float
    norm_scale: float = 1.0
    n_rows: int = 0
    table_scale: float = 0.0


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """One layer's sizes, and what its attention sees.

    Attributes:
        n_before: Keys before a query that it sees, `ALL` for every one; W - 1 in a causal window of W.
        n_after: Keys after it that it sees; 0 in a causal layer.
        attention_scale: Scores are scale * (q . k).
        attention_softcap: Scores become cap * tanh(score / cap); 0 for none.
        kv_back: Its keys and values are those of so many layers before; 0: its own.
        has_values: Whether values have a matrix; else they are what the keys' matrix gives.
        gate_cutoff: The MLP's gate g becomes max(g - mean(g) - cutoff * std(g), 0) first; 0: it does not.
    """

    n_heads: int
    n_kv_heads: int
    head_dim: int
    mlp_dim: int
    rope: Rope
    n_before: int
    n_after: int
    attention_scale: float
    attention_softcap: float = 0.0
    kv_back: int = 0
    has_values: bool = True
    gate_cutoff: float = 0.0
    experts: Experts | None = None


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A whole model.

    Attributes:
        family: For people and for what lies above the kernels: turn format, stop tokens.
        context: Most tokens of a sequence.
        embedding_scale: What a token's embedding is multiplied by.
        logit_softcap: Logits become cap * tanh(logit / cap); 0 for none.
        norms_store_offset: Whether safetensors hold norm weights less 1 (Gemma 1 to 3).
        has_qk_norms: Whether queries and keys are normed per head.
        has_v_norms: Whether values are normed per head, without weights.
        has_post_norms: Whether attention and MLP are normed again before they join the residual.
        has_output_scales: Whether each layer's output is multiplied by a number of its own.
        laurel_rank: Numbers between the two matrices of LAuReL; 0: there is none.
        n_streams: Streams of the residual (AltUp).
        projection_dim: Size of the vectors of a model that has its dense head among its own weights; 0: it has none there.
        names: Roles that this family's files spell in a way of their own: in safetensors and in GGUF, as in `weights.py`.
    """

    family: str
    hidden_dim: int
    vocab_size: int
    context: int
    norm_epsilon: float
    embedding_scale: float
    layers: tuple[LayerSpec, ...]
    logit_softcap: float = 0.0
    norms_store_offset: bool = True
    has_qk_norms: bool = True
    has_v_norms: bool = False
    has_post_norms: bool = True
    has_output_scales: bool = False
    laurel_rank: int = 0
    n_streams: int = 1
    layer_embedding: LayerEmbedding | None = None
    projection_dim: int = 0
    names: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def is_causal(self) -> bool:
        """Whether it generates text; the others only embed."""
        return all(layer.n_after == 0 for layer in self.layers)

    @property
    def kv_numbers(self) -> int:
        """Keys and values that each further token adds to a cache, in the layers that see all tokens.

        A layer whose window slides keeps as many, whatever the context is; one that reads another's has none.
        """
        seeing = (layer for layer in self.layers if layer.n_before == ALL and not layer.kv_back)
        return sum(2 * layer.n_kv_heads * layer.head_dim for layer in seeing)

    @property
    def ropes(self) -> tuple[tuple[Rope, int], ...]:
        """The kinds of rotation that occur, with their head_dim, in the order of first use."""
        return tuple(dict.fromkeys((layer.rope, layer.head_dim) for layer in self.layers))
