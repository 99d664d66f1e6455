"""What the importer knows of a tensor of an ONNX graph: the graph is read as at a batch of one row, with a mark where
the rows are, so that whatever would mix rows shows.

The elements of a tensor are numbers, or references to columns of values of the new graph; moving data moves references,
and costs nothing. `Steps.materialise` makes a value of a tensor when arithmetic needs one.

Numbers that come from the batch size (by `Shape`) are known for two sizes of the batch, `BATCHES`: where both agree the
number does not depend on the batch, and a dimension is the rows' if it is `k` times the size in both. One size is a
large prime and one is small, so that a comparison of the batch with a number between them shows, too.
"""

from __future__ import annotations

import bisect
import dataclasses
import json
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

BATCHES = (1_000_003, 2)

# So many parts of values are put side by side; more are picked by a list of places. Of more runs none are looked for.
MOST_PIECES = 16
MOST_RUNS = 4096

# How many lengths of a repeated part are tried.
MOST_PERIODS = 8

# The value that stands for the number of a row itself; no step can use it, only a gather of each row from its own row.
ROW_NUMBER = -1

# Limits of the file: the rank of tensors, and their names, some of which it keeps for itself.
MAX_RANK = 8
MAX_TENSOR_NAME = 240
RESERVED = ("padding.", "golden.")


class OnnxError(ValueError):
    """The graph cannot be converted; the message names the guilty node, tensor, input or option."""


@dataclasses.dataclass(frozen=True)
class Row:
    """The dimension `axis` of the ONNX tensor is `before * rows * after`; the local one is `before * after`."""

    axis: int
    before: int = 1
    after: int = 1


@dataclasses.dataclass
class Tensor:
    """A tensor at a batch of one row: `constant` has its numbers, or `values` and `columns` say what elements refer to.

    `other` are the numbers at the second size of the batch, where they are not the same.
    """

    name: str
    dtype: np.dtype
    row: Row | None = None
    constant: np.ndarray | None = None
    other: np.ndarray | None = None
    values: np.ndarray | None = None
    columns: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The local shape."""
        return (self.constant if self.constant is not None else self.columns).shape

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def is_constant(self) -> bool:
        return self.constant is not None

    def dims(self, batch: int) -> tuple[int, ...]:
        """The ONNX shape at a size of the batch."""
        dims = list(self.shape)
        if self.row is not None:
            dims[self.row.axis] *= batch
        return tuple(dims)

    def move(self, name: str, row: Row | None, move: Any) -> Tensor:
        """The tensor whose elements are those of `move(array)`, for a function that only moves elements."""
        if self.is_constant:
            other = None if self.other is None else move(self.other)
            return Tensor(name, self.dtype, row, constant=move(self.constant), other=other)
        return Tensor(name, self.dtype, row, values=move(self.values), columns=move(self.columns))

    def is_single(self) -> bool:
        """Whether all elements are one and the same."""
        if self.size == 0:
            return False
        arrays = [self.constant] if self.is_constant else [self.values, self.columns]
        return all((array == array.flat[0]).all() for array in arrays)


def constant(name: str, array: np.ndarray, other: np.ndarray | None = None, row: Row | None = None) -> Tensor:
    if other is not None and np.array_equal(array, other):
        other = None
    return Tensor(name, array.dtype, row, constant=array, other=other)


def of_value(name: str, value: int, shape: Sequence[int], dtype: Any, row: Row | None) -> Tensor:
    """The tensor that has all columns of a value, in order."""
    columns = np.arange(int(np.prod(shape, dtype=np.int64)), dtype=np.int64).reshape(shape)
    return Tensor(name, np.dtype(dtype), row, values=np.full(columns.shape, value, dtype=np.int64), columns=columns)


def is_same_for_rows(tensor: Tensor) -> bool:
    """Whether a tensor with rows has the same numbers along their axis, so that any mark of as many rows is right."""
    if not tensor.is_constant or tensor.other is not None:
        return False
    return bool((tensor.constant == tensor.constant.take([0], tensor.row.axis)).all())


def agreed(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors whose last axes are the same, with one mark if they can have one."""
    marked = [tensor for tensor in tensors if tensor.row is not None]
    if len({dataclasses.replace(tensor.row, axis=tensor.row.axis - len(tensor.shape)) for tensor in marked}) < 2:
        return list(tensors)
    leader = next((tensor for tensor in marked if not is_same_for_rows(tensor)), marked[0])
    count = leader.row.before * leader.row.after
    result = []
    for tensor in tensors:
        row = tensor.row
        if row is not None and row.before * row.after == count and is_same_for_rows(tensor):
            tensor = dataclasses.replace(tensor, row=dataclasses.replace(leader.row, axis=row.axis))
        result.append(tensor)
    return result


def reshape_row(
    row: Row, shape: Sequence[int], dims: Sequence[int], others: Sequence[int]
) -> tuple[Row, list[int]] | None:
    """The mark and the local shape of a tensor with `row` and local `shape` that becomes `dims`, `others` at the second
    size of the batch. None if the new shape does not keep the rows apart.
    """
    ahead = int(np.prod(shape[: row.axis], dtype=np.int64)) * row.before
    local = list(dims)
    axes = [axis for axis, (a, b) in enumerate(zip(dims, others, strict=True)) if a != b]
    if len(axes) != 1:
        return None
    axis = axes[0]
    count, rest = divmod(dims[axis], BATCHES[0])
    if rest or others[axis] != count * BATCHES[1]:
        return None
    local[axis] = count
    outer = int(np.prod(dims[:axis], dtype=np.int64))
    if outer == 0 or ahead % outer or count % max(ahead // outer, 1) or ahead // outer == 0:
        return None
    before = ahead // outer
    return Row(axis, before, count // before), local


@dataclasses.dataclass
class Source:
    """The numbers of a feature, `width` of them per row; `tables` are the tables they are looked up in: for each its
    rows and the columns that are. Where it `is_clamped`, a lookup takes row 0 for negative ones.
    """

    feature: str
    width: int
    is_integer: bool
    tables: dict[str, tuple[int, set[int]]] = dataclasses.field(default_factory=dict)
    is_clamped: bool = False


class Steps:
    """The graph that is being written: steps, the width and rate of the value of each, and the tensors they name.

    `sources` are the values that are numbers of features, `scenario` the value that is the number of the scenario, of
    which there are `scenarios` (None: not known yet). `learned` are the tensors that the next training may change;
    `derived` are those of them that the graph computes of others. The features `numeric` have negative numbers that
    mean something, and are no ids where a lookup clamps them.
    """

    def __init__(self, numeric: frozenset[str] = frozenset()) -> None:
        self.numeric = numeric
        self.steps: list[dict[str, Any]] = []
        self.widths: list[int] = []
        self.rates: list[str] = []
        self.tensors: dict[str, np.ndarray] = {}
        self.whole_tensors: set[str] = set()
        self.sources: dict[int, Source] = {}
        self.scenario: int | None = None
        self.scenarios: list[int] | None = None
        self._scenario_table: str | None = None
        self.learned: set[str] = set()
        self.derived: set[str] = set()
        self._known: dict[str, int] = {}
        self._names: set[str] = set()
        self._made: dict[bytes, int] = {}

    def add(self, op: str, inputs: Sequence[int], width: int, name: str, rate: str | None = None, **keys: Any) -> int:
        """The value of a new step, or of an equal one. `rate` is for steps without inputs."""
        named = [self.steps[value]["name"] for value in inputs]
        key = json.dumps([op, named, keys], sort_keys=True)
        if key in self._known:
            return self._known[key]
        step: dict[str, Any] = {"name": self._unique(name), "op": op}
        if inputs:
            step["inputs"] = named
        step.update({key: value for key, value in keys.items() if value is not None})
        self.steps.append(step)
        self.widths.append(width)
        self.rates.append(rate or join([self.rates[value] for value in inputs]))
        self._known[key] = len(self.steps) - 1
        return self._known[key]

    def source(self, feature: str, width: int, is_integer: bool, rate: str) -> int:
        """The value of the numbers of a feature."""
        value = self.add("feature", [], width, feature, rate=rate, feature=feature)
        self.sources[value] = Source(feature, width, is_integer)
        return value

    def embedding(
        self, source: int, table: str, rows: int, width: int, name: str, columns: Sequence[int] | None = None
    ) -> int:
        """The rows of a table for all numbers of a source, of which `columns` (None: all) are known to be its rows."""
        known = self.sources[source]
        looked_up = known.tables.setdefault(table, (rows, set()))[1]
        looked_up.update(range(known.width) if columns is None else columns)
        return self.add(
            "embedding", [], known.width * width, name, rate=self.rates[source], feature=known.feature, table=table
        )

    def scenario_source(self, name: str, ids: list[int] | None) -> int:
        """The value of the number of the scenario: one of `ids`, or (None) of as many as a table has rows."""
        self.scenarios = ids
        self.scenario = self.add("scenario", [], 1, name, rate="scenario", tensor=self._tensor_name(f"{name}.ids"))
        return self.scenario

    def scenario_table(self, table: str, rows: int, width: int, name: str) -> int | None:
        """The scenario's row of a table; None if its rows are not the scenarios."""
        if self.scenarios is None:
            self.scenarios, self._scenario_table = list(range(rows)), table
        if self._scenario_table is not None and len(self.scenarios) != rows:
            raise OnnxError(
                f"scenario: `{self.steps[self.scenario]['name']}` is a row of `{self._scenario_table}`, which has"
                f" {len(self.scenarios)}, and of `{table}`, which has {rows}; give its numbers, as in"
                " scenarios=[0, 1, 2]"
            )
        if self.scenarios != list(range(rows)):
            return None
        return self.add("scenario", [], width, name, rate="scenario", tensor=table)

    def weight(self, name: str, array: np.ndarray) -> str:
        """Puts a tensor of the file under its name, or under a new one if another has that; gives the name.

        Characters that the file does not allow become `_`. Finite numbers beyond f32 become the largest of f32.
        """
        array = np.asarray(array)
        is_whole = not np.issubdtype(array.dtype, np.floating) and array.dtype.kind != "V"
        if array.dtype != np.float32:
            array = as_f32(array)
        if array.ndim > MAX_RANK:
            array = array.reshape(-1)
        base = self._tensor_name(name)
        name, number = base, 1
        while name in self.tensors:
            if is_same(self.tensors[name], array):
                return name
            number += 1
            name = f"{base}.{number}"
        self.tensors[name] = array
        if is_whole:
            self.whole_tensors.add(name)
        return name

    def passes_on(self, tensor: Tensor) -> bool:
        """Whether what is computed of a constant is learned; a number alone is taken for one of the design."""
        return tensor.name in self.learned and (tensor.size > 1 or tensor.name in self.derived)

    def derive(self, name: str) -> None:
        """Makes a constant one that is learned, because it is computed of such."""
        self.learned.add(name)
        self.derived.add(name)

    def constant(self, name: str, array: np.ndarray) -> int:
        """A value of numbers."""
        array = np.asarray(array)
        if np.isnan(array.astype(np.float64)).any():
            raise OnnxError(f"tensor `{name}`: has values that are not a number")
        tensor = self.weight(name, array)
        return self.add("constant", [], int(array.size), tensor, rate="model", tensor=tensor)

    def materialise(self, tensor: Tensor, node: str) -> int:
        """The value with the elements of a tensor, row-major; `node` is named in errors."""
        if tensor.is_constant:
            if tensor.other is not None:
                raise OnnxError(f"{node}: computes with the number of rows of the batch: a score would depend on it")
            return self.constant(tensor.name, tensor.constant)
        if (tensor.values == ROW_NUMBER).any():
            detail = "a score would depend on its place in the batch"
            raise OnnxError(f"{node}: computes with the number of a row: {detail}")
        values, columns = tensor.values.ravel(), tensor.columns.ravel()
        key = values.tobytes() + columns.tobytes()
        if key not in self._made:
            self._made[key] = self._make(values, columns, tensor.shape, tensor.name)
        return self._made[key]

    def _make(self, values: np.ndarray, columns: np.ndarray, shape: Sequence[int], name: str) -> int:
        starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
        if len(starts) == 1:
            return self._view(int(values[0]), columns, shape, name)
        groups = len(values) // period(values)
        if groups > 1:
            parts = interleaved(values, columns, groups)
            made = [self._make(v, c, (len(v),), name) for v, c in parts]
            return self.add("interleave", made, len(values), name, groups=groups, widths=part_widths(values, groups))
        found = sections(values) if len(starts) <= MOST_RUNS else []
        if not found or sum(not self._is_whole(values[a:b], columns[a:b]) for a, b in found) > MOST_PIECES:
            return self._picked(values, columns, name)
        parts = [self._make(values[a:b], columns[a:b], (b - a,), name) for a, b in found]
        return self.add("concat", parts, len(values), name)

    def _is_whole(self, values: np.ndarray, columns: np.ndarray) -> bool:
        """Whether the columns are a value that there is."""
        value, width = int(values[0]), len(columns)
        return width == self.widths[value] and bool((values == value).all() and (columns == np.arange(width)).all())

    def _picked(self, values: np.ndarray, columns: np.ndarray, name: str) -> int:
        """Columns of values in no order, by a constant list of places."""
        known, which = np.unique(values, return_inverse=True)
        widths = [self.widths[value] for value in known]
        whole = int(known[0]) if len(known) == 1 else self.add("concat", known.tolist(), sum(widths), name)
        places = np.cumsum([0, *widths[:-1]])[which] + columns
        index = self.constant(f"{name}.places", places)
        return self.add("pick", [whole, index], len(values), name, count=len(values))

    def _view(self, value: int, columns: np.ndarray, shape: Sequence[int], name: str) -> int:
        width = len(columns)
        if self._is_whole(np.full(width, value), columns):
            return value
        found = strided(columns, shape)
        if found is not None:
            sizes, strides = found
            keys = {"start": int(columns[0]), "sizes": sizes, "strides": strides}
            return self.add("view", [value], width, name, **keys)
        found = pieces(columns)
        if len(found) > MOST_PIECES:
            return self._picked(np.full(width, value), columns, name)
        parts = [
            self.add("view", [value], math.prod(sizes), name, start=start, sizes=sizes, strides=strides)
            for start, sizes, strides in found
        ]
        return self.add("concat", parts, width, name)

    def _tensor_name(self, name: str) -> str:
        legal = re.sub(r"[^A-Za-z0-9_.:/-]", "_", name)[-MAX_TENSOR_NAME:] or "tensor"
        return f"_{legal}" if legal.startswith(RESERVED) else legal

    def _unique(self, name: str) -> str:
        base, number = name or "step", 1
        name = base
        while name in self._names:
            number += 1
            name = f"{base}.{number}"
        self._names.add(name)
        return name


def is_same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether arrays have the same numbers; those that share their memory are not read."""
    if one.shape != other.shape:
        return False
    is_shared = one.ctypes.data == other.ctypes.data and one.strides == other.strides and one.dtype == other.dtype
    return is_shared or np.array_equal(one, other)


def as_f32(array: np.ndarray) -> np.ndarray:
    """Numbers as f32; finite ones stay finite."""
    with np.errstate(over="ignore"):
        small = array.astype(np.float32)
    if array.dtype == np.float64:
        limit = np.finfo(np.float32).max
        beyond = np.isinf(small) & np.isfinite(array)
        small = np.where(beyond, np.copysign(limit, array).astype(np.float32), small) if beyond.any() else small
    return small


def join(rates: Sequence[str]) -> str:
    """The rate of a value that reads values of these rates."""
    if "pair" in rates or ("request" in rates and "item" in rates):
        return "pair"
    return next((rate for rate in ("request", "item", "scenario") if rate in rates), "model")


def period(values: np.ndarray) -> int:
    """The least number of elements that repeats itself through all."""
    for length in np.flatnonzero(values == values[0])[1:].tolist():
        if len(values) % length == 0 and (values[length:] == values[:-length]).all():
            return length
    return len(values)


def sections(values: np.ndarray) -> list[tuple[int, int]]:
    """Where parts begin and end that have one value, or a few over and over: each the longest from where it begins."""
    runs = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    parts, at = [], 0
    while at < len(runs) - 1:
        start, end = runs[at], runs[at + 1]
        again = [place for place in runs[at + 1 : -1] if values[place] == values[start]]
        for place in again[:MOST_PERIODS]:
            length = place - start
            broken = np.flatnonzero(values[place:] != values[start : len(values) - length])
            whole = (int(broken[0]) if len(broken) else len(values) - place) // length + 1
            if whole > 1 and start + whole * length > end:
                end = start + whole * length
        parts.append((start, end))
        at = int(np.searchsorted(runs, end, side="right")) - 1
        if runs[at] < end:
            runs.insert(at + 1, end)
            at += 1
    return parts


def pieces(columns: np.ndarray) -> list[tuple[int, list[int], list[int]]]:
    """Views, as start, sizes and strides, that together give any columns in their order."""
    found: list[tuple[int, list[int], list[int]]] = []
    at = 0
    steps = np.diff(columns)
    breaks = [*(np.flatnonzero(np.diff(steps)) + 1).tolist(), len(steps)]
    while at < len(columns):
        length = breaks[bisect.bisect_right(breaks, at)] - at + 1 if at < len(steps) else 1
        found.append((int(columns[at]), [length], [int(steps[at]) if length > 1 else 1]))
        at += length
    count = 0
    while count != len(found):
        count = len(found)
        found = stacked(found)
    return found


def stacked(views: list[tuple[int, list[int], list[int]]]) -> list[tuple[int, list[int], list[int]]]:
    """Views of one form that begin in equal distances as one with an axis more."""
    made, at = [], 0
    while at < len(views):
        start, sizes, strides = views[at]
        end = at + 1
        while end < len(views) and views[end][1:] == (sizes, strides):
            if views[end][0] - views[end - 1][0] != views[at + 1][0] - start:
                break
            end += 1
        if end - at > 1:
            made.append((start, [end - at, *sizes], [views[at + 1][0] - start, *strides]))
        else:
            made.append(views[at])
        at = end
    return made


def part_widths(values: np.ndarray, groups: int) -> list[int]:
    first = values.reshape(groups, -1)[0]
    starts = np.flatnonzero(np.r_[True, first[1:] != first[:-1]])
    return [int(width) for width in np.diff([*starts, len(first)])]


def interleaved(values: np.ndarray, columns: np.ndarray, groups: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The parts of groups that all have the same values side by side: all groups of a part in order, or the part
    once if it is the same in all groups.
    """
    v, c = values.reshape(groups, -1), columns.reshape(groups, -1)
    parts, start = [], 0
    for width in part_widths(values, groups):
        part = slice(start, start + width)
        count = 1 if (c[:, part] == c[0, part]).all() else groups
        parts.append((v[:count, part].ravel(), c[:count, part].ravel()))
        start += width
    return parts


def strided(columns: np.ndarray, shape: Sequence[int]) -> tuple[list[int], list[int]] | None:
    """Sizes and strides, outermost first, of indices that are regular; None if they are not."""
    suffixes = [int(p) for p in np.cumprod([*shape][::-1], dtype=np.int64) if p > 1]
    sizes: list[int] = []
    strides: list[int] = []
    done, rest = 1, columns
    while len(rest) > 1:
        step = int(rest[1] - rest[0])
        breaks = np.flatnonzero(np.diff(rest) != step)
        longest = int(breaks[0]) + 1 if len(breaks) else len(rest)
        hints = [p // done for p in suffixes if p > done and p % done == 0]
        for length in [longest, *hints]:
            if length < 2 or length > longest or len(rest) % length:
                continue
            table = rest.reshape(-1, length)
            if (table - table[:, :1] == np.arange(length) * step).all():
                break
        else:
            return None
        sizes.insert(0, length)
        strides.insert(0, step)
        done *= length
        rest = table[:, 0]
    return sizes or [1], strides or [1]
