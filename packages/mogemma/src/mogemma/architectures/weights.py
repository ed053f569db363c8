"""Joins a ModelSpec with the tensors of a checkpoint: weights by role, as mogemma.h wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ModelFormatError, UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ..checkpoint import Checkpoint, Tensor
    from .spec import LayerSpec, ModelSpec

PREFIXES = ("model.language_model.", "language_model.model.", "language_model.", "model.", "")
"""Where safetensors put the text model, alone or inside a multimodal one."""

LAYER_NORMS = {
    "attention_norm": ("input_layernorm", "attn_norm"),
    "q_norm": ("self_attn.q_norm", "attn_q_norm"),
    "k_norm": ("self_attn.k_norm", "attn_k_norm"),
    "post_attention_norm": ("post_attention_layernorm", "post_attention_norm"),
    "mlp_norm": ("pre_feedforward_layernorm", "ffn_norm"),
    "post_mlp_norm": ("post_feedforward_layernorm", "post_ffw_norm"),
}
"""Role: its name in safetensors and in GGUF, below the layer's own."""

LAYER_MATRICES = {
    "q_proj": ("self_attn.q_proj", "attn_q"),
    "k_proj": ("self_attn.k_proj", "attn_k"),
    "v_proj": ("self_attn.v_proj", "attn_v"),
    "o_proj": ("self_attn.o_proj", "attn_output"),
    "gate_proj": ("mlp.gate_proj", "ffn_gate"),
    "up_proj": ("mlp.up_proj", "ffn_up"),
    "down_proj": ("mlp.down_proj", "ffn_down"),
}

MODEL_TENSORS = {
    "token_embedding": ("embed_tokens", "token_embd"),
    "final_norm": ("norm", "output_norm"),
}


class Weights:
    """The tensors of one text model by role."""

    def __init__(self, checkpoint: Checkpoint, spec: ModelSpec) -> None:
        """Find where the text model lies.

        Raises:
            ModelFormatError: There is none in the checkpoint.
        """
        self._checkpoint = checkpoint
        self._spec = spec
        self._is_gguf = checkpoint.kind == "gguf"
        self._prefix = "" if self._is_gguf else _prefix_of(checkpoint)

    def struct(self, dense: Sequence[Tensor] = ()) -> dict[str, Any]:
        """`mogemma_model` as a mapping; `dense` are the heads between the mean hidden state and an embedding."""
        spec = self._spec
        embedding = self._named("token_embedding", (spec.vocab_size, spec.hidden_dim))
        head = self._head() or embedding
        self._check_no_more_layers()
        return {
            "n_layers": len(spec.layers),
            "n_ropes": len(spec.ropes),
            "n_dense": len(dense),
            "hidden_dim": spec.hidden_dim,
            "vocab_size": spec.vocab_size,
            "norm_epsilon": spec.norm_epsilon,
            "embedding_scale": spec.embedding_scale,
            "logit_softcap": spec.logit_softcap,
            "layers": [self._layer(index, layer) for index, layer in enumerate(spec.layers)],
            "ropes": [
                {"frequencies": rope.frequencies(head_dim), "n_pairs": head_dim // 2} for rope, head_dim in spec.ropes
            ],
            "dense": [matrix(tensor) for tensor in dense] or None,
            "final_norm": self._norm(self._named("final_norm", (spec.hidden_dim,))),
            "token_embedding": matrix(embedding),
            "head": matrix(head),
        }

    def _check_no_more_layers(self) -> None:
        """A configuration with fewer layers than the file would run, and talk nonsense."""
        n_layers = len(self._spec.layers)
        more = f"{self._prefix}{'blk' if self._is_gguf else 'layers'}.{n_layers}."
        if any(name.startswith(more) for name in self._checkpoint.tensors):
            raise ModelFormatError(
                f"{self._checkpoint.path}: the configuration has {n_layers} layers, the weights have more ({more}*). "
                "Configuration and weights belong to different models."
            )

    def _layer(self, index: int, layer: LayerSpec) -> dict[str, Any]:
        spec = self._spec
        q_dim, kv_dim = layer.n_heads * layer.head_dim, layer.n_kv_heads * layer.head_dim
        shapes = {
            "q_proj": (q_dim, spec.hidden_dim),
            "k_proj": (kv_dim, spec.hidden_dim),
            "v_proj": (kv_dim, spec.hidden_dim),
            "o_proj": (spec.hidden_dim, q_dim),
            "gate_proj": (layer.mlp_dim, spec.hidden_dim),
            "up_proj": (layer.mlp_dim, spec.hidden_dim),
            "down_proj": (spec.hidden_dim, layer.mlp_dim),
        }
        matrices = {role: matrix(self._tensor(self._layer_name(index, role), shapes[role])) for role in LAYER_MATRICES}
        norms = {role: self._layer_norm(index, role, layer) for role in LAYER_NORMS}
        return {
            **matrices,
            **norms,
            "n_heads": layer.n_heads,
            "n_kv_heads": layer.n_kv_heads,
            "head_dim": layer.head_dim,
            "mlp_dim": layer.mlp_dim,
            "rope": spec.ropes.index((layer.rope, layer.head_dim)),
            "n_before": layer.n_before,
            "n_after": layer.n_after,
            "attention_scale": layer.attention_scale,
            "attention_softcap": layer.attention_softcap,
        }

    def _layer_norm(self, index: int, role: str, layer: LayerSpec) -> NDArray[np.float32] | None:
        of_head = role in {"q_norm", "k_norm"}
        if of_head and not self._spec.has_qk_norms:
            return None
        if role.startswith("post_") and not self._spec.has_post_norms:
            return None
        size = layer.head_dim if of_head else self._spec.hidden_dim
        return self._norm(self._tensor(self._layer_name(index, role), (size,)))

    def _layer_name(self, index: int, role: str) -> str:
        names = self._spec.names.get(role) or (LAYER_NORMS | LAYER_MATRICES)[role]
        return f"blk.{index}.{names[1]}" if self._is_gguf else f"layers.{index}.{names[0]}"

    def _named(self, role: str, shape: tuple[int, ...]) -> Tensor:
        return self._tensor(MODEL_TENSORS[role][1 if self._is_gguf else 0], shape)

    def _tensor(self, name: str, shape: tuple[int, ...]) -> Tensor:
        return self._checkpoint.tensor(f"{self._prefix}{name}.weight", shape=shape)

    def _norm(self, tensor: Tensor) -> NDArray[np.float32]:
        """What the normed vector is multiplied by. GGUF has the 1 added already."""
        weight = tensor.to_float32()
        stores_offset = self._spec.norms_store_offset and not self._is_gguf
        return weight + np.float32(1) if stores_offset else weight

    def _head(self) -> Tensor | None:
        """The output head of a model that does not share it with the token embeddings."""
        names = ("output.weight",) if self._is_gguf else ("lm_head.weight", "language_model.lm_head.weight")
        for name in names:
            if name in self._checkpoint.tensors:
                return self._checkpoint.tensor(name, shape=(self._spec.vocab_size, self._spec.hidden_dim))
        return None


def matrix(tensor: Tensor) -> dict[str, Any]:
    """`mogemma_matrix` of a tensor.

    Raises:
        UnsupportedModelError: A row is not whole blocks of its format.
    """
    rows, columns = tensor.shape
    if columns % tensor.type.block_weights:
        raise UnsupportedModelError(
            f"{tensor.source}: tensor {tensor.name!r} has rows of {columns} weights, which are no whole blocks of "
            f"{tensor.type.name} ({tensor.type.block_weights})."
        )
    return {"data": tensor.data, "n_rows": rows, "n_columns": columns, "format": int(tensor.type)}


def _prefix_of(checkpoint: Checkpoint) -> str:
    for prefix in PREFIXES:
        if f"{prefix}embed_tokens.weight" in checkpoint.tensors:
            return prefix
    raise ModelFormatError(
        f"{checkpoint.path} holds no token embeddings (embed_tokens.weight), so no Gemma text model: it may be an adapter, "
        "a vision tower, or one shard of several."
    )
