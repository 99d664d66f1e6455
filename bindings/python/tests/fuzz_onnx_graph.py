"""A random ONNX graph while it is made: its nodes and values, and of each tensor the shape, the rows and the range.

The range keeps numbers tame. The grain says what a comparison may look at: a tensor with a grain has multiples of it
and nothing else, in f32 exactly, so that no rounding decides how a comparison, a sort or a rounding comes out.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx

ROWS = 17

# The most elements of a tensor per row.
LARGEST = 400

# Above it a tensor is brought back, and exact numbers count as exact up to so many grains.
TAME = 60.0
GRAINS = float(1 << 20)

INTEGERS = ("int64", "int32", "uint8", "int8")
NUMBERS = ("float32", *INTEGERS)

MICROSOFT = "com.microsoft"

# Stands among the rates of a tensor that has the numbers of rows, which only a gather or scatter may read.
ROW_NUMBER = "row number"


class Skip(Exception):
    """An operator does not fit what there is."""


@dataclasses.dataclass(frozen=True)
class Row:
    """The ONNX dimension `axis` is `before * rows * after`."""

    axis: int
    before: int = 1
    after: int = 1


@dataclasses.dataclass(frozen=True)
class Tensor:
    """`shape` is that of one row, `rates` those of the inputs it depends on; `array` has the numbers of a constant."""

    name: str
    kind: str
    shape: tuple[int, ...]
    row: Row | None
    low: float
    high: float
    grain: float = 0.0
    rates: frozenset[str] = frozenset()
    array: np.ndarray | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def bound(self) -> float:
        return max(abs(self.low), abs(self.high))

    @property
    def is_home(self) -> bool:
        """Whether the rows are the first axis, alone."""
        return self.row == Row(0)

    def free_axes(self) -> list[int]:
        """The axes that do not have the rows."""
        return [axis for axis in range(self.rank) if self.row is None or axis != self.row.axis]


@dataclasses.dataclass
class Given:
    """An input: `values` are `[rows, *shape]`, or `[1, *shape]` if it is the request's or `is_single`.

    `columns` names the columns of a matrix; with `has_dynamic_length` the graph does not say how long the last axis is.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    rate: str
    values: np.ndarray
    is_single: bool = False
    columns: list[Any] | None = None
    has_dynamic_length: bool = False

    def dims(self) -> list[int | str]:
        first: list[int | str] = [1 if self.is_single else "N"]
        if self.has_dynamic_length:
            return [*first, *self.shape[:-1], f"{self.name}.length"]
        return [*first, *self.shape]

    def feed(self, rows: int) -> np.ndarray:
        if self.is_single:
            return self.values
        if self.rate == "scenario":
            return np.repeat(self.values[[rows % len(self.values)]], rows, axis=0)
        return np.repeat(self.values[:1], rows, axis=0) if self.rate == "request" else self.values[:rows]


@dataclasses.dataclass
class Line:
    """A node; attributes that hold a `Graph` are branches."""

    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    domain: str = ""

    def proto(self) -> onnx.NodeProto:
        return onnx.helper.make_node(self.op, self.inputs, self.outputs, domain=self.domain, **self.attributes)


@dataclasses.dataclass
class Graph:
    """A model with the values of its inputs; `scenarios` are the numbers of the scenario input, None if not given, and
    `sizes` how many numbers per row the outputs have, where that is known. `extras` are checks that not all graphs get.
    """

    opset: int
    givens: list[Given]
    lines: list[Line]
    constants: dict[str, np.ndarray]
    outputs: list[str]
    scenarios: list[int] | None = None
    repeated: set[str] = dataclasses.field(default_factory=set)
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)
    functions: list[onnx.FunctionProto] = dataclasses.field(default_factory=list)
    extras: frozenset[str] = frozenset()
    seed: int = 0

    def model(self) -> onnx.ModelProto:
        """`repeated` constants are inputs, too, as older exporters write them."""
        inputs = [
            onnx.helper.make_tensor_value_info(
                given.name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(given.kind)), given.dims()
            )
            for given in self.givens
        ]
        weights = [onnx.numpy_helper.from_array(array, name) for name, array in self.constants.items()]
        inputs += [
            onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            for tensor in weights
            if tensor.name in self.repeated
        ]
        outputs = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in self.outputs]
        made = onnx.helper.make_graph([line.proto() for line in self.lines], "fuzz", inputs, outputs, weights)
        opsets = [onnx.helper.make_opsetid("", self.opset)]
        opsets += [
            onnx.helper.make_opsetid(domain, 1) for domain in sorted({line.domain for line in self.lines} - {""})
        ]
        version = 11 if self.opset > 22 else 10
        return onnx.helper.make_model(made, opset_imports=opsets, functions=self.functions, ir_version=version)

    def feeds(self, rows: int) -> dict[str, np.ndarray]:
        return {given.name: given.feed(rows) for given in self.givens}

    def mixed_feeds(self) -> dict[str, np.ndarray]:
        """Those of all rows, where each has a scenario of its own."""
        feeds = self.feeds(ROWS)
        for given in self.givens:
            if given.rate == "scenario":
                feeds[given.name] = np.resize(given.values, feeds[given.name].shape)
        return feeds

    def live_lines(self) -> list[Line]:
        """The nodes that the outputs need."""
        needed, live = set(self.outputs), []
        for line in reversed(self.lines):
            if needed.intersection(line.outputs):
                needed.update(line.inputs)
                live.append(line)
        return live[::-1]


@functools.cache
def since(op: str, opset: int) -> int | None:
    """The operator set that an operator is as it was made in, or None if it is not in `opset`."""
    try:
        schema = onnx.defs.get_schema(op, opset, "")
    except onnx.defs.SchemaError:
        return None
    return None if schema.deprecated else schema.since_version


def grain_of(array: np.ndarray) -> float:
    if array.dtype.kind in "iub":
        return 1.0
    for grain in (1.0, 0.5, 0.25, 0.0625):
        if array.size and np.isfinite(array).all() and (array % grain == 0).all():
            return grain
    return 0.0


class Builder:
    """Makes a graph node by node. `pool` are the tensors that a node may read, `read` those that one does; `tables` and
    `shared` are constants that another node may read, too.
    """

    def __init__(self, seed: int, opset: int):
        self.rng = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.opset = opset
        self.graph = Graph(opset, [], [], {}, [], seed=seed)
        self.pool: list[Tensor] = []
        self.tables: list[Tensor] = []
        self.shared: list[Tensor] = []
        self.read: set[str] = set()
        self._made: set[str] = set()
        self._count = 0

    # Chance

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def one_of(self, *choices: Any) -> Any:
        return self.rng.choice(choices)

    def some(self, choices: Sequence[Any], least: int = 1) -> list[Any]:
        """Some of the choices, in order."""
        if len(choices) < least:
            raise Skip
        taken = self.rng.sample(range(len(choices)), self.rng.randint(least, len(choices)))
        return [choices[place] for place in sorted(taken)]

    def pick(
        self, kinds: Sequence[str] = ("float32",), least: int = 0, where: Callable[[Tensor], bool] | None = None
    ) -> Tensor:
        """A tensor of the pool of at least so many axes, rather a late one."""
        found = [t for t in self.pool if t.kind in kinds and t.rank >= least and (where is None or where(t))]
        if not found:
            raise Skip
        return found[max(self.rng.randrange(len(found)) for _ in range(self.one_of(1, 2)))]

    def pick_exact(self, kinds: Sequence[str] = NUMBERS, least: int = 0) -> Tensor:
        return self.pick(kinds, least, lambda t: t.grain > 0 and t.bound < 1e5)

    def width(self) -> int:
        """How many columns a layer makes: few, or more than the lanes of a kernel."""
        return self.rng.randint(7, 40) if self.chance(0.1) else self.rng.randint(1, 6)

    def axis(self, axis: int, rank: int) -> int:
        """An axis, counted from either end."""
        return axis - rank if self.chance(0.4) else axis

    # Nodes

    def name(self, prefix: str = "t") -> str:
        """A new name; some are of characters that a file does not allow, or keeps for itself."""
        self._count += 1
        if self.chance(0.04):
            return (
                self.one_of("golden.", "a:", "a_", "/layer/Add_output_", "padding.", "step ")
                + str(self._count // 2)
                + prefix
            )
        return f"{prefix}{self._count}"

    def line(
        self, op: str, inputs: Sequence[Tensor | str | None], outputs: int = 1, domain: str = "", **attributes: Any
    ) -> list[str]:
        """A node; the names of its outputs."""
        names = ["" if one is None else one if isinstance(one, str) else one.name for one in inputs]
        while names and not names[-1]:
            names.pop()
        self.read.update(names)
        made = [self.name() for _ in range(outputs)]
        while any(name in self._made for name in made) or len(set(made)) < outputs:
            made = [self.name() for _ in range(outputs)]
        self._made.update(made)
        attributes = {key: value for key, value in attributes.items() if value is not None}
        self.graph.lines.append(Line(op, names, made, attributes, domain))
        return made

    def tensor(
        self,
        name: str,
        inputs: Sequence[Any],
        shape: Sequence[int],
        row: Row | None,
        kind: str,
        low: float,
        high: float,
        grain: float,
    ) -> Tensor:
        rates = frozenset().union(*(one.rates for one in inputs if isinstance(one, Tensor)))
        low, high = float(low), float(high)
        if not max(-low, high) < 1e12:
            raise Skip
        assert low <= high, (name, low, high)
        if kind != "float32" and kind != "float64":
            grain = 1.0
            if max(-low, high) > GRAINS:
                raise Skip
        elif grain and max(-low, high) > grain * GRAINS:
            grain = 0.0
        return Tensor(name, kind, tuple(shape), row, low, high, grain, rates)

    def emit(
        self,
        op: str,
        inputs: Sequence[Any],
        shape: Sequence[int],
        row: Row | None,
        low: float,
        high: float,
        grain: float = 0.0,
        kind: str = "float32",
        domain: str = "",
        **attributes: Any,
    ) -> Tensor:
        """A node with one output."""
        if math.prod(shape) > LARGEST or 0 in shape:
            raise Skip
        if not domain and since(op, self.opset) is None:
            raise Skip
        made = self.tensor("", inputs, shape, row, kind, low, high, grain)
        (name,) = self.line(op, inputs, domain=domain, **attributes)
        made = dataclasses.replace(made, name=name)
        if ROW_NUMBER not in made.rates and self.chance(0.08):
            self.pool.append(made)
        return made

    # Constants

    def constant(self, array: np.ndarray) -> Tensor:
        """An initialiser, a Constant node, or what folds to it."""
        array = np.asarray(array)
        grain = grain_of(array)
        known = {"low": float(array.min()), "high": float(array.max())} if array.size else {"low": 0.0, "high": 0.0}
        made = functools.partial(
            Tensor, kind=array.dtype.name, shape=array.shape, row=None, grain=grain, array=array, **known
        )
        if array.ndim and self.chance(0.06):
            (name,) = self.line("Transpose", [self.constant(np.ascontiguousarray(array.T))])
            return made(name)
        if self.chance(0.15):
            return made(self._constant_node(array))
        name = self.name("c")
        while name in self.graph.constants:
            name = self.name("c")
        self.graph.constants[name] = array
        if self.chance(0.02):
            self.graph.repeated.add(name)
        if array.ndim and array.size and np.isfinite(array).all():
            self.shared.append(made(name))
        return made(name)

    def _constant_node(self, array: np.ndarray) -> str:
        if self.opset >= 12 and array.ndim < 2 and array.dtype.name in ("int64", "float32") and self.chance(0.5):
            key = f"value_{'int' if array.dtype.name == 'int64' else 'float'}{'s' if array.ndim else ''}"
            (name,) = self.line("Constant", [], **{key: array.tolist()})
            if array.size:
                return name
            self.graph.lines.pop()
        (name,) = self.line("Constant", [], value=onnx.numpy_helper.from_array(array, "value"))
        return name

    def ints(self, *numbers: int) -> Tensor:
        return self.constant(np.array(numbers, dtype=np.int64))

    def scalar(self, number: float, kind: str = "float32") -> Tensor:
        shape = self.one_of((), (), (1,))
        return self.constant(np.full(shape, number, dtype=kind))

    def weights(self, *shape: int, scale: float | None = None) -> Tensor:
        """Numbers of a layer, small enough to keep what it makes small."""
        scale = 1 / math.sqrt(max(shape[-2] if len(shape) > 1 else shape[-1], 1)) if scale is None else scale
        known = [t for t in self.shared if t.shape == shape and t.kind == "float32" and t.bound <= 3]
        if known and self.chance(0.15):
            return self.rng.choice(known)
        if self.opset >= 13 and self.chance(0.03):
            return self.dequantized(shape, scale)
        return self.constant((self.numbers.normal(size=shape) * scale).clip(-3, 3).astype(np.float32))

    def dequantized(self, shape: Sequence[int], scale: float) -> Tensor:
        """Weights that the graph makes of bytes."""
        array = (self.numbers.normal(size=shape) * 40).clip(-127, 127).astype(np.int8)
        step = np.float32(scale / 40)
        (name,) = self.line("DequantizeLinear", [self.constant(array), self.constant(step)])
        made = array.astype(np.float32) * step
        return Tensor(name, "float32", tuple(shape), None, float(made.min()), float(made.max()), 0.0, frozenset(), made)

    def array_like(self, shape: Sequence[int], kind: str, is_exact: bool, is_positive: bool = False) -> np.ndarray:
        """Numbers of a constant operand."""
        if kind == "bool":
            return self.numbers.integers(0, 2, shape).astype(bool)
        if kind in INTEGERS:
            low = 0 if kind == "uint8" or is_positive else -4
            return self.numbers.integers(low + is_positive, 6, shape).astype(kind)
        how = self.one_of("normal", "grid", "equal", "few")
        if how == "normal" and not is_exact:
            array = self.numbers.normal(size=shape)
        elif how == "equal":
            array = np.full(shape, self.one_of(0, 1, -1, 2, 0.5, -0.25))
        elif how == "few":
            array = self.numbers.choice([0, 1, -1, 2], shape)
        else:
            array = self.numbers.integers(-8, 9, shape) / 4
        array = np.abs(array) + 0.25 if is_positive else array
        return array.astype(np.float32)

    # Shapes

    def broadcast(self, *tensors: Tensor) -> tuple[tuple[int, ...], Row | None]:
        """The shape and the rows of an element-wise operation."""
        rank = max(tensor.rank for tensor in tensors)
        marks = {dataclasses.replace(t.row, axis=t.row.axis + rank - t.rank) for t in tensors if t.row is not None}
        if len(marks) > 1:
            raise Skip
        row = marks.pop() if marks else None
        shape = [1] * rank
        for tensor in tensors:
            for axis, size in enumerate(tensor.shape, rank - tensor.rank):
                is_rows = row is not None and axis == row.axis
                if is_rows and tensor.row is None and size != 1:
                    raise Skip
                if size != 1 and shape[axis] not in (1, size):
                    raise Skip
                shape[axis] = max(shape[axis], size)
        return tuple(shape), row

    def fits(self, *tensors: Tensor) -> bool:
        try:
            shape, _ = self.broadcast(*tensors)
        except Skip:
            return False
        return math.prod(shape) <= LARGEST

    def constant_shape(self, tensor: Tensor) -> tuple[int, ...]:
        """A shape that a constant may have beside a tensor."""
        if self.chance(0.25):
            return ()
        shape = [1 if size == 1 or self.chance(0.35) else size for size in tensor.shape]
        if tensor.row is not None:
            shape[tensor.row.axis] = 1
        return tuple(shape[self.rng.randint(0, tensor.rank) if self.chance(0.5) else 0 :])

    def partner(self, tensor: Tensor, is_exact: bool = False, is_positive: bool = False) -> Tensor:
        """What may stand beside a tensor in an element-wise operation, of its type."""
        if not is_positive and self.chance(0.5):
            found = [
                t for t in self.pool if t.kind == tensor.kind and (t.grain > 0 or not is_exact) and self.fits(tensor, t)
            ]
            if found:
                return self.rng.choice(found)
        if not is_positive and tensor.rank and self.chance(0.3) and tensor.kind in ("float32", "int64"):
            axes = self.some(tensor.free_axes())
            return self.reduce(self.one_of("ReduceMax", "ReduceMin"), tensor, axes, True)
        known = [
            t for t in self.shared if t.kind == tensor.kind and (t.grain > 0 or not is_exact) and self.fits(tensor, t)
        ]
        if known and not is_positive and self.chance(0.15):
            return self.rng.choice(known)
        return self.constant(self.array_like(self.constant_shape(tensor), tensor.kind, is_exact, is_positive))

    def reduce(self, op: str, tensor: Tensor, axes: Sequence[int], keep: bool) -> Tensor:
        """A reduction over axes without the rows; `axes` may be all, or none."""
        if tensor.row is not None and tensor.row.axis in axes:
            raise Skip
        count = math.prod(tensor.shape[axis] for axis in axes)
        shape = [1 if axis in axes else size for axis, size in enumerate(tensor.shape) if keep or axis not in axes]
        row = tensor.row
        if row is not None and not keep:
            row = dataclasses.replace(row, axis=row.axis - sum(axis < row.axis for axis in axes))
        low, high, grain = reduced_range(op, tensor, count)
        given = [self.axis(axis, tensor.rank) for axis in self.rng.sample(list(axes), len(axes))]
        keep = self.one_of(1, None) if keep else 0
        if len(given) == tensor.rank and given and self.chance(0.5):
            return self.emit(op, [tensor], shape, row, low, high, grain, tensor.kind, keepdims=keep)
        if self.opset >= (13 if op == "ReduceSum" else 18):
            return self.emit(op, [tensor, self.ints(*given)], shape, row, low, high, grain, tensor.kind, keepdims=keep)
        return self.emit(op, [tensor], shape, row, low, high, grain, tensor.kind, keepdims=keep, axes=given)

    def rows(self) -> Tensor:
        """How many rows there are, int64 [1]; only shapes may be computed of it."""
        known = [t for t in self.pool if t.row is not None and (t.row.before, t.row.after) == (1, 1)]
        if not known:
            raise Skip
        of = self.rng.choice(known)
        axis, how = of.row.axis, self.one_of("gather", "gather", "index", "slice", "part", "size")
        if how == "part" and self.opset >= 15:
            (name,) = self.line("Shape", [of], start=self.axis(axis, of.rank), end=axis + 1)
        elif how == "size":
            (size,) = self.line("Size", [of])
            (name,) = self.line("Div", [size, self.ints(of.size)])
        else:
            (shape,) = self.line("Shape", [of])
            if how == "gather":
                (number,) = self.line("Gather", [shape, self.constant(np.array(axis))])
                (name,) = self.unsqueezed(number, 0)
            elif how == "slice":
                (name,) = self.sliced(shape, [axis], [axis + 1], [0])
            else:
                (name,) = self.line("Gather", [shape, self.ints(self.axis(axis, of.rank))], axis=0)
        return Tensor(name, "int64", (1,), None, 1, 1)

    def unsqueezed(self, name: Any, axis: int) -> list[str]:
        if self.opset < 13:
            return self.line("Unsqueeze", [name], axes=[axis])
        return self.line("Unsqueeze", [name, self.ints(axis)])

    def sliced(self, name: Any, starts: list[int], ends: list[int], axes: list[int]) -> list[str]:
        if self.opset < 10:
            return self.line("Slice", [name], starts=starts, ends=ends, axes=axes)
        return self.line("Slice", [name, self.ints(*starts), self.ints(*ends), self.ints(*axes)])

    def shape_of(self, sizes: Sequence[int], row: Row | None) -> Tensor:
        """An ONNX shape as a tensor, computed from the number of rows where they are."""
        if row is None:
            return self.ints(*sizes)
        rows = self.rows()
        count = row.before * row.after
        if count > 1:
            factors = [rows, self.ints(count)]
            self.rng.shuffle(factors)
            rows = dataclasses.replace(rows, name=self.line("Mul", factors)[0])
        parts: list[Any] = [rows]
        before, after = sizes[: row.axis], sizes[row.axis + 1 :]
        if before:
            parts.insert(0, self.ints(*before))
        if after and self.chance(0.5):
            parts.append(self.ints(*after))
        else:
            parts += [self.ints(size) for size in after]
        name = parts[0].name if len(parts) == 1 else self.line("Concat", parts, axis=0)[0]
        return Tensor(name, "int64", (len(sizes),), None, 0, 0)

    def reshape(self, tensor: Tensor, shape: Sequence[int], row: Row | None) -> Tensor:
        """A Reshape, its target written in one of the ways of exporters. The caller keeps the rows apart."""
        shape = list(shape)
        sizes: list[Any] = list(shape)
        if row is not None and self.chance(0.35):
            target = self.shape_of(shape, row)
        else:
            same = [
                axis < tensor.rank
                and tensor.shape[axis] == size
                and (row is not None and axis == row.axis) == (tensor.row is not None and axis == tensor.row.axis)
                for axis, size in enumerate(shape)
            ]
            sizes = [0 if is_same and self.chance(0.4) else size for is_same, size in zip(same, shape)]
            if row is not None and sizes[row.axis] != 0:
                sizes[row.axis] = -1
            elif sizes and self.chance(0.4):
                sizes[self.rng.randrange(len(sizes))] = -1
            target = self.ints(*sizes)
        allow = 1 if self.opset >= 14 and 0 not in sizes and self.chance(0.1) else None
        return self.emit(
            "Reshape", [tensor, target], shape, row, tensor.low, tensor.high, tensor.grain, tensor.kind, allowzero=allow
        )

    def transpose(self, tensor: Tensor, order: Sequence[int]) -> Tensor:
        order = list(order)
        shape = [tensor.shape[axis] for axis in order]
        row = None if tensor.row is None else dataclasses.replace(tensor.row, axis=order.index(tensor.row.axis))
        is_reverse = order == list(range(tensor.rank))[::-1]
        perm = None if is_reverse and self.chance(0.5) else order
        return self.emit(
            "Transpose", [tensor], shape, row, tensor.low, tensor.high, tensor.grain, tensor.kind, perm=perm
        )

    def home(self, tensor: Tensor) -> Tensor:
        """With the rows as the first axis, alone; a tensor without rows is given them."""
        if tensor.row is None:
            return self.spread_over_rows(tensor)
        row, axis = tensor.row, tensor.row.axis
        if (row.before, row.after) != (1, 1):
            before, after = ([count] if count > 1 else [] for count in (row.before, row.after))
            shape = [*tensor.shape[:axis], *before, 1, *after, *tensor.shape[axis + 1 :]]
            axis += len(before)
            tensor = self.reshape(tensor, shape, Row(axis))
        if axis:
            tensor = self.transpose(tensor, [axis, *(a for a in range(tensor.rank) if a != axis)])
        return tensor

    def spread_over_rows(self, tensor: Tensor) -> Tensor:
        if self.chance(0.3):
            zero = self.emit(
                "ConstantOfShape",
                [self.shape_of([1] * max(tensor.rank, 1), Row(0))],
                [1] * max(tensor.rank, 1),
                Row(0),
                0,
                0,
                1.0,
            )
            if tensor.kind == "float32" and (tensor.rank == 0 or tensor.shape[0] == 1):
                return self.binary("Add", tensor, zero)
        if tensor.rank and tensor.shape[0] == 1:
            shape = tensor.shape
        else:
            shape = (1, *tensor.shape)
        target = self.shape_of(shape, Row(0))
        return self.emit("Expand", [tensor, target], shape, Row(0), tensor.low, tensor.high, tensor.grain, tensor.kind)

    def flat(self, tensor: Tensor) -> Tensor:
        """`[rows, size]`."""
        tensor = self.home(tensor)
        if tensor.rank == 2:
            return tensor
        if self.chance(0.3) and tensor.rank:
            shape = (1, tensor.size)
            return self.emit("Flatten", [tensor], shape, Row(0), tensor.low, tensor.high, tensor.grain, tensor.kind)
        return self.reshape(tensor, (1, tensor.size), Row(0))

    def shaped(self, tensor: Tensor, *shape: int) -> Tensor:
        """`[rows, *shape]` of the elements of a tensor, or of sums of them."""
        size = math.prod(shape)
        tensor = self.flat(tensor)
        if tensor.size != size:
            if tensor.kind == "float32" and self.chance(0.5):
                tensor = self.matmul(tensor, self.weights(tensor.size, size))
            else:
                places = self.numbers.integers(-tensor.size, tensor.size, size)
                tensor = self.emit(
                    "Gather",
                    [tensor, self.constant(places)],
                    (1, size),
                    Row(0),
                    tensor.low,
                    tensor.high,
                    tensor.grain,
                    tensor.kind,
                    axis=self.one_of(1, -1),
                )
        return tensor if len(shape) == 1 else self.reshape(tensor, (1, *shape), Row(0))

    # Operations that much is built of

    def unary(
        self,
        op: str,
        tensor: Tensor,
        low: float,
        high: float,
        grain: float = 0.0,
        kind: str | None = None,
        domain: str = "",
        **attributes: Any,
    ) -> Tensor:
        return self.emit(
            op, [tensor], tensor.shape, tensor.row, low, high, grain, kind or tensor.kind, domain, **attributes
        )

    def binary(self, op: str, left: Tensor, right: Tensor, **attributes: Any) -> Tensor:
        shape, row = self.broadcast(left, right)
        low, high, grain = combined_range(op, left, right)
        kind = "bool" if op in COMPARISONS else left.kind
        return self.emit(op, [left, right], shape, row, low, high, grain, kind, **attributes)

    def either(self, op: str, left: Tensor, right: Tensor) -> Tensor:
        """A commutative operation, written one way or the other."""
        return self.binary(op, right, left) if self.chance(0.5) else self.binary(op, left, right)

    def scaled(self, tensor: Tensor, scale: float, shift: float = 0.0) -> Tensor:
        if scale != 1:
            tensor = self.either("Mul", tensor, self.scalar_beside(tensor, scale))
        return tensor if shift == 0 else self.either("Add", tensor, self.scalar_beside(tensor, shift))

    def scalar_beside(self, tensor: Tensor, number: float) -> Tensor:
        made = self.scalar(number, tensor.kind)
        return made if tensor.rank or not made.rank else self.constant(np.array(number, dtype=tensor.kind))

    def matmul(self, left: Tensor, right: Tensor) -> Tensor:
        """The product of tensors of two axes and more; rows may be rows of the left or columns of the right one, or a
        batch."""
        if left.rank < 2 or right.rank < 2 or left.shape[-1] != right.shape[-2]:
            raise Skip
        rank = max(left.rank, right.rank)
        batch_rows, marks = [], []
        for tensor, summed, kept in ((left, -1, -2), (right, -2, -1)):
            if tensor.row is None:
                continue
            axis = tensor.row.axis - tensor.rank
            if axis == summed:
                raise Skip
            marks.append(dataclasses.replace(tensor.row, axis=rank + (kept if axis == kept else axis)))
            batch_rows.append(axis != kept)
        if len(marks) == 2 and (marks[0] != marks[1] or not all(batch_rows)):
            raise Skip
        row = marks[0] if marks else None
        sizes = [1] * (rank - 2)
        for tensor in (left, right):
            for axis, size in enumerate(tensor.shape[:-2], rank - tensor.rank):
                if row is not None and axis == row.axis and tensor.row is None and size != 1:
                    raise Skip
                if size != 1 and sizes[axis] not in (1, size):
                    raise Skip
                sizes[axis] = max(sizes[axis], size)
        count = left.shape[-1]
        bound, grain = count * left.bound * right.bound, left.grain * right.grain
        shape = (*sizes, left.shape[-2], right.shape[-1])
        return self.emit("MatMul", [left, right], shape, row, -bound, bound, grain, left.kind)

    def into(self, tensor: Tensor, low: float, high: float) -> Tensor:
        """The tensor, or a function of it, with numbers in a range."""
        if tensor.low >= low and tensor.high <= high:
            return tensor
        if tensor.rank and self.chance(0.3):
            return self.clip(tensor, low, high)
        how = self.one_of("Sigmoid", "Tanh", "HardSigmoid", "Softsign")
        middle, half = (low + high) / 2, (high - low) / 2 * 0.999
        if how == "Sigmoid" or how == "HardSigmoid":
            return self.scaled(self.unary(how, tensor, 0, 1), 2 * half, middle - half)
        return self.scaled(self.unary(how, tensor, -1, 1), half, middle)

    def clip(self, tensor: Tensor, low: float, high: float) -> Tensor:
        """Between two numbers, which are bounds of the result even when the tensor is beyond them."""
        new = (min(max(tensor.low, low), high), min(max(tensor.high, low), high))
        bounds = np.array([low, high], dtype=tensor.kind)
        grain = tensor.grain if tensor.grain and (bounds % tensor.grain == 0).all() else 0.0
        if self.opset < 12 and tensor.kind != "float32":
            raise Skip
        if self.opset < 11:
            return self.unary("Clip", tensor, *new, grain, min=float(bounds[0]), max=float(bounds[1]))
        given = [tensor, *(self.constant(bound) for bound in bounds)]
        return self.emit("Clip", given, tensor.shape, tensor.row, *new, grain, tensor.kind)

    def to_float(self, tensor: Tensor) -> Tensor:
        if tensor.kind == "float32":
            return tensor
        return self.unary("Cast", tensor, tensor.low, tensor.high, tensor.grain, "float32", to=onnx.TensorProto.FLOAT)

    def to_int(self, tensor: Tensor, kind: str = "int64") -> Tensor:
        """Without fractions; of exact numbers only."""
        if tensor.kind == kind:
            return tensor
        if not tensor.grain:
            raise Skip
        to = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))
        return self.unary("Cast", tensor, math.trunc(tensor.low), math.trunc(tensor.high), 1.0, kind, to=to)

    def indices(self, below: int, *shape: int, may_be_negative: bool = True) -> Tensor:
        """Whole numbers `[rows, *shape]` that count the elements of an axis."""
        found = self.pick(("int64", "int32"))
        if found.kind != "int64" and self.chance(0.7):
            found = self.to_int(found)
        made = self.shaped(found, *shape) if shape else self.reshape(self.shaped(found, 1), (1,), Row(0))
        if self.opset < 10:
            raise Skip
        made = self.binary("Mod", made, self.constant(np.array(below, dtype=made.kind)))
        if may_be_negative and self.chance(0.3):
            made = self.binary("Sub", made, self.constant(np.array(self.rng.randint(1, below), dtype=made.kind)))
        return made

    def add(self, tensor: Tensor) -> None:
        """Puts a result into the pool, brought back if its numbers have become large."""
        if tensor.kind in ("float32",) and tensor.bound > TAME:
            how = self.one_of("scale", "Tanh", "clip", "scale")
            if how == "scale":
                tensor = self.binary(
                    "Mul", tensor, self.scalar_beside(tensor, float(2.0 ** -math.ceil(math.log2(tensor.bound / 8))))
                )
            elif how == "Tanh":
                tensor = self.unary("Tanh", tensor, -1, 1)
            else:
                tensor = self.clip(tensor, -8, 8)
        elif tensor.kind in ("int64", "int32") and tensor.bound > 1000:
            if self.opset < 10:
                return
            tensor = self.binary("Mod", tensor, self.constant(np.array(self.rng.randint(3, 40), dtype=tensor.kind)))
        self.pool.append(tensor)


COMPARISONS = ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")


def combined_range(op: str, left: Tensor, right: Tensor) -> tuple[float, float, float]:
    """The least and the largest number of an operation of two tensors, and its grain."""
    common = min(left.grain, right.grain)
    if op in COMPARISONS or op in ("And", "Or", "Xor"):
        return 0, 1, 1.0
    if op == "Add":
        return left.low + right.low, left.high + right.high, common
    if op == "Sub":
        return left.low - right.high, left.high - right.low, common
    if op in ("Mul", "Div"):
        if op == "Div" and right.low <= 0 <= right.high:
            raise Skip
        corners = [a * b if op == "Mul" else a / b for a in (left.low, left.high) for b in (right.low, right.high)]
        if op == "Div" and left.kind in INTEGERS:
            return math.floor(min(corners)), math.ceil(max(corners)), 1.0
        return min(corners), max(corners), left.grain * right.grain if op == "Mul" else 0.0
    if op == "Max":
        return max(left.low, right.low), max(left.high, right.high), common
    if op == "Min":
        return min(left.low, right.low), min(left.high, right.high), common
    if op == "Mod":
        bound = right.bound
        return (0 if right.low > 0 and left.kind in INTEGERS else -bound), bound, common
    raise AssertionError(op)


def reduced_range(op: str, tensor: Tensor, count: int) -> tuple[float, float, float]:
    low, high, bound = tensor.low, tensor.high, tensor.bound
    match op:
        case "ReduceMax" | "ReduceMin":
            return low, high, tensor.grain
        case "ReduceMean":
            if tensor.kind in INTEGERS:
                return math.floor(low), math.ceil(high), 1.0
            return low, high, 0.0
        case "ReduceSum":
            return count * low, count * high, tensor.grain
        case "ReduceL1":
            return 0, count * bound, tensor.grain
        case "ReduceL2":
            return 0, math.sqrt(count) * bound, 0.0
        case "ReduceSumSquare":
            return 0, count * bound**2, tensor.grain**2
        case "ReduceProd":
            top = max(bound, 1.0) ** count if count < 40 else math.inf
            if not top < 1e4:
                raise Skip
            return -top, top, tensor.grain**count if tensor.grain >= 0.25 and count < 5 else 0.0
        case "ReduceLogSumExp":
            return low, high + math.log(count), 0.0
        case "ReduceLogSum":
            if low < 0.05:
                raise Skip
            return math.log(count * low), math.log(count * high), 0.0
    raise AssertionError(op)
