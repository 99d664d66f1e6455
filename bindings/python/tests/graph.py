"""A network of type `graph` with every operation of the format, and golden scores of its scalar truth (steps.py)."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

import steps
from polyscore.export import encode, golden_entry, write

FEATURES = [
    {"name": "ad", "rate": "item", "kind": "id", "table": "ads", "transform": {"type": "identity"}, "oov": 0},
    {"name": "user", "rate": "request", "kind": "id", "table": "users", "transform": {"type": "identity"}, "oov": 1},
    {"name": "slot", "rate": "pair", "kind": "id", "table": "slots", "transform": {"type": "identity"}, "oov": 2},
    {"name": "clicks", "rate": "request", "kind": "id", "length": 6, "table": "ads", "transform": {"type": "identity"},
     "oov": 0},
    {"name": "tags", "rate": "item", "kind": "id", "length": 3, "table": "slots", "transform": {"type": "identity"},
     "oov": 0},
    {"name": "age", "rate": "request", "kind": "dense", "width": 1},
    {"name": "price", "rate": "pair", "kind": "dense", "width": 3},
]
SCENARIOS = [{"name": "feed", "id": 3}, {"name": "splash", "id": 7}, {"name": "video", "id": -1}]
UNARY: list[dict[str, Any]] = [
    *({"function": name} for name in (
        "abs", "negate", "exp", "square", "erf", "gelu", "gelu_tanh", "sigmoid", "tanh", "relu", "softplus", "softsign",
        "mish", "silu", "hard_swish", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "atanh")),
    {"function": "leaky_relu", "slope": 0.1}, {"function": "elu", "alpha": 0.7},
    {"function": "selu", "alpha": 1.7, "gamma": 1.1}, {"function": "celu", "alpha": 0.6},
    {"function": "hard_sigmoid", "scale": 0.3, "shift": 0.5}, {"function": "thresholded_relu", "alpha": 0.01},
    {"function": "affine", "scale": 2, "shift": -0.5}, {"function": "clip", "low": -0.4},
    {"function": "clip", "low": -0.3, "high": 0.6},
]
POSITIVE: list[dict[str, Any]] = [
    *({"function": name} for name in ("log", "sqrt", "reciprocal", "acosh")), {"function": "power", "exponent": 1.7},
]
WHOLE = ("floor", "ceil", "round", "truncate", "sign", "not", "is_nan", "is_inf")
BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum", "power", "modulo", "remainder", "less",
          "less_equal", "prelu")


class Graph:
    """Steps with tensors of random numbers."""

    def __init__(self, seed: int = 1):
        self.random = np.random.default_rng(seed)
        self.steps: list[dict[str, Any]] = []
        self.tensors: dict[str, np.ndarray] = {}

    def tensor(self, name: str, *shape: int, low: float | None = None) -> str:
        scale = 1.2 * shape[-1] ** -0.5 if len(shape) > 1 else 0.5
        values = self.random.normal(0, scale, shape)
        self.tensors[name] = (values if low is None else np.abs(values) + low).astype(np.float32)
        return name

    def add(self, op: str, inputs: Sequence[str] = (), **keys: Any) -> str:
        name = f"{len(self.steps)}.{keys.get('function', op)}"
        self.steps.append({"name": name, "op": op, **({"inputs": list(inputs)} if inputs else {}), **keys})
        return name


def build() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The description, without golden requests, and the tensors."""
    g = Graph()
    for table, rows in (("ads", 40), ("users", 50), ("slots", 7), ("wide_ads", 44)):
        g.tensor(table, rows, 8)
    ad, user, slot, clicks = (g.add("embedding", feature=name, table=table) for name, table in (
        ("ad", "ads"), ("user", "users"), ("slot", "slots"), ("clicks", "ads")))
    tags = g.add("embedding", feature="tags", table="slots")
    wide = g.add("embedding", feature="clicks", table="wide_ads")
    age, price = g.add("feature", feature="age"), g.add("feature", feature="price")
    numbers = g.add("rows", feature="clicks")
    zero = g.add("constant", tensor=g.tensor("zero", 1))
    g.tensors["zero"][:] = 0
    low = g.add("constant", tensor=g.tensor("low", 1))
    g.tensors["low"][:] = -np.inf
    kept = g.add("scenario", tensor=g.tensor("scenario.shift", len(SCENARIOS), 8))

    mask = g.add("combine", [numbers, zero], function="equal")
    pairs = g.add("interleave", [ad, clicks, g.add("combine", [clicks, ad], function="subtract"), wide], groups=6,
                  widths=[8, 8, 8, 8])
    hidden = g.add("linear", [pairs], weight=g.tensor("din.weight", 12, 32), bias=g.tensor("din.bias", 12), groups=6)
    part = {key: g.tensor(f"bn.{key}", 12, low=0.5 if key == "variance" else None)
            for key in ("weight", "bias", "mean", "variance")}
    hidden = g.add("batch_norm", [hidden], **part, epsilon=1e-3, groups=6)
    hidden = g.add("layer_norm", [hidden], weight=g.tensor("ln.weight", 12), bias=g.tensor("ln.bias", 12), epsilon=1e-5,
                   groups=6)
    scores = g.add("linear", [g.add("function", [hidden], function="relu")], weight=g.tensor("din.out", 12, 1), groups=6,
                   transposed=True)
    weights = g.add("softmax", [g.add("choose", [mask, low, scores])])
    # A history of nothing but padding has no weights: 0 / 0.
    weights = g.add("choose", [g.add("function", [weights], function="is_nan"), zero, weights])
    history = g.add("matmul", [weights, clicks], rows=1, inner=6, columns=8)
    queries = g.add("linear", [clicks], weight=g.tensor("query.weight", 8, 8), groups=6)
    attention = g.add("matmul", [queries, clicks], rows=6, inner=8, columns=6, transposed=True)
    attention = g.add("matmul", [g.add("softmax", [attention], groups=6), clicks], rows=6, inner=6, columns=8)
    heads = g.add("view", [attention], start=0, sizes=[2, 6, 4], strides=[4, 8, 1])
    mixed = g.add("matmul", [heads, g.add("constant", tensor=g.tensor("mixing", 4 * 3))], batch=2, rows=6, inner=4, columns=3)
    pooled = g.add("concat", [g.add("reduce", [mixed], function=name, groups=2, inner=3)
                              for name in ("sum", "mean", "max", "min", "product", "log_sum_exp")])
    top = g.add("top_k", [scores], count=2)
    chosen = g.add("pick", [clicks, g.add("view", [top], start=2, sizes=[2], strides=[1])], inner=8, count=2)
    found = g.add("lookup", [g.add("view", [numbers], start=5, sizes=[2], strides=[-5])], table="slots")
    least = g.add("top_k", [attention], groups=6, count=1, smallest=True)
    gate = g.add("softmax", [g.add("linear", [ad], weight=g.tensor("gate.weight", 3, 8))])
    mixture = g.add("mixture", [gate, user, slot, history])
    route = g.add("argmax", [g.add("concat", [gate, price])], groups=2)
    crossed = g.add("combine", [ad, kept], function="multiply")
    dots = g.add("dot", [crossed, g.add("normalize", [user], groups=2, epsilon=1e-6)], groups=2)

    squashed = g.add("function", [g.add("concat", [crossed, price, history])], function="tanh")
    squashed = g.add("function", [squashed], function="affine", scale=0.9, shift=0)
    parts = [g.add("function", [squashed], **keys) for keys in UNARY]
    positive = g.add("function", [squashed], function="affine", scale=0.5, shift=1.6)
    parts += [g.add("function", [positive], **keys) for keys in POSITIVE]
    ids = g.add("function", [g.add("concat", [numbers, g.add("rows", feature="tags")])], function="affine", scale=0.3,
                shift=-1.05)
    parts += [g.add("function", [ids], function=name) for name in WHOLE]
    parts += [g.add("combine", [positive, g.add("view", [positive], start=3, sizes=[19], strides=[0])], function=name)
              for name in BINARY]
    narrow = g.add("function", [kept], function="sigmoid")
    parts += [g.add("combine", [clicks, narrow], function="multiply"),
              g.add("combine", [clicks, numbers], function="less", each=True)]
    wide = g.add("concat", [*parts, history, pooled, chosen, found, least, mixture, route, dots, tags, wide, age])
    known = {feature["name"]: feature for feature in FEATURES}
    width = steps.run(g.steps, g.tensors, columns(request(0, 1)), 1, known=known)[wide].shape[1]
    norm = {key: g.tensor(f"norm.{key}", width, low=0.5 if key == "variance" else None)
            for key in ("weight", "bias", "mean", "variance")}
    outputs = {}
    for task in ("ctr", "cvr"):
        x = g.add("function", [wide], function="tanh")
        x = g.add("batch_norm", [x], **norm, epsilon=1e-5)
        x = g.add("linear", [x], weight=g.tensor(f"{task}.0.weight", 16, width), bias=g.tensor(f"{task}.0.bias", 16))
        x = g.add("function", [x], function="gelu")
        x = g.add("linear", [x], weight=g.tensor(f"{task}.1.weight", 1, 16), bias=g.tensor(f"{task}.1.bias", 1))
        g.tensors[f"{task}.1.weight"] *= 4
        outputs[task] = g.add("function", [x], function="sigmoid")
    description = {
        "format_version": 1, "name": "graph", "features": FEATURES, "scenarios": SCENARIOS,
        "tasks": [{"name": "ctr"}, {"name": "cvr"}, {"name": "ctcvr", "composition": ["ctr", "cvr"]}],
        "network": {"type": "graph", "steps": g.steps, "outputs": outputs},
    }
    return description, g.tensors


def request(seed: int, count: int) -> dict[str, Any]:
    """A request in the form of the command line, with ids that no table has among the others."""
    random = np.random.default_rng(seed)
    ids = lambda feature, rows: random.integers(-2, 60, (rows, feature.get("length", 1)))  # noqa: E731
    numbers = lambda feature, rows: random.normal(size=(rows, feature["width"])).astype(np.float32)  # noqa: E731
    sides: dict[str, dict[str, Any]] = {"request": {}, "candidates": {}}
    for feature in FEATURES:
        is_request = feature["rate"] == "request"
        made = (ids if feature["kind"] == "id" else numbers)(feature, 1 if is_request else count)
        values = made.tolist() if made.shape[1] > 1 else made[:, 0].tolist()
        sides["request" if is_request else "candidates"][feature["name"]] = values[0] if is_request else values
    return {"scenario": SCENARIOS[seed % 3]["name"], **sides}


def columns(request: dict[str, Any]) -> dict[str, np.ndarray]:
    """The columns of a request as the scalar truth takes them: a row for each candidate."""
    count = len(request["candidates"]["ad"])
    rows = request["candidates"] | {name: [value] * count for name, value in request["request"].items()}
    return {name: np.asarray(values).reshape(count, -1) for name, values in rows.items()}


def save(path: pathlib.Path) -> None:
    """Writes the model file, with golden requests."""
    description, tensors = build()
    encoded = {name: encode(name, values, None, may_be_infinite=True) for name, values in tensors.items()}
    description["golden"] = {"tolerance": 1e-5, "requests": []}
    for number, (seed, count) in enumerate(((100, 3), (101, 5))):
        made = request(seed, count)
        row = [scenario["name"] for scenario in SCENARIOS].index(made["scenario"])
        scores = steps.evaluate(description, tensors, columns(made), count, row)
        scores["ctcvr"] = scores["ctr"] * scores["cvr"]
        head, golden = golden_entry(description, number, made, count, scores)
        description["golden"]["requests"].append(head)
        encoded.update(golden)
    write(path, json.dumps(description, ensure_ascii=False, separators=(",", ":")), encoded)
