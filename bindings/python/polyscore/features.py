"""From raw values to table rows and network inputs, exactly as the engine does it.

Training goes through here, so that training and serving see the same numbers: integers, texts and floats become rows of
embedding tables, or dense inputs, by the transforms of the model's description. Unusual values are counted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xxhash

INTEGER_MISSING = np.iinfo(np.int64).min


class DescriptionError(ValueError):
    """The description is wrong; the message begins with the JSON path of the guilty thing."""


@dataclasses.dataclass
class Ids:
    """Table rows of one feature: `rows` one after the other, `length` per row of an `id` feature that has several; row `i`
    of a bag or sequence has `rows[offsets[i]:offsets[i + 1]]`."""

    rows: np.ndarray
    offsets: np.ndarray | None
    oov: int
    missing: int


@dataclasses.dataclass
class Dense:
    """Network inputs of one dense feature, float32 `[n, width]`."""

    values: np.ndarray
    missing: int


def is_missing(value: Any) -> bool:
    """None, a float that is not finite, the empty text, and the smallest 64-bit integer."""
    if value is None or (isinstance(value, str) and value == ""):
        return True
    if isinstance(value, (float, np.floating)):
        return not np.isfinite(value)
    return isinstance(value, (int, np.integer)) and int(value) == INTEGER_MISSING


def hash_row(value: int | str, transform: Mapping[str, Any]) -> int:
    """`offset + xxh64(bytes, seed) mod buckets`: the UTF-8 of a text, the 8 little-endian bytes of an integer."""
    data = value.encode() if isinstance(value, str) else int(value).to_bytes(8, "little", signed=True)
    digest = xxhash.xxh64_intdigest(data, seed=transform.get("seed", 0))
    return transform.get("offset", 0) + digest % transform["buckets"]


class Lookup:
    """How raw values of one feature find their rows in a table of `rows` rows."""

    def __init__(self, feature: Mapping[str, Any], rows: int):
        self.transform = feature["transform"]
        self.kind = self.transform["type"]
        self.rows = rows
        self.oov = feature["oov"]
        self.missing = feature.get("missing", self.oov)
        if self.missing is None:
            self.missing = self.oov
        offset = self.transform.get("offset", 0)
        if self.kind == "vocabulary":
            self.known = {value: offset + i for i, value in enumerate(self.transform["values"])}
        elif self.kind == "bucketize":
            self.boundaries = np.asarray(self.transform["boundaries"], dtype=np.float32)
        elif self.kind not in ("identity", "hash"):
            raise DescriptionError(f"features.{feature['name']}.transform.type: `{self.kind}` is not known")

    def row(self, value: Any) -> tuple[int, str]:
        """The row of a value, and whether it is "known", "oov" or "missing"."""
        if is_missing(value):
            return self.missing, "missing"
        if self.kind == "identity":
            known = int(value) if 0 <= int(value) < self.rows else None
        elif self.kind == "hash":
            known = hash_row(value, self.transform)
        elif self.kind == "vocabulary":
            known = self.known.get(value if isinstance(value, str) else int(value))
        else:
            count = int(np.searchsorted(self.boundaries, np.float32(value), side="right"))
            known = self.transform.get("offset", 0) + count
        return (self.oov, "oov") if known is None else (known, "known")


def is_ragged(feature: Mapping[str, Any]) -> bool:
    """Whether a row of the feature has any number of values."""
    return feature["kind"] in ("ids", "sequence")


def flat_ids(feature: Mapping[str, Any], rows: Any) -> Any:
    """The values of rows one after the other, for an `id` feature; one of several ids has a list of them per row."""
    length = feature.get("length", 1)
    if length == 1:
        return rows
    for place, row in enumerate(rows):
        if len(row) != length:
            raise ValueError(f"{feature['name']}[{place}]: has {len(row)} values, expected {length}")
    return rows.reshape(-1) if isinstance(rows, np.ndarray) else [value for row in rows for value in row]


def ids(feature: Mapping[str, Any], rows: int, values: Sequence[Any] | None, count: int) -> Ids:
    """The table rows of `count` rows of an `id`, `ids` or `sequence` feature; `values` None means that the column is absent.

    An absent bag is one missing value, an absent sequence is empty.
    """
    name = feature["name"]
    lookup = Lookup(feature, rows)
    if values is None:
        length = feature.get("length", 1)
        one = None if length == 1 else [None] * length
        values = {"id": [one], "ids": [[None]], "sequence": [[]]}[feature["kind"]] * count
    if len(values) != count:
        raise ValueError(f"{name}: has {len(values)} rows, expected {count}")
    flat, offsets = list(values if is_ragged(feature) else flat_ids(feature, values)), None
    if is_ragged(feature):
        flat = [value for bag in values for value in bag]
        offsets = np.concatenate([[0], np.cumsum([len(bag) for bag in values])]).astype(np.int64)
    if feature["kind"] == "sequence":
        longest = max((len(positions) for positions in values), default=0)
        if longest > feature["length"]:
            raise ValueError(f"{name}: has {longest} positions, at most {feature['length']} are allowed")
    found = [lookup.row(value) for value in flat]
    kinds = [kind for _, kind in found]
    table_rows = np.asarray([row for row, _ in found], dtype=np.int64)
    return Ids(table_rows, offsets, kinds.count("oov"), kinds.count("missing"))


def dense(feature: Mapping[str, Any], values: Any, count: int) -> Dense:
    """The inputs of `count` rows of a dense feature; `values` None means that the column is absent."""
    width = feature.get("width", 1)
    if values is None:
        raw = np.full((count, width), np.nan, dtype=np.float32)
    else:
        raw = np.asarray([[np.nan if v is None else v for v in np.atleast_1d(np.asarray(row, dtype=object))]
                          for row in values], dtype=np.float32).reshape(count, width)
    transform = feature.get("transform") or {"type": "none"}
    kind = transform["type"]
    with np.errstate(all="ignore"):
        if kind == "none":
            scaled = raw
        elif kind == "standardize":
            mean = np.asarray(transform["mean"], dtype=np.float32)
            reciprocal = (1.0 / np.asarray(transform["std"], dtype=np.float64)).astype(np.float32)
            scaled = (raw - mean) * reciprocal
        elif kind == "log1p":
            scaled = np.log1p(np.maximum(raw.astype(np.float64), 0.0)).astype(np.float32)
        elif kind == "minmax":
            low = np.asarray(transform["min"], dtype=np.float64)
            reciprocal = (1.0 / (np.asarray(transform["max"], dtype=np.float64) - low)).astype(np.float32)
            scaled = np.clip((raw - low.astype(np.float32)) * reciprocal, np.float32(0), np.float32(1))
        else:
            raise DescriptionError(f"features.{feature['name']}.transform.type: `{kind}` is not known")
    is_bad = ~np.isfinite(raw)
    missing = feature.get("missing")
    filled = np.where(is_bad, np.float32(0.0 if missing is None else missing), scaled)
    return Dense(filled.astype(np.float32), int(is_bad.sum()))


def scenario_row(description: Mapping[str, Any], scenario: str | int | None) -> int:
    """The row of the scenario tensors for a scenario's name or id: its own, its fallback's, or the model's fallback's."""
    scenarios = description.get("scenarios", [])
    if not scenarios:
        return 0
    owners = [s["name"] for s in scenarios if s.get("fallback") is None]
    by_key = {s["name"]: s for s in scenarios} | {s["id"]: s for s in scenarios}
    found = by_key.get(scenario) or by_key[description.get("fallback_scenario") or scenarios[0]["name"]]
    return owners.index(found.get("fallback") or found["name"])
