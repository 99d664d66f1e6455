"""Finds the feature whose ids a computed index is: exporters wrap negative ids before they look them up."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .tensor import Steps

# So many ids are tried at a time.
CHUNK = 1 << 20

FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "truncate": np.trunc,
    "abs": np.abs,
    "negate": np.negative,
    "relu": lambda x: np.maximum(x, 0),
    "sign": np.sign,
    "not": lambda x: x == 0,
}

COMBINATIONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "equal": np.equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "modulo": np.mod,
    "remainder": np.fmod,
}


@dataclasses.dataclass
class Tried:
    """A value for ids that are tried: `[ids, width]`, or `[ids, 1]` if all columns are alike; and for each column the
    one of the source that it depends on, -1 for none.
    """

    numbers: np.ndarray
    origin: np.ndarray

    def columns(self, places: np.ndarray) -> Tried:
        numbers = self.numbers if self.numbers.shape[1] == 1 else self.numbers[:, places]
        return Tried(numbers, self.origin[places])


def source_of(steps: Steps, value: int, columns: np.ndarray, rows: int) -> tuple[int, np.ndarray] | None:
    """The source (a feature, or the scenario) and its columns whose whole numbers columns of a value are, as far as
    they are rows of a table of `rows`; None if they are not, or if what is no row becomes one, as by a remainder.
    """
    if value < 0:
        return None
    by_name = {step["name"]: number for number, step in enumerate(steps.steps)}
    while steps.steps[value].get("function") == "truncate":
        value = by_name[steps.steps[value]["inputs"][0]]
    sources = found(steps, value, by_name)
    if sources is None or len(sources) != 1:
        return None
    (source,) = sources
    if value == source:
        return source, columns
    known = steps.sources.get(source)
    chunks = (np.arange(start, min(start + CHUNK, rows)) for start in range(0, rows, CHUNK))
    for ids in [outside(rows), *chunks]:
        ids = ids[:, None].astype(np.float64)
        tried = attempt(steps, value, source, ids, by_name, {})
        if tried is None:
            return None
        tried = tried.columns(columns)
        if (tried.origin < 0).any() or not fits(ids, tried.numbers, rows):
            return None
        if known is not None and is_clamped(ids, tried.numbers, rows):
            if known.feature in steps.numeric:
                return None
            known.is_clamped = True
    return source, tried.origin


def outside(rows: int) -> np.ndarray:
    """Some numbers that are no rows."""
    near = np.arange(1, 4097)
    far = 2 ** np.arange(13, 48)
    return np.concatenate([rows - 1 + near, rows - 1 + far, rows + far, -near, -far])


def fits(ids: np.ndarray, numbers: np.ndarray, rows: int) -> bool:
    """Whether ids become themselves. What is no row stays none; all negative ones may count from the end, and any may
    become row 0, that of unknown ids.
    """
    is_row = (ids >= 0) & (ids < rows)
    is_none = (numbers < 0) | (numbers >= rows)
    is_same = numbers == ids
    is_below = (ids < 0) & (ids >= -rows)
    if is_below.any() and (numbers == ids + rows)[np.broadcast_to(is_below, numbers.shape)].all():
        is_none |= is_below
    return bool(np.where(is_row, is_same, is_none | ((ids < 0) & (numbers == 0))).all())


def is_clamped(ids: np.ndarray, numbers: np.ndarray, rows: int) -> bool:
    """Whether negative ids become row 0 otherwise than by counting from the end."""
    return bool(((ids < 0) & (numbers == 0) & (ids != -rows)).any())


def found(steps: Steps, value: int, by_name: Mapping[str, int]) -> set[int] | None:
    """The sources that a value is computed from by steps that keep columns apart; None if there are other steps."""
    sources, seen, stack = set(), set(), [value]
    while stack:
        value = stack.pop()
        if value in seen:
            continue
        seen.add(value)
        step = steps.steps[value]
        if value in steps.sources or value == steps.scenario:
            sources.add(value)
        elif step["op"] in ("function", "combine", "choose", "view", "concat"):
            stack.extend(by_name[name] for name in step["inputs"])
        elif step["op"] != "constant":
            return None
    return sources


def attempt(
    steps: Steps, value: int, source: int, ids: np.ndarray, by_name: Mapping[str, int], known: dict[int, Tried | None]
) -> Tried | None:
    """A value where every column of the source is the same id."""
    if value not in known:
        step = steps.steps[value]
        if value == source:
            known[value] = Tried(ids, np.arange(steps.widths[value]))
        elif step["op"] == "constant":
            flat = steps.tensors[step["tensor"]].reshape(1, -1).astype(np.float64)
            known[value] = Tried(flat, np.full(flat.size, -1))
        else:
            inputs = [attempt(steps, by_name[name], source, ids, by_name, known) for name in step["inputs"]]
            known[value] = None if None in inputs else computed(step, inputs, steps.widths[value])
    return known[value]


def computed(step: Mapping[str, Any], inputs: list[Tried], width: int) -> Tried | None:
    op, name = step["op"], step.get("function")
    if op == "view":
        places = np.full((), step["start"])
        for size, stride in zip(step["sizes"], step["strides"]):
            places = places[..., None] + np.arange(size) * stride
        return inputs[0].columns(places.ravel())
    if op == "concat":
        sizes = [(max(len(one.numbers) for one in inputs), len(one.origin)) for one in inputs]
        numbers = np.concatenate([np.broadcast_to(one.numbers, size) for one, size in zip(inputs, sizes)], axis=1)
        return Tried(numbers, np.concatenate([one.origin for one in inputs]))
    if op == "combine" and len(inputs[1].origin) not in (1, width):
        part = len(inputs[1].origin)
        places = np.arange(width) // (width // part) if step.get("each") else np.arange(width) % part
        inputs = [inputs[0], inputs[1].columns(places)]
    origin = joined([one.origin for one in inputs], width)
    if origin is None:
        return None
    numbers = [one.numbers for one in inputs]
    if op == "choose":
        return Tried(np.where(numbers[0] != 0, numbers[1], numbers[2]), origin)
    if op == "combine" and name in COMBINATIONS:
        return Tried(COMBINATIONS[name](*numbers).astype(np.float64), origin)
    if name == "affine":
        return Tried(numbers[0] * step["scale"] + step["shift"], origin)
    if name == "clip":
        return Tried(np.clip(numbers[0], step.get("low"), step.get("high")), origin)
    if op == "function" and name in FUNCTIONS:
        return Tried(FUNCTIONS[name](numbers[0]).astype(np.float64), origin)
    return None


def joined(origins: list[np.ndarray], width: int) -> np.ndarray | None:
    """The column that each column depends on; None if one depends on several."""
    known = np.full(width, -1)
    for origin in origins:
        if ((known >= 0) & (origin >= 0) & (known != origin)).any():
            return None
        known = np.maximum(known, origin)
    return known
