"""Makes a graph that fails smaller while it fails the same way, and prints it as lines of a test."""

from __future__ import annotations

import copy
import dataclasses
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx

from fuzz_onnx_graph import ROWS, Given, Graph, Line
from onnx_graphs import session

Fails = Callable[[Graph], "Exception | None"]

# How long a graph is worked on.
SECONDS = 40


def minimised(check: Callable[[Graph], Any], graph: Graph, failure: Exception) -> tuple[Graph, Exception]:
    """A small graph that `check` refuses as it did the given one, and how."""
    until = time.monotonic() + SECONDS
    wanted = signature(failure)

    def fails(candidate: Graph) -> Exception | None:
        try:
            check(candidate)
        except Exception as error:
            return error if signature(error) == wanted else None
        return None

    best = pruned(graph)
    if fails(best) is None:
        return graph, failure
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for ways in (
            with_one_output,
            that_ends_early,
            with_inputs_inside,
            without_nodes,
            with_plain_numbers,
            with_plain_inputs,
        ):
            for way in ways(best):
                if time.monotonic() > until:
                    return best, failure
                candidate = way(best)
                candidate = best if candidate is None else pruned(candidate)
                found = fails(candidate) if size_of(candidate) < size_of(best) else None
                if found is not None:
                    best, failure, is_smaller = candidate, found, True
    return best, failure


def signature(error: Exception) -> str:
    """What went wrong, without names and numbers."""
    kind, detail = getattr(error, "kind", type(error).__name__), getattr(error, "detail", "")
    return kind if kind == "differs" else kind + re.sub(r"`[^`]*`|\d+|line .*", "", detail)[-60:]


def size_of(graph: Graph) -> tuple[int, ...]:
    """What is to become small, the most important first."""
    digits = sum(
        len(str(number)) for array in graph.constants.values() for number in np.asarray(array).ravel().tolist()
    )
    rates = sum(given.rate != "pair" for given in graph.givens)
    values = sum(int((np.asarray(given.values) % 1 != 0).sum()) for given in graph.givens)
    return len(graph.outputs), len(graph.lines), len(graph.givens), rates, digits, values


def pruned(graph: Graph) -> Graph:
    """Without nodes, constants and inputs that the outputs do not need."""
    lines = graph.live_lines()
    read = {name for line in lines for name in line.inputs} | set(graph.outputs)
    for line in lines:
        for value in line.attributes.values():
            if isinstance(value, onnx.GraphProto):
                read.update(name for node in value.node for name in node.input)
    constants = {name: array for name, array in graph.constants.items() if name in read}
    givens = [given for given in graph.givens if given.name in read] or graph.givens[:1]
    return dataclasses.replace(graph, lines=lines, constants=constants, givens=givens)


Way = Callable[[Graph], "Graph | None"]


def with_one_output(graph: Graph) -> Iterator[Way]:
    for name in graph.outputs:
        yield lambda best: dataclasses.replace(best, outputs=[name]) if name in best.outputs else None


def that_ends_early(graph: Graph) -> Iterator[Way]:
    for line in graph.lines[:-1]:
        for name in filter(None, line.outputs):
            cast = Line("Cast", [name], ["out"], {"to": onnx.TensorProto.FLOAT})
            yield lambda best: dataclasses.replace(best, lines=[*best.lines, cast], outputs=["out"])
            yield lambda best: dataclasses.replace(best, outputs=[name])


def arrays_of(graph: Graph, rows: int) -> dict[str, np.ndarray]:
    """The numbers of all tensors that nodes make."""
    model = graph.model()
    names = [name for line in graph.lines for name in line.outputs if name]
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_value_info(name, onnx.TypeProto()) for name in names)
    return dict(zip(names, session(model).run(None, graph.feeds(rows))))


def with_inputs_inside(graph: Graph) -> Iterator[Way]:
    """With an input or a constant in the place of a tensor."""
    try:
        many, few = arrays_of(graph, ROWS), arrays_of(graph, 5)
    except Exception:
        return
    for name, array in reversed(many.items()):
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            continue
        if array.shape == few[name].shape:
            yield lambda best: cut(best, name, constants=best.constants | {name: array})
        elif array.shape[0] == ROWS and few[name].shape == (5, *array.shape[1:]):
            given = Given(name, array.dtype.name, array.shape[1:], "pair", array)
            yield lambda best: cut(best, name, givens=[*best.givens, given])


def cut(graph: Graph, name: str, **changes: Any) -> Graph | None:
    if name in graph.outputs or not any(name in line.outputs for line in graph.lines):
        return None
    lines = []
    for line in graph.lines:
        line = copy.copy(line)
        line.outputs = [f"{name}.unused" if output == name else output for output in line.outputs]
        lines.append(line)
    return dataclasses.replace(graph, lines=lines, **changes)


def without_nodes(graph: Graph) -> Iterator[Way]:
    """With an input of a node in the place of its output."""
    for line in graph.lines:
        for name in filter(None, line.inputs):
            yield lambda best: without(best, line, name) if line in best.lines else None


def without(graph: Graph, gone: Line, name: str) -> Graph:
    lines = []
    for line in graph.lines:
        if line is not gone:
            line = copy.copy(line)
            line.inputs = [name if given == gone.outputs[0] else given for given in line.inputs]
            lines.append(line)
    outputs = [name if output == gone.outputs[0] else output for output in graph.outputs]
    return dataclasses.replace(graph, lines=lines, outputs=outputs)


def with_plain_numbers(graph: Graph) -> Iterator[Way]:
    for name, array in graph.constants.items():
        if array.dtype.kind == "f" and array.size:
            made = (
                np.round(array),
                np.round(array, 1),
                np.round(array * 4) / 4,
                np.resize(array.ravel()[:2].round(1), array.shape),
            )
            for plain in made:
                yield lambda best: dataclasses.replace(
                    best, constants=best.constants | {name: plain.astype(array.dtype)}
                )


def with_plain_inputs(graph: Graph) -> Iterator[Way]:
    for given in graph.givens:
        if given.rate != "pair" and not given.is_single:
            yield lambda best: changed(best, given.name, rate="pair", values=given.feed(ROWS))
        if np.asarray(given.values).dtype.kind == "f":
            yield lambda best: changed(best, given.name, values=np.round(given.values * 2) / 2)
        if given.columns:
            yield lambda best: changed(best, given.name, columns=None)


def changed(graph: Graph, name: str, **changes: Any) -> Graph:
    givens = [dataclasses.replace(given, **changes) if given.name == name else given for given in graph.givens]
    return dataclasses.replace(graph, givens=givens)


# As a test


def text(graph: Graph, failure: Exception) -> str:
    """Lines for `test_onnx_cases.py`, as `compare` of `onnx_graphs` takes them."""
    lines = [f"# {str(failure).strip().splitlines()[-1][:200]}", "nodes = ["]
    lines += [f"    {node_text(line)!r}," for line in graph.lines]
    given = [
        f"{given.name} {given.kind.replace('float32', 'float')} {' '.join(map(str, given.shape))}".strip()
        + (" single" if given.is_single else "")
        for given in graph.givens
    ]
    lines.append("]")
    lines.append("constants = {")
    lines += [f"    {name!r}: {array_text(array)}," for name, array in graph.constants.items()]
    lines.append("}")
    rates = [given.rate for given in graph.givens]
    more = "" if set(rates) == {"pair"} else f", rates={rates}"
    lines.append(f"compare(tmp_path, nodes, {given}, constants, outputs={graph.outputs}, opset={graph.opset}{more})")
    for given in graph.givens:
        values = np.asarray(given.values[:2]).ravel()[:24]
        lines.append(f"# {given.name} {given.columns or ''}: {values.tolist()}")
    return "\n".join(lines)


def node_text(line: Line) -> str:
    attributes = ", ".join(f"{key} = {value_text(value)}" for key, value in line.attributes.items())
    domain = f"{line.domain}." if line.domain else ""
    between = f" <{attributes}> " if attributes else ""
    return f"{', '.join(line.outputs)} = {domain}{line.op}{between}({', '.join(line.inputs)})"


def value_text(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, onnx.TensorProto):
        array = onnx.numpy_helper.to_array(value)
        return f"{array.dtype.name}{list(array.shape)} {array.ravel().tolist()}"
    if isinstance(value, onnx.GraphProto):
        return "{" + "; ".join(onnx.printer.to_text(node) for node in value.node) + "}"
    return str(value)


def array_text(array: np.ndarray) -> str:
    return (
        f"np.array({array.tolist()!r}, dtype=np.{array.dtype.name.replace('bool', 'bool_')})"
        if array.size < 60
        else (f"normal{array.shape}")
    )
