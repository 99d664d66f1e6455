"""The documentation of the networks holds: every one is there, with the rates that the planner finds, and the zoo is that of
the twins."""

import json
import pathlib
import struct
import sys

import numpy as np
import pytest

import graph
import zoo

from polyscore import networks
from polyscore.export import read

ROOT = pathlib.Path(__file__).parents[3]
COMMAND = ROOT / "target/release/polyscore"
README = (ROOT / "src/network/README.md").read_text(encoding="utf-8")

sys.path.insert(0, str(ROOT / "benches"))
import networks as table  # noqa: E402


def documented():
    """The rows of the table of rates, by network."""
    section = README.split("## Rates")[1].split("## Folding")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in rows[1:]}


@pytest.mark.skipif(not COMMAND.exists(), reason="the command line is not built: make build")
@pytest.mark.parametrize("name", table.WORKLOAD["networks"])
def test_rates_are_those_of_the_readme(name):
    by_rate, error = table.measure(table.WORKLOAD["networks"][name], str(COMMAND))
    assert table.line(name, by_rate).strip("| ").split(" | ")[1:] == documented()[name]
    assert error <= 1e-5


def test_every_network_is_documented_and_in_the_zoo():
    described = {network["type"] for network in zoo.NETWORKS.values()}
    assert described == set(networks.NETWORKS) == {network["type"] for network in table.WORKLOAD["networks"].values()}
    assert set(documented()) == set(table.WORKLOAD["networks"])
    for name in networks.NETWORKS:
        assert f"| `{name}`" in README


def test_the_committed_zoo_is_that_of_the_twins():
    """Names and descriptions; the scores are checked wherever a file is opened, by its golden requests."""
    folder = ROOT / "tests/models/zoo"
    stored = zoo.stored()
    assert {path.stem for path in folder.glob("*.safetensors")} == {*stored, "graph"}
    for name, (network, variant, _) in stored.items():
        with open(folder / f"{name}.safetensors", "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            description = json.loads(json.loads(file.read(length))["__metadata__"]["polyscore"])
        assert len(description.pop("golden")["requests"]) == 2
        assert description == zoo.describe(network, variant), f"{name}: make zoo writes it anew"


def test_the_committed_graph_is_that_of_the_tests(tmp_path):
    graph.save(tmp_path / "graph.safetensors")
    paths = (tmp_path / "graph.safetensors", ROOT / "tests/models/zoo/graph.safetensors")
    (made, tensors), (committed, stored) = map(read, paths)
    assert made == committed and tensors.keys() == stored.keys(), "make zoo writes it anew"
    for name, values in tensors.items():
        assert np.allclose(values, stored[name], rtol=0, atol=1e-6), name
