"""The importer's frame: options and errors, features and rates, what mixes rows, golden requests, update, damage."""

from __future__ import annotations

import json
import pathlib
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import polyscore  # noqa: E402
import steps as truth  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from polyscore.export import read  # noqa: E402
from polyscore.onnx import OnnxError, convert, explain, update  # noqa: E402
from polyscore.onnx.convert import build  # noqa: E402
from polyscore.onnx.options import Options  # noqa: E402

KINDS = {
    "float": TensorProto.FLOAT,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "bool": TensorProto.BOOL,
    "string": TensorProto.STRING,
    "double": TensorProto.DOUBLE,
}

RNG = np.random.default_rng(5)


def numbers(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def i64(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def model_of(
    nodes: Sequence[str],
    inputs: Mapping[str, tuple[str, Sequence[Any]]],
    constants: Mapping[str, np.ndarray],
    outputs: Sequence[str] = ("y",),
    opset: int = 18,
) -> Any:
    graph = helper.make_graph(
        [onnx.parser.parse_node(line) for line in nodes],
        "net",
        [helper.make_tensor_value_info(name, KINDS[kind], dims) for name, (kind, dims) in inputs.items()],
        [helper.make_value_info(name, onnx.TypeProto()) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    for place, node in enumerate(graph.node):
        node.name = f"{node.op_type}{place}"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="test")
    model.ir_version = 10
    inferred = onnx.shape_inference.infer_shapes(model)
    for output, known in zip(model.graph.output, inferred.graph.output):
        output.type.CopyFrom(known.type)
    return model


def save(folder: pathlib.Path, *arguments: Any, name: str = "net.onnx", **more: Any) -> pathlib.Path:
    onnx.save(model_of(*arguments, **more), folder / name)
    return folder / name


@pytest.fixture
def ranker(tmp_path):
    """User and context of the request, an ad, and a number of the pair: two layers, two scores."""
    return save(tmp_path, *RANKER)


RANKER_WEIGHTS = {
    "users": numbers(50, 8),
    "ads": numbers(20, 4),
    "w1": numbers(16, 9),
    "b1": numbers(9),
    "w2": numbers(9, 2),
}
RANKER = (
    [
        "u = Gather(users, user)",
        "a = Gather(ads, ad)",
        "x = Concat <axis = 1> (u, context, a, seen)",
        "g = Gemm(x, w1, b1)",
        "h = Relu(g)",
        "l = MatMul(h, w2)",
        "y = Sigmoid(l)",
    ],
    {"user": ("int64", ["n"]), "context": ("float", ["n", 3]), "ad": ("int64", ["n"]), "seen": ("float", ["n", 1])},
    RANKER_WEIGHTS,
)
RATES = {"request": ["user", "context"], "item": ["ad"], "candidate": ["ad", "seen"], "tasks": {"y": ["ctr", "cvr"]}}


def refused(path: pathlib.Path, *words: str, **options: Any) -> str:
    with pytest.raises(OnnxError) as caught:
        build(path, Options(**options))
    for word in words:
        assert word in str(caught.value)
    return str(caught.value)


def rates_of(conversion: Any) -> dict[str, str]:
    by_name = {step["name"]: rate for step, rate in zip(conversion.steps.steps, conversion.steps.rates)}
    return {step["name"]: by_name[step["name"]] for step in conversion.live}


def features_of(conversion: Any) -> dict[str, dict[str, Any]]:
    return {feature["name"]: feature for feature in conversion.description["features"]}


def runtime(path: pathlib.Path, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    import onnxruntime

    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, dict(feeds))


def agrees(conversion: Any, feeds: Mapping[str, np.ndarray], rows: int = 6, scenario: Any = 0) -> None:
    """The steps give the scores of ONNX Runtime."""
    columns = {}
    for entry in conversion.inputs:
        flat = feeds[entry.name].reshape(len(feeds[entry.name]) if entry.has_rows else 1, -1)
        flat = np.broadcast_to(flat, (rows, flat.shape[1]))
        for part in entry.parts:
            columns[part.feature] = flat[:, part.start : part.start + part.width]
    scores = truth.evaluate(conversion.description, conversion.steps.tensors, columns, rows, scenario)
    for output, array in zip(conversion.outputs, runtime(conversion.path, feeds)):
        for place, task in enumerate(output.tasks):
            if task is not None:
                np.testing.assert_allclose(scores[task], array.reshape(rows, -1)[:, place], rtol=1e-5, atol=1e-5)


# Features, rates and tasks.


def test_inputs_become_features_at_their_rates(ranker):
    features = features_of(build(ranker, Options(**RATES)))
    identity = {"transform": {"type": "identity"}, "oov": 0}
    assert features == {
        "user": {"name": "user", "rate": "request", "kind": "id", "table": "users", **identity},
        "context": {"name": "context", "rate": "request", "kind": "dense", "width": 3},
        "ad": {"name": "ad", "rate": "item", "kind": "id", "table": "ads", **identity},
        "seen": {"name": "seen", "rate": "pair", "kind": "dense", "width": 1},
    }


def test_without_lists_all_inputs_are_of_the_pair(ranker):
    features = features_of(build(ranker, Options(tasks=RATES["tasks"])))
    assert {feature["rate"] for feature in features.values()} == {"pair"}


def test_rates_flow_through_the_graph(tmp_path):
    nodes = [
        "q = Gather(table, hist)",
        "k = MatMul(q, w)",
        "t = Transpose <perm = [0, 2, 1]> (k)",
        "s = MatMul(q, t)",
        "p = Softmax(s)",
        "v = MatMul(p, q)",
        "m = ReduceMean <keepdims = 0> (v, one)",
        "x = Add(m, ad)",
        "y = ReduceSum <keepdims = 0> (x, one)",
    ]
    inputs = {"hist": ("int64", ["n", 5]), "ad": ("float", ["n", 4])}
    path = save(tmp_path, nodes, inputs, {"table": numbers(9, 4), "w": numbers(4, 4), "one": i64(1)})
    conversion = build(path, Options(request=["hist"]))
    rates = rates_of(conversion)
    last = {name for task, name in conversion.description["network"]["outputs"].items()}
    assert {step["op"] for step in conversion.live if rates[step["name"]] == "request"} >= {
        "embedding",
        "linear",
        "softmax",
    }
    assert all(rates[step["name"]] == "pair" for step in conversion.live if step["name"] in last)
    assert not [
        s for s in conversion.live if s["op"] in ("embedding", "linear", "softmax") and rates[s["name"]] == "pair"
    ]
    agrees(conversion, {"hist": np.tile(RNG.integers(0, 9, (1, 5)), (6, 1)), "ad": numbers(6, 4)})


def test_an_input_of_batch_one_is_given_once(tmp_path):
    inputs = {"c": ("float", [1, 3]), "s": ("float", []), "x": ("float", ["n", 3])}
    path = save(
        tmp_path, ["a = Add(x, c)", "b = Mul(a, s)", "y = ReduceSum <keepdims = 0> (b, one)"], inputs, {"one": i64(1)}
    )
    conversion = build(path, Options(request=["c", "s"]))
    assert {f["name"]: f["rate"] for f in conversion.description["features"]} == {
        "c": "request",
        "s": "request",
        "x": "pair",
    }
    agrees(conversion, {"c": numbers(1, 3), "s": np.array(1.5, np.float32), "x": numbers(6, 3)})
    refused(path, "`c`", "fixed batch of one", "`request`", request=["s"])


def test_names_become_legal_and_stay_apart(tmp_path):
    inputs = {"serving_default.x": ("float", ["n"]), "serving_default:x": ("float", ["n"]), "é" * 70: ("float", ["n"])}
    graph = model_of([], inputs, {}, ())
    names = list(inputs)
    graph.graph.node.append(helper.make_node("Sum", names, ["out:0"], name="Sum"))
    graph.graph.output.append(helper.make_tensor_value_info("out:0", TensorProto.FLOAT, ["n"]))
    onnx.save(graph, tmp_path / "net.onnx")
    conversion = build(tmp_path / "net.onnx", Options(request=[names[0]], candidate=["serving_default_x_2", "input"]))
    assert conversion.renamed == dict(zip(names, ["serving_default_x", "serving_default_x_2", "input"]))
    assert {f["name"]: f["rate"] for f in conversion.description["features"]} == {
        "serving_default_x": "request",
        "serving_default_x_2": "pair",
        "input": "pair",
    }
    assert list(conversion.description["network"]["outputs"]) == ["out_0"]
    assert "`serving_default.x` is the feature `serving_default_x`" in str(conversion)


def test_inputs_that_no_task_needs_are_left_out(ranker, tmp_path):
    path = save(
        tmp_path,
        ["y = Neg(x)", "z = Gather(table, i)"],
        {"x": ("float", ["n"]), "i": ("int64", ["n"])},
        {"table": numbers(3, 1)},
        outputs=("y", "z"),
        name="two.onnx",
    )
    conversion = build(path, Options(tasks={"y": "score"}))
    assert conversion.unused == ["i"] and list(features_of(conversion)) == ["x"]
    assert [step["op"] for step in conversion.live] == ["feature", "function"]


def test_tasks_name_the_columns_of_outputs(ranker):
    conversion = build(ranker, Options(**(RATES | {"tasks": {"y": [None, "cvr"]}})))
    assert conversion.description["tasks"] == [{"name": "cvr"}]
    assert refused(ranker, "output `y`", "2 numbers per row", 'tasks={"y"', **(RATES | {"tasks": {}}))
    assert refused(ranker, "tasks.y", "names 1", "2 numbers", **(RATES | {"tasks": {"y": "ctr"}}))
    assert refused(ranker, "`p`", "is not an output", "`y`", **(RATES | {"tasks": {"p": "ctr"}}))
    assert refused(ranker, "`ctr` is named twice", **(RATES | {"tasks": {"y": ["ctr", "ctr"]}}))
    assert refused(ranker, "`c t r`", "letters", **(RATES | {"tasks": {"y": ["c t r", "x"]}}))
    assert refused(ranker, "no output is wanted", **(RATES | {"tasks": {"y": [None, None]}}))


def test_a_number_that_is_also_an_id_stays_an_id(tmp_path):
    nodes = [
        "e = Gather(table, hist)",
        "z = Equal(hist, zero)",
        "n = Not(z)",
        "m = Cast <to = 1> (n)",
        "u = Unsqueeze(m, two)",
        "w = Mul(e, u)",
        "y = ReduceSum <keepdims = 0> (w, both)",
    ]
    constants = {"table": numbers(9, 4), "zero": i64(0), "two": i64(2), "both": i64(1, 2)}
    conversion = build(save(tmp_path, nodes, {"hist": ("int64", ["n", 5])}, constants), Options())
    assert features_of(conversion)["hist"]["kind"] == "id" and features_of(conversion)["hist"]["length"] == 5
    assert [step["op"] for step in conversion.live if step["op"] in ("rows", "feature")] == ["rows"]
    agrees(conversion, {"hist": RNG.integers(0, 9, (6, 5))})


def test_the_own_table_is_the_one_with_the_fewest_rows(tmp_path):
    nodes = [
        "a = Gather(wide, i)",
        "b = Gather(deep, i)",
        "c = Concat <axis = 1> (a, b)",
        "y = ReduceSum <keepdims = 0> (c, one)",
    ]
    constants = {"wide": numbers(12, 1), "deep": numbers(9, 4), "one": i64(1)}
    conversion = build(save(tmp_path, nodes, {"i": ("int32", ["n"])}, constants), Options())
    assert features_of(conversion)["i"]["table"] == "deep"
    agrees(conversion, {"i": RNG.integers(0, 9, 6).astype(np.int32)})


@pytest.mark.parametrize("is_number", [False, True])
def test_floats_that_are_cast_are_ids_unless_they_are_numbers_too(tmp_path, is_number):
    nodes = [
        "i = Cast <to = 7> (x)",
        "e = Gather(table, i)",
        "s = ReduceSum <keepdims = 0> (e, one)",
        "y = Mul(s, x)" if is_number else "y = Identity(s)",
    ]
    path = save(tmp_path, nodes, {"x": ("float", ["n"])}, {"table": numbers(9, 4), "one": i64(1)})
    conversion = build(path, Options())
    kind = features_of(conversion)["x"]["kind"]
    operations = [step["op"] for step in conversion.live]
    assert kind == ("dense" if is_number else "id")
    assert ("lookup" in operations, "embedding" in operations) == (is_number, not is_number)
    values = RNG.integers(0, 9, 6) + (0.75 if is_number else 0)
    agrees(conversion, {"x": values.astype(np.float32)})


def test_columns_of_one_input_with_tables_of_their_own_are_numbers_that_are_looked_up(tmp_path):
    nodes = [
        "i = Cast <to = 7> (x)",
        "a = Gather <axis = 1> (i, c0)",
        "b = Gather <axis = 1> (i, c1)",
        "e = Gather(small, a)",
        "f = Gather(large, b)",
        "g = Add(e, f)",
        "y = ReduceSum <keepdims = 0> (g, one)",
    ]
    constants = {"small": numbers(3, 2), "large": numbers(9, 2), "c0": np.array(0), "c1": np.array(1), "one": i64(1)}
    path = save(tmp_path, nodes, {"x": ("float", ["n", 2])}, constants)
    feeds = {"x": np.stack([RNG.integers(0, 3, 6), RNG.integers(3, 9, 6)], 1).astype(np.float32)}
    whole = build(path, Options())
    assert features_of(whole)["x"]["kind"] == "dense"
    agrees(whole, feeds)
    split = build(path, Options(columns={"x": ["a", "b"]}))
    assert {f["name"]: f["table"] for f in split.description["features"]} == {"a": "small", "b": "large"}
    agrees(split, feeds)


WRAPPED = {
    "as Keras does": [
        "l = Less(i, zero)",
        "c = Cast <to = 7> (l)",
        "n = Not(l)",
        "d = Cast <to = 7> (n)",
        "w = Add(i, nine)",
        "p = Mul(c, w)",
        "q = Mul(i, d)",
        "j = Add(p, q)",
    ],
    "as PyTorch does": ["l = Less(i, zero)", "w = Add(i, nine)", "j = Where(l, w, i)"],
    "padding as row 0": ["j = Max(i, zero)"],
    "columns in another order": [
        "r = Slice(i, last, first, one, last)",
        "l = Less(r, zero)",
        "w = Add(r, nine)",
        "j = Where(l, w, r)",
    ],
}
COMPUTED = {
    "a remainder": ["j = Mod(i, nine)"],
    "clipped": ["e = Cast <to = 7> (eight)", "j = Min(i, e)"],
    "shifted": ["k = Add(i, one0)", "j = Mod(k, nine)"],
    "one id that is another": ["l = Equal(i, four)", "j = Where(l, zero, i)"],
    "the larger of two ids": ["r = Slice(i, last, first, one, last)", "j = Max(i, r)"],
    "the negative from the other end": ["a = Abs(i)", "j = Identity(a)"],
}
ID_CONSTANTS = {
    "zero": np.array(0),
    "nine": np.array(9),
    "eight": np.array(8),
    "four": np.array(4),
    "one0": np.array(1),
    "one": i64(1),
    "last": i64(-1),
    "first": i64(-(2**62)),
    "axes": i64(1, 2),
    "table": numbers(9, 4),
}


@pytest.mark.parametrize("name", [*WRAPPED, *COMPUTED])
def test_ids_that_are_wrapped_are_ids_and_those_that_are_computed_are_not(tmp_path, name):
    nodes = [*(WRAPPED | COMPUTED)[name], "e = Gather(table, j)" if name != "clipped" else "g = Gather(table, j)"]
    nodes += [f"y = ReduceSum <keepdims = 0> ({'g' if name == 'clipped' else 'e'}, axes)"]
    path = save(tmp_path, nodes, {"i": ("int64", ["n", 3])}, ID_CONSTANTS)
    conversion = build(path, Options())
    operations = {step["op"] for step in conversion.live}
    assert features_of(conversion)["i"]["kind"] == ("id" if name in WRAPPED else "dense")
    assert ("embedding" in operations) == (name in WRAPPED)
    below = 1000 if name in ("a remainder", "clipped", "shifted") else 9
    agrees(conversion, {"i": RNG.integers(0, below, (6, 3))})


def test_a_wide_matrix_is_split_into_features(tmp_path):
    nodes = [
        "u = Slice(X, s0, s1, axis)",
        "h = Slice(X, s1, s5, axis)",
        "d = Slice(X, s5, s7, axis)",
        "ui = Cast <to = 7> (u)",
        "hi = Cast <to = 7> (h)",
        "ue = Gather(table, ui)",
        "he = Gather(table, hi)",
        "c = Concat <axis = 1> (ue, he)",
        "m = ReduceMean <keepdims = 0> (c, axis)",
        "z = Concat <axis = 1> (m, d)",
        "y = MatMul(z, w)",
    ]
    constants = {
        "s0": i64(0),
        "s1": i64(1),
        "s5": i64(5),
        "s7": i64(7),
        "axis": i64(1),
        "table": numbers(9, 4),
        "w": numbers(6, 1),
    }
    path = save(tmp_path, nodes, {"X": ("float", ["n", 7])}, constants)
    columns = {"X": ["user", ("hist", 4), ["price", 2]]}
    conversion = build(path, Options(columns=columns, request=["user", "hist"], candidate=["price"]))
    features = features_of(conversion)
    assert {name: (f["rate"], f["kind"], f.get("length", f.get("width"))) for name, f in features.items()} == {
        "user": ("request", "id", None),
        "hist": ("request", "id", 4),
        "price": ("pair", "dense", 2),
    }
    row = np.concatenate([RNG.integers(0, 9, (1, 5)), np.zeros((1, 2))], 1).repeat(6, 0)
    row[:, 5:] = numbers(6, 2)
    agrees(conversion, {"X": row.astype(np.float32)})
    assert set(features_of(build(path, Options(columns=columns, request=["X"])))["price"]["rate"].split()) == {
        "request"
    }
    refused(path, "columns.X", "names 2 columns", "has 7", columns={"X": ["a", "b"]})
    refused(path, "columns: `Y`", "`X`", columns={"Y": ["a"]})
    refused(path, "columns.X", "`a`", "another feature", columns={"X": ["a", "a", ("b", 5)]})
    refused(path, "columns.X", "`a b`", columns={"X": ["a b", ("b", 6)]})
    refused(path, "columns.X", "has 0 columns", columns={"X": [("a", 0), ("b", 7)]})


def test_entries_of_features_can_be_set(ranker):
    transform = {"type": "hash", "algorithm": "xxh64", "buckets": 49, "offset": 1}
    conversion = build(ranker, Options(**RATES, features={"user": {"transform": transform, "missing": 0}}))
    assert features_of(conversion)["user"]["transform"] == transform
    refused(ranker, "features: `usr`", "`user`", features={"usr": {}})


# The engine.


def scored(
    path: pathlib.Path, scenario: Any, request: Mapping[str, Any], candidates: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    with polyscore.Model(path) as model, model.scorer() as scorer:
        assert model.info()["golden_requests"] == 3
        scorer.prepare(scenario, request)
        return scorer.score(candidates)


@pytest.mark.parametrize("count", [1, 7, 130])
def test_the_engine_scores_as_onnx_runtime(ranker, tmp_path, count):
    convert(ranker, tmp_path / "net.safetensors", **RATES)
    request = {"user": 7, "context": numbers(3)}
    candidates = {"ad": RNG.integers(0, 20, count), "seen": numbers(count)}
    scores = scored(tmp_path / "net.safetensors", None, request, candidates)
    feeds = {
        "user": np.full(count, 7),
        "context": np.tile(request["context"], (count, 1)),
        "ad": candidates["ad"],
        "seen": candidates["seen"][:, None],
    }
    (expected,) = runtime(ranker, feeds)
    np.testing.assert_allclose(np.stack([scores["ctr"], scores["cvr"]], 1), expected, rtol=0, atol=1e-6)


def test_what_only_the_request_decides_is_computed_once(ranker, tmp_path):
    convert(ranker, tmp_path / "net.safetensors", **RATES)
    with polyscore.Model(tmp_path / "net.safetensors", product_bytes=0) as model:
        dense = [line.split() for line in model.plan().splitlines() if " dense " in line]
    shapes = {(line[1], line[2]): line[5] for line in dense}
    assert shapes[("request", "request")] == "11x9"
    assert sum(int(line[5].split("x")[0]) for line in dense if line[5].endswith("x9")) == 16


def test_the_engine_takes_histories_scenarios_and_inputs_of_one_row(tmp_path):
    nodes = [
        "e = Gather(table, hist)",
        "h = ReduceMean <keepdims = 0> (e, axis)",
        "g = Gather(gates, domain)",
        "m = Mul(h, g)",
        "c = Add(m, bias)",
        "d = Mul(c, x)",
        "y = ReduceSum <keepdims = 0> (d, axis)",
    ]
    inputs = {
        "hist": ("int64", ["n", 5]),
        "domain": ("int64", ["n"]),
        "bias": ("float", [1, 4]),
        "x": ("float", ["n", 4]),
    }
    path = save(tmp_path, nodes, inputs, {"table": numbers(9, 4), "gates": numbers(3, 4), "axis": i64(1)})
    convert(path, tmp_path / "net.safetensors", request=["hist", "bias"], scenario="domain")
    request, x = {"hist": [1, 2, 8, 0, 0], "bias": numbers(4)}, numbers(6, 4)
    for scenario in range(3):
        scores = scored(tmp_path / "net.safetensors", str(scenario), request, {"x": x})
        feeds = {
            "hist": np.tile(i64(*request["hist"]), (6, 1)),
            "domain": np.full(6, scenario),
            "bias": request["bias"][None],
            "x": x,
        }
        np.testing.assert_allclose(scores["y"], runtime(path, feeds)[0], rtol=1e-5, atol=1e-6)


# Options that do not fit.


def test_unknown_names_are_refused_with_the_known_ones(ranker):
    for option in ("request", "item", "candidate"):
        refused(ranker, f"{option}: `usr`", "`user`, `context`, `ad`, `seen`", **{option: ["usr"]})
    refused(ranker, "`context`", "none of", request=["user"], candidate=["ad", "seen"])
    refused(ranker, "`ad`", "`request`", request=["ad"], item=["ad"])
    refused(ranker, "lengths: `hist`", "`user`", lengths={"hist": 3})
    refused(ranker, "lengths.user", "0 dynamic", lengths={"user": 3})
    refused(ranker, "scenario: `domain`", "`user`", scenario="domain")
    refused(ranker, "scenario: `context`", "one number", scenario="context")
    refused(ranker, "scenarios", "`scenario`", scenarios=[0, 1])
    with pytest.raises(OnnxError, match="dtype: `int8`"):
        Options(dtype="int8")
    with pytest.raises(OnnxError, match="request: is a text"):
        Options(request="user")


def test_dynamic_lengths_are_given(tmp_path):
    inputs = {"a": ("float", ["n", "L"]), "b": ("float", ["n", "L"]), "c": ("float", ["n", None])}
    path = save(
        tmp_path,
        ["d = Mul(a, b)", "e = Concat <axis = 1> (d, c)", "y = ReduceSum <keepdims = 0> (e, one)"],
        inputs,
        {"one": i64(1)},
    )
    refused(path, "`a`", "dimension 1 (`L`) is dynamic", "lengths=")
    refused(path, "`c`", "dimension 1 is dynamic", lengths={"L": 4})
    refused(path, "lengths.b", "3 is not 4", lengths={"a": 4, "b": 3, "c": 1})
    refused(path, "lengths.n", "first dimension", lengths={"L": 4, "c": 2, "n": 2})
    refused(path, "lengths.L", "0 is not a length", lengths={"L": 0})
    for lengths in ({"L": 4, "c": 2}, {"a": 4, "c": 2}):
        conversion = build(path, Options(lengths=lengths))
        assert [f["width"] for f in conversion.description["features"]] == [4, 4, 2]
    agrees(conversion, {"a": numbers(6, 4), "b": numbers(6, 4), "c": numbers(6, 2)})


@pytest.mark.parametrize(
    "kind, dims, words",
    [
        ("float", [8, 3], ["`x`", "fixed batch of 8", "dynamic first dimension"]),
        ("float", [1, 3], ["`x`", "fixed batch of one"]),
        ("string", ["n", 3], ["`x`", "texts"]),
    ],
)
def test_inputs_that_no_feature_can_be_are_refused(tmp_path, kind, dims, words):
    graph = model_of(["y = Identity(x)"], {"x": (kind, dims)}, {})
    onnx.save(graph, tmp_path / "net.onnx")
    refused(tmp_path / "net.onnx", *words)


def test_weights_that_are_inputs_too_are_no_features(tmp_path):
    graph = model_of(["y = MatMul(x, w)"], {"x": ("float", ["n", 3]), "w": ("float", [3, 1])}, {"w": numbers(3, 1)})
    onnx.save(graph, tmp_path / "net.onnx")
    assert list(features_of(build(tmp_path / "net.onnx", Options()))) == ["x"]


# What mixes rows.

MIXING = {
    "mean over the rows": (["m = ReduceMean(x, zero)", "y = Sub(x, m)"], "ReduceMean0"),
    "sum over everything": (["m = ReduceSum(x)", "y = Add(x, m)"], "ReduceSum0"),
    "max over the rows": (["m = ReduceMax(x, zero)", "y = Add(x, m)"], "ReduceMax0"),
    "softmax over the rows": (["y = Softmax <axis = 0> (x)"], "Softmax0"),
    "products of rows with rows": (["t = Transpose(x)", "m = MatMul(x, t)", "y = MatMul(m, x)"], "MatMul1"),
    "the rows as the inner axis": (["t = Transpose(x)", "y = MatMul(t, x)"], "MatMul1"),
    "cumulative sum over the rows": (["y = CumSum(x, zero0)"], "CumSum0"),
    "rows beside other rows": (["u = Unsqueeze(x, zero)", "v = Unsqueeze(x, one)", "y = Add(u, v)"], "Add2"),
    "norm of the batch": (["y, m, v = BatchNormalization <training_mode = 1> (x, g, b, b, g)"], "BatchNormalization0"),
    "rows reshaped into one another": (["t = Transpose(x)", "y = Reshape(t, shape)"], "Reshape1"),
    "one row for all": (["m = Slice(x, zero, one)", "y = Add(x, m)"], "Slice0"),
    "a row by its number": (["m = Gather(x, zero)", "y = Add(x, m)"], "Gather0"),
    "the rows shifted": (["y = Pad(x, pads)"], "Pad0"),
    "the rows reversed": (["y = Slice(x, last, first, zero, back)"], "Slice0"),
    "rows below rows": (["y = Concat <axis = 0> (x, x)"], "Concat0"),
    "rows split": (["p, q = Split <axis = 0, num_outputs = 2> (x)", "y = Concat <axis = 1> (p, q)"], "Split0"),
    "the number of rows": (["d = Shape <end = 1> (x)", "f = Cast <to = 1> (d)", "y = Div(x, f)"], "Div2"),
    "the number of a row": (
        [
            "d = Shape <end = 1> (x)",
            "n = Squeeze(d)",
            "r = Range(zero0, n, one0)",
            "f = Cast <to = 1> (r)",
            "u = Unsqueeze(f, one)",
            "y = Mul(x, u)",
        ],
        "",
    ),
    "the best row": (["y = ArgMax <axis = 0> (x)"], "ArgMax0"),
    "rows sorted": (["v, i = TopK <axis = 0> (x, one)", "y = Add(x, v)"], "TopK0"),
    "a norm over the rows": (["y = LayerNormalization <axis = 0> (x, w, w)"], "LayerNormalization0"),
    "a layer norm of everything": (["f = Flatten <axis = 0> (x)", "y = Softmax(f)"], "Softmax1"),
    "einsum over the rows": (['y = Einsum <equation = "ni,nj->ij"> (x, x)'], "Einsum0"),
    "rows repeated once per row": (
        ["d = Shape <end = 1> (x)", "r = Concat <axis = 0> (d, one)", "t = Tile(x, r)", "y = ReduceSum(t, one)"],
        "Tile2",
    ),
    "an element for every pair of rows": (
        ["d = Shape <end = 1> (x)", "s = Concat <axis = 0> (d, d)", "c = ConstantOfShape(s)", "y = MatMul(c, x)"],
        "ConstantOfShape2",
    ),
    "every row spread over the rows": (
        [
            "d = Shape <end = 1> (x)",
            "s = Concat <axis = 0> (one, d, one)",
            "u = Unsqueeze(x, one)",
            "e = Expand(u, s)",
            "y = ReduceSum <keepdims = 0> (e, one)",
        ],
        "Expand3",
    ),
    "numbers as many as rows": (
        ["d = Shape <end = 1> (x)", "n = Squeeze(d)", "h = OneHot(one, n, pair)", "y = MatMul(h, x)"],
        "OneHot2",
    ),
    "other rows by an index": (["i = ArgMax <axis = 1, keepdims = 0> (x)", "y = Gather(x, i)"], "Gather1"),
}
MIXING_CONSTANTS = {
    "zero": i64(0),
    "one": i64(1),
    "zero0": np.array(0),
    "one0": np.array(1),
    "g": np.ones(4, np.float32),
    "b": np.ones(4, np.float32),
    "shape": i64(-1, 4),
    "pads": i64(1, 0, -1, 0),
    "last": i64(-1),
    "first": i64(-(2**62)),
    "back": i64(-1),
    "pair": numbers(2),
    "w": np.ones((4,), np.float32),
}


@pytest.mark.parametrize("name", MIXING)
def test_a_graph_that_mixes_rows_is_refused_with_the_node(tmp_path, name):
    nodes, guilty = MIXING[name]
    path = save(tmp_path, nodes, {"x": ("float", ["n", 4])}, MIXING_CONSTANTS)
    message = refused(path)
    assert f"node `{guilty}" in message
    assert any(word in message for word in ("neighbours", "batch", "place in", "training")), message


def test_a_graph_with_a_fixed_batch_inside_is_refused(tmp_path):
    path = save(tmp_path, ["y = Reshape(x, s)"], {"x": ("float", ["n", 4])}, {"s": i64(2, 4)})
    refused(path, "Reshape0", "[N, 4] cannot become [2, 4]", "dynamic first dimension")
    path = save(tmp_path, ["y = Expand(x, s)"], {"x": ("float", ["n", 4])}, {"s": i64(8, 4)})
    refused(path, "Expand0", "dynamic first dimension")


# Operators.


@pytest.mark.parametrize(
    "nodes, words",
    [
        (["y = Unique(x)"], ["Unique0", "mask"]),
        (["y = NonZero(x)"], ["NonZero0", "mask"]),
        (["y = RandomNormalLike(x)"], ["RandomNormalLike0", "evaluation mode"]),
        (["y = SequenceConstruct(x, x)"], ["SequenceConstruct0", "stack"]),
        (["y = GridSample(x, x)"], ["GridSample0", "not covered", "ops"]),
    ],
)
def test_an_operator_that_is_not_covered_is_named_with_what_to_do(tmp_path, nodes, words):
    graph = model_of(nodes, {"x": ("float", ["n", 4, 4, 4])}, {"w": numbers(1, 12, 4)})
    onnx.save(graph, tmp_path / "net.onnx")
    refused(tmp_path / "net.onnx", *words)


def test_an_operator_of_another_domain_is_named(tmp_path):
    graph = model_of([], {"x": ("float", ["n"])}, {}, ())
    graph.graph.node.append(helper.make_node("Fused", ["x"], ["y"], name="odd", domain="com.example"))
    graph.graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"]))
    graph.opset_import.append(helper.make_opsetid("com.example", 1))
    onnx.save(graph, tmp_path / "net.onnx")
    refused(tmp_path / "net.onnx", "`odd`", "`com.example`")


def test_what_no_output_needs_may_be_anything(tmp_path):
    path = save(tmp_path, ["z = NonZero(x)", "y = Neg(x)"], {"x": ("float", ["n"])}, {})
    assert len(build(path, Options()).live) == 2


def test_a_constant_condition_takes_its_branch(tmp_path):
    then = helper.make_graph(
        [helper.make_node("Mul", ["x", "two"], ["a"])],
        "then",
        [],
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.float32(2), "two")],
    )
    other = helper.make_graph(
        [helper.make_node("Loop", ["", "", "x"], ["a"], body=then)],
        "other",
        [],
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, None)],
    )
    node = helper.make_node("If", ["c"], ["y"], name="choice", then_branch=then, else_branch=other)
    for lines, error in (
        (["d = Shape(x)", "r = Size(d)", "c = Equal(r, two)"], None),
        (["d = Size(x)", "c = Greater(d, hundred)"], "size of the batch"),
        (["s = ReduceSum <keepdims = 0> (k)", "c = Greater(s, zero)"], "computed from the inputs"),
    ):
        graph = model_of(
            lines,
            {"x": ("float", ["n", 3]), "k": ("float", [1, 1])},
            {"two": i64(2), "hundred": np.array(100), "zero": np.float32(0)},
            (),
        )
        if error is None:
            graph.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array(2), "two"))
        graph.graph.node.append(node)
        graph.graph.node.append(helper.make_node("ReduceSum", ["y", "axis"], ["s1"], keepdims=0))
        graph.graph.initializer.append(numpy_helper.from_array(i64(1), "axis"))
        for initializer in then.initializer:
            initializer.name = "inner_two"
        then.node[0].input[1] = "inner_two"
        node.attribute[0].g.CopyFrom(then) if node.attribute[0].name == "then_branch" else node.attribute[1].g.CopyFrom(
            then
        )
        graph.graph.node[-2].CopyFrom(node)
        graph.graph.output.append(helper.make_tensor_value_info("s1", TensorProto.FLOAT, ["n"]))
        onnx.save(graph, tmp_path / "net.onnx")
        if error is None:
            conversion = build(tmp_path / "net.onnx", Options(request=["k"]))
            columns = {"x": numbers(4, 3)}
            scores = truth.evaluate(conversion.description, conversion.steps.tensors, columns, 4)
            np.testing.assert_allclose(scores["s1"], 2 * columns["x"].sum(1), rtol=1e-5)
        else:
            refused(tmp_path / "net.onnx", "`choice`", error, request=["k"])


def test_local_functions_are_inlined(tmp_path):
    function = helper.make_function(
        "local", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 18)]
    )
    graph = model_of([], {"x": ("float", ["n"])}, {}, ())
    graph.graph.node.append(helper.make_node("Twice", ["x"], ["y"], name="call", domain="local"))
    graph.graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"]))
    graph.functions.append(function)
    graph.opset_import.append(helper.make_opsetid("local", 1))
    onnx.save(graph, tmp_path / "net.onnx")
    agrees(build(tmp_path / "net.onnx", Options()), {"x": numbers(6)})


def test_operator_sets_that_are_too_old_or_new_are_refused(tmp_path):
    path = save(tmp_path, ["y = Neg(x)"], {"x": ("float", ["n"])}, {}, opset=8)
    refused(path, "opset 8", "9 to")


def test_constants_of_shapes_are_folded(tmp_path):
    nodes = [
        "d = Shape(x)",
        "n = Gather(d, zero)",
        "k = Gather(d, one)",
        "h = Div(k, two)",
        "u = Unsqueeze(n, axis)",
        "v = Unsqueeze(h, axis)",
        "s = Concat <axis = 0> (u, twos, v)",
        "r = Reshape(x, s)",
        "y = ReduceMax <keepdims = 0> (r, axes)",
    ]
    constants = {
        "zero": np.array(0),
        "one": np.array(1),
        "two": np.array(2),
        "axis": i64(0),
        "twos": i64(2),
        "axes": i64(1, 2),
    }
    conversion = build(save(tmp_path, nodes, {"x": ("float", ["n", 6])}, constants), Options())
    assert [entry.became for entry in conversion.passed[:8]].count("computed") == 0
    agrees(conversion, {"x": numbers(6, 6)})


# Scenarios.

SCENARIO = (
    [
        "e = Gather(gates, domain)",
        "g = Sigmoid(e)",
        "h = Mul(x, g)",
        "s = Equal(domain, one)",
        "c = Cast <to = 1> (s)",
        "t = ReduceSum <keepdims = 0> (h, axis)",
        "y = Add(t, c)",
    ],
    {"x": ("float", ["n", 4]), "domain": ("int64", ["n"])},
    {"gates": numbers(3, 4), "one": np.array(1), "axis": i64(1)},
)


def test_an_input_is_the_scenario(tmp_path):
    path = save(tmp_path, *SCENARIO)
    conversion = build(path, Options(scenario="domain"))
    assert conversion.description["scenarios"] == [{"name": str(i), "id": i} for i in range(3)]
    assert list(features_of(conversion)) == ["x"]
    assert {rates_of(conversion)[s["name"]] for s in conversion.live if s["op"] == "scenario"} == {"scenario"}
    assert sorted(s["tensor"] for s in conversion.live if s["op"] == "scenario") == ["domain.ids", "gates"]
    domain = RNG.integers(0, 3, 6)
    agrees(conversion, {"x": numbers(6, 4), "domain": domain}, scenario=domain)


def test_scenarios_are_given_by_name(tmp_path):
    path = save(tmp_path, *SCENARIO)
    given = [{"name": "feed", "id": 0}, {"name": "search", "id": 2, "fallback": "feed"}]
    conversion = build(path, Options(scenario="domain", scenarios=given))
    assert conversion.description["scenarios"] == given
    domain = np.array([0, 2, 2, 0, 0, 2])
    conversion = build(path, Options(scenario="domain", scenarios=[0, 2]))
    agrees(conversion, {"x": numbers(6, 4), "domain": domain}, scenario=domain // 2)
    refused(path, "scenarios", "numbers", scenario="domain", scenarios=[{"name": "feed"}])
    refused(path, "`domain`", "list of features", scenario="domain", request=["domain"])


def test_scenarios_that_are_not_known_have_to_be_given(tmp_path):
    path = save(
        tmp_path,
        ["c = Cast <to = 1> (domain)", "y = Mul(x, c)"],
        {"x": ("float", ["n"]), "domain": ("int64", ["n"])},
        {},
    )
    refused(path, "`domain`", "scenarios=[0, 1, 2]", scenario="domain")
    agrees(
        build(path, Options(scenario="domain", scenarios=[0, 1, 2])),
        {"x": numbers(6), "domain": np.full(6, 2)},
        scenario=2,
    )
    nodes = ["a = Gather(small, domain)", "b = Gather(large, domain)", "c = Add(a, b)", "y = Mul(x, c)"]
    path = save(
        tmp_path, nodes, {"x": ("float", ["n"]), "domain": ("int64", ["n"])}, {"small": numbers(3), "large": numbers(5)}
    )
    refused(path, "`domain`", "3", "5", "scenarios=", scenario="domain")


# Files: golden requests, types, weights outside, update.


def test_golden_requests_have_the_scores_of_onnx_runtime(ranker, tmp_path):
    convert(ranker, tmp_path / "net.safetensors", **RATES, golden=5)
    description, tensors = read(tmp_path / "net.safetensors")
    assert description["golden"]["requests"] == [{"candidates": 5}] * 3
    assert description["provenance"]["format"] == "onnx" and description["provenance"]["producer"] == "test"
    for number in range(3):
        feeds = {name: tensors[f"golden.{number}.request.{name}"].repeat(5, 0) for name in ("user", "context")}
        feeds |= {name: tensors[f"golden.{number}.candidates.{name}"] for name in ("ad", "seen")}
        feeds["seen"] = feeds["seen"].reshape(5, 1)
        (expected,) = runtime(ranker, feeds)
        np.testing.assert_array_equal(tensors[f"golden.{number}.scores.cvr"], expected[:, 1])


def test_golden_requests_can_be_given(ranker, tmp_path):
    request = {"request": {"user": 3, "context": [0.5, 1, -1]}, "candidates": {"ad": [1, 2], "seen": [0.5, 0.25]}}
    convert(ranker, tmp_path / "net.safetensors", **RATES, golden=[request])
    description, tensors = read(tmp_path / "net.safetensors")
    assert description["golden"]["requests"] == [{"candidates": 2}]
    assert tensors["golden.0.candidates.seen"].tolist() == [0.5, 0.25]
    for bad, word in (({"user": 3, "x": 1}, "`x` is not a feature"), ({"user": "abc"}, "user")):
        with pytest.raises(OnnxError, match=word) as caught:
            convert(ranker, tmp_path / "bad.safetensors", **RATES, golden=[request | {"request": bad}])
        assert "golden[0]" in str(caught.value)
    assert not (tmp_path / "bad.safetensors").exists()


def test_golden_requests_may_be_left_out(ranker, tmp_path):
    convert(ranker, tmp_path / "net.safetensors", **RATES, golden=0)
    assert "golden" not in read(tmp_path / "net.safetensors")[0]


def test_golden_requests_follow_inputs_of_one_row_scenarios_and_transforms(tmp_path):
    nodes = [
        "e = Gather(table, i)",
        "g = Gather(gates, domain)",
        "a = Mul(e, g)",
        "b = Add(a, c)",
        "t = Transpose(b)",
        "y = ReduceSum <keepdims = 1> (t, axis)",
    ]
    inputs = {"i": ("int64", ["n"]), "domain": ("int64", ["n"]), "c": ("float", [1, 4])}
    path = save(tmp_path, nodes, inputs, {"table": numbers(7, 4), "gates": numbers(3, 4), "axis": i64(0)})
    transform = {"type": "vocabulary", "values": ["a", "b", "c"], "offset": 2}
    convert(
        path, tmp_path / "net.safetensors", request=["c"], scenario="domain", features={"i": {"transform": transform}}
    )
    description, tensors = read(tmp_path / "net.safetensors")
    assert [request["scenario"] for request in description["golden"]["requests"]] == ["0", "1", "2"]
    for number in range(3):
        offsets = tensors[f"golden.{number}.candidates.i.text_offsets"]
        texts = tensors[f"golden.{number}.candidates.i"].tobytes().decode()
        rows = np.array([2 + "abc".index(texts[start]) for start in offsets[:-1]])
        feeds = {"i": rows, "domain": np.full(8, number), "c": tensors[f"golden.{number}.request.c"]}
        (expected,) = runtime(path, feeds)
        np.testing.assert_array_equal(tensors[f"golden.{number}.scores.y"], expected.ravel())


def test_golden_scores_of_a_network_that_quantises_are_those_of_rows_alone(tmp_path):
    nodes = [
        "q, s, z = DynamicQuantizeLinear(x)",
        "d = DequantizeLinear(q, s, z)",
        "y = ReduceSum <keepdims = 0> (d, one)",
    ]
    path = save(tmp_path, nodes, {"x": ("float", ["n", 6])}, {"one": i64(1)})
    rows = (numbers(4, 6) * np.array([[1], [10], [100], [0.1]], np.float32)).tolist()
    convert(path, tmp_path / "net.safetensors", golden=[{"candidates": {"x": rows}}])
    tensors = read(tmp_path / "net.safetensors")[1]
    alone = [runtime(path, {"x": np.array([row], np.float32)})[0][0] for row in rows]
    np.testing.assert_array_equal(tensors["golden.0.scores.y"], np.array(alone))


def test_scores_that_are_not_finite_are_no_golden_ones(tmp_path):
    path = save(tmp_path, ["a = Sub(x, x)", "y = Div(x, a)"], {"x": ("float", ["n"])}, {})
    with pytest.raises(OnnxError, match="golden.*`y` is not finite"):
        convert(path, tmp_path / "net.safetensors")


@pytest.mark.parametrize("dtype, kind", [("f16", "float16"), ("bf16", "uint16")])
def test_tables_and_layers_are_rounded_and_nothing_else(tmp_path, dtype, kind):
    nodes = ["e = Gather(table, i)", "l = MatMul(e, w)", "m = Mul(l, scale)", "y = Add(m, shift)"]
    constants = {
        "table": numbers(9, 4),
        "w": numbers(4, 2),
        "scale": np.array([1e30, 2], np.float32),
        "shift": numbers(2),
    }
    path = save(tmp_path, nodes, {"i": ("int64", ["n"])}, constants)
    convert(path, tmp_path / "net.safetensors", tasks={"y": ["a", "b"]}, golden=0, dtype=dtype)
    tensors = read(tmp_path / "net.safetensors")[1]
    types = {name: str(array.dtype) for name, array in tensors.items() if not name.startswith("padding.")}
    assert types["table"] == types["w"] == kind
    assert {name: types[name] for name in types if name not in ("table", "w")} == dict.fromkeys(
        types.keys() - {"table", "w"}, "float32"
    )


def test_a_tensor_with_nan_is_refused_by_name(tmp_path):
    path = save(
        tmp_path, ["y = Gather(table, i)"], {"i": ("int64", ["n"])}, {"table": np.array([1, np.nan], np.float32)}
    )
    with pytest.raises(OnnxError, match="`?table"):
        convert(path, tmp_path / "net.safetensors", golden=0)


def external(folder: pathlib.Path, rows: int = 9) -> pathlib.Path:
    graph = model_of(
        ["e = Gather(table, i)", "y = MatMul(e, w)"],
        {"i": ("int64", ["n"])},
        {"table": numbers(rows, 4), "w": numbers(4, 1)},
    )
    onnx.save_model(graph, folder / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    return folder / "net.onnx"


def test_weights_outside_the_file_are_mapped_and_written(tmp_path):
    path = external(tmp_path)
    conversion = build(path, Options())
    mapped = conversion.steps.tensors["table"]
    while not isinstance(mapped, np.memmap):
        mapped = mapped.base
    agrees(conversion, {"i": RNG.integers(0, 9, 6)})
    convert(path, tmp_path / "net.safetensors")
    stored = onnx.load(path).graph.initializer
    written = read(tmp_path / "net.safetensors")[1]
    for tensor in stored:
        np.testing.assert_array_equal(written[tensor.name], numpy_helper.to_array(tensor))


def test_weights_outside_the_file_that_are_not_there_are_named(tmp_path):
    path = external(tmp_path)
    data = (tmp_path / "net.data").read_bytes()
    (tmp_path / "net.data").write_bytes(data[:60])
    refused(path, "tensor `", "net.data", "ends before")
    (tmp_path / "net.data").unlink()
    refused(path, "tensor `", "net.data")
    graph = onnx.load(path, load_external_data=False)
    for tensor in graph.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../net.data"
    onnx.save(graph, path)
    (tmp_path.parent / "net.data").write_bytes(data)
    refused(path, "outside the folder")


def test_a_large_table_is_written_without_a_copy(tmp_path):
    """The process that converts takes less than half of the memory that the table would."""
    rows = 1 << 21
    table = np.lib.format.open_memmap(tmp_path / "table.npy", mode="w+", dtype=np.float32, shape=(rows, 64))
    table[:: 1 << 12] = 1
    table.flush()
    offset = table.offset
    size = table.nbytes
    del table
    graph = model_of(
        ["e = Gather(table, i)", "y = ReduceSum <keepdims = 0> (e, one)"],
        {"i": ("int64", ["n"])},
        {"table": np.zeros((1, 64), np.float32), "one": i64(1)},
    )
    tensor = graph.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.dims[:] = [rows, 64]
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "table.npy"), ("offset", str(offset)), ("length", str(size))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    onnx.save(graph, tmp_path / "net.onnx")
    code = (
        "import resource, sys; from polyscore.onnx import convert; convert('net.onnx', 'net.safetensors', golden=0);"
        "print(int(open('/proc/self/status').read().split('RssAnon:')[1].split()[0]))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    assert int(ran.stdout) * 1024 < size / 2
    assert (tmp_path / "net.safetensors").stat().st_size > size
    written = read(tmp_path / "net.safetensors")[1]["table"]
    assert written[0, 0] == 1 and written[1, 0] == 0 and written[-4096, 63] == 1


def ranker_with(
    folder: pathlib.Path, name: str, nodes: Sequence[str] = RANKER[0], **weights: np.ndarray
) -> pathlib.Path:
    return save(folder, nodes, RANKER[1], RANKER_WEIGHTS | weights, name=name)


def test_update_takes_the_numbers_of_the_next_day(ranker, tmp_path):
    out = tmp_path / "net.safetensors"
    convert(ranker, out, **RATES)
    before, old = read(out)
    old = {name: np.array(array) for name, array in old.items()}
    new_weights = {name: array * 1.25 + 0.125 for name, array in RANKER_WEIGHTS.items()}
    conversion = update(out, ranker_with(tmp_path, "next.onnx", **new_weights), out)
    after, new = read(out)
    assert before["network"] == after["network"] and before["features"] == after["features"]
    assert old.keys() == new.keys()
    for name, array in new_weights.items():
        np.testing.assert_array_equal(new[name], array)
    for name in old:
        if ".request." in name or ".candidates." in name:
            np.testing.assert_array_equal(old[name], new[name])
    assert not np.array_equal(old["golden.0.scores.ctr"], new["golden.0.scores.ctr"])
    assert conversion.options == Options(**json.loads(before["provenance"]["options"]))


def test_update_reads_back_requests_of_every_kind(tmp_path):
    nodes = [
        "e = Gather(table, hist)",
        "s = ReduceSum <keepdims = 0> (e, axes)",
        "t = Gather(words, word)",
        "y = Add(s, t)",
    ]
    inputs = {"hist": ("int64", ["n", 3]), "word": ("int64", ["n"])}
    path = save(tmp_path, nodes, inputs, {"table": numbers(9, 4), "axes": i64(1, 2), "words": numbers(4)})
    transform = {"type": "vocabulary", "values": ["ab", "c", "déf"], "offset": 1}
    out = tmp_path / "net.safetensors"
    convert(path, out, request=["hist"], features={"word": {"transform": transform}})
    before = out.read_bytes()
    update(out, path, out)
    assert out.read_bytes() == before


def test_update_refuses_another_network(ranker, tmp_path):
    out = tmp_path / "net.safetensors"
    convert(ranker, out, **RATES)
    before = out.read_bytes()
    for changed, words in (
        ([line.replace("Relu", "Tanh") for line in RANKER[0]], ["network.steps[h].function", "tanh", "relu"]),
        ([*RANKER[0][:-1], "z = Sigmoid(l)", "y = Mul(z, l)"], ["network.steps"]),
    ):
        with pytest.raises(OnnxError) as caught:
            update(out, ranker_with(tmp_path, "next.onnx", changed), out)
        assert all(word in str(caught.value) for word in words), caught.value
    with pytest.raises(OnnxError, match=r"tensor `users`: has shape \[60, 8\], \[50, 8\] before"):
        update(out, ranker_with(tmp_path, "next.onnx", users=numbers(60, 8)), out)
    with pytest.raises(OnnxError, match="golden|request"):
        update(out, save(tmp_path, ["y = Neg(x)"], {"x": ("float", ["n"])}, {}, name="next.onnx"), out)
    assert out.read_bytes() == before
    polyscore.export(
        {
            "features": [{"name": "x", "rate": "request", "kind": "dense", "width": 1}],
            "scenarios": [],
            "tasks": [],
            "network": {"type": "none"},
        },
        {},
        tmp_path / "other.safetensors",
    )
    with pytest.raises(OnnxError, match="was not converted from ONNX"):
        update(tmp_path / "other.safetensors", ranker, out)


# The command.


def environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(pathlib.Path(polyscore.__file__).parents[1])}


def run(*arguments: Any, cwd: pathlib.Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "polyscore.onnx", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True)


def test_the_command_converts_as_the_function_does(ranker, tmp_path):
    done = run(
        "convert",
        ranker,
        "a.safetensors",
        "--request",
        "user,context",
        "--candidate",
        "ad,seen",
        "--item",
        "ad",
        "--task",
        "y=ctr,cvr",
        "--golden",
        "4",
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("7 operators of ONNX became ")
    convert(ranker, tmp_path / "b.safetensors", **RATES, golden=4)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    done = run("update", "a.safetensors", ranker, "c.safetensors", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "c.safetensors").read_bytes()


def test_the_command_reads_every_option(tmp_path):
    nodes = [
        "i = Gather <axis = 1> (X, c0)",
        "h = Slice(X, one, four, one)",
        "ii = Cast <to = 7> (i)",
        "e = Gather(table, ii)",
        "g = Gather(gates, domain)",
        "m = Mul(e, g)",
        "s = ReduceSum <keepdims = 0> (m, one)",
        "t = ReduceSum <keepdims = 0> (h, one)",
        "u = ReduceSum <keepdims = 0> (z, one)",
        "v = Sum(s, t, u)",
        "w = Unsqueeze(v, one)",
        "y = Concat <axis = 1> (w, w)",
    ]
    inputs = {"X": ("float", ["n", 4]), "domain": ("int64", ["n"]), "z": ("float", ["n", "L"])}
    constants = {"c0": np.array(0), "one": i64(1), "four": i64(4), "table": numbers(9, 4), "gates": numbers(3, 4)}
    path = save(tmp_path, nodes, inputs, constants)
    (tmp_path / "golden.jsonl").write_text(
        json.dumps({"scenario": "feed", "request": {"i": 3}, "candidates": {"h": [[1, 2, 3]], "z": [[1, 2]]}}) + "\n"
    )
    done = run(
        "convert",
        path,
        "net.safetensors",
        "--columns",
        "X=i,h:3",
        "--request",
        "i",
        "--task",
        "y=p,-",
        "--scenario",
        "domain",
        "--scenarios",
        "feed=0,search=1,2",
        "--length",
        "L=2",
        "--golden",
        "golden.jsonl",
        "--dtype",
        "f16",
        "--tolerance",
        "1e-3",
        "--features",
        '{"i": {"missing": 2}}',
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    description, tensors = read(tmp_path / "net.safetensors")
    assert [entry["name"] for entry in description["scenarios"]] == ["feed", "search", "2"]
    assert description["golden"] == {"tolerance": 5e-3, "requests": [{"candidates": 1, "scenario": "feed"}]}
    assert description["tasks"] == [{"name": "p"}]
    assert {f["name"]: f.get("missing") for f in description["features"]} == {"i": 2, "h": None, "z": None}
    assert tensors["table"].dtype == np.float16


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["convert", "absent.onnx", "out"], "absent.onnx: is not a file"),
        (["convert", "net.onnx", "out", "--task", "y"], "--task: `y` has no `=`"),
        (["convert", "net.onnx", "out", "--task", "y=a"], "tasks.y"),
        (["convert", "net.onnx", "out", "--length", "y=a"], "--length: `a`"),
        (["convert", "net.onnx", "out", "--task", "y=a,b", "--golden", "absent.jsonl"], "absent.jsonl"),
        (["convert", "net.onnx", "absent/out", "--task", "y=a,b"], "absent"),
        (["update", "absent.safetensors", "net.onnx", "out"], "absent.safetensors"),
        (["update", "net.onnx", "net.onnx", "out"], "net.onnx: is not a model file"),
        (["explain", "net.onnx"], "tasks="),
    ],
)
def test_the_command_fails_in_one_line(ranker, tmp_path, arguments, word):
    done = run(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and word in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_command_lists_what_is_covered(tmp_path):
    done = run("ops", cwd=tmp_path)
    lines = [line.split()[0] for line in done.stdout.splitlines() if line]
    assert done.returncode == 0
    assert {"Gemm", "Einsum", "Gather", "ScatterND", "LayerNormalization", "If", "GRU", "Loop"} <= set(lines)


def test_explain_has_a_line_for_every_node(ranker):
    table = explain(ranker, **RATES)
    lines = [line.split() for line in table.splitlines()]
    assert ["Gather0", "Gather", "embedding", "request", "8"] in lines
    assert ["Gather1", "Gather", "embedding", "item", "4"] in lines
    assert ["Concat2", "Concat", "moved,", "nothing", "to", "compute"] in lines
    assert any(line[:4] == ["Relu4", "Relu", "function", "relu"] and line[4:] == ["pair", "9"] for line in lines)
    assert "7 nodes: " in table and " steps: " in table and "by rate: " in table


def test_the_package_alone_needs_no_onnx(tmp_path):
    code = (
        "import sys; sys.modules['onnx'] = None\nimport polyscore\ntry:\n    import polyscore.onnx\n"
        "except ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.stdout.strip() == "polyscore.onnx needs the package onnx: pip install 'polyscore[onnx]'"


# Damage.


def test_files_that_are_no_models_are_refused(tmp_path):
    refused(tmp_path / "absent.onnx", "absent.onnx: is not a file")
    refused(tmp_path, "is not a file")
    for name, data in (("empty", b""), ("text", b"hello, world\n" * 9), ("zeros", bytes(1000))):
        (tmp_path / name).write_bytes(data)
        refused(tmp_path / name, f"{name}: is not a valid ONNX model")


@pytest.mark.parametrize("seed", range(8))
def test_damaged_files_are_refused_or_read(ranker, tmp_path, seed):
    rng = random.Random(seed)
    whole = ranker.read_bytes()
    path, refusals = tmp_path / "damaged.onnx", 0
    for _ in range(150):
        data = bytearray(whole)
        if rng.random() < 0.3:
            data = data[: rng.randrange(len(data))]
        for _ in range(rng.choice([0, 1, 1, 3, 20])):
            place = rng.randrange(len(data) + 1)
            data[place : place + rng.choice([0, 1, 1, 4])] = bytes(
                rng.randrange(256) for _ in range(rng.choice([0, 1, 1, 4]))
            )
        path.write_bytes(data)
        try:
            build(path, Options(**RATES))
        except OnnxError:
            refusals += 1
    assert refusals > 20
