"""Joins a ModelSpec with the tensors of a checkpoint: weights by role, as mogemma.h wants them."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ModelFormatError, UnsupportedModelError
from .names import EXPERTS, HEADS, LAYER_MATRICES, LAYER_NORMS, LAYER_NUMBERS, MODEL_TENSORS, PREFIXES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ..checkpoint import Checkpoint, Tensor
    from .spec import Experts, LayerSpec, ModelSpec


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
        self._prefix = "" if self._is_gguf else prefix_of(checkpoint)

    def struct(self, dense: Sequence[Tensor] = ()) -> dict[str, Any]:
        """`mogemma_model` as a mapping; `dense` are the heads between the mean hidden state and an embedding."""
        spec = self._spec
        embedding = self._model("token_embedding", (spec.vocab_size, spec.hidden_dim))
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
            "final_norm": self._norm(self._model("final_norm", (spec.hidden_dim,))),
            "token_embedding": matrix(embedding),
            "head": matrix(head),
            **self._layer_embedding(),
            **self._streams(),
        }

    def projection(self) -> Tensor | None:
        """The dense head that a model has among its own weights, if it has one."""
        spec = self._spec
        return self._model("projection", (spec.projection_dim, spec.hidden_dim)) if spec.projection_dim else None

    def _check_no_more_layers(self) -> None:
        """A configuration with fewer layers than the file would run, and talk nonsense."""
        n_layers = len(self._spec.layers)
        more = f"{self._prefix}{'blk' if self._is_gguf else 'layers'}.{n_layers}."
        if any(name.startswith(more) for name in self._checkpoint.tensors):
            raise ModelFormatError(
                f"{self._checkpoint.path}: the configuration has {n_layers} layers, the weights have more ({more}*). "
                "Configuration and weights belong to different models."
            )

    def _layer_embedding(self) -> dict[str, Any]:
        """What gives each token its embeddings for the layers, if there are such; the table stays in the file."""
        spec = self._spec
        ple = spec.layer_embedding
        if ple is None:
            return {}
        n_columns = len(spec.layers) * ple.dim
        norm = self._model("ple_model_norm", (ple.dim,)).to_float32()
        fields: dict[str, Any] = {
            "ple_dim": ple.dim,
            "ple_projection": matrix(self._model("ple_projection", (n_columns, spec.hidden_dim))),
            "ple_projection_scale": ple.projection_scale,
            "ple_norm": norm * np.float32(ple.norm_scale),
        }
        if ple.n_rows:
            fields["ple_embedding"] = matrix(self._model("ple_embedding", (ple.n_rows, n_columns)))
            fields["ple_scale"] = ple.table_scale
        return fields

    def _streams(self) -> dict[str, Any]:
        """What the streams of the residual begin and end with, if there are several."""
        n = self._spec.n_streams
        if n == 1:
            return {}
        both = {role: [matrix(tensor) for tensor in self._each_stream(role)] for role in ("stream_begin", "stream_end")}
        return {"n_streams": n, **both}

    def _each_stream(self, role: str) -> list[Tensor]:
        """The matrices of all streams but the first; GGUF has them in one tensor."""
        n, dim = self._spec.n_streams - 1, self._spec.hidden_dim
        if self._is_gguf:
            stacked = self._model(role, (n, dim, dim))
            return [self._checkpoint.rows(stacked, dim * k, dim) for k in range(n)]
        name = MODEL_TENSORS[role][0]
        return [self._checkpoint.tensor(self._prefix + name.format(k), shape=(dim, dim)) for k in range(n)]

    def _layer(self, index: int, layer: LayerSpec) -> dict[str, Any]:
        spec = self._spec
        has_keys = layer.kv_back == 0
        fields = {
            **{role: matrix(self._of_layer(index, role, shape)) for role, shape in _shapes(spec, layer).items()},
            **{
                role: self._norm(self._of_layer(index, role, (size,)))
                for role, size in _norm_sizes(spec, layer).items()
            },
            "n_heads": layer.n_heads,
            "n_kv_heads": layer.n_kv_heads,
            "head_dim": layer.head_dim,
            "mlp_dim": layer.mlp_dim,
            "rope": spec.ropes.index((layer.rope, layer.head_dim)),
            "n_before": layer.n_before,
            "n_after": layer.n_after,
            "kv_back": layer.kv_back,
            "attention_scale": layer.attention_scale,
            "attention_softcap": layer.attention_softcap,
            "gate_cutoff": layer.gate_cutoff,
        }
        if spec.has_v_norms and has_keys:
            fields["v_norm"] = np.ones(layer.head_dim, np.float32)
        if spec.has_output_scales:
            fields["output_scale"] = self._output_scale(index)
        if spec.laurel_rank:
            fields["laurel_scale"] = sqrt(0.5)
        if layer.experts is not None:
            fields |= self._experts(index, layer.experts)
        if spec.n_streams > 1:
            fields |= self._layer_streams(index)
        return fields

    def _output_scale(self, index: int) -> float:
        tensor = self._of_layer(index, "output_scale", (1,))
        scale = float(tensor.to_float32()[0])
        if scale == 0 or not np.isfinite(scale):
            raise ModelFormatError(f"{tensor.source}: {tensor.name!r} is {scale}. The weights are damaged.")
        return scale

    def _experts(self, index: int, experts: Experts) -> dict[str, Any]:
        """Router and experts of a layer, each expert's matrices by themselves."""
        dim = self._spec.hidden_dim
        norm = self._of_layer(index, "router_norm", (dim,)).to_float32()
        parts = self._expert_matrices(index, experts)
        return {
            "n_experts": experts.n,
            "n_experts_used": experts.n_used,
            "expert_dim": experts.dim,
            "router_norm": norm * np.float32(dim**-0.5),
            "expert_scales": self._of_layer(index, "expert_scales", (experts.n,)).to_float32(),
            "experts": [{role: matrix(parts[role][i]) for role in parts} for i in range(experts.n)],
        }

    def _expert_matrices(self, index: int, experts: Experts) -> Mapping[str, Sequence[Tensor]]:
        """For each role a matrix of each expert."""
        n, inner, dim = experts.n, experts.dim, self._spec.hidden_dim
        rows = self._checkpoint.rows
        down = self._of_layer(index, "down_proj", (n, dim, inner), EXPERTS)
        parts = {"down_proj": [rows(down, dim * i, dim) for i in range(n)]}
        if self._layer_name(index, "both", EXPERTS) in self._checkpoint.tensors:
            both = self._of_layer(index, "both", (n, 2 * inner, dim), EXPERTS)
            parts["gate_proj"] = [rows(both, 2 * inner * i, inner) for i in range(n)]
            parts["up_proj"] = [rows(both, 2 * inner * i + inner, inner) for i in range(n)]
            return parts
        for role in ("gate_proj", "up_proj"):
            stacked = self._of_layer(index, role, (n, inner, dim), EXPERTS)
            parts[role] = [rows(stacked, inner * i, inner) for i in range(n)]
        return parts

    def _layer_streams(self, index: int) -> dict[str, Any]:
        """AltUp's numbers; the norm before its router has none of its own but weights, and is a part of it."""
        n, dim = self._spec.n_streams, self._spec.hidden_dim
        shapes = {
            "stream_router": (n, dim),
            "stream_norm": (dim,),
            "stream_predict": (n * n, n),
            "stream_correct": (n, n),
            "stream_scale": (dim,),
        }
        numbers = {role: self._of_layer(index, role, shape).to_float32() for role, shape in shapes.items()}
        norm = numbers.pop("stream_norm") / np.float32(dim)
        return {**numbers, "stream_router": numbers["stream_router"] * norm}

    def _layer_name(self, index: int, role: str, names: Mapping[str, tuple[str, str]]) -> str:
        name = (self._spec.names.get(role) or names[role])[self._is_gguf]
        return f"blk.{index}.{name}" if self._is_gguf else f"{self._prefix}layers.{index}.{name}"

    def _of_layer(
        self, index: int, role: str, shape: tuple[int, ...], names: Mapping[str, tuple[str, str]] | None = None
    ) -> Tensor:
        name = self._layer_name(index, role, names or LAYER_NORMS | LAYER_MATRICES | LAYER_NUMBERS)
        return self._checkpoint.tensor(name, shape=shape)

    def _model(self, role: str, shape: tuple[int, ...]) -> Tensor:
        name = (self._spec.names.get(role) or MODEL_TENSORS[role])[self._is_gguf]
        return self._checkpoint.tensor(self._prefix + name, shape=shape)

    def _norm(self, tensor: Tensor) -> NDArray[np.float32]:
        """What the normed vector is multiplied by. GGUF has the 1 added already."""
        weight = tensor.to_float32()
        stores_offset = self._spec.norms_store_offset and not self._is_gguf
        return weight + np.float32(1) if stores_offset else weight

    def _head(self) -> Tensor | None:
        """The output head of a model that does not share it with the token embeddings."""
        for name in HEADS[self._is_gguf]:
            if name in self._checkpoint.tensors:
                return self._checkpoint.tensor(name, shape=(self._spec.vocab_size, self._spec.hidden_dim))
        return None


def _shapes(spec: ModelSpec, layer: LayerSpec) -> dict[str, tuple[int, int]]:
    """Every matrix that a layer has, but those of its experts."""
    dim, q_dim, kv_dim = spec.hidden_dim, layer.n_heads * layer.head_dim, layer.n_kv_heads * layer.head_dim
    shapes = {
        "q_proj": (q_dim, dim),
        "o_proj": (dim, q_dim),
        "gate_proj": (layer.mlp_dim, dim),
        "up_proj": (layer.mlp_dim, dim),
        "down_proj": (dim, layer.mlp_dim),
    }
    if layer.kv_back == 0:
        shapes["k_proj"] = (kv_dim, dim)
        if layer.has_values:
            shapes["v_proj"] = (kv_dim, dim)
    if spec.laurel_rank:
        shapes |= {"laurel_left": (spec.laurel_rank, dim), "laurel_right": (dim, spec.laurel_rank)}
    if spec.layer_embedding is not None:
        shapes |= {"ple_gate": (spec.layer_embedding.dim, dim), "ple_up": (dim, spec.layer_embedding.dim)}
    if layer.experts is not None:
        shapes["router"] = (layer.experts.n, dim)
    return shapes


def _norm_sizes(spec: ModelSpec, layer: LayerSpec) -> dict[str, int]:
    """Every norm with weights that a layer has."""
    roles = ["attention_norm", "mlp_norm"]
    if spec.has_post_norms:
        roles += ["post_attention_norm", "post_mlp_norm"]
    if spec.laurel_rank:
        roles.append("laurel_norm")
    if spec.layer_embedding is not None:
        roles.append("ple_norm")
    if layer.experts is not None:
        roles += ["post_dense_norm", "expert_norm", "post_expert_norm"]
    sizes = dict.fromkeys(roles, spec.hidden_dim)
    if spec.has_qk_norms:
        sizes["q_norm"] = layer.head_dim
        if layer.kv_back == 0:
            sizes["k_norm"] = layer.head_dim
    return sizes


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


def prefix_of(checkpoint: Checkpoint) -> str:
    """What the names of the text model's tensors begin with in safetensors.

    Raises:
        ModelFormatError: There is no text model.
    """
    for prefix in PREFIXES:
        if f"{prefix}embed_tokens.weight" in checkpoint.tensors:
            return prefix
    raise ModelFormatError(
        f"{checkpoint.path} holds no token embeddings (embed_tokens.weight), so no Gemma text model: it may be an adapter, "
        "a vision tower, or one shard of several."
    )
