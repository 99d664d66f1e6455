"""The inputs of an ONNX graph as features: names, rates, and the parts of wide matrices."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Sequence

import numpy as np
import onnx
from onnx import TensorProto, ValueInfoProto

from .options import Options
from .tensor import OnnxError, Row, Steps, Tensor

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
MAX_WIDTH = 65_536


@dataclasses.dataclass
class Part:
    """A feature: some columns of an input, or all; its rate is `request`, `item`, `pair` or `scenario`."""

    feature: str
    start: int
    width: int
    rate: str = "pair"


@dataclasses.dataclass
class Input:
    """An input: its ONNX shape is `[rows, *shape]`, or (`is_single`) `[1, *shape]`, or without `has_rows` a scalar."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    is_single: bool
    has_rows: bool
    parts: list[Part]

    @property
    def width(self) -> int:
        return math.prod(self.shape)

    @property
    def is_integer(self) -> bool:
        return self.dtype.kind in "iu"


def read_inputs(values: Sequence[ValueInfoProto], options: Options) -> list[Input]:
    """The inputs with their features and rates."""
    check_columns(values, options)
    names = Names()
    lengths = all_lengths(values, options)
    inputs = [read_input(value, options, lengths, names) for value in values]
    set_rates(inputs, options)
    for entry in inputs:
        if (entry.is_single or not entry.has_rows) and any(
            part.rate not in ("request", "scenario") for part in entry.parts
        ):
            raise OnnxError(
                f"input `{entry.name}`: has a fixed batch of one; export it with a dynamic first dimension, or name it"
                " in `request` if the request gives it"
            )
    return inputs


class Names:
    """Gives features legal names of their own."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def of(self, name: str) -> str:
        legal = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:60] or "input"
        legal = name if NAME.fullmatch(name) else legal
        base, number = legal, 1
        while legal in self._used:
            number += 1
            legal = f"{base}_{number}"
        self._used.add(legal)
        return legal


def listing(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


def check_columns(values: Sequence[ValueInfoProto], options: Options) -> None:
    known = [value.name for value in values]
    for name, parts in options.columns.items():
        if name not in known:
            raise OnnxError(f"columns: `{name}` is not an input; the inputs are {listing(known)}")
        for part in parts:
            feature, width = (part, 1) if isinstance(part, str) else part
            if not NAME.fullmatch(feature):
                raise OnnxError(f"columns.{name}: `{feature}` is not 1 to 64 letters, digits, `_` and `-`")
            if not isinstance(width, int) or width < 1:
                raise OnnxError(f"columns.{name}: `{feature}` has {width} columns")


def dims_of(value: ValueInfoProto) -> list[int | str]:
    """Sizes, or names of dynamic ones (empty if they have none)."""
    if not value.type.HasField("tensor_type"):
        raise OnnxError(f"input `{value.name}`: is not a tensor")
    if not value.type.tensor_type.HasField("shape"):
        raise OnnxError(f"input `{value.name}`: has no shape; export the model with one")
    return [dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in value.type.tensor_type.shape.dim]


def all_lengths(values: Sequence[ValueInfoProto], options: Options) -> dict[str, int]:
    """The lengths by name of an input or of a dynamic dimension."""
    known = {value.name for value in values}
    lengths = {}
    for name, length in options.lengths.items():
        if not isinstance(length, int) or length < 1:
            raise OnnxError(f"lengths.{name}: {length} is not a length")
        lengths[name] = length
    for value in values:
        dims = dims_of(value)
        known.update(dim for dim in dims if isinstance(dim, str) and dim)
        dims = dims[1:]
        if value.name in options.lengths:
            dynamic = {dim for dim in dims if isinstance(dim, str)}
            if len(dynamic) != 1:
                raise OnnxError(
                    f"lengths.{value.name}: the input has {len(dynamic)} dynamic dimensions after the first; name one"
                    f" of them: {listing(sorted(dynamic))}"
                )
            (name,) = dynamic
            if name and lengths.setdefault(name, options.lengths[value.name]) != options.lengths[value.name]:
                raise OnnxError(
                    f"lengths.{value.name}: {options.lengths[value.name]} is not {lengths[name]}, that of `{name}`"
                )
    for name in options.lengths:
        if name not in known:
            raise OnnxError(f"lengths: `{name}` is neither an input nor a dimension; they are {listing(sorted(known))}")
    return lengths


def read_input(value: ValueInfoProto, options: Options, lengths: dict[str, int], names: Names) -> Input:
    dims = dims_of(value)
    dtype = dtype_of(value)
    if dims and isinstance(dims[0], int) and dims[0] != 1:
        raise OnnxError(
            f"input `{value.name}`: has a fixed batch of {dims[0]}; export it with a dynamic first dimension"
        )
    if dims and isinstance(dims[0], str) and dims[0] and dims[0] in options.lengths:
        raise OnnxError(f"lengths.{dims[0]}: is the first dimension of `{value.name}`, which has the rows")
    shape = []
    for axis, dim in enumerate(dims[1:], 1):
        size = dim if isinstance(dim, int) else lengths.get(dim) or lengths.get(value.name)
        if size is not None and size < 0:
            raise OnnxError(f"input `{value.name}`: dimension {axis} is {size}")
        if size is None or size == 0:
            named = f" (`{dim}`)" if dim else ""
            raise OnnxError(
                f"input `{value.name}`: dimension {axis}{named} is dynamic; give its length, such as"
                f' lengths={{"{value.name}": 50}}'
            )
        shape.append(size)
    width = math.prod(shape)
    if width > MAX_WIDTH:
        raise OnnxError(f"input `{value.name}`: has {width} numbers per row, at most {MAX_WIDTH} are allowed")
    given = options.columns.get(value.name)
    if given is None:
        parts = [Part(names.of(value.name), 0, width)]
    else:
        if len(shape) != 1:
            raise OnnxError(f"columns.{value.name}: the input is not a matrix")
        parts, start = [], 0
        for entry in given:
            feature, count = (entry, 1) if isinstance(entry, str) else entry
            if names.of(feature) != feature:
                raise OnnxError(f"columns.{value.name}: `{feature}` is the name of another feature")
            parts.append(Part(feature, start, count))
            start += count
        if start != width:
            raise OnnxError(f"columns.{value.name}: names {start} columns, the input has {width}")
    return Input(value.name, dtype, tuple(shape), bool(dims) and dims[0] == 1, bool(dims), parts)


def dtype_of(value: ValueInfoProto) -> np.dtype:
    element = value.type.tensor_type.elem_type
    if element == TensorProto.STRING:
        raise OnnxError(
            f"input `{value.name}`: has texts; give the network table rows, and describe how texts become them"
        )
    known = element in TensorProto.DataType.values() and element != TensorProto.UNDEFINED
    dtype = onnx.helper.tensor_dtype_to_np_dtype(element) if known else None
    if dtype is None or dtype.kind not in "iufb":
        raise OnnxError(
            f"input `{value.name}`: has elements of type {element} of ONNX, which are no numbers of a feature"
        )
    return dtype


def set_rates(inputs: Sequence[Input], options: Options) -> None:
    """Reads the lists of names: of inputs, as the graph or as the file has them, or of their parts."""
    by_name: dict[str, list[Part]] = {}
    for entry in inputs:
        for part in entry.parts:
            by_name.setdefault(part.feature, []).append(part)
    for entry in inputs:
        by_name[entry.name] = entry.parts
    known = dict.fromkeys([part.feature for entry in inputs for part in entry.parts])
    rates: dict[str, str] = {}
    places = [("request", "request"), ("item", "item"), ("candidate", "pair")]
    for option, rate in places:
        for name in getattr(options, option):
            if name not in by_name:
                raise OnnxError(f"{option}: `{name}` is not an input; the inputs are {listing(known)}")
            for part in by_name[name]:
                earlier = rates.setdefault(part.feature, rate)
                if earlier != rate and (earlier, rate) != ("item", "pair"):
                    raise OnnxError(f"{option}: `{name}` is named in `request`, too")
    for name in options.features:
        if name not in known:
            raise OnnxError(f"features: `{name}` is not a feature; the features are {listing(known)}")
    if options.scenario is not None:
        found = by_name.get(options.scenario, [])
        if len(found) != 1 or found[0].width != 1:
            raise OnnxError(
                f"scenario: `{options.scenario}` is not an input of one number; the inputs are {listing(known)}"
            )
        if found[0].feature in rates:
            raise OnnxError(f"scenario: `{options.scenario}` is named in a list of features, too")
        rates[found[0].feature] = "scenario"
    for entry in inputs:
        for part in entry.parts:
            if part.feature in rates:
                part.rate = rates[part.feature]
            elif options.candidate:
                raise OnnxError(f"input `{part.feature}`: is in none of `request`, `candidate` and `item`")


def tensor_of(entry: Input, steps: Steps, scenarios: list[int] | None) -> Tensor:
    """The tensor of an input: references to the numbers of its features."""
    values = np.empty(entry.width, dtype=np.int64)
    columns = np.empty(entry.width, dtype=np.int64)
    for part in entry.parts:
        if part.rate == "scenario":
            value = steps.scenario_source(part.feature, scenarios)
        else:
            value = steps.source(part.feature, part.width, entry.is_integer, part.rate)
        values[part.start : part.start + part.width] = value
        columns[part.start : part.start + part.width] = np.arange(part.width)
    shape = (1, *entry.shape) if entry.has_rows else ()
    row = Row(0) if entry.has_rows and not entry.is_single else None
    return Tensor(entry.name, entry.dtype, row, values=values.reshape(shape), columns=columns.reshape(shape))
