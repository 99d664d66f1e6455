"""GRU, LSTM and RNN layers over histories of fixed length, as in ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx_graphs import compare, model_of, parse_input, save  # noqa: E402
from polyscore.onnx import OnnxError  # noqa: E402
from polyscore.onnx.convert import build  # noqa: E402
from polyscore.onnx.options import Options  # noqa: E402

GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}


def weights(op_type: str, directions: int, columns: int, hidden: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    gates = GATES[op_type]
    shapes = {
        "w": (directions, gates * hidden, columns),
        "r": (directions, gates * hidden, hidden),
        "b": (directions, 2 * gates * hidden),
        "p": (directions, 3 * hidden),
    }
    return {name: rng.normal(size=shape).astype(np.float32) / 2 for name, shape in shapes.items()}


def layer(op_type: str, inputs: str = "w, r, b", **attributes) -> tuple[list[str], dict[str, np.ndarray]]:
    """The output of all positions and the last one of a layer over `x` [N, 4, 3], as one vector per row."""
    directions = 2 if attributes.get("direction") == '"bidirectional"' else 1
    hidden = 5
    text = ", ".join(f"{name} = {value}" for name, value in {"hidden_size": hidden, **attributes}.items())
    outputs = "s, h" if op_type != "LSTM" else "s, h, c"
    nodes = [
        "t = Transpose <perm = [1, 0, 2]> (x)",
        f"{outputs} = {op_type} <{text}> (t, {inputs})",
        "st = Transpose <perm = [2, 0, 1, 3]> (s)",
        "sf = Flatten(st)",
        "ht = Transpose <perm = [1, 0, 2]> (h)",
        "hf = Flatten(ht)",
        "y = Concat <axis = 1> (sf, hf)",
    ]
    if op_type == "LSTM":
        nodes[-1:] = ["ct = Transpose <perm = [1, 0, 2]> (c)", "cf = Flatten(ct)", "y = Concat <axis = 1> (sf, hf, cf)"]
    return nodes, weights(op_type, directions, 3, hidden)


@pytest.mark.parametrize("op_type", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_layers_are_as_in_onnx_runtime(tmp_path, op_type, direction):
    nodes, constants = layer(op_type, direction=f'"{direction}"')
    compare(tmp_path, nodes, ["x float 4 3"], constants)


@pytest.mark.parametrize("attributes", [{"linear_before_reset": 1}, {"linear_before_reset": 0}])
@pytest.mark.parametrize("inputs", ["w, r", "w, r, b"])
def test_gates_of_a_gru_are_as_in_onnx_runtime(tmp_path, attributes, inputs):
    nodes, constants = layer("GRU", inputs, **attributes)
    compare(tmp_path, nodes, ["x float 4 3"], constants)


@pytest.mark.parametrize("op_type", GATES)
def test_rows_have_lengths_of_their_own(tmp_path, op_type):
    nodes, constants = layer(op_type, "w, r, b, l", direction='"bidirectional"')
    nodes.insert(0, "l = Cast <to = 6> (n)")
    compare(tmp_path, nodes, ["x float 4 3", "n int64 <5"], constants)


@pytest.mark.parametrize("op_type", GATES)
def test_layers_start_from_what_is_given(tmp_path, op_type):
    more = ", h1" if op_type == "LSTM" else ""
    nodes, constants = layer(op_type, "w, r, b, , h0" + more)
    nodes[:0] = ["h0 = Unsqueeze(z, first)", "h1 = Tanh(h0)"]
    compare(tmp_path, nodes, ["x float 4 3", "z float 5"], constants | {"first": np.array([0])})


def test_peepholes_and_activations_are_read(tmp_path):
    nodes, constants = layer("LSTM", "w, r, b, , , , p", activations='["Sigmoid", "Relu", "Tanh"]')
    compare(tmp_path, nodes, ["x float 4 3"], constants)


def test_a_history_of_the_request_is_run_once(tmp_path):
    nodes, constants = layer("GRU", linear_before_reset=1)
    nodes[-1:] = ["u = Concat <axis = 1> (sf, hf)", "m = ReduceMean(u, one)", "y = Mul(m, z)"]
    conversion = compare(
        tmp_path, nodes, ["x float 4 3", "z float 1"], constants | {"one": np.array([1])}, rates=["request", "item"]
    )
    rates = dict(zip((step["name"] for step in conversion.steps.steps), conversion.steps.rates))
    assert {rates[step["name"]] for step in conversion.live if step["op"] == "linear"} == {"request"}


def refused(folder, nodes, constants, **attributes) -> str:
    model = model_of(nodes, [parse_input("x float 4 3")], ["y"], constants, 18)
    for node in model.graph.node:
        if node.op_type == "GRU":
            node.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in attributes.items())
    with pytest.raises(OnnxError) as caught:
        build(save(folder, model), Options())
    return str(caught.value)


@pytest.mark.parametrize(
    "attributes, word",
    [
        ({"layout": 1}, "layout"),
        ({"clip": 3.0}, "clip"),
        ({"activations": ["Affine", "Tanh"]}, "Affine"),
    ],
)
def test_what_is_not_read_is_refused(tmp_path, attributes, word):
    message = refused(tmp_path, *layer("GRU"), **attributes)
    assert "(GRU)" in message and word in message


def test_a_layer_over_the_rows_is_refused(tmp_path):
    nodes, constants = layer("GRU")
    nodes = [nodes[1].replace("(t,", "(x,"), "y = Squeeze(s, one)"]
    assert "from row to row" in refused(tmp_path, nodes, constants | {"one": np.array([1])})
