"""The arithmetic of a product with quantised weights, step by step as the kernels promise it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from blocks import Floats, Integers, Parts

BLOCK = 32


def quantised(x: Floats) -> tuple[Integers, Floats]:
    """Activations [tokens, columns] as integers -127 .. 127, and the scale of each 32: max |x| / 127."""
    blocks = x.reshape(len(x), -1, BLOCK)
    top = np.abs(blocks).max(axis=2)
    # Below 1e-30 there is no float32 to multiply by: the block counts as zeros.
    inverse = np.divide(np.float32(127), top, where=top > np.float32(1e-30), out=np.zeros_like(top))
    q = np.rint(blocks * inverse[..., None]).astype(np.int32)
    return q.reshape(x.shape), top * np.float32(1 / 127)


def int8_product(parts: Parts, x: Floats) -> Floats:
    """x [tokens, columns] . weights^T [columns, rows]: integer dot products, added up in float32 in order of columns."""
    q, x_scale = quantised(x)
    width = 16 if parts.has_own_halves else BLOCK
    y = np.zeros((len(x), len(parts.q)), np.float32)
    for first in range(0, x.shape[1], width):
        columns, group, block = slice(first, first + width), first // 16, first // BLOCK
        dots = (q[:, columns].astype(np.float64) @ parts.q[:, columns].T).astype(np.float32)
        y = fma(dots, x_scale[:, block, None] * parts.scale[:, group], y)
        if parts.has_least:
            halves = q[:, columns].reshape(len(x), -1, 16).sum(axis=2).astype(np.float32) * x_scale[:, block, None]
            y = fma(parts.least[:, group], halves.sum(axis=1, dtype=np.float32)[:, None], y)
    return y


def fma(a: Floats, b: Floats, c: Floats) -> Floats:
    """a * b + c, rounded once.

    The product is exact in float64. The sum is rounded to odd there, so that rounding it again to float32 does no harm.
    """
    product = a.astype(np.float64) * b
    total = np.asarray(product + c)
    part = total - product
    error = (product - (total - part)) + (c - part)
    is_even = total.view(np.int64) & 1 == 0
    odd = np.nextafter(total, np.where(error > 0, np.inf, -np.inf))
    return np.where(is_even & (error != 0), odd, total).astype(np.float32)


def bfloat16(x: Floats) -> Floats:
    """The nearest bfloat16 of finite numbers, of two the even one, as float32."""
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


def bfloat16_product(weights: Floats, x: Floats) -> Floats:
    """x . weights^T of rounded numbers: pairs of columns in order, the odd column of each first, one rounding a product."""
    n_columns = x.shape[1] + x.shape[1] % 2
    w, v = (np.zeros((len(part), n_columns), np.float32) for part in (weights, x))
    w[:, : x.shape[1]], v[:, : x.shape[1]] = bfloat16(weights), bfloat16(x)
    y = np.zeros((len(x), len(weights)), np.float32)
    for column in range(0, n_columns, 2):
        for each in (column + 1, column):
            y = fma(v[:, each, None], w[:, each], y)
    return y


def q8_0(weights: Floats) -> tuple[Floats, Integers]:
    """Scales float16 [rows, blocks] and integers [rows, columns] of the format, as ggml's quantiser makes them."""
    blocks = weights.reshape(len(weights), -1, BLOCK)
    scale = np.abs(blocks).max(axis=2, keepdims=True) / np.float32(127)
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.float32(1) / scale
    inverse[np.isinf(inverse)] = 0  # float16 holds nothing of such a scale
    scaled = blocks * inverse
    whole = np.trunc(scaled)
    whole += np.where(np.abs(scaled - whole) >= np.float32(0.5), np.copysign(np.float32(1), scaled), np.float32(0))
    return scale[..., 0].astype(np.float16), whole.astype(np.int32).reshape(weights.shape)
