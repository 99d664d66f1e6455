"""Models of torch-rechub and deepctr-torch, the golden sets and the twins of the zoo, by way of ONNX."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np
import pytest
import torch

import polyscore
import thirdparty_models
import zoo
import zoo_onnx
from polyscore import features, networks, onnx
from thirdparty_models import BROKEN, EXPORTERS, TOLERANCE, ExportError, Model

for package in ("torch_rechub", "onnxruntime", "onnxscript"):
    pytest.importorskip(package)

THIRDPARTY = thirdparty_models.names()
ZOO = zoo_onnx.names()
RATES = ("request", "item", "pair", "scenario")


def together(names: Sequence[str]) -> list:
    """A worker exports a model, which takes most of the time, for all tests of it."""
    return [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in names]


def build(name: str) -> Model:
    return zoo_onnx.build(name) if name in ZOO else thirdparty_models.build(name)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Exports a model, once per exporter."""
    folder, models = tmp_path_factory.mktemp("onnx"), {}

    def graph(name: str, exporter: str) -> tuple[Model, pathlib.Path]:
        path = folder / f"{name}-{exporter}.onnx"
        if path not in models:
            models[path] = build(name)
            thirdparty_models.export(models[path], path, EXPORTERS[exporter])
        return models[path], path

    return graph


@pytest.mark.parametrize("name", [name for name in THIRDPARTY if "DIEN" in name])
def test_unpacked_histories_score_as_packed_ones(name):
    model = build(name)
    inputs = model.inputs(64)
    with torch.no_grad():
        published = model.module.published(*inputs.values())
    assert torch.allclose(model.scores(inputs)["scores"], published, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in THIRDPARTY if "deepctr" in name])
def test_columns_lie_where_the_package_reads_them(name):
    model = build(name)
    network = getattr(model.module, "network", model.module)
    stops = np.cumsum([column.width for column in model.columns])
    places = {column.name: (stop - column.width, stop) for column, stop in zip(model.columns, stops)}
    assert dict(network.feature_index) == places


def padded(module: zoo_onnx.Padded, values: dict[str, features.Ids | features.Dense], row: int, count: int) -> list:
    """What `networks.inputs` made, as the columns of the twin."""
    given: dict[str, np.ndarray] = {"scenario": np.full(count, row)}
    for column in module.columns:
        value = values.get(column.name)
        if isinstance(value, features.Dense):
            given[column.name] = value.values
        elif value is not None and value.offsets is None:
            given[column.name] = value.rows
        elif value is not None:
            lengths = np.diff(value.offsets)
            given[column.name] = np.zeros((count, column.width), np.int64)
            given[column.name][np.arange(column.width) < lengths[:, None]] = value.rows
            given[f"{column.sequence}_length"] = lengths
    return [torch.from_numpy(given[column.name]) for column in module.columns]


@pytest.mark.parametrize("name", ZOO)
def test_padded_twins_score_as_the_twins(name):
    network, variant, _ = zoo.stored()[name.removeprefix("zoo_")]
    twin, model = zoo.twin(zoo.describe(network, variant)), build(name)
    for seed in range(20):
        count = 1 + seed % 7
        request = zoo.request(seed, count, twin.features)
        expected = zoo.score(twin, request, count)
        values = networks.inputs(twin, request["request"], request["candidates"], count)
        row = features.scenario_row(twin.description, request["scenario"])
        columns = padded(model.module, values, row, count)
        scores = model.scores(dict(zip((column.name for column in model.columns), columns)))
        for task, score in scores.items():
            assert torch.allclose(score, expected[task], rtol=0, atol=1e-6), task


@pytest.mark.parametrize("name", THIRDPARTY)
def test_scores_are_not_trivial(name):
    model = build(name)
    for scores in model.scores(model.inputs(64)).values():
        assert scores.reshape(64, -1).std(dim=0).min() > 0.001
        assert ((scores > 0.01) & (scores < 0.99)).float().mean() > 0.5


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", together(THIRDPARTY + ZOO))
def test_graphs_score_as_pytorch_in_onnx_runtime(exported, name, exporter):
    if (name, exporter) in BROKEN:
        with pytest.raises(ExportError, match=name):
            exported(name, exporter)
    else:
        exported(name, exporter)


def convert(model: Model, graph: pathlib.Path, out: pathlib.Path) -> onnx.Conversion:
    """Converts with the rates, tasks and columns that the model has."""
    inputs = thirdparty_models.graph_inputs(graph)
    known = [column for column in model.columns if model.is_wide or column.name in inputs]
    named = {rate: [column.name for column in known if column.rate == rate] for rate in RATES}
    options = {"request": named["request"], "item": named["item"], "candidate": named["pair"]}
    options["tasks"] = {name: tasks[0] if len(tasks) == 1 else tasks for name, tasks in model.outputs.items()}
    options["scenario"] = next(iter(named["scenario"]), None)
    if model.is_wide:
        options["columns"] = {"x": [(column.name, column.width) for column in model.columns]}
    return onnx.convert(graph, out, **options)


def scores_of(model: Model, values: dict[str, torch.Tensor], count: int) -> dict[str, np.ndarray]:
    """PyTorch's scores by task. It gets two rows at least: some modules squeeze a single one away."""
    values = {name: torch.cat([value, value[:1]]) for name, value in values.items()}
    given = model.scores(model.packed(values))
    return {task: given[name].reshape(count + 1, -1)[:count, k].numpy()
            for name, tasks in model.outputs.items() for k, task in enumerate(tasks)}


def of_rate(model: Model, values: dict[str, torch.Tensor], *rates: str) -> dict[str, torch.Tensor]:
    return {column.name: values[column.name] for column in model.columns if column.rate in rates}


def largest_difference(model: Model, opened: polyscore.Model, count: int, requests: Sequence[int]) -> float:
    """Some rows as requests, each with `count` candidates: those of the row and the rows that follow it."""
    values, scorer, differences = model.values(512), opened.scorer(), []
    for row in requests:
        some = (row + torch.arange(count)) % 512
        once = {name: value[row] for name, value in of_rate(model, values, "request", "scenario").items()}
        candidates = {name: value[some] for name, value in of_rate(model, values, "item", "pair").items()}
        rows = candidates | {name: value.expand(count, *value.shape) for name, value in once.items()}
        expected = scores_of(model, {name: rows[name] for name in values}, count)
        scenario = next((int(number) for number in of_rate(model, values | once, "scenario").values()), None)
        request = of_rate(model, values | once, "request")
        scorer.prepare(scenario, {name: value.tolist() for name, value in request.items() if name in opened.features})
        columns = {name: value.numpy() for name, value in candidates.items() if name in opened.features}
        scores = scorer.score(columns, count=count)
        differences += [np.abs(scores[task] - expected[task]).max() for task in expected]
    return float(np.max(differences))


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", together(THIRDPARTY + ZOO))
def test_converted_graphs_score_as_pytorch(exported, tmp_path, name, exporter):
    if (name, exporter) in BROKEN:
        pytest.skip("ONNX Runtime does not take its graph")
    model, graph = exported(name, exporter)
    convert(model, graph, tmp_path / "model.safetensors")
    with polyscore.Model(tmp_path / "model.safetensors") as opened:
        for count, requests in ((1, range(16)), (7, range(16, 24)), (512, (30, 500))):
            worst = largest_difference(model, opened, count, requests)
            print(f"{name} {exporter} with {count} candidates: {worst:.1e}")
            assert worst <= TOLERANCE


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", together([name for name in THIRDPARTY if name.startswith("golden_")]))
def test_golden_sets_score_as_expected(exported, tmp_path, name, exporter):
    """Each of the 512 rows is a request, alone and before its next six."""
    load_file = pytest.importorskip("safetensors.numpy").load_file
    folder = thirdparty_models.FIXTURES / "golden" / name.removeprefix("golden_")
    expected = load_file(folder / "expected.safetensors")["scores_f64"]
    model, graph = exported(name, exporter)
    convert(model, graph, tmp_path / "model.safetensors")
    values = model.values(512)
    with polyscore.Model(tmp_path / "model.safetensors") as opened:
        scorer, differences = opened.scorer(), []
        for row in range(512):
            request = of_rate(model, values, "request")
            scorer.prepare(None, {key: value[row].tolist() for key, value in request.items()})
            for count in (1, 7):
                some = (row + torch.arange(count)) % 512
                candidates = {key: value[some].numpy() for key, value in of_rate(model, values, "item").items()}
                scores = scorer.score(candidates, count=count)
                for k, task in enumerate(model.outputs["scores"]):
                    differences.append(abs(float(scores[task][0]) - expected[row, k]))
    worst = float(np.max(differences))
    print(f"{name} {exporter}: {worst:.1e} from the golden scores")
    assert worst <= TOLERANCE
