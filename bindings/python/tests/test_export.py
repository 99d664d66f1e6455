"""What the exporter writes, and what it refuses."""

import dataclasses
import json
import os
import struct

import numpy as np
import pytest
import torch
import zoo

import polyscore
from polyscore import networks


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
