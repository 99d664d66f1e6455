"""Operators that move elements: as in ONNX Runtime, wherever the rows are, and without arithmetic."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx_graphs import compare, operations  # noqa: E402

X = "x float 3 4"


def i64(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


FLAT = ["y = Reshape(z, flat)"]
CONSTANTS = {"flat": i64(0, -1)}

# Name: nodes that make `y` [N, ...] of inputs, the inputs, constants, the operator set.
CASES = {
    "identity": (["y = Identity(x)"], [X], {}, 18),
    "dropout": (["y = Dropout(x)"], [X], {}, 18),
    "dropout of old": (["y = Dropout <ratio = 0.5> (x)"], [X], {}, 9),
    "dropout with a mask": (["z, m = Dropout(x)", "w = Where(m, x, z)", "y = Add(w, z)"], [X], {}, 18),
    "reshape": (["y = Reshape(x, s)"], [X], {"s": i64(-1, 6, 2)}, 18),
    "reshape that copies": (["y = Reshape(x, s)"], [X], {"s": i64(0, 2, -1)}, 18),
    "reshape with a shape that is computed": (
        [
            "d = Shape(x)",
            "n = Slice(d, zero, one)",
            "s = Concat <axis = 0> (n, rest)",
            "y = Reshape <allowzero = 1> (x, s)",
        ],
        [X],
        {"zero": i64(0), "one": i64(1), "rest": i64(2, 6)},
        18,
    ),
    "rows merged with a later axis": (
        ["m = Reshape(x, s)", "a = Add(m, c)", "z = Reshape(a, back)", *FLAT],
        [X],
        {"s": i64(-1, 4), "c": np.arange(4, dtype=np.float32), "back": i64(-1, 3, 4), **CONSTANTS},
        18,
    ),
    "rows merged with an earlier axis": (
        [
            "t = Transpose <perm = [1, 0, 2]> (x)",
            "m = Reshape(t, s)",
            "a = Add(m, c)",
            "b = Reshape(a, back)",
            "y = Transpose <perm = [1, 0, 2]> (b)",
        ],
        [X],
        {"s": i64(-1, 4), "c": np.arange(4, dtype=np.float32), "back": i64(3, -1, 4)},
        18,
    ),
    "rows merged on both sides": (
        [
            "t = Transpose <perm = [1, 0, 2]> (x)",
            "m = Reshape(t, s)",
            "a = Sigmoid(m)",
            "b = Reshape(a, back)",
            "y = Transpose <perm = [1, 0, 2]> (b)",
        ],
        [X],
        {"s": i64(-1), "back": i64(3, -1, 4)},
        18,
    ),
    "rows merged in two steps": (
        ["m = Reshape(x, s)", "n = Reshape(m, t)", "b = Reshape(n, back)", "y = Neg(b)"],
        [X],
        {"s": i64(-1, 2), "t": i64(-1, 2, 2), "back": i64(-1, 12)},
        18,
    ),
    "flatten": (["y = Flatten(x)"], [X], {}, 18),
    "flatten of the last axis": (["z = Flatten <axis = -1> (x)", "y = Reshape(z, s)"], [X], {"s": i64(-1, 12)}, 18),
    "flatten to one line": (["z = Flatten <axis = 0> (x)", "y = Reshape(z, s)"], [X], {"s": i64(-1, 12)}, 18),
    "squeeze": (["y = Squeeze(x, a)"], ["x float 1 4 1"], {"a": i64(1, -1)}, 18),
    "squeeze of old": (["y = Squeeze <axes = [1, 3]> (x)"], ["x float 1 4 1"], {}, 11),
    "unsqueeze": (["z = Unsqueeze(x, a)", *FLAT], ["x float 4"], {"a": i64(1, -1), **CONSTANTS}, 18),
    "unsqueeze of old": (["y = Unsqueeze <axes = [2, 1]> (x)"], ["x float 4"], {}, 11),
    "unsqueeze before the rows": (
        ["u = Unsqueeze(x, a)", "t = Sigmoid(u)", "y = Squeeze(t, a)"],
        ["x float 4"],
        {"a": i64(0)},
        18,
    ),
    "transpose": (["y = Transpose <perm = [0, 2, 1]> (x)"], [X], {}, 18),
    "transpose to the back and again": (["t = Transpose(x)", "e = Exp(t)", "y = Transpose(e)"], [X], {}, 18),
    "slice": (["y = Slice(x, a, b)"], [X], {"a": i64(0, 1, -3), "b": i64(9999999, 3, 2**62)}, 18),
    "slice with axes": (["y = Slice(x, a, b, c)"], [X], {"a": i64(-1), "b": i64(2**31), "c": i64(-1)}, 18),
    "slice with steps": (
        ["y = Slice(x, a, b, c, d)"],
        [X],
        {"a": i64(-1, 0), "b": i64(-(2**62), 4), "c": i64(1, 2), "d": i64(-1, 3)},
        18,
    ),
    "slice of old": (["y = Slice <starts = [1, -2], ends = [2, 1000], axes = [1, 2]> (x)"], [X], {}, 9),
    "slice up to the rows": (
        ["d = Shape(x)", "n = Gather(d, zero)", "u = Unsqueeze(n, zero1)", "y = Slice(x, zero1, u, zero1)"],
        [X],
        {"zero": np.array(0, dtype=np.int64), "zero1": i64(0)},
        18,
    ),
    "split": (["a, b, c = Split <axis = 1> (x)", "y = Sub(b, a)"], [X], {}, 13),
    "split in parts": (["a, b = Split <axis = -1> (x, s)", "y = Concat <axis = -1> (b, a)"], [X], {"s": i64(1, 3)}, 18),
    "split in a number of parts": (["a, y = Split <axis = 2, num_outputs = 2> (x)"], ["x float 3 5"], {}, 18),
    "split of old": (["a, y = Split <axis = 2, split = [3, 1]> (x)"], [X], {}, 11),
    "concat": (["y = Concat <axis = 1> (x, z, x)"], [X, "z float 2 4"], {}, 18),
    "concat of the last axis": (["y = Concat <axis = -1> (x, z)"], [X, "z float 3 1"], {}, 18),
    "concat with numbers": (
        [
            "d = Shape <end = 1> (x)",
            "s = Concat <axis = 0> (d, rest)",
            "e = Expand(c, s)",
            "y = Concat <axis = 1> (x, e)",
        ],
        [X],
        {"rest": i64(2, 4), "c": np.arange(8, dtype=np.float32).reshape(1, 2, 4)},
        18,
    ),
    "expand": (["y = Expand(x, s)"], ["x float 1 4"], {"s": i64(1, 3, 4)}, 18),
    "expand to a higher rank": (
        ["e = Expand(x, s)", "y = Transpose <perm = [1, 0, 2]> (e)"],
        ["x float 4"],
        {"s": i64(3, 1, 1)},
        18,
    ),
    "expand of numbers to the rows": (
        ["d = Shape <end = 1> (x)", "s = Concat <axis = 0> (d, rest)", "e = Expand(c, s)", "y = Mul(x, e)"],
        [X],
        {"rest": i64(3, 4), "c": np.arange(4, dtype=np.float32)},
        18,
    ),
    "tile": (["y = Tile(x, r)"], [X], {"r": i64(1, 2, 3)}, 18),
    "tile of the rows": (
        ["t = Tile(x, r)", "a = Sigmoid(t)", "b = Reshape(a, s)", "y = Transpose <perm = [1, 0, 2, 3]> (b)"],
        [X],
        {"r": i64(2, 1, 1), "s": i64(2, -1, 3, 4)},
        18,
    ),
    "tile of numbers to the rows": (
        ["d = Shape <end = 1> (x)", "r = Concat <axis = 0> (d, one)", "t = Tile(c, r)", "y = Add(x, t)"],
        ["x float 4"],
        {"one": i64(1), "c": np.arange(4, dtype=np.float32).reshape(1, 4)},
        18,
    ),
    "pad": (["y = Pad(x, p, v)"], [X], {"p": i64(0, 1, 0, 0, 0, 2), "v": np.array(2.5, dtype=np.float32)}, 18),
    "pad with zeros": (["y = Pad(x, p)"], [X], {"p": i64(0, 1, 0, 0, 0, 2)}, 18),
    "pad that cuts": (["y = Pad(x, p)"], [X], {"p": i64(0, -1, 0, 0, 1, -2)}, 18),
    "pad of axes": (
        ["y = Pad(x, p, v, a)"],
        [X],
        {"p": i64(1, 2), "v": np.array(1, dtype=np.float32), "a": i64(-1)},
        18,
    ),
    "pad by the edge": (['y = Pad <mode = "edge"> (x, p)'], [X], {"p": i64(0, 1, 2, 0, 0, 0)}, 18),
    "pad by reflection": (['y = Pad <mode = "reflect"> (x, p)'], [X], {"p": i64(0, 1, 2, 0, 0, 3)}, 18),
    "pad of old": (["y = Pad <pads = [0, 0, 1, 0, 0, 1], value = 3.0> (x)"], [X], {}, 10),
    "trilu": (["y = Trilu <upper = 0> (x, k)"], [X], {"k": np.array(1, dtype=np.int64)}, 18),
    "trilu of the upper": (["y = Trilu(x)"], [X], {}, 18),
    "compress": (["y = Compress <axis = 2> (x, c)"], [X], {"c": np.array([True, False, True])}, 18),
    "shape in arithmetic": (
        [
            "d = Shape <start = 1, end = 3> (x)",
            "f = Cast <to = 1> (d)",
            "p = ReduceProd <keepdims = 0> (f)",
            "y = Div(x, p)",
        ],
        [X],
        {},
        18,
    ),
    "size of numbers": (["s = Size(c)", "f = Cast <to = 1> (s)", "y = Mul(x, f)"], [X], {"c": np.zeros((2, 3))}, 18),
    "constant of a shape": (
        [
            "d = Shape <end = 1> (x)",
            "s = Concat <axis = 0> (d, rest)",
            "c = ConstantOfShape <value = float[1] {1.5}> (s)",
            "y = Add(x, c)",
        ],
        [X],
        {"rest": i64(3, 4)},
        18,
    ),
    "range of numbers": (
        ["r = Range(a, b, c)", "y = Mul(x, r)"],
        [X],
        {"a": np.float32(1), "b": np.float32(8), "c": np.float32(2)},
        18,
    ),
    "range of the rows": (
        ["d = Shape(x)", "n = Gather(d, zero)", "r = Range(zero, n, one)", "y = Gather <axis = 0> (x, r)"],
        [X],
        {"zero": np.array(0, dtype=np.int64), "one": np.array(1, dtype=np.int64)},
        18,
    ),
    "eye": (
        ["e = EyeLike <k = 1> (c)", "y = Mul(x, e)"],
        [X],
        {"c": np.zeros((3, 4), dtype=np.float32)},
        18,
    ),
    "depth to space": (["y = DepthToSpace <blocksize = 2> (x)"], ["x float 8 2 3"], {}, 18),
    "depth to space by columns": (
        ['y = DepthToSpace <blocksize = 2, mode = "CRD"> (x)'],
        ["x float 8 2 3"],
        {},
        18,
    ),
    "space to depth": (["y = SpaceToDepth <blocksize = 2> (x)"], ["x float 2 4 6"], {}, 18),
}


@pytest.mark.parametrize("name", CASES)
def test_movement_is_as_in_onnx_runtime(tmp_path, name):
    nodes, inputs, constants, opset = CASES[name]
    compare(tmp_path, nodes, inputs, constants, opset=opset)


@pytest.mark.parametrize(
    "name", ["reshape", "transpose", "slice", "split", "tile", "expand", "squeeze", "pad by the edge"]
)
def test_movement_makes_no_arithmetic(tmp_path, name):
    nodes, inputs, constants, opset = CASES[name]
    made = operations(compare(tmp_path, [line for line in nodes], inputs, constants, opset=opset))
    assert set(made) <= {"feature", "view", "concat", "interleave", "subtract"}


@pytest.mark.parametrize("name", ["request", "item", "pair"])
def test_movement_keeps_the_rate(tmp_path, name):
    nodes, inputs, constants, opset = CASES["rows merged with an earlier axis"]
    conversion = compare(tmp_path, nodes, inputs, constants, opset=opset, rates=[name])
    rates = {
        conversion.steps.rates[place] for place, step in enumerate(conversion.steps.steps) if step in conversion.live
    }
    assert rates <= {name, "model"}


def test_one_row_of_what_the_request_gives_is_for_all(tmp_path):
    nodes = ["a = Slice(x, zero, one)", "b = Slice(x, last, end)", "c = Add(a, b)", "y = Mul(c, z)"]
    constants = {"zero": i64(0), "one": i64(1), "last": i64(-1), "end": i64(2**62)}
    compare(tmp_path, nodes, ["x float 4", "z float 4"], constants, rates=["request", "pair"])


def test_an_input_of_one_row_is_spread_over_the_rows(tmp_path):
    nodes = [
        "d = Shape <end = 1> (z)",
        "s = Concat <axis = 0> (d, four)",
        "e = Expand(x, s)",
        "y = Concat <axis = 1> (z, e)",
    ]
    compare(tmp_path, nodes, ["x float 4 single", "z float 4"], {"four": i64(4)}, rates=["request", "pair"])


@dataclasses.dataclass
class Shape:
    """The sizes of a tensor of a random graph, `None` where the rows are: `before * N * after`."""

    sizes: list[int | None]
    before: int = 1
    after: int = 1

    @property
    def axis(self) -> int:
        return self.sizes.index(None)

    def dims(self) -> list[int]:
        return [-1 if size is None else size for size in self.sizes]


class Chain:
    """Random movement, one operator after the other; `lines` and `constants` are the graph."""

    def __init__(self, rng: np.random.Generator, sizes: list[int]):
        self.rng = rng
        self.shape = Shape([None, *sizes])
        self.lines: list[str] = []
        self.constants: dict[str, np.ndarray] = {}
        self.last = "x"

    def constant(self, *values: int) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = i64(*values)
        return name

    def node(self, text: str, shape: Shape) -> None:
        name = f"t{len(self.lines)}"
        self.lines.append(f"{name} = {text}")
        self.last, self.shape = name, shape

    def other_axis(self) -> int | None:
        axes = [axis for axis, size in enumerate(self.shape.sizes) if size is not None]
        return int(self.rng.choice(axes)) if axes else None

    def transpose(self) -> None:
        order = [int(axis) for axis in self.rng.permutation(len(self.shape.sizes))]
        sizes = [self.shape.sizes[axis] for axis in order]
        self.node(f"Transpose <perm = {order}> ({self.last})", Shape(sizes, self.shape.before, self.shape.after))

    def merge(self) -> None:
        """The rows and a neighbour."""
        shape, axis = self.shape, self.shape.axis
        if len(shape.sizes) == 1:
            return
        if axis + 1 < len(shape.sizes) and (axis == 0 or self.rng.random() < 0.5):
            sizes = [*shape.sizes[: axis + 1], *shape.sizes[axis + 2 :]]
            new = Shape(sizes, shape.before, shape.after * shape.sizes[axis + 1])
        else:
            sizes = [*shape.sizes[: axis - 1], *shape.sizes[axis:]]
            new = Shape(sizes, shape.before * shape.sizes[axis - 1], shape.after)
        self.node(f"Reshape({self.last}, {self.constant(*new.dims())})", new)

    def part(self) -> None:
        """The rows alone again."""
        shape, axis = self.shape, self.shape.axis
        before = [shape.before] if shape.before > 1 else []
        after = [shape.after] if shape.after > 1 else []
        new = Shape([*shape.sizes[:axis], *before, None, *after, *shape.sizes[axis + 1 :]])
        self.node(f"Reshape({self.last}, {self.constant(*new.dims())})", new)

    def slice(self) -> None:
        axis = self.other_axis()
        if axis is None:
            return
        size = self.shape.sizes[axis]
        start = int(self.rng.integers(0, size))
        step = int(self.rng.choice([1, 1, 2, -1]))
        end = 2**60 if step > 0 else -(2**60)
        count = len(range(size)[slice(start, None if step < 0 else size, step)])
        sizes = [count if place == axis else old for place, old in enumerate(self.shape.sizes)]
        text = ", ".join(self.constant(value) for value in (start, end, axis, step))
        self.node(f"Slice({self.last}, {text})", Shape(sizes, self.shape.before, self.shape.after))

    def double(self) -> None:
        axis = self.other_axis()
        if axis is None or np.prod([size or 1 for size in self.shape.sizes]) > 60:
            return
        sizes = [2 * old if place == axis else old for place, old in enumerate(self.shape.sizes)]
        new = Shape(sizes, self.shape.before, self.shape.after)
        self.node(f"Concat <axis = {axis}> ({self.last}, {self.last})", new)

    def unsqueeze(self) -> None:
        if len(self.shape.sizes) > 4:
            return
        axis = int(self.rng.integers(0, len(self.shape.sizes) + 1))
        sizes = [*self.shape.sizes[:axis], 1, *self.shape.sizes[axis:]]
        self.node(f"Unsqueeze({self.last}, {self.constant(axis)})", Shape(sizes, self.shape.before, self.shape.after))

    def compute(self) -> None:
        self.node(f"Tanh({self.last})", self.shape)

    def finish(self) -> None:
        """The rows to the front, alone."""
        self.part()
        axis = self.shape.axis
        order = [axis, *(place for place in range(len(self.shape.sizes)) if place != axis)]
        self.lines += [
            f"front = Transpose <perm = {order}> ({self.last})",
            f"y = Reshape(front, {self.constant(0, -1)})",
        ]


@pytest.mark.parametrize("seed", range(60))
def test_random_movement_is_as_in_onnx_runtime(tmp_path, seed):
    rng = np.random.default_rng(seed)
    sizes = [int(size) for size in rng.integers(1, 5, rng.integers(1, 4))]
    chain = Chain(rng, sizes)
    moves = [chain.transpose, chain.merge, chain.part, chain.slice, chain.double, chain.unsqueeze, chain.compute]
    for _ in range(int(rng.integers(3, 12))):
        moves[int(rng.integers(0, len(moves)))]()
    chain.finish()
    compare(tmp_path, chain.lines, [f"x float {' '.join(map(str, sizes))}"], chain.constants, seed=seed)
