"""Gemma 3 and EmbeddingGemma as GGUF metadata: the other direction of `architectures.gemma3.describe_gguf`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..architectures import gemma3
from ..architectures.fields import Fields
from ..architectures.spec import ALL
from ..checkpoint import Tensor, TensorType
from ..errors import UnsupportedModelError

if TYPE_CHECKING:
    from pathlib import Path

    from ..architectures.spec import ModelSpec

FAMILIES = {"gemma3": "gemma3", "embeddinggemma": "gemma-embedding"}
"""`ModelSpec.family`, and what GGUF calls it."""

_MEAN = 1
_PERIOD = 6
_TABLE = "token_embd.weight"


def gguf_metadata(spec: ModelSpec, dense_shapes: list[tuple[int, int]], source: Path) -> dict[str, Any]:
    """The keys of the model's numbers.

    Args:
        spec: The model.
        dense_shapes: Out and in of each dense head of an embedding model.
        source: What an error names.

    Raises:
        UnsupportedModelError: It differs from what GGUF can say about its family.
    """
    layer, name = spec.layers[0], FAMILIES[spec.family]
    full = spec.layers[min(_PERIOD, len(spec.layers)) - 1].rope
    values: dict[str, Any] = {
        "context_length": spec.context,
        "embedding_length": spec.hidden_dim,
        "block_count": len(spec.layers),
        "feed_forward_length": layer.mlp_dim,
        "attention.head_count": layer.n_heads,
        "attention.head_count_kv": layer.n_kv_heads,
        "attention.key_length": layer.head_dim,
        "attention.value_length": layer.head_dim,
        "attention.layer_norm_rms_epsilon": spec.norm_epsilon,
        "attention.sliding_window": _window(layer.n_before, spec.is_causal),
        "rope.freq_base": full.theta,
        "rope.freq_base_swa": layer.rope.theta,
    }
    if full.factor != 1:
        values |= {"rope.scaling.type": "linear", "rope.scaling.factor": full.factor}
    if spec.logit_softcap:
        values["final_logit_softcapping"] = spec.logit_softcap
    if not spec.is_causal:
        values["pooling_type"] = _MEAN
    for index, (n_out, n_in) in enumerate(dense_shapes, start=2):
        values |= {f"dense_{index}_feat_in": n_in, f"dense_{index}_feat_out": n_out}
    keys = {f"{name}.{key}": value for key, value in values.items()}
    _check_says_the_same(spec, keys, name, source)
    return {"general.architecture": name, **keys}


def _window(n_before: int, is_causal: bool) -> int:
    """The full width: of a causal layer with the query itself, of another both sides."""
    if n_before == ALL:
        return 1
    return n_before + 1 if is_causal else 2 * n_before


def _check_says_the_same(spec: ModelSpec, keys: dict[str, Any], name: str, source: Path) -> None:
    """GGUF has no word for much of what config.json may say; a reader takes it for what all Gemma 3 have."""
    shape = spec.vocab_size, spec.hidden_dim
    table = {_TABLE: Tensor(_TABLE, shape, TensorType.F32, memoryview(b""), source)}  # of which only the shape is asked
    read = gemma3.describe_gguf(Fields(keys, source, f"{name}."), table)
    if read == spec:
        return
    for index, (ours, theirs) in enumerate(zip(spec.layers, read.layers, strict=True)):
        if ours != theirs:
            raise UnsupportedModelError(
                f"{source}: layer {index} differs from what a GGUF file can say about {spec.family}: it is {ours}, and "
                f"would be read as {theirs}. Use the model as it is, with quantize=."
            )
    raise UnsupportedModelError(f"{source}: a GGUF file cannot say all of its configuration. Use it as it is.")
