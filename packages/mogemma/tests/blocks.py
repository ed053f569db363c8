"""Every weight format in plain numpy, to hold the kernels to: small integers, and what they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mogemma.checkpoint import TensorType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from numpy.typing import NDArray

    Bytes: TypeAlias = NDArray[np.uint8]
    Integers: TypeAlias = NDArray[np.int32]
    Floats: TypeAlias = NDArray[np.float32]
    Unpacked: TypeAlias = tuple[Integers, Floats, Floats | None]

FLOATS = (TensorType.F32, TensorType.F16, TensorType.BF16)
QUANTISED = tuple(kind for kind in TensorType if kind not in FLOATS)
OWN_HALVES = (TensorType.Q2_K, TensorType.Q3_K, TensorType.Q6_K)
"""Formats whose scales are for 16 weights each; those of the others are for 32."""

_BY_NUMBER = {int(kind): kind for kind in TensorType}
_LEVELS = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113])
_E2M1 = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12])


@dataclass(frozen=True)
class Parts:
    """A quantised matrix as `weight = scale * q + least`.

    Attributes:
        q: int32 [rows, columns].
        scale: float32 [rows, columns / 16].
        least: The same; zeros in a format without minimums.
        has_least: Whether the format has them.
        has_own_halves: Whether 16 weights share a scale, not 32.
    """

    q: Integers
    scale: Floats
    least: Floats
    has_least: bool
    has_own_halves: bool

    def weights(self) -> Floats:
        """float32 [rows, columns]."""
        return np.repeat(self.scale, 16, axis=1) * self.q.astype(np.float32) + np.repeat(self.least, 16, axis=1)


def weights_of(matrix: Mapping[str, Any]) -> Floats:
    """The numbers of a matrix (a mapping of `mogemma_matrix`'s fields) in any format, float32 [rows, columns]."""
    kind, raw = _BY_NUMBER[matrix["format"]], _bytes_of(matrix)
    if kind in QUANTISED:
        return parts_of(matrix).weights()
    numbers: Floats
    if kind is TensorType.F32:
        numbers = raw.view(np.float32)
    elif kind is TensorType.F16:
        numbers = raw.view(np.float16).astype(np.float32)
    else:
        numbers = (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return numbers.reshape(matrix["n_rows"], matrix["n_columns"])


def parts_of(matrix: Mapping[str, Any]) -> Parts:
    """Unpack a matrix in a quantised format."""
    kind, n_rows = _BY_NUMBER[matrix["format"]], matrix["n_rows"]
    q, scale, least = _UNPACK[kind](_bytes_of(matrix).reshape(n_rows, -1, kind.block_bytes))
    n_groups = matrix["n_columns"] // 16
    return Parts(
        q.reshape(n_rows, -1).astype(np.int32),
        _spread(scale, n_groups),
        _spread(np.zeros_like(scale) if least is None else least, n_groups),
        least is not None,
        kind in OWN_HALVES,
    )


def random_matrix(
    kind: TensorType, n_rows: int, n_columns: int, seed: int = 0, *, is_wild: bool = False
) -> dict[str, Any]:
    """A matrix of random bytes as a mapping of `mogemma_matrix`'s fields.

    Its scales are about what trained models have (weights below 1), or, if it is wild, anything finite.
    """
    rng = np.random.default_rng([seed, kind, n_rows, n_columns])
    matrix = {"n_rows": n_rows, "n_columns": n_columns, "format": int(kind)}
    if kind is TensorType.F32:
        return {**matrix, "data": rng.standard_normal((n_rows, n_columns), np.float32).view(np.uint8)}
    shape = (n_rows, n_columns // kind.block_weights, kind.block_bytes)
    raw = rng.integers(0, 256, shape, np.uint8)
    for at in _F16_FIELDS[kind]:
        if is_wild:
            numbers = rng.integers(0, 0x7C00, shape[:2], np.uint16) | rng.integers(0, 2, shape[:2], np.uint16) << 15
        else:
            numbers = (rng.standard_normal(shape[:2], np.float32) / 256).astype(np.float16).view(np.uint16)
        raw[..., at : at + 2] = numbers.astype("<u2")[..., None].view(np.uint8)
    if kind is TensorType.BF16:
        raw[..., 1] = raw[..., 1] & 0x80 | 0x3F  # magnitudes from 0.5 to 2
    if kind is TensorType.MXFP4:
        raw[..., 0] = raw[..., 0] % 252 if is_wild else raw[..., 0] % 8 + 118
    return {**matrix, "data": raw}


_F16_FIELDS = {
    TensorType.F16: (0,),
    TensorType.BF16: (),
    TensorType.Q4_0: (0,),
    TensorType.Q4_1: (0, 2),
    TensorType.Q5_0: (0,),
    TensorType.Q5_1: (0, 2),
    TensorType.Q8_0: (0,),
    TensorType.Q2_K: (80, 82),
    TensorType.Q3_K: (108,),
    TensorType.Q4_K: (0, 2),
    TensorType.Q5_K: (0, 2),
    TensorType.Q6_K: (208,),
    TensorType.IQ4_NL: (0,),
    TensorType.IQ4_XS: (0,),
    TensorType.MXFP4: (),
}
"""Where the f16 numbers of a block are."""


def _bytes_of(matrix: Mapping[str, Any]) -> Bytes:
    return np.frombuffer(bytes(matrix["data"]), np.uint8)


def _spread(x: Floats, n_groups: int) -> Floats:
    """What is given for each stretch of a row, given for each 16 weights."""
    rows = x.reshape(len(x), -1)
    return np.repeat(rows, n_groups // rows.shape[1], axis=1).astype(np.float32)


def _f16(raw: Bytes, at: int) -> Floats:
    return np.ascontiguousarray(raw[..., at : at + 2]).view("<f2").astype(np.float32)


def _nibbles(raw: Bytes) -> Integers:
    """The low nibbles of the last axis, then the high ones."""
    return np.concatenate([raw & 15, raw >> 4], axis=-1).astype(np.int32)


def _bits(raw: Bytes) -> Integers:
    return np.unpackbits(raw, axis=-1, bitorder="little").astype(np.int32)


def _pairs(raw: Bytes) -> Integers:
    """[..., 64] to [..., 2, 4, 32]: group k of each half has its pairs at bits 2k."""
    halves = raw.reshape(*raw.shape[:-1], 2, 1, 32)
    return ((halves >> (2 * np.arange(4, dtype=np.uint8)[:, None])) & 3).astype(np.int32)


def _six_bits(s: Bytes) -> tuple[Floats, Floats]:
    """The 8 scales and 8 minimums in 12 bytes of Q4_K and Q5_K."""
    scales = np.concatenate([s[..., :4] & 63, (s[..., 8:] & 15) | (s[..., :4] >> 6 << 4)], axis=-1)
    mins = np.concatenate([s[..., 4:8] & 63, (s[..., 8:] >> 4) | (s[..., 4:8] >> 6 << 4)], axis=-1)
    return scales.astype(np.float32), mins.astype(np.float32)


def _q4_k(raw: Bytes) -> Unpacked:
    scales, mins = _six_bits(raw[..., 4:16])
    return _nibbles(raw[..., 16:].reshape(*raw.shape[:2], 4, 32)), _f16(raw, 0) * scales, -(_f16(raw, 2) * mins)


def _q5_k(raw: Bytes) -> Unpacked:
    scales, mins = _six_bits(raw[..., 4:16])
    low = _nibbles(raw[..., 48:].reshape(*raw.shape[:2], 4, 32)).reshape(*raw.shape[:2], 8, 32)
    fifth = (raw[..., None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None]) & 1
    return low | fifth.astype(np.int32) << 4, _f16(raw, 0) * scales, -(_f16(raw, 2) * mins)


def _q6_k(raw: Bytes) -> Unpacked:
    lanes = raw[..., :128].reshape(*raw.shape[:2], 2, 2, 32)
    low = np.stack([lanes & 15, lanes >> 4], axis=3).reshape(*raw.shape[:2], 2, 4, 32).astype(np.int32)
    scales = raw[..., 192:208].view(np.int8).astype(np.float32)
    return (low | _pairs(raw[..., 128:192]) << 4) - 32, _f16(raw, 208) * scales, None


def _q2_k(raw: Bytes) -> Unpacked:
    scales, mins = (raw[..., :16] & 15).astype(np.float32), (raw[..., :16] >> 4).astype(np.float32)
    return _pairs(raw[..., 16:80]), _f16(raw, 80) * scales, -(_f16(raw, 82) * mins)


def _q3_k(raw: Bytes) -> Unpacked:
    third = (raw[..., None, :32] >> np.arange(8, dtype=np.uint8)[:, None]) & 1
    q = _pairs(raw[..., 32:96]).reshape(*raw.shape[:2], 8, 32) - 4 * (1 - third.astype(np.int32))
    low = _nibbles(raw[..., 96:104])
    high = (raw[..., None, 104:108] >> (2 * np.arange(4, dtype=np.uint8)[:, None])) & 3
    scales = (low | high.reshape(low.shape).astype(np.int32) << 4) - 32
    return q, _f16(raw, 108) * scales.astype(np.float32), None


def _iq4_xs(raw: Bytes) -> Unpacked:
    low = np.stack([raw[..., 4:8] & 15, raw[..., 4:8] >> 4], axis=-1).reshape(*raw.shape[:2], 8).astype(np.int32)
    high = np.ascontiguousarray(raw[..., 2:4]).view("<u2").astype(np.int32) >> (2 * np.arange(8)) & 3
    scales = (low | high << 4) - 32
    q = _LEVELS[_nibbles(raw[..., 8:].reshape(*raw.shape[:2], 8, 16))]
    return q, _f16(raw, 0) * scales.astype(np.float32), None


def _mxfp4(raw: Bytes) -> Unpacked:
    scale = np.ldexp(np.float32(1), raw[..., :1].astype(np.int32) - 128)
    return _E2M1[_nibbles(raw[..., 1:])], scale.astype(np.float32), None


_UNPACK: Mapping[TensorType, Callable[[Bytes], Unpacked]] = {
    TensorType.Q4_0: lambda raw: (_nibbles(raw[..., 2:]) - 8, _f16(raw, 0), None),
    TensorType.Q4_1: lambda raw: (_nibbles(raw[..., 4:]), _f16(raw, 0), _f16(raw, 2)),
    TensorType.Q5_0: lambda raw: ((_nibbles(raw[..., 6:]) | _bits(raw[..., 2:6]) << 4) - 16, _f16(raw, 0), None),
    TensorType.Q5_1: lambda raw: (_nibbles(raw[..., 8:]) | _bits(raw[..., 4:8]) << 4, _f16(raw, 0), _f16(raw, 2)),
    TensorType.Q8_0: lambda raw: (raw[..., 2:].view(np.int8).astype(np.int32), _f16(raw, 0), None),
    TensorType.Q2_K: _q2_k,
    TensorType.Q3_K: _q3_k,
    TensorType.Q4_K: _q4_k,
    TensorType.Q5_K: _q5_k,
    TensorType.Q6_K: _q6_k,
    TensorType.IQ4_NL: lambda raw: (_LEVELS[_nibbles(raw[..., 2:])], _f16(raw, 0), None),
    TensorType.IQ4_XS: _iq4_xs,
    TensorType.MXFP4: _mxfp4,
}
