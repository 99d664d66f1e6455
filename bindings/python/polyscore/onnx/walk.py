"""Goes through the nodes of a graph in order: folds what is constant, and asks the rules for the rest."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import MutableMapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto

from . import read
from .fold import fold
from .movement import MOVES
from .node import RULES, Node
from .tensor import OnnxError, Steps, Tensor, constant

UNROLL = "write the recurrence as a loop of Python over its fixed length, so that the export has each step as nodes"
MASK = "its size depends on the data; keep all elements and weigh them by a mask (Where, Mul)"
EVALUATION = "is random; export the model in evaluation mode"
LISTS = "lists of tensors are not covered; stack them to a tensor with an axis of fixed size"
TEXTS = "texts are not covered; turn them into table rows ahead of the network (`features` describes how)"

# What to write instead of an operator.
REWRITES = {
    **dict.fromkeys(("Loop", "Scan"), UNROLL),
    **dict.fromkeys(("NonZero", "Unique", "NonMaxSuppression"), MASK),
    **dict.fromkeys(
        ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"),
        EVALUATION,
    ),
    **dict.fromkeys(
        (
            "SequenceAt",
            "SequenceConstruct",
            "SequenceEmpty",
            "SequenceErase",
            "SequenceInsert",
            "SequenceLength",
            "SequenceMap",
            "SplitToSequence",
            "ConcatFromSequence",
            "Optional",
            "OptionalGetElement",
            "OptionalHasElement",
        ),
        LISTS,
    ),
    **dict.fromkeys(("StringNormalizer", "StringConcat", "StringSplit", "TfIdfVectorizer", "RegexFullMatch"), TEXTS),
    "Resize": "gather the positions by a constant index",
    "Upsample": "gather the positions by a constant index",
    "ConvTranspose": "write it as MatMul and Reshape",
    "Det": "write it as products",
    "ReverseSequence": "gather the positions by a computed index (Gather, GatherElements)",
}


# Operators of another domain that have rules.
MICROSOFT = "com.microsoft"
CONTRIBUTED = frozenset(("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "Gelu"))

# What the reference implementation does not have, or not for all shapes: of constants it is computed as of anything.
NOT_FOLDED = frozenset(("DynamicQuantizeMatMul", "GatherElements", "MatMulIntegerToFloat", "Scatter"))


@dataclasses.dataclass
class Passed:
    """What became of a node: `folded`, `moved`, or `computed` by the steps from `first` to `last` (excluded)."""

    name: str
    op_type: str
    outputs: list[str]
    became: str
    first: int
    last: int


class Walk:
    def __init__(self, graph: read.Graph, steps: Steps, inputs: Sequence[Tensor]):
        self.graph = graph
        self.steps = steps
        self.passed: list[Passed] = []
        self.known: MutableMapping[str, Tensor] = {tensor.name: tensor for tensor in inputs}

    def run(self, outputs: Sequence[str]) -> list[Tensor]:
        """Passes the nodes that the outputs need."""
        self.pass_nodes(read.live_nodes(self.graph.nodes, outputs), self.known, [self.graph.weights])
        return [self.tensor(name, self.known, [self.graph.weights]) for name in outputs]

    def pass_nodes(
        self, nodes: Sequence[NodeProto], known: MutableMapping[str, Tensor], weights: Sequence[read.Weights]
    ) -> None:
        for proto in nodes:
            node = self.node_of(proto, known, weights)
            first = len(self.steps.steps)
            became = "moved"
            try:
                with np.errstate(all="ignore"):
                    results, became = self.pass_node(node, proto, known, weights)
            except OnnxError:
                raise
            except Exception as error:
                raise node.error(
                    f"does not fit its inputs: {type(error).__name__}: {read.first_line(error)}"
                ) from error
            for result in results:
                if not result.is_constant:
                    node.limit(result.size)
            known.update(zip(node.outputs, results))
            last = len(self.steps.steps)
            if proto.op_type != "Constant":
                became = "computed" if last > first else became
                self.passed.append(Passed(node.name, node.op_type, list(proto.output), became, first, last))

    def tensor(self, name: str, known: MutableMapping[str, Tensor], weights: Sequence[read.Weights]) -> Tensor:
        if name in known:
            return known[name]
        for some in weights:
            if name in some:
                known[name] = self.learned(constant(name, some[name]))
                return known[name]
        raise OnnxError(f"tensor `{name}`: no node, input or initialiser gives it")

    def learned(self, tensor: Tensor) -> Tensor:
        if tensor.dtype.kind in "fV":
            self.steps.learned.add(tensor.name)
        return tensor

    def node_of(self, proto: NodeProto, known: MutableMapping[str, Tensor], weights: Sequence[read.Weights]) -> Node:
        name = proto.name or next(filter(None, proto.output), "")
        outputs = [output or f"{name}.{place}" for place, output in enumerate(proto.output)]
        node = Node(name, proto.op_type, self.graph.opset, [], outputs, {}, self.steps)
        if proto.domain not in ("", "ai.onnx") and (proto.domain != MICROSOFT or proto.op_type not in CONTRIBUTED):
            raise node.error(f"is of the domain `{proto.domain}`; export with ONNX's own operators")
        node.attributes = {attribute.name: self.attribute(attribute) for attribute in proto.attribute}
        node.inputs = [self.tensor(input, known, weights) if input else None for input in proto.input]
        return node

    def attribute(self, proto: AttributeProto) -> Any:
        if proto.type == AttributeProto.TENSOR:
            return read.array_of(proto.t, self.graph.folder)
        value = onnx.helper.get_attribute_value(proto)
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if proto.type == AttributeProto.STRINGS:
            return [text.decode("utf-8", "replace") for text in value]
        return list(value) if proto.type in (AttributeProto.INTS, AttributeProto.FLOATS) else value

    def pass_node(
        self,
        node: Node,
        proto: NodeProto,
        known: MutableMapping[str, Tensor],
        weights: Sequence[read.Weights],
    ) -> tuple[list[Tensor], str]:
        """The outputs of a node, and what it became if it made no steps."""
        if node.op_type == "Constant":
            array = constant_of(node)
            tensor = constant(node.outputs[0], array)
            return [self.learned(tensor) if tensor.size > 1 else tensor], "folded"
        if node.op_type == "If":
            return self.branch(node, known, weights), "folded"
        is_plain = all(tensor is None or (tensor.is_constant and tensor.row is None) for tensor in node.inputs)
        if node.op_type in REWRITES and node.op_type not in RULES:
            raise node.error(f"this operator is not covered: {REWRITES[node.op_type]}")
        if is_plain and node.op_type not in MOVES and node.op_type not in NOT_FOLDED:
            results = folded(node)
        elif node.op_type in RULES:
            made = RULES[node.op_type](node)
            results = [made] if isinstance(made, Tensor) else list(made)
        else:
            raise node.error(
                "this operator is not covered; write it with those that `python -m polyscore.onnx ops` lists"
            )
        given = [tensor for tensor in node.inputs if tensor is not None and tensor.is_constant]
        if any(map(self.steps.passes_on, given)):
            for tensor in results:
                if tensor.is_constant and tensor.dtype.kind in "fV":
                    self.steps.derive(tensor.name)
        return results, "folded" if is_plain else "moved"

    def branch(self, node: Node, known: MutableMapping[str, Tensor], weights: Sequence[read.Weights]) -> list[Tensor]:
        """The outputs of the branch that a constant condition takes."""
        condition = node.require(0)
        if not condition.is_constant:
            raise node.error("its condition is computed from the inputs; compute both branches and choose by Where")
        if condition.other is not None:
            raise node.error("its condition depends on the size of the batch")
        graph = node.attributes["then_branch" if condition.constant.all() else "else_branch"]
        inner = collections.ChainMap({}, known)
        outputs = [value.name for value in graph.output]
        held = [read.Weights(graph.initializer, self.graph.folder), *weights]
        self.pass_nodes(read.live_nodes(graph.node, outputs), inner, held)
        return [self.tensor(name, inner, held) for name in outputs]


def constant_of(node: Node) -> np.ndarray:
    for key, dtype in (
        ("value", None),
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        if key in node.attributes:
            return np.asarray(node.attributes[key], dtype=dtype)
    raise node.error("its constant is not of numbers")


def folded(node: Node) -> list[Tensor]:
    """The outputs of a node of constants, at both sizes of the batch."""

    def run(arrays: list[np.ndarray | None]) -> list[np.ndarray]:
        return fold(node.op_type, node.opset, node.attributes, arrays, len(node.outputs))

    results = others = run([None if tensor is None else tensor.constant for tensor in node.inputs])
    if any(tensor is not None and tensor.other is not None for tensor in node.inputs):
        others = run([None if t is None else t.constant if t.other is None else t.other for t in node.inputs])
        if any(a.shape != b.shape for a, b in zip(results, others)):
            raise node.error("the shape of its result depends on the size of the batch")
    return [constant(*named) for named in zip(node.outputs, results, others)]
