"""Integers with a scale per row: `value = integer * scale[row]`, as model files hold tables and weights of dense layers.

int4 is two values a byte along the last axis, the lower half first, in two's complement; int12 and int16, which has 15 bits,
lie in 16. An output of int12 has as many bits as its squares allow, so that sums with the inputs of a layer fit 32. The scale of
a row is not its largest magnitude by the largest integer: other ranges are tried too, and the one with the least squared error
is taken, its scale being the one that fits the integers best. The engine's `polyscore quantize` does the same.
"""

from __future__ import annotations

import numpy as np

LARGEST = {"int4": 7, "int8": 127, "int12": 16383, "int16": 16383}
# The most squares of the integers of an output.
SQUARES = {"int12": 46340.0**2}
TYPES = {"int4": "U8", "int8": "I8", "int12": "I16", "int16": "I16"}
# What the integers reach to, in hundredths of a row's largest magnitude; the first wins ties.
REACHES = (100, 112, 109, 106, 103, 97, 94, 91, 88, 85, 82, 79, 76, 73, 70, 67, 64, 61, 58, 55, 52)
# Gains that differ by less, relatively, differ by rounding.
SAME = 1e-12
# Numbers that are worked on at a time.
CHUNK = 1 << 20


def quantize(values: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Integers `[rows, columns]`, int16, and scales `[rows]`, f32, of `values` `[rows, columns]`, finite."""
    rows, columns = values.shape
    integers, scales = np.zeros((rows, columns), np.int16), np.zeros(rows, np.float32)
    step = max(1, CHUNK // max(columns, 1))
    for start in range(0, rows, step):
        part = slice(start, start + step)
        integers[part], scales[part] = fit(values[part].astype(np.float64), kind)
    return integers, scales


def fit(values: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    largest = np.abs(values).max(axis=1, initial=0.0)
    allowed = SQUARES.get(kind, np.inf)
    # Whatever rounding adds.
    norm = np.sqrt(allowed) - np.sqrt(values.shape[1]) / 2
    units = np.sqrt(np.square(values / np.where(largest > 0.0, largest, 1.0)[:, None]).sum(axis=1))
    most = np.minimum(LARGEST[kind], np.floor(norm / np.maximum(units, 1.0)))
    best, gains, scales = np.zeros_like(values), np.zeros(len(values)), np.zeros(len(values))
    for reach in REACHES:
        per_step = most / np.where(largest > 0.0, largest * (reach / 100.0), np.inf)
        steps = np.rint(np.clip(values * per_step[:, None], -most[:, None], most[:, None]))
        products, squares = (values * steps).sum(axis=1), np.maximum((steps * steps).sum(axis=1), 1.0)
        # What the best scale of these integers takes away from the squared error of zeros.
        gain = products * products / squares
        is_better = (gain > gains * (1.0 + SAME)) & (squares <= allowed)
        best[is_better], gains[is_better], scales[is_better] = (
            steps[is_better], gain[is_better], (products / squares)[is_better])
    limit = np.finfo(np.float32).max / np.float32(LARGEST[kind] + 1)
    return best.astype(np.int16), np.minimum(scales, limit).astype(np.float32)


def pack(integers: np.ndarray, kind: str) -> np.ndarray:
    """The elements as a file holds them."""
    if kind == "int4":
        return ((integers[:, 0::2] & 15) | ((integers[:, 1::2] & 15) << 4)).astype(np.uint8)
    return integers.astype(np.int8 if kind == "int8" else np.int16)


def unpack(stored: np.ndarray) -> np.ndarray:
    """The integers `[rows, columns]` of what a file holds."""
    if stored.dtype == np.uint8:
        halves = np.stack([stored & 15, stored >> 4], axis=-1).reshape(len(stored), -1).astype(np.int16)
        return np.where(halves > 7, halves - 16, halves)
    return stored.astype(np.int16)
