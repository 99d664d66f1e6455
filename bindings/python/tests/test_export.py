"""What the exporter writes, and what it refuses."""

import dataclasses
import json
import os
import struct

import graph
import numpy as np
import pytest
import torch
import zoo

import polyscore
from polyscore import integers, networks


def header(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return length, json.loads(file.read(length))


def test_tensors_begin_at_multiples_of_64_and_leave_no_hole(tmp_path):
    description = zoo.describe("mmoe", "norm")
    path = tmp_path / "model.safetensors"
    polyscore.export(description, zoo.twin(description).state_dict(), path, golden=[zoo.request(1, 3)])
    length, tensors = header(path)
    metadata = tensors.pop("__metadata__")
    assert (8 + length) % 64 == 0
    end = 0
    for name, tensor in tensors.items():
        start, stop = tensor["data_offsets"]
        assert start == end
        assert start % 64 == 0 or name.startswith("padding.")
        end = stop
    assert os.path.getsize(path) == 8 + length + end
    assert json.loads(metadata["polyscore"])["golden"]["requests"][0]["candidates"] == 3
    assert not any(name.endswith("num_batches_tracked") for name in tensors)
    assert polyscore.Model(path).info()["copied_bytes"] == 0


@pytest.mark.parametrize("options", [{}, {"precision": "int8", "max_error": 0.1}])
def test_packed_layers_are_mapped_and_score_the_same(tmp_path, options):
    description = zoo.describe("mmoe", "norm")
    state, golden = zoo.twin(description).state_dict(), [zoo.request(seed, 5) for seed in range(3)]
    for name, packed in (("plain", None), ("packed", options)):
        polyscore.export(description, state, tmp_path / name, golden=golden, packed=packed)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["packed", "plain"]
    with polyscore.Model(tmp_path / "plain", **options) as plain, polyscore.Model(tmp_path / "packed", **options) as packed:
        assert packed.info()["packed_bytes"] * 3 < plain.info()["packed_bytes"]
        assert packed.info()["golden_error"] == plain.info()["golden_error"]
        plain.write_packed(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "packed").read_bytes()
    with pytest.raises(TypeError, match="tiles"):
        polyscore.export(description, state, tmp_path / "none", packed={"tiles": 1})
    assert not (tmp_path / "none").exists()


class Attending(networks.MMoE):
    """Attention across the batch, as public code of M2M has it."""

    def logits(self, batch):
        mixed = torch.softmax(batch.x @ batch.x.T, dim=-1) @ batch.x
        return super().logits(dataclasses.replace(batch, x=mixed))


def test_a_network_that_mixes_rows_is_refused_by_its_module(tmp_path):
    description, path = zoo.describe("hamur", "norm"), tmp_path / "model.safetensors"
    golden = [zoo.request(seed, 5, description["features"]) for seed in range(3)]
    zoo.twin(description).export(path, golden=golden)
    assert polyscore.Model(path).info()["golden_requests"] == 3
    path.unlink()

    network = zoo.twin(description)
    norm = network.adapters["0"].norm if "0" in network.adapters else next(iter(network.adapters.children())).norm
    norm.track_running_stats, norm.running_mean, norm.running_var = False, None, None
    with pytest.raises(polyscore.ExportError, match=r"^adapters\..*norm: a BatchNorm1d without running statistics"):
        network.export(path)

    description = zoo.describe("mmoe", "plain")
    tables = {name: tuple(value.shape) for name, value in zoo.twin(description).state_dict().items()}
    attending = Attending(description, tables)
    attending.load_state_dict(zoo.twin(description).state_dict())
    golden = [zoo.request(seed, 5, description["features"]) for seed in range(3)]
    with pytest.raises(polyscore.ExportError, match="alone than among 5.*the score of a row would depend on its neighbours"):
        attending.export(path, golden=golden)
    assert not path.exists()
    assert attending.training


def test_numpy_state_and_the_safetensors_package_agree(tmp_path):
    from safetensors.numpy import load_file

    description = zoo.describe("esmm", "plain")
    state = {name: value.numpy() for name, value in zoo.twin(description).state_dict().items()}
    path = tmp_path / "model.safetensors"
    polyscore.export(description, state, path)
    read = load_file(path)
    for name, value in state.items():
        assert np.array_equal(read[name], value)


def test_a_refused_model_leaves_the_old_file(tmp_path):
    description = zoo.describe("esmm", "plain")
    state = zoo.twin(description).state_dict()
    path = tmp_path / "model.safetensors"
    polyscore.export(description, state, path)
    before = path.read_bytes()
    bad = state | {"heads.ctr.bias": np.array([np.nan], dtype=np.float32)}
    huge = state | {"heads.ctr.bias": np.array([1e6], dtype=np.float32)}
    cases = [
        (bad, {}, "heads.ctr.bias: has values that are not finite"),
        (huge, {"dtype": "f16"}, "heads.ctr.bias: has values beyond f16"),
        (state, {"dtype": "int3"}, "dtype: `int3` is not"),
        (state, {"golden": [{"request": {"nobody": 1}, "candidates": {"ad": [1]}}]}, r"golden\[0\]: `nobody` is not a feature"),
        (state, {"golden": [{"candidates": {"ad": [1], "seen": [1, 2]}}]}, r"golden\[0\].candidates: columns have \[1, 2\] rows"),
    ]
    for weights, options, message in cases:
        with pytest.raises(polyscore.ExportError, match=message):
            polyscore.export(description, weights, path, **options)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_the_engine_refuses_what_does_not_fit_the_description(tmp_path):
    description = zoo.describe("esmm", "plain")
    state = dict(zoo.twin(description).state_dict())
    path = tmp_path / "model.safetensors"
    spare = dict(state, extra=np.zeros(3, dtype=np.float32))
    missing = {name: value for name, value in state.items() if name != "heads.cvr.weight"}
    for weights, subject in [(spare, "extra"), (missing, "heads.cvr.weight")]:
        polyscore.export(description, weights, path)
        with pytest.raises(polyscore.PolyscoreError) as refused:
            polyscore.Model(path)
        assert (refused.value.name, refused.value.subject) == ("POLYSCORE_TENSOR", subject)


@pytest.mark.parametrize("network", sorted(zoo.NETWORKS))
def test_integers_score_as_the_twin_with_the_numbers_that_they_stand_for(tmp_path, network):
    description, path = zoo.describe(network, "norm"), tmp_path / "model.safetensors"
    golden = [zoo.request(seed, 5, description["features"]) for seed in range(3)]
    twin = zoo.twin(description)
    for tables, dense in [("int8", "int16"), ("int4", "int12"), ("f16", "int8"), (None, "f16")]:
        twin.export(path, golden=golden, tables=tables, dense=dense, tolerance=1.0)
        length, tensors = header(path)
        kinds = {name: tensor["dtype"] for name, tensor in tensors.items() if name != "__metadata__"}
        assert ("U8" in {kind for name, kind in kinds.items() if name.startswith("embeddings.")}) == (tables == "int4")
        expected = {"int16": "I16", "int12": "I16", "int8": "I8", "f16": "F16"}[dense]
        # ADL's weights are all computed: it has no layer that could hold integers.
        assert network == "adl" or expected in {kind for name, kind in kinds.items() if not name.startswith("embeddings.")}
        # In f32 a layer is that of the twin, whose weights are what the integers stand for.
        info = polyscore.Model(path, precision="f32", max_error=2e-5).info()
        assert info["golden_requests"] == 3 and info["copied_bytes"] == 0
    with pytest.raises(polyscore.PolyscoreError, match="golden"):
        twin.export(path, golden=golden, dense="int8", tolerance=1e-9)
        polyscore.Model(path)


def test_scales_have_the_least_error_of_all_that_are_tried():
    values = np.random.default_rng(1).standard_normal((300, 16)).astype(np.float32)
    values[0] = 0.0
    for kind, share in [("int4", 0.9), ("int8", 0.9), ("int12", 1.0), ("int16", 1.0)]:
        whole, scales = integers.quantize(values, kind)
        largest = integers.LARGEST[kind]
        assert np.abs(whole).max() <= largest and scales.dtype == np.float32 and scales[0] == 0.0
        assert np.array_equal(integers.unpack(integers.pack(whole, kind)), whole)
        plain = np.abs(values[1:]).max(axis=1, keepdims=True) / largest
        error = lambda steps, scale: ((values[1:] - steps * scale) ** 2).sum()  # noqa: E731
        assert error(whole[1:], scales[1:, None]) < share * error(np.rint(values[1:] / plain), plain)
    whole, _ = integers.quantize(np.repeat(values, 32, axis=1), "int12")
    squares = np.square(whole.astype(np.float64)).sum(axis=1)
    assert squares.max() <= 46340.0**2 < 1.02 * squares[1:].max(), "sums have room, and it is used"


def test_types_that_are_not_known_are_refused(tmp_path):
    description = zoo.describe("esmm", "plain")
    state = zoo.twin(description).state_dict()
    for options, message in [({"tables": "int12"}, "tables: `int12` is not f16, int8 or int4"),
                             ({"dense": "int4"}, "dense: `int4` is not f16, int16, int12 or int8")]:
        with pytest.raises(polyscore.ExportError, match=message):
            polyscore.export(description, state, tmp_path / "model.safetensors", **options)
    assert os.listdir(tmp_path) == []


def test_the_tables_and_layers_of_a_graph_can_be_integers(tmp_path):
    description, tensors = graph.build()
    state = {name: np.clip(value, -1e30, 1e30) for name, value in tensors.items()}
    source = tmp_path / "source.safetensors"
    polyscore.export(description, state, source)
    path = tmp_path / "model.safetensors"
    polyscore.export(description, state, path, tables="int8", dense="int12")
    kinds = {name: tensor["dtype"] for name, tensor in header(path)[1].items() if name != "__metadata__"}
    steps = description["network"]["steps"]
    layers = {step["weight"] for step in steps if step["op"] == "linear" and max(state[step["weight"]].shape[:1]) > 1}
    assert layers and {kinds[name] for name in layers} <= {"I16", "F32"} and "I16" in {kinds[name] for name in layers}
    assert {kinds[feature["table"]] for feature in description["features"] if "table" in feature} == {"I8"}
    for request in [graph.request(seed, 5) for seed in range(3)]:
        scores = []
        for model in (polyscore.Model(source), polyscore.Model(path)):
            scorer = model.scorer()
            scorer.prepare(request.get("scenario"), request["request"])
            scores.append(scorer.score(request["candidates"]))
        for task, expected in scores[0].items():
            assert np.abs(scores[1][task] - expected).max() < 0.1
