"""What has to be refused: networks with an operation that mixes rows, and models that are damaged."""

from __future__ import annotations

import dataclasses
import math
import random

import numpy as np
import onnx

from fuzz_onnx_graph import Builder, Graph, Skip, Tensor
from fuzz_onnx_movement import row_numbers
from fuzz_onnx_network import grown, measured, task
from fuzz_onnx_operators import OPERATORS

# Networks that mix rows


def over_rows(g: Builder, x: Tensor) -> Tensor:
    op = g.one_of("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp")
    axes = [0] if x.rank == 1 or g.chance(0.6) else [0, g.rng.randint(1, x.rank - 1)]
    if g.opset >= (13 if op == "ReduceSum" else 18):
        (name,) = g.line(op, [x, g.ints(*axes)])
    else:
        (name,) = g.line(op, [x], axes=axes)
    return like(g, x, g.line(g.one_of("Add", "Sub", "Mul"), [x, name])[0])


def like(g: Builder, x: Tensor, name: str) -> Tensor:
    return dataclasses.replace(x, name=name, low=-1e6, high=1e6, grain=0.0, kind="float32")


def softmax_of_rows(g: Builder, x: Tensor) -> Tensor:
    return like(g, x, g.line(g.one_of("Softmax", "LogSoftmax"), [x], axis=0)[0])


def norm_of_rows(g: Builder, x: Tensor) -> Tensor:
    return like(g, x, g.line("LpNormalization", [x], axis=0, p=g.one_of(1, 2))[0])


def mean_variance_of_rows(g: Builder, x: Tensor) -> Tensor:
    return like(g, x, g.line("MeanVarianceNormalization", [x], axes=[0])[0])


def sums_up_rows(g: Builder, x: Tensor) -> Tensor:
    if g.opset < 11:
        raise Skip
    return like(g, x, g.line("CumSum", [x, g.constant(np.array(0))])[0])


def product_of_rows(g: Builder, x: Tensor) -> Tensor:
    x = g.flat(x)
    turned = g.line("Transpose", [x], perm=[1, 0])[0]
    scores = g.line("MatMul", [x, turned])[0]
    return like(g, x, g.line("MatMul", [scores, x])[0])


def einsum_of_rows(g: Builder, x: Tensor) -> Tensor:
    if g.opset < 12:
        raise Skip
    x = g.flat(x)
    terms = g.one_of("ni,mi,mj->nj", "ni,nj,mi->mj", "ni,mj->mj")
    given = [x] * terms.count(",") + [x]
    return like(g, x, g.line("Einsum", given, equation=terms)[0])


def first_row(g: Builder, x: Tensor) -> Tensor:
    if g.chance(0.5):
        first = g.sliced(x, [0], [1], [0])[0]
    else:
        first = g.line("Gather", [x, g.ints(g.one_of(0, -1))])[0]
    return like(g, x, g.line("Sub", [x, first])[0])


def reversed_rows(g: Builder, x: Tensor) -> Tensor:
    if g.opset < 10:
        raise Skip
    given = [g.ints(number) for number in (-1, -(2**62), 0, -1)]
    return like(g, x, g.line("Slice", [x, *given])[0])


def shifted_rows(g: Builder, x: Tensor) -> Tensor:
    first = g.sliced(x, [0], [1], [0])[0]
    both = g.line("Concat", [first, x], axis=0)[0]
    return like(g, x, g.sliced(both, [0], [-1], [0])[0])


def mixed_by_reshape(g: Builder, x: Tensor) -> Tensor:
    x = g.shaped(x, g.rng.randint(2, 4))
    turned = g.line("Transpose", [x], perm=[1, 0])[0]
    return like(g, x, g.line("Reshape", [turned, g.ints(-1, x.shape[1])])[0])


def divided_by_rows(g: Builder, x: Tensor) -> Tensor:
    count = g.line("Cast", [g.rows()], to=onnx.TensorProto.FLOAT)[0]
    return like(g, x, g.line(g.one_of("Div", "Mul"), [x, count])[0])


def chosen_by_rows(g: Builder, x: Tensor) -> Tensor:
    more = g.line("Greater", [g.rows(), g.ints(3)])[0]
    return like(g, x, g.line("Where", [more, x, g.line("Neg", [x])[0]])[0])


def with_row_number(g: Builder, x: Tensor) -> Tensor:
    number = g.line("Cast", [row_numbers(g)], to=onnx.TensorProto.FLOAT)[0]
    x = g.flat(x)
    beside = g.unsqueezed(number, 1)[0]
    return like(g, x, g.line("Add", [x, beside])[0])


def channels_of_rows(g: Builder, x: Tensor) -> Tensor:
    x = g.flat(x)
    turned = g.line("Transpose", [x], perm=[1, 0])[0]
    apart = g.unsqueezed(turned, 0)[0]
    kernel = g.weights(x.shape[1], x.shape[1], 3)
    made = g.line("Conv", [apart, kernel], pads=[1, 1])[0]
    back = g.line(
        "Squeeze", [made] + ([g.ints(0)] if g.opset >= 13 else []), **({} if g.opset >= 13 else {"axes": [0]})
    )[0]
    return like(g, x, g.line("Transpose", [back], perm=[1, 0])[0])


def largest_of_rows(g: Builder, x: Tensor) -> Tensor:
    if g.opset < 11:
        raise Skip
    top = g.line("TopK", [x, g.ints(1)], 2, axis=0)[0]
    return like(g, x, g.line("Sub", [x, top])[0])


def compared_rows(g: Builder, x: Tensor) -> Tensor:
    x = g.flat(x)
    one = g.line("ReduceSum", [x] + ([g.ints(1)] if g.opset >= 13 else []), **({} if g.opset >= 13 else {"axes": [1]}))[
        0
    ]
    turned = g.line("Transpose", [one], perm=[1, 0])[0]
    pairs = g.line("Sub", [one, turned])[0]
    return like(g, x, g.line("MatMul", [g.line("Tanh", [pairs])[0], x])[0])


def places_of_rows(g: Builder, x: Tensor) -> Tensor:
    if g.opset < 11:
        raise Skip
    x = g.flat(x)
    place = g.line("ArgMax", [x], axis=0, keepdims=1)[0]
    return like(g, x, g.line("Add", [x, g.line("Cast", [place], to=onnx.TensorProto.FLOAT)[0]])[0])


def gathered_rows(g: Builder, x: Tensor) -> Tensor:
    """The row whose number the row has: 0 or 1."""
    x = g.flat(x)
    if g.opset < 13:
        raise Skip
    at = g.line("Gather", [x, g.constant(np.array(0))], axis=1)[0]
    index = g.line("Cast", [g.line("Greater", [at, g.constant(np.float32(0))])[0]], to=onnx.TensorProto.INT64)[0]
    index = g.line("Sub", [index, g.constant(np.array(1))])[0]
    return like(g, x, g.line("Gather", [x, index])[0])


def batch_statistics(g: Builder, x: Tensor) -> Tensor:
    if g.opset < 14:
        raise Skip
    x = g.flat(x)
    size = x.shape[1]
    norm = [g.weights(size, scale=1) for _ in range(3)]
    variance = g.constant(np.ones(size, dtype=np.float32))
    made, _, _ = g.line("BatchNormalization", [x, *norm, variance], 3, training_mode=1)
    return like(g, x, made)


MIXERS = [
    over_rows,
    softmax_of_rows,
    norm_of_rows,
    mean_variance_of_rows,
    sums_up_rows,
    product_of_rows,
    einsum_of_rows,
    first_row,
    reversed_rows,
    shifted_rows,
    mixed_by_reshape,
    divided_by_rows,
    chosen_by_rows,
    with_row_number,
    channels_of_rows,
    largest_of_rows,
    compared_rows,
    places_of_rows,
    gathered_rows,
    batch_statistics,
]


def mixing_network(seed: int) -> tuple[Graph, str]:
    """A network in which one operation mixes the rows, and which that is."""
    g = grown(seed)
    wanted = [
        t
        for t in g.pool
        if t.kind == "float32" and t.row is not None and t.rates & {"pair", "item"} and t.array is None
    ]
    leaves = measured(g, wanted)
    leaves = [(leaf, size) for leaf, size in leaves if size > 0.05]
    if not leaves:
        raise Skip
    leaf, size = g.rng.choice(leaves)
    mixer = g.rng.choice(MIXERS)
    mixed = mixer(g, g.home(leaf))
    count = g.one_of(0, 1, 2)
    g.graph.outputs.append(task(g, [(mixed, size), *g.rng.sample(leaves, min(count, len(leaves)))]))
    return g.graph, mixer.__name__


# Damage


def damaged(graph: Graph, rng: random.Random) -> tuple[onnx.ModelProto, str]:
    """The model with one thing wrong, or with one that only looks so, and what was done."""
    model = graph.model()
    change = rng.choice(DAMAGES)
    change(model, rng)
    return model, change.__name__


def any_node(model: onnx.ModelProto, rng: random.Random, has_attributes: bool = False) -> onnx.NodeProto:
    nodes = [node for node in model.graph.node if node.attribute or not has_attributes]
    if not nodes:
        raise Skip
    return rng.choice(nodes)


def attribute_value(model: onnx.ModelProto, rng: random.Random) -> None:
    attribute = rng.choice(any_node(model, rng, True).attribute)
    match attribute.type:
        case onnx.AttributeProto.INT if attribute.name == "to":
            attribute.i = rng.choice((0, 8, 16, 99, -1))
        case onnx.AttributeProto.INT:
            attribute.i = rng.choice((-1, 0, 1, 2, 3, 7, -5, 1 << 40, -(1 << 63)))
        case onnx.AttributeProto.FLOAT:
            attribute.f = rng.choice((math.nan, math.inf, -math.inf, 0.0, -1.0, 3.0))
        case onnx.AttributeProto.STRING:
            attribute.s = rng.choice((b"", b"\xff", b"none", b"edge", b"bij->", b"ab,->", b"...", b"aa"))
        case onnx.AttributeProto.INTS:
            numbers = list(attribute.ints)
            rng.choice(
                (
                    numbers.clear,
                    lambda: numbers.append(rng.choice((-1, 0, 1, 9))),
                    lambda: numbers and numbers.pop(),
                    lambda: numbers and numbers.__setitem__(0, rng.choice((-9, 0, 5, 1 << 40))),
                )
            )()
            del attribute.ints[:]
            attribute.ints.extend(numbers)
        case onnx.AttributeProto.TENSOR:
            attribute.t.CopyFrom(
                onnx.numpy_helper.from_array(np.zeros(rng.choice(((), (0,), (2, 2))), np.float32), "t")
            )


def attribute_type(model: onnx.ModelProto, rng: random.Random) -> None:
    node = any_node(model, rng, True)
    place = rng.randrange(len(node.attribute))
    value = rng.choice((1, 1.5, "text", [1, 2], [0.5]))
    node.attribute[place].CopyFrom(onnx.helper.make_attribute(node.attribute[place].name, value))


def attribute_gone(model: onnx.ModelProto, rng: random.Random) -> None:
    node = any_node(model, rng, True)
    del node.attribute[rng.randrange(len(node.attribute))]


def attribute_new(model: onnx.ModelProto, rng: random.Random) -> None:
    name = rng.choice(
        ("axis", "axes", "keepdims", "perm", "to", "mode", "alpha", "p", "k", "group", "pads", "equation")
    )
    value = rng.choice((-1, 0, 5, 0.5, "text", [0], [1, 0], []))
    if value == []:
        any_node(model, rng).attribute.append(onnx.AttributeProto(name=name, type=onnx.AttributeProto.INTS))
    else:
        any_node(model, rng).attribute.append(onnx.helper.make_attribute(name, value))


def constant_shape(model: onnx.ModelProto, rng: random.Random) -> None:
    if not model.graph.initializer:
        raise Skip
    tensor = rng.choice(model.graph.initializer)
    array = onnx.numpy_helper.to_array(tensor)
    made = rng.choice(
        (
            lambda: array.reshape(-1),
            lambda: array[..., None],
            lambda: array.reshape(-1)[:0],
            lambda: np.resize(array, (*array.shape[:-1], array.shape[-1] + 1) if array.ndim else (2,)),
            lambda: array.T,
        )
    )()
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(made), tensor.name))


def constant_type(model: onnx.ModelProto, rng: random.Random) -> None:
    if not model.graph.initializer:
        raise Skip
    tensor = rng.choice(model.graph.initializer)
    kind = rng.choice((np.int64, np.int32, np.float64, np.float32, np.bool_, np.uint8, np.float16))
    tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(kind), tensor.name))


def constant_numbers(model: onnx.ModelProto, rng: random.Random) -> None:
    if not model.graph.initializer:
        raise Skip
    tensor = rng.choice(model.graph.initializer)
    array = onnx.numpy_helper.to_array(tensor).copy()
    bad = (
        (math.nan, math.inf, 30.0)
        if array.dtype.kind == "f"
        else (-1, 100, np.iinfo(array.dtype).max)
        if array.dtype.kind in "iu"
        else (0,)
    )
    array[...] = np.asarray(rng.choice(bad)).astype(array.dtype)
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))


def constant_data(model: onnx.ModelProto, rng: random.Random) -> None:
    """Fewer bytes than the shape says, or a strange shape."""
    if not model.graph.initializer:
        raise Skip
    tensor = rng.choice(model.graph.initializer)
    if rng.random() < 0.5:
        tensor.raw_data = tensor.raw_data[:-1]
    else:
        tensor.dims.append(rng.choice((0, -1, 3, 1 << 40)))


def input_gone(model: onnx.ModelProto, rng: random.Random) -> None:
    node = any_node(model, rng)
    if not node.input:
        raise Skip
    if rng.random() < 0.5:
        del node.input[rng.randrange(len(node.input))]
    else:
        node.input[rng.randrange(len(node.input))] = ""


def input_new(model: onnx.ModelProto, rng: random.Random) -> None:
    node = any_node(model, rng)
    node.input.extend([node.input[0] if node.input else "x0"] * rng.choice((1, 3)))


def input_other(model: onnx.ModelProto, rng: random.Random) -> None:
    node = any_node(model, rng)
    if not node.input:
        raise Skip
    names = [name for other in model.graph.node for name in (*other.input, *other.output)] + ["nothing"]
    node.input[rng.randrange(len(node.input))] = rng.choice(names)


def operator_other(model: onnx.ModelProto, rng: random.Random) -> None:
    any_node(model, rng).op_type = rng.choice(
        (*OPERATORS, "NonZero", "LSTM", "Loop", "RandomNormalLike", "Nothing", "Unique")
    )


def domain_other(model: onnx.ModelProto, rng: random.Random) -> None:
    any_node(model, rng).domain = rng.choice(("ai.onnx", "com.microsoft", "my.own"))


def output_other(model: onnx.ModelProto, rng: random.Random) -> None:
    node = any_node(model, rng)
    match rng.randrange(4):
        case 0:
            node.output.append("more")
        case 1:
            node.output[0] = rng.choice(any_node(model, rng).output)
        case 2:
            model.graph.output[0].name = rng.choice(("nothing", node.output[0]))
        case 3:
            del node.output[0]


def network_input(model: onnx.ModelProto, rng: random.Random) -> None:
    value = rng.choice(model.graph.input)
    kind = value.type.tensor_type
    match rng.randrange(5):
        case 0:
            kind.elem_type = rng.choice((0, 1, 6, 7, 8, 9, 10, 14, 99))
        case 1:
            kind.shape.dim.add().dim_value = rng.choice((0, 1, 3, -2))
        case 2 if kind.shape.dim:
            kind.shape.dim[0].dim_value = rng.choice((0, 2, 7))
        case 3 if kind.shape.dim:
            del kind.shape.dim[-1]
        case 4 if len(kind.shape.dim) > 1:
            kind.shape.dim[-1].dim_param = rng.choice(("N", "L", ""))
        case _:
            kind.ClearField("shape")


def opset_other(model: onnx.ModelProto, rng: random.Random) -> None:
    model.opset_import[0].version = rng.choice((1, 8, 9, 10, 11, 12, 13, 17, 18, 21, 23, 99))


def order_other(model: onnx.ModelProto, rng: random.Random) -> None:
    nodes = list(model.graph.node)
    if len(nodes) < 2:
        raise Skip
    rng.shuffle(nodes)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def node_gone(model: onnx.ModelProto, rng: random.Random) -> None:
    if not model.graph.node:
        raise Skip
    del model.graph.node[rng.randrange(len(model.graph.node))]


DAMAGES = [
    attribute_value,
    attribute_value,
    attribute_value,
    attribute_type,
    attribute_gone,
    attribute_new,
    constant_shape,
    constant_shape,
    constant_type,
    constant_numbers,
    constant_data,
    input_gone,
    input_new,
    input_other,
    input_other,
    operator_other,
    operator_other,
    domain_other,
    output_other,
    network_input,
    opset_other,
    order_other,
    node_gone,
]
