"""Kinds of layers, as configurations name them: which slide, what they see, how they rotate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ModelFormatError, UnsupportedModelError
from .spec import ALL, Rope

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..checkpoint import Tensor
    from .fields import Fields

SLIDING, FULL = "sliding_attention", "full_attention"
KINDS = frozenset({SLIDING, FULL})

ACTIVATION = "gelu_pytorch_tanh"
"""The gate of every Gemma's MLP, and the only one that the kernels have."""

SLIDING_THETA = 10_000.0

ROPE_KINDS = ("default", "linear", "proportional")
GGUF_ROPE_KINDS = ("none", "linear")


def refuse_foreign(config: Fields, activation: str = "hidden_activation") -> None:
    """Refuse what no Gemma has and the kernels would get wrong: another activation, biases."""
    config.choice(activation, [ACTIVATION], ACTIVATION)
    if config.flag("attention_bias", False):
        raise UnsupportedModelError(f"{config.source}: 'attention_bias' is true; no Gemma has biases.")


def n_layers_of(config: Fields, key: str, default: int | None = None) -> int:
    """How many layers there are: no more than the kernels take."""
    return config.integer(key, default, most=4096)


def read_kinds(config: Fields, n_layers: int, period: int) -> tuple[str, ...]:
    """The kind of each layer: as listed, or every `period`th sees all, or as often as the configuration says."""
    if config.has("layer_types"):
        return config.names("layer_types", KINDS, n_layers)
    period = config.integer("sliding_window_pattern", config.integer("_sliding_window_pattern", period))
    return every(period, n_layers)


def read_gguf_kinds(fields: Fields, n_layers: int, period: int) -> tuple[str, ...]:
    """The same from GGUF, where a list says which layers slide; without one every `period`th layer sees all."""
    key = "attention.sliding_window_pattern"
    if not fields.has(key):
        return every(period, n_layers)
    return tuple(SLIDING if slides else FULL for slides in fields.flags(key, n_layers))


def every(period: int, n_layers: int) -> tuple[str, ...]:
    """All layers slide, but every `period`th, which sees all."""
    return tuple(SLIDING if (index + 1) % period else FULL for index in range(n_layers))


def shared_kv(kinds: Sequence[str], n_shared: int, source: object) -> tuple[int, ...]:
    """How far back each layer's keys and values are: the last `n_shared` layers read those of the last layer of their kind
    that has its own.
    """
    own = kinds[: len(kinds) - n_shared]
    last = {kind: index for index, kind in enumerate(own)}
    missing = set(kinds) - set(last)
    if missing:
        raise ModelFormatError(
            f"{source}: the last {n_shared} layers share keys and values that no {min(missing)} makes."
        )
    return tuple(0 if index < len(own) else index - last[kind] for index, kind in enumerate(kinds))


def causal_sight(kind: str, window: int) -> tuple[int, int]:
    """Keys that a query sees before and after itself: a window of W holds W keys, the query's own among them."""
    return (ALL, 0) if kind == FULL else (window - 1, 0)


def read_ropes(config: Fields, full_theta: float) -> Mapping[str, Rope]:
    """The rotation of each kind of layer, in today's or the older spelling."""
    if config.has("rope_parameters"):
        both = config.section("rope_parameters")
        return {
            SLIDING: read_rope(both.section(SLIDING), SLIDING_THETA),
            FULL: read_rope(both.section(FULL), full_theta),
        }
    theta = config.number("rope_theta", full_theta, least=1)
    full = read_rope(config.section("rope_scaling"), theta) if config.has("rope_scaling") else Rope(theta)
    return {SLIDING: Rope(config.number("rope_local_base_freq", SLIDING_THETA, least=1)), FULL: full}


def read_only_rope(config: Fields) -> Rope:
    """The rotation of a family whose layers all rotate alike."""
    if config.has("rope_parameters"):
        return read_rope(config.section("rope_parameters"), SLIDING_THETA)
    theta = config.number("rope_theta", SLIDING_THETA, least=1)
    return read_rope(config.section("rope_scaling"), theta) if config.has("rope_scaling") else Rope(theta)


def read_rope(fields: Fields, theta: float) -> Rope:
    """One rotation; `theta` is its base where nothing is said."""
    kind = fields.choice("rope_type" if fields.has("rope_type") else "type", ROPE_KINDS, "default")
    theta = fields.number("rope_theta", theta, least=1)
    if kind == "proportional":
        turning = fields.number("partial_rotary_factor", 1.0)
        if turning > 1:
            raise ModelFormatError(f"{fields.source}: 'partial_rotary_factor' is {turning}; it must be at most 1.")
        return Rope(theta, fields.number("factor", 1.0, least=1), turning)
    return Rope(theta, fields.number("factor", least=1) if kind == "linear" else 1.0)


def read_gguf_ropes(fields: Fields, full_theta: float) -> Mapping[str, Rope]:
    """The rotation of each kind of layer: only those that see all are scaled."""
    is_scaled = fields.choice("rope.scaling.type", GGUF_ROPE_KINDS, "none") == "linear"
    factor = fields.number("rope.scaling.factor", 1.0, least=1) if is_scaled else 1.0
    return {
        SLIDING: Rope(fields.number("rope.freq_base_swa", SLIDING_THETA, least=1)),
        FULL: Rope(fields.number("rope.freq_base", full_theta, least=1), factor),
    }


def gguf_head_dim(fields: Fields, default: int | None = None, suffix: str = "") -> int:
    """Size of a head, whose keys and values are of one length."""
    head_dim = fields.integer(f"attention.key_length{suffix}", default)
    if fields.integer(f"attention.value_length{suffix}", head_dim) != head_dim:
        raise ModelFormatError(f"{fields.source}: keys and values of different lengths; every Gemma has the same.")
    return head_dim


def gguf_rows(fields: Fields, tensors: Mapping[str, Tensor], name: str) -> int:
    """Rows of a tensor: sizes that GGUF metadata does not have."""
    tensor = tensors.get(name)
    if tensor is None or not tensor.shape:
        raise ModelFormatError(f"{fields.source} has no tensor {name!r}. It is incomplete, or of another architecture.")
    return tensor.shape[0]
