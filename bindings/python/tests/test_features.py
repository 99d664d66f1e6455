"""Training and serving find the same rows: numpy transforms against the engine, value by value.

The model under test is one linear head over one feature whose table holds its own row number, so that a score tells
which row (or input) the engine used.
"""

import numpy as np
import pytest

import polyscore
from polyscore import features

ROWS = 40


def logit(probability):
    probability = probability.astype(np.float64)
    return np.log(probability / (1 - probability))


def score(tmp_path, feature, values):
    """What the engine feeds the network for each value of `feature`, as logits of a unit weight."""
    description = {
        "format_version": 1, "features": [feature], "scenarios": [], "tasks": [{"name": "p"}, {"name": "q", "composition": ["p"]}],
        "network": {"type": "esmm", "tower": []}}
    state = {"heads.p.weight": np.array([[0.1]], dtype=np.float32), "heads.p.bias": np.array([-2.0], dtype=np.float32)}
    if feature["kind"] != "dense":
        state["table"] = np.arange(ROWS, dtype=np.float32)[:, None]
    path = tmp_path / "one.safetensors"
    polyscore.export(description, state, path)
    scorer = polyscore.Model(path).scorer()
    scorer.prepare(None, {})
    scores = scorer.score({feature["name"]: values}, tasks=["p"])["p"]
    return (logit(scores) + 2.0) * 10.0, scorer.counters()["features"][feature["name"]]


def id_feature(transform, **extra):
    return {"name": "f", "rate": "item", "kind": "id", "table": "table", "transform": transform, "oov": 38, "missing": 39} | extra


IDS = [
    (id_feature({"type": "identity"}), [0, 1, 37, 39, 40, -1, None, 2**63 - 1, -(2**63)]),
    (id_feature({"type": "hash", "algorithm": "xxh64", "seed": 0, "buckets": 37, "offset": 1}), [0, 1, -1, 2**63 - 1, None, 123456789]),
    (id_feature({"type": "hash", "algorithm": "xxh64", "seed": 2**63 + 5, "buckets": 11}), ["", "a", "é", "x" * 1000, None]),
    (id_feature({"type": "vocabulary", "values": [5, -7, 2**40], "offset": 3}), [5, -7, 2**40, 6, None]),
    (id_feature({"type": "vocabulary", "values": ["Rural", "Zürich"], "offset": 1}), ["Rural", "Zürich", "rural", "", None]),
    (id_feature({"type": "bucketize", "boundaries": [-1.5, 0.0, 18.0, 25.5], "offset": 2}),
     [-2.0, -1.5, -0.0, 17.999, 18, 25.5, 1e30, float("nan"), float("inf"), None]),
]


@pytest.mark.parametrize(("feature", "values"), IDS, ids=lambda case: case["transform"]["type"] if isinstance(case, dict) else "")
def test_rows_agree(tmp_path, feature, values):
    expected = features.ids(feature, ROWS, values, len(values))
    actual, counters = score(tmp_path, feature, values)
    assert np.allclose(actual, expected.rows, atol=2e-3), (actual, expected.rows)
    assert counters == {"values": len(values), "oov": expected.oov, "missing": expected.missing}


def test_the_missing_row_is_the_oov_row_unless_declared(tmp_path):
    feature = id_feature({"type": "identity"})
    del feature["missing"]
    actual, counters = score(tmp_path, feature, [None, 99, 3])
    assert np.allclose(actual, [38, 38, 3], atol=2e-3)
    assert counters == {"values": 3, "oov": 1, "missing": 1}
    assert list(features.ids(feature, ROWS, [None, 99, 3], 3).rows) == [38, 38, 3]


@pytest.mark.parametrize("pooling", ["sum", "mean", "max"])
def test_bags_agree(tmp_path, pooling):
    feature = id_feature({"type": "identity"}, kind="ids", pooling=pooling)
    bags = [[1, 2, 3], [], [5], [None, 99], [7] * 9]
    rows = [[1, 2, 3], [], [5], [39, 38], [7] * 9]
    pool = {"sum": sum, "mean": lambda bag: sum(bag) / max(len(bag), 1), "max": lambda bag: max(bag, default=0)}[pooling]
    actual, counters = score(tmp_path, feature, bags)
    assert np.allclose(actual, [pool(bag) for bag in rows], rtol=2e-3, atol=2e-3)
    assert counters == {"values": 15, "oov": 1, "missing": 1}
    found = features.ids(feature, ROWS, bags, len(bags))
    assert list(found.rows) == [row for bag in rows for row in bag]
    assert list(found.offsets) == [0, 3, 3, 4, 6, 15]


@pytest.mark.parametrize(("transform", "values"), [
    (None, [0.0, -3.5, 12.25, None]),
    ({"type": "standardize", "mean": [3.3], "std": [0.7]}, [0.0, 3.3, -9.0, float("inf")]),
    ({"type": "log1p"}, [0.0, -5.0, 1.0, 1e6, None]),
    ({"type": "minmax", "min": [-1.0], "max": [6.0]}, [-2.0, -1.0, 0.3, 6.0, 99.0, None]),
])
def test_dense_inputs_agree(tmp_path, transform, values):
    feature = {"name": "f", "rate": "item", "kind": "dense", "width": 1, "missing": 0.25}
    if transform:
        feature["transform"] = transform
    expected = features.dense(feature, values, len(values))
    actual, counters = score(tmp_path, feature, values)
    assert np.allclose(actual, expected.values[:, 0], rtol=1e-3, atol=2e-4)
    assert counters["missing"] == expected.missing > 0


def test_an_unknown_transform_is_named():
    with pytest.raises(polyscore.DescriptionError, match=r"features.f.transform.type: `crc` is not known"):
        features.ids(id_feature({"type": "crc"}), ROWS, [1], 1)
