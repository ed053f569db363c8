"""Every format that float weights can be brought to, in plain numpy: blocks to which the kernels are held, bit for bit.

Each takes float32 [rows, columns] and gives the bytes of the blocks, uint8 [rows, bytes a row]. Sums over weights take the
columns in order, each product rounded once together with its sum (`fma`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from products import bfloat16, fma, q8_0

from mogemma.checkpoint import TensorType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from blocks import Bytes, Floats, Integers
    from numpy.typing import NDArray

    Flags = NDArray[np.bool_]

LARGEST = 65504.0
"""The largest float16."""

ONE = np.float32(1)


def encode(kind: TensorType, weights: Floats) -> Bytes:
    """The weights [rows, columns] in another format, uint8 [rows, bytes a row]."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore", under="ignore"):
        return _ENCODE[kind](weights).reshape(len(weights), -1)


def _blocks(weights: Floats, size: int) -> Floats:
    return weights.reshape(len(weights), -1, size)


def _furthest(blocks: Floats) -> Floats:
    """Of each block the weight of the greatest magnitude, the first of equals; [..., 1]."""
    at = np.abs(blocks).argmax(axis=-1)
    return np.take_along_axis(blocks, at[..., None], axis=-1)


def _divided(x: Floats | np.float32, by: Floats, where: Flags) -> Floats:
    """x / by, and 0 elsewhere."""
    return np.where(where, x / by, np.float32(0)).astype(np.float32)


def _joined(*parts: NDArray[np.generic]) -> Bytes:
    """The bytes of the last axes, one part after another."""
    return np.concatenate([np.ascontiguousarray(part).view(np.uint8) for part in parts], axis=-1)


def _nibbles(q: Integers) -> Bytes:
    """Of 2n integers n bytes: the first in the low nibbles."""
    low, high = np.split(q.astype(np.uint8), 2, axis=-1)
    return np.bitwise_or(low, np.left_shift(high, 4, dtype=np.uint8), dtype=np.uint8)


def _q8_0(weights: Floats) -> Bytes:
    scale, q = q8_0(weights)
    return _joined(scale[..., None], np.clip(q, -127, 127).astype(np.int8).reshape(*scale.shape, 32))


def _offset(weights: Floats, zero: int) -> tuple[NDArray[np.float16], Integers]:
    """Scales, and integers from 0 on of which the furthest weight is 0."""
    blocks = _blocks(weights, 32)
    scale = _furthest(blocks) / np.float32(-zero)
    inverse = _divided(ONE, scale, np.isfinite(ONE / scale))
    q = np.trunc(blocks * inverse + np.float32(zero + 0.5))
    return scale.astype(np.float16), np.minimum(q, 2 * zero - 1).astype(np.int32)


def _q4_0(weights: Floats) -> Bytes:
    scale, q = _offset(weights, 8)
    return _joined(scale, _nibbles(q))


def _q5_0(weights: Floats) -> Bytes:
    scale, q = _offset(weights, 16)
    return _joined(scale, np.packbits(q >> 4, axis=-1, bitorder="little"), _nibbles(q & 15))


def _best_line(x: Floats) -> tuple[Floats, Floats]:
    """Of each 32 weights [..., 32] scale and minimum, by regression on 21 roundings of them; [...]."""
    zero = np.zeros(x.shape[:-1], np.float32)
    squares, sum_w, sum_x = zero, zero, zero
    for i in range(32):
        squares = fma(x[..., i], x[..., i], squares)
    weight = np.sqrt(squares / np.float32(32))[..., None] + np.abs(x)
    for i in range(32):
        sum_w = sum_w + weight[..., i]
        sum_x = fma(weight[..., i], x[..., i], sum_x)
    low, most = np.minimum(x.min(axis=-1), np.float32(0)), x.max(axis=-1)
    scale, explained = (most - low) / np.float32(15), zero - 1
    for candidate in range(21):
        inverse = np.float32(140 + candidate) / np.float32(10) / (most - low)
        q = np.clip(np.rint(inverse[..., None] * (x - low[..., None])), 0, 15)
        sum_q, sum_qq, sum_qx = zero, zero, zero
        for i in range(32):
            wq = weight[..., i] * q[..., i]
            sum_q = fma(weight[..., i], q[..., i], sum_q)
            sum_qq = fma(wq, q[..., i], sum_qq)
            sum_qx = fma(wq, x[..., i], sum_qx)
        spread = fma(sum_w, sum_qq, -(sum_q * sum_q))
        ours = fma(sum_w, sum_qx, -(sum_x * sum_q)) / spread
        our_low = fma(sum_qq, sum_x, -(sum_q * sum_qx)) / spread
        ours = np.where(our_low > 0, sum_qx / sum_qq, ours)
        our_low = np.where(our_low > 0, np.float32(0), our_low)
        gain = fma(ours, sum_qx, our_low * sum_x)
        is_better = (spread > 0) & (gain > explained)
        scale, low = np.where(is_better, ours, scale), np.where(is_better, our_low, low)
        explained = np.where(is_better, gain, explained)
    return scale, low


def _six_bits(x: Floats) -> tuple[NDArray[np.float16], Floats]:
    """Eight non-negative numbers [..., 8] as a float16 [..., 1] times integers to 63."""
    most = x.max(axis=-1, keepdims=True)
    unit = (np.maximum(most, 0) / np.float32(63)).astype(np.float16)
    q = np.clip(np.rint(np.float32(63) / most * x), 0, 63)
    return unit, np.where(unit == 0, np.float32(0), q)


def _folded(scales: Integers, mins: Integers) -> Bytes:
    """Eight scales and eight minimums of 6 bits in twelve bytes."""
    low, high = slice(None, 4), slice(4, None)
    first = scales[..., low] | (scales[..., high] >> 4 << 6)
    second = mins[..., low] | (mins[..., high] >> 4 << 6)
    third = (scales[..., high] & 15) | ((mins[..., high] & 15) << 4)
    return np.concatenate([first, second, third], axis=-1).astype(np.uint8)


def _q4_k(weights: Floats) -> Bytes:
    x = _blocks(weights, 256).reshape(len(weights), -1, 8, 32)
    scale, low = _best_line(x)
    (d, scales), (d_min, mins) = _six_bits(scale), _six_bits(-low)
    step = (d.astype(np.float32) * scales)[..., None]
    shift = (d_min.astype(np.float32) * mins)[..., None]
    q = np.where(step == 0, np.float32(0), np.clip(np.rint((x + shift) / step), 0, 15)).astype(np.int32)
    nibbles = _nibbles(q.reshape(*q.shape[:2], 4, 64)).reshape(*q.shape[:2], 128)
    return _joined(d, d_min, _folded(scales.astype(np.int32), mins.astype(np.int32)), nibbles)


def _best_scale(x: Floats) -> Floats:
    """Of each 16 weights [..., 16] the scale, by regression on 19 roundings of them; [...]."""
    zero = np.zeros(x.shape[:-1], np.float32)
    most = _furthest(x)[..., 0]
    is_zero = np.abs(most) < np.float32(1e-15)
    scale, explained = zero, zero
    for tenths in (0, *range(-9, 0), *range(1, 10)):  # the first of equals is taken
        inverse = np.float32(-(320 + tenths)) / np.float32(10) / most
        q = np.clip(np.rint(inverse[..., None] * x), -32, 31)
        sum_qx, sum_qq = zero, zero
        for i in range(16):
            wq = x[..., i] * x[..., i] * q[..., i]
            sum_qx, sum_qq = fma(wq, x[..., i], sum_qx), fma(wq, q[..., i], sum_qq)
        ours = sum_qx / sum_qq
        is_better = (sum_qq > 0) & ~is_zero & (sum_qx * sum_qx > explained * sum_qq)
        scale, explained = np.where(is_better, ours, scale), np.where(is_better, ours * sum_qx, explained)
    return scale


def _q6_k(weights: Floats) -> Bytes:
    x = _blocks(weights, 256).reshape(len(weights), -1, 16, 16)
    scale = _best_scale(x)
    most = _furthest(scale)
    is_zero = np.abs(most) < np.float32(1e-15)
    inverse = np.float32(-128) / most
    d = _divided(ONE, inverse, ~is_zero).astype(np.float16)
    scales = np.where(is_zero, np.float32(0), np.clip(np.rint(inverse * scale), -128, 127))
    step = (d.astype(np.float32) * scales)[..., None]
    q = np.where(step == 0, np.float32(0), np.clip(np.rint(x / step), -32, 31)).astype(np.int32) + 32
    groups = q.reshape(*q.shape[:2], 2, 4, 32)  # of each half
    low = np.concatenate([_nibbles((groups & 15)[..., [0, 2], :].reshape(*q.shape[:2], 2, 64)),
                          _nibbles((groups & 15)[..., [1, 3], :].reshape(*q.shape[:2], 2, 64))], axis=-1)  # fmt: skip
    high = (groups >> 4 << 2 * np.arange(4)[:, None]).sum(axis=-2).astype(np.uint8)
    flat = (*q.shape[:2], -1)
    return _joined(low.reshape(flat), high.reshape(flat), scales.astype(np.int8), d)


_ENCODE: Mapping[TensorType, Callable[[Floats], Bytes]] = {
    TensorType.F32: lambda weights: weights.view(np.uint8),
    TensorType.F16: lambda weights: weights.astype(np.float16).view(np.uint8),
    TensorType.BF16: lambda weights: (bfloat16(weights).view(np.uint32) >> 16).astype(np.uint16).view(np.uint8),
    TensorType.Q8_0: _q8_0,
    TensorType.Q6_K: _q6_k,
    TensorType.Q5_0: _q5_0,
    TensorType.Q4_K: _q4_k,
    TensorType.Q4_0: _q4_0,
}
TARGETS = tuple(_ENCODE)
