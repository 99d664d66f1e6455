"""Recurrent layers: a step for every position, one after the other; the length is fixed.

The positions' share of the gates is one layer over all of them. What follows a row's own length (`sequence_lens`) keeps
the state as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from .movement import referenced
from .node import Node, rule
from .tensor import Row, Tensor, constant

ACTIVATIONS = ("Sigmoid", "Tanh", "Relu", "Softsign", "Softplus")


@dataclasses.dataclass
class Layer:
    """One direction of a recurrent layer: weights `[columns, gates * hidden]`, biases `[gates * hidden]`."""

    node: Node
    label: str
    activations: list[str]
    input: Tensor
    recurrent: Tensor
    input_bias: Tensor
    recurrent_bias: Tensor
    peephole: Tensor | None
    hidden: int

    def call(self, op_type: str, *inputs: Tensor) -> Tensor:
        return self.node.call(op_type, inputs, self.label)

    def activated(self, place: int, tensor: Tensor) -> Tensor:
        return self.call(self.activations[place], tensor)

    def part(self, tensor: Tensor, gate: int, count: int = 1) -> Tensor:
        """The columns of some gates."""
        columns = slice(gate * self.hidden, (gate + count) * self.hidden)
        part = tensor.move(f"{tensor.name}.{gate}", tensor.row, lambda array: array[..., columns])
        return learned(self.node, part, tensor)

    def gru(self, given: Tensor, state: Tensor) -> Tensor:
        before = self.node.attributes.get("linear_before_reset", 0)
        past = self.call("MatMul", state, self.part(self.recurrent, 0, 3 if before else 2))
        gates = self.call("Add", self.part(given, 0, 2), self.part(past, 0, 2))
        gates = self.activated(0, self.call("Add", gates, self.part(self.recurrent_bias, 0, 2)))
        update, reset = self.part(gates, 0), self.part(gates, 1)
        bias = self.part(self.recurrent_bias, 2)
        if before:
            kept = self.call("Mul", reset, self.call("Add", self.part(past, 2), bias))
        else:
            kept = self.call("Mul", reset, state)
            kept = self.call("Add", self.call("MatMul", kept, self.part(self.recurrent, 2)), bias)
        new = self.activated(1, self.call("Add", self.part(given, 2), kept))
        return self.call("Add", new, self.call("Mul", update, self.call("Sub", state, new)))

    def lstm(self, given: Tensor, state: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        gates = self.call("Add", given, self.call("MatMul", state, self.recurrent))
        gates = self.call("Add", gates, self.recurrent_bias)
        parts = [self.part(gates, gate) for gate in range(4)]
        if self.peephole is not None:
            for gate, weights in ((0, 0), (2, 2)):
                parts[gate] = self.call("Add", parts[gate], self.call("Mul", self.part(self.peephole, weights), cell))
        kept = self.call("Mul", self.activated(0, parts[2]), cell)
        cell = self.call("Add", kept, self.call("Mul", self.activated(0, parts[0]), self.activated(1, parts[3])))
        if self.peephole is not None:
            parts[1] = self.call("Add", parts[1], self.call("Mul", self.part(self.peephole, 1), cell))
        return self.call("Mul", self.activated(0, parts[1]), self.activated(2, cell)), cell

    def rnn(self, given: Tensor, state: Tensor) -> Tensor:
        past = self.call("Add", self.call("MatMul", state, self.recurrent), self.recurrent_bias)
        return self.activated(0, self.call("Add", given, past))


def learned(node: Node, tensor: Tensor, of: Tensor) -> Tensor:
    """A tensor that training may change if it may change the one it is of."""
    if tensor.is_constant and of.name in node.steps.learned:
        node.steps.derive(tensor.name)
    return tensor


def positions(node: Node) -> Tensor:
    """The input as `[1, positions, columns]`, rows first."""
    if node.attributes.get("layout", 0):
        raise node.error("layout 1 is not read; export with the positions first (layout 0)")
    tensor = node.require(0)
    row = tensor.row
    if row is not None and row != Row(1) or tensor.shape[1] != 1:
        raise node.mixes("runs from row to row")
    mark = None if row is None else Row(0)
    return tensor.move(tensor.name, mark, lambda array: array.transpose(1, 0, 2))


def start(node: Node, place: int, direction: int, hidden: int) -> Tensor:
    """What a direction starts from, `[1, hidden]`; zeros where it is left out."""
    tensor = node.input(place)
    if tensor is None:
        return constant(f"{node.outputs[0]}.zero", np.zeros((1, hidden), dtype=np.float32))
    if tensor.row is not None and tensor.row != Row(1):
        raise node.mixes("starts from other rows")
    mark = None if tensor.row is None or tensor.is_constant else Row(0)
    state = tensor.move(f"{tensor.name}.{direction}", mark, lambda array: array[direction].reshape(1, hidden))
    return learned(node, state, tensor)


def layer(node: Node, direction: int, gates: int, defaults: Sequence[str]) -> Layer:
    hidden = node.require(2).shape[-1]
    count = len(defaults)
    names = node.attributes.get("activations") or list(defaults) * 2
    names = [name.capitalize() for name in names[direction * count : (direction + 1) * count]]
    for name in names:
        if name not in ACTIVATIONS or len(names) != count:
            raise node.error(f"its activation {name} is not read; {', '.join(ACTIVATIONS)} are")
    if node.attributes.get("clip") is not None or node.attributes.get("input_forget", 0):
        raise node.error("`clip` and `input_forget` are not read; export without them")
    label = "backward" if direction or node.attributes.get("direction") == "reverse" else "forward"

    def weight(place: int, name: str) -> Tensor:
        tensor = node.require(place)
        array = node.numbers(place, name)[direction].T
        return named(f"{tensor.name}.{label}", array, tensor)

    def named(name: str, array: np.ndarray, of: Tensor) -> Tensor:
        return learned(node, constant(name, array), of)

    if node.input(3) is None:
        zeros = constant(f"{node.outputs[0]}.bias", np.zeros(gates * hidden, dtype=np.float32))
        biases = [zeros, zeros]
    else:
        given = node.require(3)
        halves = node.numbers(3, "its bias")[direction].reshape(2, -1)
        biases = [named(f"{given.name}.{label}.{place}", half, given) for place, half in enumerate(halves)]
    peephole = None
    if node.op_type == "LSTM" and node.input(7) is not None:
        given = node.require(7)
        peephole = named(f"{given.name}.{label}", node.numbers(7, "its peepholes")[direction], given)
    prefix = f"{node.outputs[0]}.{label}"
    parts = weight(1, "its weight"), weight(2, "its recurrent weight")
    return Layer(node, prefix, names, *parts, *biases, peephole, hidden)


def run(
    node: Node, gates: int, defaults: Sequence[str], step: Callable[[Layer, Tensor, list[Tensor]], list[Tensor]]
) -> list[Tensor]:
    """The outputs of a layer whose `step` makes the next states of the gates' share of a position and the states."""
    given = positions(node)
    length = given.shape[1]
    word = node.attributes.get("direction", "forward")
    lengths = None if node.input(4) is None else node.require(4)
    if lengths is not None and lengths.is_constant:
        lengths = lengths.move(lengths.name, None, lambda array: array)
    all_outputs, lasts = [], []
    for direction in range(2 if word == "bidirectional" else 1):
        one = layer(node, direction, gates, defaults)
        shares = one.call("Add", one.call("MatMul", given, one.input), one.input_bias)
        states = [start(node, place, direction, one.hidden) for place in (5, 6)[: 1 + (node.op_type == "LSTM")]]
        order = range(length) if word != "reverse" and not direction else range(length)[::-1]
        outputs: list[Tensor | None] = [None] * length
        for position in order:
            share = shares.move(f"{one.label}.{position}", shares.row, lambda array: array[:, position])
            one.label = f"{node.outputs[0]}.{position}"
            new = step(one, share, states)
            outputs[position] = new[0]
            if lengths is not None:
                place = constant(f"{node.outputs[0]}.place", np.array([[position]], dtype=lengths.dtype))
                column = lengths.move(lengths.name, lengths.row, lambda array: array.reshape(-1, 1))
                is_inside = one.call("Less", place, column)
                nothing = constant(f"{node.outputs[0]}.zero", np.zeros((1, one.hidden), dtype=np.float32))
                outputs[position] = one.call("Where", is_inside, new[0], nothing)
                new = [one.call("Where", is_inside, after, before) for after, before in zip(new, states)]
            states = new
        all_outputs.append([output for output in outputs if output is not None])
        lasts.append(states)
    return [
        sequence_of(node, all_outputs),
        *(last_of(node, [s[i] for s in lasts], i + 1) for i in range(len(lasts[0]))),
    ]


def sequence_of(node: Node, outputs: Sequence[Sequence[Tensor]]) -> Tensor:
    """All states: `[positions, directions, rows, hidden]`."""
    flat = joined(node, [output for direction in outputs for output in direction], 0)
    shape = (len(outputs), len(outputs[0]), 1, -1)
    row = None if flat.row is None else Row(2)
    return flat.move(node.outputs[0], row, lambda array: array.reshape(shape).swapaxes(0, 1))


def last_of(node: Node, states: Sequence[Tensor], output: int) -> Tensor:
    """The last states: `[directions, rows, hidden]`."""
    flat = joined(node, states, output)
    row = None if flat.row is None else Row(1)
    name = node.outputs[output] if output < len(node.outputs) else flat.name
    return flat.move(name, row, lambda array: array.reshape(len(states), 1, -1))


def joined(node: Node, tensors: Sequence[Tensor], output: int) -> Tensor:
    """Tensors `[1, hidden]` below one another."""
    parts = [referenced(node, tensor) for tensor in tensors]
    row = next((part.row for part in parts if part.row is not None), None)
    arrays = [np.concatenate([getattr(part, key) for part in parts]) for key in ("values", "columns")]
    return Tensor(f"{node.outputs[0]}.{output}", np.dtype(np.float32), row, values=arrays[0], columns=arrays[1])


@rule("GRU")
def gru(node: Node) -> list[Tensor]:
    return run(node, 3, ("Sigmoid", "Tanh"), lambda one, given, states: [one.gru(given, states[0])])


@rule("LSTM")
def lstm(node: Node) -> list[Tensor]:
    return run(node, 4, ("Sigmoid", "Tanh", "Tanh"), lambda one, given, states: list(one.lstm(given, *states)))


@rule("RNN")
def rnn(node: Node) -> list[Tensor]:
    return run(node, 1, ("Tanh",), lambda one, given, states: [one.rnn(given, states[0])])
