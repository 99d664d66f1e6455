"""Golden requests: made-up ones, and the scores that ONNX Runtime gives for the original network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import features
from ..export import ExportError, check_golden, golden_entry
from .inputs import Input, Part
from .tensor import OnnxError

if TYPE_CHECKING:
    from .convert import Conversion, Output

REQUESTS = 3

Entry = tuple[dict[str, Any], dict[str, tuple[str, tuple[int, ...], bytes]]]


def made_up(conversion: Conversion, candidates: int) -> list[dict[str, Any]]:
    """Requests with ids inside their tables and numbers from N(0, 1); integers that are numbers are 1 or 2."""
    if candidates < 0:
        raise OnnxError(f"golden: {candidates} is not a number of candidates")
    rng = np.random.default_rng(0)
    scenarios = conversion.description["scenarios"]
    requests = []
    for number in range(REQUESTS if candidates else 0):
        request: dict[str, Any] = {"request": {}, "candidates": {}}
        if scenarios:
            request["scenario"] = scenarios[number % len(scenarios)]["name"]
        for feature, entry, _ in described(conversion):
            is_request = feature["rate"] == "request"
            rows = values_of(conversion, feature, entry, 1 if is_request else candidates, rng)
            request["request" if is_request else "candidates"][feature["name"]] = rows[0] if is_request else rows
        requests.append(request)
    return requests


def described(conversion: Conversion) -> Iterator[tuple[dict[str, Any], Input, Part]]:
    """The entries of the features with the parts of inputs that they are."""
    entries = {feature["name"]: feature for feature in conversion.description["features"]}
    for entry in conversion.inputs:
        for part in entry.parts:
            if part.feature in entries:
                yield entries[part.feature], entry, part


def values_of(conversion: Conversion, feature: Mapping[str, Any], entry: Input, count: int, rng: Any) -> list[Any]:
    """Made-up values of a feature, one per row."""
    width = feature.get("width" if feature["kind"] == "dense" else "length", 1)
    shape = (count, width)
    if feature["kind"] == "id":
        values = raw_ids(feature, len(conversion.steps.tensors[feature["table"]]), shape, rng)
    else:
        values = numbers(conversion, feature["name"], entry, shape, rng)
    return values.tolist() if width > 1 else values[:, 0].tolist()


def raw_ids(feature: Mapping[str, Any], rows: int, shape: tuple[int, int], rng: Any) -> np.ndarray:
    transform = feature["transform"]
    if transform["type"] == "vocabulary":
        return np.asarray(transform["values"], dtype=object)[rng.integers(0, len(transform["values"]), shape)]
    if transform["type"] == "bucketize":
        return rng.normal(size=shape).astype(np.float32)
    return rng.integers(0, rows if transform["type"] == "identity" else 1 << 40, shape)


def numbers(conversion: Conversion, name: str, entry: Input, shape: tuple[int, int], rng: Any) -> np.ndarray:
    source = next(source for source in conversion.steps.sources.values() if source.feature == name)
    if entry.dtype.kind == "b":
        return rng.integers(0, 2, shape)
    values = rng.integers(1, 3, shape) if source.is_integer else rng.normal(size=shape).astype(np.float32)
    for column in range(shape[1]):
        rows = [rows for rows, columns in source.tables.values() if column in columns]
        if rows:
            values[:, column] = rng.integers(0, min(rows), shape[0])
    return values


def entries(conversion: Conversion, requests: Sequence[Mapping[str, Any]]) -> Iterator[Entry]:
    """The golden entry of every request, and its tensors."""
    session = open_session(conversion)
    for number, request in enumerate(requests):
        try:
            yield entry_of(conversion, session, number, request)
        except (ExportError, TypeError, ValueError) as error:
            message = str(error)
            raise OnnxError(message if message.startswith("golden[") else f"golden[{number}]: {message}") from error


def entry_of(conversion: Conversion, session: Any, number: int, request: Mapping[str, Any]) -> Entry:
    description = conversion.description
    if all(feature["rate"] == "request" for feature in description["features"]):
        count = 1
    else:
        _, _, count = check_golden(description, number, request)
    feeds = {entry.name: feed(conversion, entry, request, count) for entry in conversion.inputs}
    try:
        if any(node.op_type == "DynamicQuantizeLinear" for node in conversion.graph.nodes):
            rows = [run(conversion, session, feeds, slice(row, row + 1)) for row in range(count)]
            scores = {task: np.concatenate([row[task] for row in rows]) for task in rows[0]}
        else:
            scores = run(conversion, session, feeds, slice(0, count))
    except OnnxError:
        raise
    except Exception as error:
        raise OnnxError(f"golden[{number}]: ONNX Runtime cannot score it: {str(error).strip()}") from error
    for task, values in scores.items():
        if not np.isfinite(values).all():
            raise OnnxError(f"golden[{number}]: the score of `{task}` is not finite; give requests that have scores")
    return golden_entry(description, number, request, count, scores)


def open_session(conversion: Conversion) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise OnnxError(
            "golden: needs the package onnxruntime; without it, golden=0 writes no golden requests"
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Optimised, it computes with the bytes of quantised weights, and is some 1e-3 off.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(conversion.path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise OnnxError(f"{conversion.path}: ONNX Runtime cannot open it: {str(error).strip()}") from error


def feed(conversion: Conversion, entry: Input, request: Mapping[str, Any], count: int) -> np.ndarray:
    """What ONNX Runtime gets as an input: a row per candidate, or the one of the request."""
    rows = 1 if entry.is_single or not entry.has_rows else count
    matrix = np.zeros((rows, entry.width), dtype=entry.dtype)
    known = {feature["name"]: feature for feature in conversion.description["features"]}
    for part in entry.parts:
        place = slice(part.start, part.start + part.width)
        if part.rate == "scenario":
            matrix[:, place] = scenario_id(conversion, request.get("scenario"))
        elif part.feature in known:
            matrix[:, place] = rows_of(conversion, known[part.feature], request, rows)
    return matrix.reshape((rows, *entry.shape) if entry.has_rows else ())


def rows_of(conversion: Conversion, feature: Mapping[str, Any], request: Mapping[str, Any], count: int) -> np.ndarray:
    """The network's inputs for a feature, `[count, width]`, or `[1, width]` if the request gives them."""
    name, is_request = feature["name"], feature["rate"] == "request"
    values = request.get("request" if is_request else "candidates", {}).get(name)
    count = 1 if is_request else count
    if is_request and values is not None:
        values = [values]
    try:
        if feature["kind"] == "dense":
            return features.dense(feature, values, count).values
        rows = len(conversion.steps.tensors[feature["table"]])
        return features.ids(feature, rows, values, count).rows.reshape(count, -1)
    except (TypeError, ValueError) as error:
        raise OnnxError(f"feature `{name}`: {error}") from error


def scenario_id(conversion: Conversion, scenario: str | int | None) -> int:
    description = conversion.description
    if not description["scenarios"]:
        return 0
    owners = [entry["id"] for entry in description["scenarios"] if entry.get("fallback") is None]
    return owners[features.scenario_row(description, scenario)]


def run(conversion: Conversion, session: Any, feeds: Mapping[str, np.ndarray], rows: slice) -> dict[str, np.ndarray]:
    """Scores of the tasks for some rows."""
    inputs = {
        entry.name: feeds[entry.name] if entry.is_single or not entry.has_rows else feeds[entry.name][rows]
        for entry in conversion.inputs
    }
    arrays = session.run([output.name for output in conversion.outputs], inputs)
    scores = {}
    for output, array in zip(conversion.outputs, arrays):
        matrix = by_row(output, np.asarray(array), rows.stop - rows.start)
        for place, task in enumerate(output.tasks):
            if task is not None:
                scores[task] = matrix[:, place].astype(np.float32)
    return scores


def by_row(output: Output, array: np.ndarray, count: int) -> np.ndarray:
    """An output as `[count, numbers per row]`."""
    if output.row is None:
        return np.broadcast_to(array.reshape(1, -1), (count, array.size))
    ahead = math.prod(output.shape[: output.row.axis]) * output.row.before
    return array.reshape(ahead, count, -1).transpose(1, 0, 2).reshape(count, -1)
