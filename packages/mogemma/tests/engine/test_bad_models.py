"""Options and models that cannot be: refused by what is wrong with them, before any memory is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import reference
from models import VOCAB, alone, make_engine, make_model, token_ids

from mogemma._native import Engine, load_kernel
from mogemma.errors import ConfigError, ModelFormatError

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("n_threads", 0),
        ("n_threads", -1),
        ("n_threads", 257),
        ("max_tokens", 0),
        ("max_tokens", 2**20 + 1),
        ("max_outputs", 0),
        ("max_outputs", 17),
        ("n_context", 0),
        ("n_context", 2**24 + 1),
        ("arithmetic", 0),
        ("arithmetic", 4),
        ("cache_format", 8),
        ("cache_format", -1),
    ],
)
def test_an_option_out_of_range_is_refused_by_name_and_value(level: str, option: str, value: int) -> None:
    options = {"n_threads": 1, "max_tokens": 16, "max_outputs": 16, "n_context": 64, "arithmetic": 1, "cache_format": 0}
    with pytest.raises(ConfigError, match=f"out of range: .*{option}={value}"):
        Engine(make_model(), {**options, option: value}, choices={}, level=level)


def change(field: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of a field; `layers.1.q_proj.format` is inside a layer."""

    def apply(model: dict[str, Any]) -> None:
        *path, last = field.split(".")
        place: Any = model
        for step in path:
            place = place[int(step)] if step.isdigit() else place[step]
        place[last] = value

    return apply


WHOLE = {  # changes, and the status of each
    "n_layers=0": (change("n_layers", 0), "BAD_MODEL"),
    "n_layers=-1": (change("n_layers", -1), "BAD_MODEL"),
    "no layers": (change("layers", None), "BAD_MODEL"),
    "n_ropes=0": (change("n_ropes", 0), "BAD_MODEL"),
    "no ropes": (change("ropes", None), "BAD_MODEL"),
    "no frequencies": (change("ropes.0.frequencies", None), "BAD_MODEL"),
    "n_pairs=0": (change("ropes.0.n_pairs", 0), "BAD_MODEL"),
    "n_dense=-1": (change("n_dense", -1), "BAD_MODEL"),
    "17 dense matrices": (lambda model: model.update(n_dense=17, dense=[model["head"]] * 17), "BAD_MODEL"),
    "hidden_dim=0": (change("hidden_dim", 0), "BAD_MODEL"),
    "hidden_dim=2**31-1": (change("hidden_dim", 2**31 - 1), "BAD_MODEL"),
    "vocab_size=0": (change("vocab_size", 0), "BAD_MODEL"),
    "vocab_size of another model": (change("vocab_size", VOCAB + 1), "BAD_MODEL"),
    "no final norm": (change("final_norm", None), "BAD_MODEL"),
    "no token embedding": (change("token_embedding.data", None), "BAD_MODEL"),
    "embedding in an unknown format": (change("token_embedding.format", 4), "BAD_FORMAT"),
    "packed token embedding": (change("token_embedding.layout", 1), "BAD_MODEL"),
    "head in an unknown layout": (change("head.layout", 3), "BAD_MODEL"),
    "no head": (change("head", {"n_rows": VOCAB, "n_columns": 24, "format": 0}), "BAD_MODEL"),
}

LAYER = {
    "no attention norm": (change("layers.1.attention_norm", None), "BAD_MODEL"),
    "no mlp norm": (change("layers.1.mlp_norm", None), "BAD_MODEL"),
    "n_heads=0": (change("layers.1.n_heads", 0), "BAD_MODEL"),
    "n_heads=5 of 2": (change("layers.1.n_heads", 5), "BAD_MODEL"),
    "n_kv_heads=0": (change("layers.1.n_kv_heads", 0), "BAD_MODEL"),
    "n_kv_heads over n_heads": (change("layers.1.n_kv_heads", 8), "BAD_MODEL"),
    "head_dim=20": (change("layers.1.head_dim", 20), "BAD_MODEL"),
    "head_dim=32 with another rope": (change("layers.1.head_dim", 32), "BAD_MODEL"),
    "mlp_dim=0": (change("layers.1.mlp_dim", 0), "BAD_MODEL"),
    "mlp_dim=-8": (change("layers.1.mlp_dim", -8), "BAD_MODEL"),
    "n_before=-1": (change("layers.1.n_before", -1), "BAD_MODEL"),
    "n_after=-1": (change("layers.1.n_after", -1), "BAD_MODEL"),
    "rope=1 of 1": (change("layers.1.rope", 1), "BAD_MODEL"),
    "rope=-1": (change("layers.1.rope", -1), "BAD_MODEL"),
    **{
        f"{role} {what}": (change(f"layers.1.{role}.{field}", value), status)
        for role in ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
        for what, field, value, status in (
            ("missing", "data", None, "BAD_MODEL"),
            ("with a row too many", "n_rows", 1000, "BAD_MODEL"),
            ("with negative columns", "n_columns", -24, "BAD_MODEL"),
            ("in an unknown format", "format", 15, "BAD_FORMAT"),
            ("in a format whose blocks do not fit", "format", 14, "BAD_FORMAT"),
            ("in an unknown layout", "layout", -1, "BAD_MODEL"),
        )
    },
}

EVERYTHING: dict[str, Any] = {
    "n_layers": 4,
    "kv_backs": (0, 0, 0, 1),
    "laurel_rank": 5,
    "experts": (3, 2, 16),
    "ple_dim": 8,
    "ple_rows": VOCAB,
    "n_streams": 3,
}
"""All that a layer can have; the last one reads the third one's keys and values."""

WHOLE_EXTRAS = {
    "ple_dim=-1": (change("ple_dim", -1), "BAD_MODEL"),
    "ple_dim=2**24": (change("ple_dim", 2**24), "BAD_MODEL"),
    "a per-layer projection that nothing asks for": (change("ple_dim", 0), "BAD_MODEL"),
    "no per-layer projection": (change("ple_projection.data", None), "BAD_MODEL"),
    "no per-layer norm": (change("ple_norm", None), "BAD_MODEL"),
    "a table of another width": (change("ple_embedding.n_columns", 24), "BAD_MODEL"),
    "a table without rows": (change("ple_embedding.n_rows", 0), "BAD_MODEL"),
    "a packed table": (change("ple_embedding.layout", 1), "BAD_MODEL"),
    "a table in an unknown format": (change("ple_embedding.format", 4), "BAD_FORMAT"),
    "n_streams=-1": (change("n_streams", -1), "BAD_MODEL"),
    "n_streams=5": (change("n_streams", 5), "BAD_MODEL"),
    "no beginning of streams": (change("stream_begin", None), "BAD_MODEL"),
    "no end of streams": (change("stream_end", None), "BAD_MODEL"),
    "a stream of another size": (change("stream_end.1.n_rows", 23), "BAD_MODEL"),
}

LAYER_EXTRAS = {
    "kv_back=-1": (change("layers.3.kv_back", -1), "BAD_MODEL"),
    "kv_back before the first": (change("layers.3.kv_back", 4), "BAD_MODEL"),
    "kv_back to other heads": (change("layers.3.n_kv_heads", 1), "BAD_MODEL"),
    "kv_back to another window": (change("layers.3.n_before", 4), "BAD_MODEL"),
    "kv_back with keys of its own": (
        lambda model: model["layers"][3].update(k_proj=model["layers"][0]["k_proj"]),
        "BAD_MODEL",
    ),
    "no keys": (lambda model: model["layers"][3].update(kv_back=0), "BAD_MODEL"),
    "half of laurel": (change("layers.3.laurel_right.data", None), "BAD_MODEL"),
    "laurel without its norm": (change("layers.3.laurel_norm", None), "BAD_MODEL"),
    "laurel_scale=nan": (change("layers.3.laurel_scale", float("nan")), "BAD_MODEL"),
    "output_scale=inf": (change("layers.3.output_scale", float("inf")), "BAD_MODEL"),
    "n_experts=-1": (change("layers.3.n_experts", -1), "BAD_MODEL"),
    "n_experts=4 of 3": (change("layers.3.n_experts", 4), "BAD_MODEL"),
    "a router for no experts": (change("layers.3.n_experts", 0), "BAD_MODEL"),
    "n_experts_used=0": (change("layers.3.n_experts_used", 0), "BAD_MODEL"),
    "n_experts_used=4 of 3": (change("layers.3.n_experts_used", 4), "BAD_MODEL"),
    "expert_dim=0": (change("layers.3.expert_dim", 0), "BAD_MODEL"),
    "no experts": (change("layers.3.experts", None), "BAD_MODEL"),
    "no router": (change("layers.3.router.data", None), "BAD_MODEL"),
    "an expert of another size": (change("layers.3.experts.2.down_proj.n_columns", 17), "BAD_MODEL"),
    "an expert in an unknown format": (change("layers.3.experts.2.up_proj.format", 4), "BAD_FORMAT"),
    **{
        f"no {name}": (change(f"layers.3.{name}", None), "BAD_MODEL")
        for name in (
            *("router_norm", "expert_scales", "expert_norm", "post_expert_norm", "post_dense_norm", "ple_norm"),
            *("stream_router", "stream_predict", "stream_correct", "stream_scale"),
        )
    },
    "no gate of the per-layer embedding": (change("layers.3.ple_gate.data", None), "BAD_MODEL"),
    "a per-layer embedding of another size": (change("layers.3.ple_up.n_columns", 9), "BAD_MODEL"),
}


@pytest.mark.parametrize("name", WHOLE_EXTRAS)
def test_what_only_some_models_have_must_fit_as_well(level: str, name: str) -> None:
    apply, status = WHOLE_EXTRAS[name]
    model = make_model(**EVERYTHING)
    make_engine(model, level=level).close()
    apply(model)
    with pytest.raises(ModelFormatError, match=f"{status} in its own fields"):
        make_engine(model, level=level)


@pytest.mark.parametrize("name", LAYER_EXTRAS)
def test_what_only_some_layers_have_must_fit_as_well(level: str, name: str) -> None:
    apply, status = LAYER_EXTRAS[name]
    model = make_model(**EVERYTHING)
    apply(model)
    with pytest.raises(ModelFormatError, match=f"{status} in layer 3"):
        make_engine(model, level=level)


@pytest.mark.parametrize("name", WHOLE)
def test_a_model_whose_own_fields_do_not_fit_is_refused(level: str, name: str) -> None:
    apply, status = WHOLE[name]
    model = make_model()
    model["head"] = {**model["head"]}
    apply(model)
    with pytest.raises(ModelFormatError, match=f"{status} in its own fields"):
        make_engine(model, level=level)


@pytest.mark.parametrize("name", LAYER)
def test_a_layer_that_does_not_fit_is_refused_by_its_index(level: str, name: str) -> None:
    apply, status = LAYER[name]
    model = make_model()
    apply(model)
    with pytest.raises(ModelFormatError, match=f"{status} in layer 1"):
        make_engine(model, level=level)


@pytest.mark.parametrize(
    "unused",
    [
        {"frequencies": None, "n_pairs": 8},
        {"frequencies": np.ones(2**20, np.float32), "n_pairs": 2**20},
        {"frequencies": np.ones(20, np.float32), "n_pairs": 20},
        {"frequencies": np.ones(8, np.float32), "n_pairs": -8},
    ],
)
def test_a_rotation_that_no_layer_uses_is_checked_as_well(level: str, unused: dict[str, Any]) -> None:
    """Angles are computed for all kinds of rotation, so one that is too large would be written beside its place."""
    model = make_model()
    model.update(n_ropes=2, ropes=[*model["ropes"], unused])
    with pytest.raises(ModelFormatError, match="BAD_MODEL in its own fields"):
        make_engine(model, level=level)


def test_a_wider_rotation_that_no_layer_uses_changes_nothing(level: str) -> None:
    model = make_model()
    expected = alone(make_engine(model, level=level), token_ids(12))
    wider = {"frequencies": np.ones(512, np.float32), "n_pairs": 512}
    model.update(n_ropes=2, ropes=[*model["ropes"], wider])
    assert np.array_equal(alone(make_engine(model, level=level), token_ids(12)), expected)


def test_sizes_at_their_limits_do_not_overflow(level: str) -> None:
    """The largest model that passes the checks needs more bytes than any machine has, and the number says so."""
    kernel = load_kernel(level)
    ffi, lib = kernel.ffi, kernel.lib
    data = ffi.new("float[1]")
    most = 2**24

    def matrix(n_rows: int, n_columns: int) -> dict[str, Any]:
        return {"data": data, "n_rows": n_rows, "n_columns": n_columns, "format": 0, "layout": 0}

    sizes = {"n_heads": 1024, "n_kv_heads": 1024, "head_dim": 4096, "mlp_dim": most, "n_before": reference.ALL}
    q_dim = sizes["n_heads"] * sizes["head_dim"]
    shapes = {"q_proj": (q_dim, most), "k_proj": (q_dim, most), "v_proj": (q_dim, most), "o_proj": (most, q_dim)}
    layer = {
        **sizes,
        **{role: matrix(*shape) for role, shape in shapes.items()},
        **{role: matrix(most, most) for role in ("gate_proj", "up_proj", "down_proj")},
        **dict.fromkeys(("attention_norm", "mlp_norm"), data),
    }
    layers = ffi.new("mogemma_layer[]", [layer] * 3)
    ropes = ffi.new("mogemma_rope[]", [{"frequencies": data, "n_pairs": 2048}] * 4096)
    dense = ffi.new("mogemma_matrix[]", [matrix(most, most)] * 16)
    numbers = {"n_layers": 3, "n_ropes": 4096, "n_dense": 16, "hidden_dim": most, "vocab_size": most}
    places = {"layers": layers, "ropes": ropes, "dense": dense, "final_norm": data}
    ends = {"token_embedding": matrix(most, most), "head": matrix(most, most)}
    model = ffi.new("mogemma_model *", {**numbers, **places, **ends})
    n_tokens = 2**20
    options = ffi.new("mogemma_options *", [256, n_tokens, n_tokens, most, 0, 1])
    assert lib.mogemma_engine_bytes(model, options, ffi.NULL) > n_tokens * most * 4 * 8
    assert lib.mogemma_cache_bytes(model, options) == 3 * 2 * most * q_dim * 4


def test_dense_matrices_that_do_not_follow_on_each_other_are_refused(level: str) -> None:
    model = make_model(dense_dims=(32, 16))
    model["dense"] = model["dense"][::-1]
    with pytest.raises(ModelFormatError, match="BAD_MODEL in its own fields"):
        make_engine(model, level=level)
