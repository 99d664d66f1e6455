"""Sequences reach the network as the twins read them, and what does not fit is refused by name."""

import numpy as np
import pytest
import zoo

import polyscore
from polyscore import features, networks

ROWS = 40
CLICKS = {"name": "clicks", "rate": "request", "kind": "sequence", "table": "table", "transform": {"type": "identity"},
          "oov": 38, "missing": 2, "length": 6, "sequence": "clicked"}


def describe(block, sequences):
    item = {"name": "x", "rate": "item", "kind": "dense", "width": 1}
    return {"format_version": 1, "features": [*sequences, item], "scenarios": [],
            "tasks": [{"name": "p"}, {"name": "r", "composition": ["p"]}],
            "network": {"type": "esmm", "tower": [], "blocks": [block]}}


def pooled(tmp_path, how, request):
    """The pooled row numbers of two sequences of one group, by the engine and by the twin."""
    sequences = [CLICKS, CLICKS | {"name": "kinds", "missing": 37}]
    description = describe({"type": "pooling", "history": ["clicks", "kinds"], "how": how}, sequences)
    description["tasks"].append({"name": "q"})
    weight = np.zeros((1, 3), dtype=np.float32)
    state = {"table": np.arange(ROWS, dtype=np.float32)[:, None]}
    for task, column in [("p", 1), ("q", 2)]:
        state |= {f"heads.{task}.weight": weight.copy(), f"heads.{task}.bias": np.array([-2.0], dtype=np.float32)}
        state[f"heads.{task}.weight"][0, column] = 0.1
    path = tmp_path / "one.safetensors"
    polyscore.export(description, state, path, golden=[{"request": request, "candidates": {"x": [1.0]}}])
    scorer = polyscore.Model(path).scorer()
    scorer.prepare(None, request)
    scores = [values[0].astype(np.float64) for values in scorer.score({"x": [0.0]}, tasks=["p", "q"]).values()]
    engine = [(np.log(p / (1 - p)) + 2.0) * 10.0 for p in scores]
    twin = networks.build(description, {"table": (ROWS, 1)})
    batch = networks.inputs(twin, request, {"x": [0.0]}, 1)
    rows = [batch[name].rows for name in ("clicks", "kinds")]
    return engine, rows, scorer.counters()["features"]


@pytest.mark.parametrize("how", ["sum", "mean"])
@pytest.mark.parametrize(("request_", "rows"), [
    ({"clicks": [1, 2, 4], "kinds": [3, 5, 7]}, ([1, 2, 4], [3, 5, 7])),
    ({"clicks": [], "kinds": []}, ([], [])),
    ({}, ([], [])),
    ({"clicks": [99, None], "kinds": [None, -4]}, ([38, 2], [37, 38])),
    ({"clicks": [4, 5]}, ([4, 5], [37, 37])),
    ({"kinds": [7] * 6}, ([2] * 6, [7] * 6)),
])
def test_positions_are_those_that_are_there(tmp_path, how, request_, rows):
    engine, found, counters = pooled(tmp_path, how, request_)
    pool = {"sum": sum, "mean": lambda positions: sum(positions) / max(len(positions), 1)}[how]
    assert [list(part) for part in found] == list(rows)
    assert np.allclose(engine, [pool(part) for part in rows], rtol=2e-3, atol=2e-3)
    assert counters["clicks"]["values"] == counters["kinds"]["values"] == len(rows[0])


def test_sequences_that_do_not_fit_are_refused(tmp_path):
    description = describe({"type": "pooling", "history": ["clicks"]}, [CLICKS, CLICKS | {"name": "kinds"}])
    state = {"table": np.zeros((ROWS, 1)), "heads.p.weight": np.ones((1, 2)), "heads.p.bias": np.ones(1)}
    polyscore.export(description, state, tmp_path / "one.safetensors")
    scorer = polyscore.Model(tmp_path / "one.safetensors").scorer()
    for request, subject in [({"clicks": [1] * 7}, "clicks"), ({"clicks": [1], "kinds": [1, 2]}, "kinds")]:
        with pytest.raises(polyscore.PolyscoreError) as refused:
            scorer.prepare(None, request)
        assert (refused.value.name, refused.value.subject) == ("POLYSCORE_COLUMN_LENGTH", f"feature `{subject}`")
        with pytest.raises(ValueError, match=f"{subject}: has"):
            networks.inputs(networks.build(description, {"table": (ROWS, 1)}), request, {"x": [1.0]}, 1)
    assert len(features.ids(CLICKS, ROWS, None, 3).rows) == 0


BLOCK_FAULTS = [
    ({"type": "gru"}, "network.blocks[0].type"),
    ({"type": "din", "history": ["history"], "target": ["ad"], "hidden": []}, "network.blocks[0].history[0]"),
    ({"type": "din", "history": ["clicks", "searches"], "target": ["ad"], "hidden": []}, "network.blocks[0].history[1]"),
    ({"type": "din", "history": ["clicks"], "target": ["clicks"], "hidden": []}, "network.blocks[0].target[0]"),
    ({"type": "din", "history": ["clicks"], "target": ["city"], "hidden": []}, "network.blocks[0].target"),
    ({"type": "din", "history": ["clicks"], "target": ["ad"], "hidden": [0]}, "network.blocks[0].hidden[0]"),
    ({"type": "din", "history": ["clicks"], "target": ["ad"], "hidden": "x"}, "network.blocks[0].hidden"),
    ({"type": "pooling", "history": [], "how": "sum"}, "network.blocks[0].history"),
    ({"type": "pooling", "history": ["clicks"], "how": "max"}, "network.blocks[0].how"),
    ({"type": "fm", "features": ["ad", "city"]}, "network.blocks[0].features[1]"),
    ({"type": "fm", "features": ["ad"] * 513}, "network.blocks[0].features"),
    ({"type": "inner_products", "features": ["ad"]}, "network.blocks[0].features"),
    ({"type": "cross", "layers": 0}, "network.blocks[0].layers"),
    ({"type": "cross", "layers": 1, "rank": 0}, "network.blocks[0].rank"),
    ({"type": "target_attention", "history": ["clicks"], "target": ["ad"], "heads": 0, "width": 3}, "network.blocks[0].heads"),
]


@pytest.mark.parametrize(("block", "subject"), BLOCK_FAULTS)
def test_a_wrong_block_is_refused_by_its_path(tmp_path, block, subject):
    description = zoo.describe("mmoe_din", "plain")
    state = zoo.twin(description).state_dict()
    description["network"] = description["network"] | {"blocks": [block]}
    refuse(tmp_path, description, state, subject)


@pytest.mark.parametrize(("changes", "subject"), [
    ({"domain": []}, "network.domain"),
    ({"domain_width": 9}, "network.domain_width"),
    ({"agnostic": ["city"]}, "network.agnostic"),
    ({"agnostic": None}, "network.agnostic[1]"),
    ({"target": ["ad", "city"]}, "network.target[1]"),
    ({"layers": 2}, "network.layers"),
    ({"layers": 17}, "network.layers"),
    ({"head": 6}, "network.head"),
    ({"heads": 65}, "network.heads"),
    ({"attention_width": 45}, "network.attention_width"),
    ({"attention_width": None, "slices": "separate"}, "network.attention_width"),
    ({"history": ["history"]}, "network.history[0]"),
    ({"attention": "fast"}, "network.attention"),
    ({"pool": "mean"}, "network.pool"),
])
def test_wrong_parameters_of_dffm_are_refused_by_their_path(tmp_path, changes, subject):
    description = zoo.describe("dffm", "plain")
    state = zoo.twin(description).state_dict()
    description["network"] = description["network"] | changes
    refuse(tmp_path, description, state, subject)


def refuse(tmp_path, description, state, subject):
    path = tmp_path / "wrong.safetensors"
    polyscore.export(description, state, path)
    with pytest.raises(polyscore.PolyscoreError) as refused:
        polyscore.Model(path)
    assert refused.value.name in ("POLYSCORE_DESCRIPTION", "POLYSCORE_LIMIT")
    assert refused.value.subject == subject
