"""Host values as the arrays that the engine reads: integers, floats, texts, and the offsets of bags and sequences."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .features import INTEGER_MISSING, flat_ids, is_ragged


@dataclasses.dataclass
class Column:
    """Contiguous arrays: `values` int64, int32, float32 or (text) uint8; offsets int64 or None."""

    values: np.ndarray
    text_offsets: np.ndarray | None = None
    row_offsets: np.ndarray | None = None


def build(feature: Mapping[str, Any], rows: Sequence[Any] | np.ndarray) -> Column:
    """The column of a feature (an entry of a description) for `rows`: a value per row, for what has several a list per row.

    Arrays of the right type are taken without a copy. None is a missing value.
    """
    name = feature["name"]
    if feature["kind"] == "dense":
        return Column(floats(name, rows, feature.get("width", 1)))
    row_offsets = None
    if is_ragged(feature):
        bags = [np.atleast_1d(bag) if isinstance(bag, np.ndarray) else list(bag) for bag in rows]
        row_offsets = np.concatenate([[0], np.cumsum([len(bag) for bag in bags])]).astype(np.int64)
        rows = np.concatenate(bags) if bags and all(isinstance(b, np.ndarray) for b in bags) else [v for b in bags for v in b]
    else:
        rows = flat_ids(feature, rows)
    transform = feature["transform"]["type"]
    if transform == "bucketize":
        return Column(floats(name, rows, 1), row_offsets=row_offsets)
    if lists_texts(feature) or (transform in ("vocabulary", "hash") and any(isinstance(value, str) for value in rows)):
        return texts(name, rows, row_offsets)
    return Column(integers(name, rows), row_offsets=row_offsets)


def lists_texts(feature: Mapping[str, Any]) -> bool:
    """Whether the feature has a vocabulary of texts."""
    transform = feature["transform"]
    return transform["type"] == "vocabulary" and isinstance(transform["values"][0], str)


def is_integer(feature: Mapping[str, Any]) -> bool:
    """Whether a row of the feature is one value, which an integer can be."""
    is_single = feature["kind"] == "id" and width(feature) == 1
    return is_single and feature["transform"]["type"] != "bucketize" and not lists_texts(feature)


def width(feature: Mapping[str, Any]) -> int:
    """The values of a row of a feature; 1 where they are ragged."""
    key = {"dense": "width", "id": "length"}.get(feature["kind"])
    return feature.get(key, 1) if key else 1


def integers(name: str, values: Iterable[Any]) -> np.ndarray:
    if isinstance(values, np.ndarray) and values.dtype in (np.dtype(np.int64), np.dtype(np.int32)):
        return np.ascontiguousarray(values)
    out = []
    for place, value in enumerate(values):
        if value is None:
            out.append(INTEGER_MISSING)
        elif isinstance(value, (int, np.integer)) and not isinstance(value, bool):
            out.append(int(value))
        else:
            raise TypeError(f"{name}[{place}]: {type(value).__name__} is not an integer")
    try:
        return np.asarray(out, dtype=np.int64)
    except OverflowError:
        raise ValueError(f"{name}: has an integer beyond 64 bits") from None


def floats(name: str, values: Any, width: int) -> np.ndarray:
    if isinstance(values, np.ndarray) and values.dtype == np.float32:
        return np.ascontiguousarray(values).reshape(-1)
    rows = [list(row) if width > 1 or isinstance(row, (list, tuple)) else [row] for row in values]
    for place, row in enumerate(rows):
        if len(row) != width:
            raise ValueError(f"{name}[{place}]: has {len(row)} values, expected {width}")
        for value in row:
            is_number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
            if value is not None and not is_number:
                raise TypeError(f"{name}[{place}]: {type(value).__name__} is not a number")
    flat = [np.nan if value is None else value for row in rows for value in row]
    return np.asarray(flat, dtype=np.float32)


def texts(name: str, values: Iterable[Any], row_offsets: np.ndarray | None) -> Column:
    encoded = []
    for place, value in enumerate(values):
        if value is not None and not isinstance(value, str):
            raise TypeError(f"{name}[{place}]: {type(value).__name__} is not a text")
        encoded.append((value or "").encode())
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in encoded])]).astype(np.int64)
    return Column(np.frombuffer(b"".join(encoded), dtype=np.uint8), offsets, row_offsets)
