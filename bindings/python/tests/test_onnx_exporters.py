"""What tf2onnx and Paddle2ONNX write today, from models of Keras and Paddle: each exporter runs in an environment of its own."""

from __future__ import annotations

import json
import pathlib
import subprocess

import numpy as np
import pytest

import polyscore
from polyscore import onnx

# An exporter runs once.
pytestmark = pytest.mark.xdist_group("exporters")

FOLDER = pathlib.Path(__file__).parent / "exporters"
BUILD = pathlib.Path(__file__).parents[3] / "build"
EXPORTERS = {
    "tensorflow": ["autoint", "bst", "dcn", "dcn_mix", "deepfm", "din", "din_saved_model", "dlrm", "esmm", "fibinet", "gru",
                   "mmoe", "ple", "pooling", "scenarios", "two_towers", "wide_deep", "xdeepfm"],
    "paddle": ["autoint", "bst", "dcn", "deepfm", "din", "dlrm", "esmm", "mmoe", "ple", "pooling", "scenarios", "two_towers",
               "wide_deep"],
}
RATES = {"request": "request", "item": "item", "pair": "candidate"}
CANDIDATES = 8
# Features that are no index of a table, or not one alone: a mask is made of their number.
NUMBERS = {"click_count", "position"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder with all models of an exporter."""
    folders: dict[str, pathlib.Path] = {}

    def folder(exporter: str) -> pathlib.Path:
        if exporter not in folders:
            python = BUILD / f"venv-{exporter}/bin/python"
            if not python.exists():
                pytest.skip(f"{exporter} is not installed: make python does it")
            folders[exporter] = tmp_path_factory.mktemp(exporter)
            command = [python, FOLDER / f"{exporter}_models.py", folders[exporter]]
            run = subprocess.run(command, capture_output=True, text=True, check=False)
            assert run.returncode == 0, run.stderr[-4000:]
        return folders[exporter]

    return folder


@pytest.mark.parametrize("exporter, name", [(exporter, name) for exporter, names in EXPORTERS.items() for name in names])
def test_exported_models_score_as_their_framework(written, tmp_path, exporter, name):
    folder = written(exporter)
    about = json.loads((folder / f"{name}.json").read_text("utf-8"))
    rows = dict(np.load(folder / f"{name}.npz"))
    rates = {option: [key for key, rate in about["inputs"].items() if RATES[rate] == option] for option in RATES.values()}
    out = tmp_path / "model.safetensors"
    conversion = onnx.convert(folder / f"{name}.onnx", out, tasks=about["tasks"], **rates)
    names = {e.name: e.parts[0].feature for e in conversion.inputs}
    kinds = {feature["name"]: feature["kind"] for feature in conversion.description["features"]}
    for key in about["inputs"]:
        is_integer = rows[key].dtype.kind == "i"
        if names[key] in kinds and key not in NUMBERS:
            assert kinds[names[key]] == ("id" if is_integer else "dense"), key

    worst = 0.0
    with polyscore.Model(out) as model:
        scorer = model.scorer()
        columns = {names[key]: rows[key].reshape(len(rows[key]), -1) for key in about["inputs"]}
        columns = {key: value for key, value in columns.items() if key in model.features}
        columns = {key: value[:, 0] if value.shape[1] == 1 else value for key, value in columns.items()}
        request = [names[key] for key in rates["request"] if names[key] in columns]
        for first in range(0, len(rows[next(iter(rows))]), CANDIDATES):
            scorer.prepare(None, {key: columns[key][first].tolist() for key in request})
            some = slice(first, first + CANDIDATES)
            ads = {key: np.ascontiguousarray(value[some]) for key, value in columns.items() if key not in request}
            scores = scorer.score(ads, count=CANDIDATES)
            for output, task in about["tasks"].items():
                worst = max(worst, float(np.abs(scores[task] - rows[output].reshape(-1)[some]).max()))
    print(f"{exporter} {name}: {worst:.1e}, {conversion}")
    assert worst <= 1e-5


def test_every_model_of_the_exporters_is_tested(written):
    for exporter, names in EXPORTERS.items():
        assert sorted(path.stem for path in written(exporter).glob("*.onnx")) == names
