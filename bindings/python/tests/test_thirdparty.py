"""Networks that torch-rechub and deepctr-torch trained give the scores that these packages gave.

The golden sets lie outside the repository, in shared/fixtures/golden beside it; its README says what they are. Each is
written here as a description and tensors of ours, the way a user of these packages would convert a model: tables keep
their names, weights are renamed, columns are reordered, and what is no weight of ours is folded into one, exactly.
"""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import polyscore

GOLDEN = pathlib.Path(__file__).parents[4] / "shared/fixtures/golden"
BATCHES = [1, 7, 512]
ROWS = 512

pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"the golden sets of other packages are not at {GOLDEN}")


class Source:
    """The tensors of a set in f64, and which of them a conversion has read."""

    def __init__(self, name: str):
        load_file = pytest.importorskip("safetensors.numpy").load_file
        self.tensors = load_file(GOLDEN / name / "model.safetensors")
        self.inputs = load_file(GOLDEN / name / "inputs.safetensors")
        self.expected = load_file(GOLDEN / name / "expected.safetensors")
        self.meta = json.loads((GOLDEN / name / "meta.json").read_text(encoding="utf-8"))
        self.features = {feature["name"]: feature for feature in self.meta["features"]}
        self.read: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def __getitem__(self, name: str) -> np.ndarray:
        self.read.add(name)
        return self.tensors[name].astype(np.float64)

    def table(self, feature: dict[str, Any]) -> str:
        name = f"{feature.get('table', feature['name'])}.weight"
        return next(prefix + name for prefix in ("embedding.embed_dict.", "embedding_dict.") if prefix + name in self)

    def unread(self) -> set[str]:
        return {name for name in self.tensors if not name.endswith("num_batches_tracked")} - self.read


class Target(dict):
    """Tensors of ours, made of those of a set."""

    def __init__(self, source: Source):
        super().__init__()
        self.source = source

    def linear(self, ours: str, theirs: str, bias: str | None = "", order: Sequence[int] | None = None) -> None:
        """A linear layer with the bias named, that beside the weight, or (None) zeros; `order` sorts its outputs."""
        weight = self.source[f"{theirs}.weight"]
        bias = f"{theirs}.bias" if bias == "" else bias
        shift = np.zeros(len(weight)) if bias is None else self.source[bias]
        order = list(range(len(weight))) if order is None else order
        self[f"{ours}.weight"], self[f"{ours}.bias"] = weight[order], shift[order]

    def folded(self, ours: str, theirs: str, norm: str, order: Sequence[int] | None = None) -> None:
        """A linear layer with the batch norm behind it."""
        self.linear(ours, theirs)
        scale = self.source[f"{norm}.weight"] / np.sqrt(self.source[f"{norm}.running_var"] + 1e-5)
        shift = self.source[f"{norm}.bias"] - self.source[f"{norm}.running_mean"] * scale
        order = list(range(len(scale))) if order is None else order
        self[f"{ours}.bias"] = (self[f"{ours}.bias"] * scale + shift)[order]
        self[f"{ours}.weight"] = (self[f"{ours}.weight"] * scale[:, None])[order]

    def norm(self, ours: str, theirs: str) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            self[f"{ours}.{part}"] = self.source[f"{theirs}.{part}"]

    def columns(self, ours: str, order: Sequence[str], blocks: dict[str, int] | None = None) -> None:
        """Brings the columns of a first layer, for inputs in `order`, into ours: features, then blocks."""
        blocks = blocks or {}
        ordered = [*(name for name in ours_of(self.source) if name in order), *blocks]
        assert sorted(ordered) == sorted(order)
        width = {name: feature.get("dim", 1) for name, feature in self.source.features.items()} | blocks
        start = dict(zip(order, np.cumsum([0, *(width[name] for name in order)])))
        places = [start[name] + column for name in ordered for column in range(width[name])]
        self[f"{ours}.weight"] = self[f"{ours}.weight"][:, places]

    def rechub_mlp(self, ours: str, theirs: str, layers: int, head: str | None = None) -> None:
        """Blocks of Linear, BatchNorm, activation, dropout, and a last Linear where there is a `head`."""
        for i in range(layers):
            self.linear(f"{ours}.{i}.linear", f"{theirs}.mlp.{4 * i}")
            self.norm(f"{ours}.{i}.norm", f"{theirs}.mlp.{4 * i + 1}")
        if head is not None:
            self.linear(head, f"{theirs}.mlp.{4 * layers}")

    def deepctr_mlp(self, ours: str, theirs: str, layers: int, has_norm: bool = False) -> None:
        for i in range(layers):
            self.linear(f"{ours}.{i}.linear", f"{theirs}.linears.{i}")
            if has_norm:
                self.norm(f"{ours}.{i}.norm", f"{theirs}.bn.{i}")

    def batch_norm_dice(self, ours: str, theirs: str) -> None:
        """Dice over a batch norm with an affine, eps 1e-8; ours has none, eps 1e-9."""
        gamma, beta, mean, variance = (self.source[f"{theirs}.bn.{part}"]
                                       for part in ("weight", "bias", "running_mean", "running_var"))
        assert (gamma > 0).all()
        deviation = np.sqrt(variance + 1e-8) / gamma
        self[f"{ours}.activation.norm.running_mean"] = mean - beta * deviation
        self[f"{ours}.activation.norm.running_var"] = deviation**2 - 1e-9
        self[f"{ours}.activation.alpha"] = self.source[f"{theirs}.alpha"][:, 0]


def ours_of(source: Source) -> list[str]:
    """The features that are columns of `x`, in our order: sparse before dense, as both packages have it."""
    kinds = {"sparse": 0, "dense": 1}
    names = [name for name, feature in source.features.items() if feature["kind"] != "sequence"]
    return sorted(names, key=lambda name: kinds[source.features[name]["kind"]])


def describe(source: Source, network: dict[str, Any], tasks: list[dict[str, Any]], has_sides: bool) -> dict[str, Any]:
    """`has_sides`: request and item features are what the set says; otherwise a row is a candidate."""
    features = []
    for name in [*ours_of(source), *(name for name, f in source.features.items() if f["kind"] == "sequence")]:
        feature = source.features[name]
        ours = {"name": name, "rate": feature["side"] if has_sides else "pair"}
        if feature["kind"] == "dense":
            features.append(ours | {"kind": "dense", "width": 1})
            continue
        ours |= {"table": source.table(feature), "oov": 0, "transform": {"type": "identity"}}
        is_sequence = feature["kind"] == "sequence"
        features.append(ours | ({"kind": "sequence", "length": feature["length"]} if is_sequence else {"kind": "id"}))
    return {"format_version": 1, "name": source.meta["name"], "features": features, "scenarios": [], "tasks": tasks,
            "network": network}


VISIT = [{"name": "visit"}, {"name": "conversion"}]
FUNNEL = [{"name": "visit"}, {"name": "conversion_given_visit"},
          {"name": "conversion", "composition": ["visit", "conversion_given_visit"]}]
LIKE = [{"name": "like"}]


def rechub_shared_bottom(target: Target) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    target.rechub_mlp("bottom", "bottom_mlp", 2)
    for k, task in enumerate(("visit", "conversion")):
        target.rechub_mlp(f"towers.{task}", f"towers.{k}", 1, f"heads.{task}")
    return {"type": "shared_bottom", "bottom": [64, 32], "tower": [16], "batch_norm": True}, VISIT


def rechub_mmoe(target: Target) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The norm of a gate goes into its layer."""
    for e in range(4):
        target.rechub_mlp(f"experts.{e}", f"experts.{e}", 1)
    for k, task in enumerate(("visit", "conversion")):
        target.folded(f"gates.{task}.out", f"gates.{k}.mlp.0", f"gates.{k}.mlp.1")
        target.rechub_mlp(f"towers.{task}", f"towers.{k}", 1, f"heads.{task}")
    return {"type": "mmoe", "experts": 4, "expert": [32], "tower": [16], "batch_norm": True}, VISIT


def rechub_ple(target: Target) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Their gates weigh the experts of tasks before the shared one, ours after it."""
    for level in range(2):
        ours, theirs = f"levels.{level}", f"cgc_layers.{level}"
        target.rechub_mlp(f"{ours}.experts.0", f"{theirs}.experts_shared.0", 1)
        for k, task in enumerate(("visit", "conversion")):
            for j in range(2):
                target.rechub_mlp(f"{ours}.task_experts.{task}.{j}", f"{theirs}.experts_specific.{2 * k + j}", 1)
            gate = f"{theirs}.gates_specific.{k}.mlp"
            target.folded(f"{ours}.gates.{task}.out", f"{gate}.0", f"{gate}.1", [2, 0, 1])
    gate = "cgc_layers.0.gate_shared.mlp"
    target.folded("levels.0.shared_gate.out", f"{gate}.0", f"{gate}.1", [4, 0, 1, 2, 3])
    for k, task in enumerate(("visit", "conversion")):
        target.rechub_mlp(f"towers.{task}", f"towers.{k}", 1, f"heads.{task}")
    return {"type": "ple", "levels": 2, "shared_experts": 1, "task_experts": 2, "expert": [32], "tower": [16],
            "batch_norm": True}, VISIT


def rechub_esmm(target: Target) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    for task, theirs in (("visit", "tower_ctr"), ("conversion_given_visit", "tower_cvr")):
        target.rechub_mlp(f"towers.{task}", theirs, 2, f"heads.{task}")
    return {"type": "esmm", "tower": [32, 16], "batch_norm": True}, FUNNEL


def rechub_aitm(target: Target) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    for k, task in enumerate(("visit", "conversion")):
        target.rechub_mlp(f"bottoms.{task}", f"bottoms.{k}", 2)
        target.rechub_mlp(f"towers.{task}", f"towers.{k}", 1, f"heads.{task}")
    target.rechub_mlp("info.conversion", "info_gates.0", 1)
    for ours, theirs in (("query", "q_layer"), ("key", "k_layer"), ("value", "v_layer")):
        target[f"attention.conversion.{ours}.weight"] = target.source[f"aits.0.{theirs}.weight"]
    return {"type": "aitm", "bottom": [64, 32], "tower": [16], "batch_norm": True}, VISIT


def rechub_din(target: Target) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A history is its 20 positions, padding too: they do not mask it. Their Dice norms over a row, as `layer_dice`."""
    def dice(ours: str, theirs: str, width: int) -> None:
        target[f"{ours}.activation.norm.weight"] = np.full(width, width**-0.5)
        target[f"{ours}.activation.norm.bias"] = np.zeros(width)
        target[f"{ours}.activation.alpha"] = np.repeat(target.source[f"{theirs}.alpha"], width)

    target.rechub_mlp("blocks.0.mlp", "attention_layers.0.attention", 1, "blocks.0.out")
    dice("blocks.0.mlp.0", "attention_layers.0.attention.mlp.2", 16)
    target.rechub_mlp("bottom", "mlp", 2, "heads.like")
    dice("bottom.0", "mlp.mlp.2", 64)
    dice("bottom.1", "mlp.mlp.6", 32)
    others = ["user", "genre", "decade", "hour", "domain_indicator"]
    target.columns("bottom.0.linear", ["attended", "item", *others], {"attended": 8})
    block = {"type": "din", "history": ["hist"], "target": ["item"], "hidden": [16], "activation": "layer_dice",
             "batch_norm": True, "softmax": "softmax" in target.source.meta["name"]}
    return {"type": "shared_bottom", "bottom": [64, 32], "tower": [], "activation": "layer_dice", "batch_norm": True,
            "blocks": [block]}, LIKE


def deepctr_mmoe(target: Target) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The last layer of a gate has no bias; that of a tower has the task's `out`."""
    for e in range(3):
        target.deepctr_mlp(f"experts.{e}", f"expert_dnn.{e}", 2, has_norm=True)
    for k, task in enumerate(("visit", "conversion")):
        target.deepctr_mlp(f"gates.{task}.hidden", f"gate_dnn.{k}", 1, has_norm=True)
        target.linear(f"gates.{task}.out", f"gate_dnn_final_layer.{k}", bias=None)
        target.deepctr_mlp(f"towers.{task}", f"tower_dnn.{k}", 1, has_norm=True)
        target.linear(f"heads.{task}", f"tower_dnn_final_layer.{k}", bias=f"out.{k}.bias")
    return {"type": "mmoe", "experts": 3, "expert": [64, 32], "gate": [16], "tower": [16], "batch_norm": True}, VISIT


def deepctr_ple(target: Target) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """As above, and gates in another order. Their last level computes a shared gate, which no score depends on."""
    for level in range(2):
        ours = f"levels.{level}"
        for j in range(2):
            target.deepctr_mlp(f"{ours}.experts.{j}", f"shared_experts.{level}.0.{j}", 2)
        for k, task in enumerate(("visit", "conversion")):
            for j in range(2):
                target.deepctr_mlp(f"{ours}.task_experts.{task}.{j}", f"specific_experts.{level}.{k}.{j}", 2)
            target.deepctr_mlp(f"{ours}.gates.{task}.hidden", f"specific_gate_dnn.{level}.{k}.0", 1)
            gate = f"specific_gate_dnn_final_layer.{level}.{k}"
            target.linear(f"{ours}.gates.{task}.out", gate, bias=None, order=[2, 3, 0, 1])
    target.deepctr_mlp("levels.0.shared_gate.hidden", "shared_gate_dnn.0", 1)
    target.linear("levels.0.shared_gate.out", "shared_gate_dnn_final_layer.0", bias=None, order=[4, 5, 0, 1, 2, 3])
    for k, task in enumerate(("visit", "conversion")):
        target.deepctr_mlp(f"towers.{task}", f"tower_dnn.{k}", 1)
        target.linear(f"heads.{task}", f"tower_dnn_final_layer.{k}", bias=f"out.{k}.bias")
    return {"type": "ple", "levels": 2, "shared_experts": 2, "task_experts": 2, "expert": [64, 32], "gate": [16],
            "tower": [16]}, VISIT


def deepctr_esmm(target: Target) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Both heads have the one `out.bias`."""
    for task, theirs in (("visit", "ctr"), ("conversion_given_visit", "cvr")):
        target.deepctr_mlp(f"towers.{task}", f"{theirs}_dnn", 2)
        target.linear(f"heads.{task}", f"{theirs}_dnn_final_layer", bias="out.bias")
    return {"type": "esmm", "tower": [32, 16]}, FUNNEL


def deepctr_din(target: Target) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A history is its first `seq_length` positions: they mask the others."""
    target.deepctr_mlp("blocks.0.mlp", "attention.local_att.dnn", 2)
    for i in range(2):
        target.batch_norm_dice(f"blocks.0.mlp.{i}", f"attention.local_att.dnn.activation_layers.{i}")
    target.linear("blocks.0.out", "attention.local_att.dense")
    target.deepctr_mlp("bottom", "dnn", 2)
    target.linear("heads.like", "dnn_linear", bias="out.bias")
    target.columns("bottom.0.linear", ["user", "item", "genre", "attended", "ngenre"], {"attended": 8})
    block = {"type": "din", "history": ["hist_item"], "target": ["item"], "hidden": [16, 8], "activation": "dice",
             "softmax": True}
    return {"type": "shared_bottom", "bottom": [64, 32], "tower": [], "blocks": [block]}, LIKE


SETS = {
    "deepctr_hillstrom_ESMM": deepctr_esmm,
    "deepctr_hillstrom_MMOE": deepctr_mmoe,
    "deepctr_hillstrom_PLE": deepctr_ple,
    "deepctr_mls_DIN": deepctr_din,
    "rechub_hillstrom_AITM": rechub_aitm,
    "rechub_hillstrom_ESMM": rechub_esmm,
    "rechub_hillstrom_MMOE": rechub_mmoe,
    "rechub_hillstrom_PLE": rechub_ple,
    "rechub_hillstrom_SharedBottom": rechub_shared_bottom,
    "rechub_mls_DIN": rechub_din,
    "rechub_mls_DIN_softmax": rechub_din,
}

# They have features of the request alone.
WITHOUT_ITEM_FEATURES = ("deepctr_hillstrom_MMOE", "deepctr_hillstrom_PLE")

# What a file has and no score depends on.
WITHOUT_INFLUENCE = {"deepctr_hillstrom_PLE": r"shared_gate_dnn(_final_layer)?\.1\."}


def convert(source: Source, path: pathlib.Path, has_sides: bool) -> list[str]:
    """Writes the set as a model of ours; gives its tasks in the order of the scores."""
    name = source.meta["name"]
    target = Target(source)
    network, tasks = SETS[name](target)
    for feature in source.features.values():
        if feature["kind"] != "dense":
            target[source.table(feature)] = source[source.table(feature)]
    polyscore.export(describe(source, network, tasks, has_sides), target, path)
    ignored = WITHOUT_INFLUENCE.get(name, "$^")
    assert [tensor for tensor in source.unread() if not re.match(ignored, tensor)] == []
    return source.meta["outputs"]


def columns(source: Source) -> dict[str, np.ndarray]:
    """The 512 rows by feature, in the types of ours; histories with the positions that the package reads."""
    rows = {}
    inputs = source.inputs
    for name, feature in source.features.items():
        if "x" not in inputs:
            rows[name] = inputs[name]
        elif feature["kind"] == "sequence":
            start = source.meta["inputs"]["columns"].index(f"{name}[0..{feature['length']}]")
            rows[name] = inputs["x"][:, start:start + feature["length"]]
        else:
            rows[name] = inputs["x"][:, place_of(source, name)]
        rows[name] = rows[name].astype(np.float32 if feature["kind"] == "dense" else np.int64)
    return rows


def place_of(source: Source, name: str) -> int:
    """The column of a feature that is not a sequence; a sequence before it takes as many as it is long."""
    place = 0
    for column in source.meta["inputs"]["columns"]:
        if column == name:
            return place
        parts = re.fullmatch(r"\w+\[0\.\.(\d+)\]", column)
        place += int(parts[1]) if parts else 1
    raise AssertionError(name)


def compare(
    source: Source, tasks: list[str], scores: dict[str, np.ndarray], rows: np.ndarray, worst: dict[str, float]
) -> None:
    """Keeps the largest differences, in probability from f32 and f64, and in the logit from f64."""
    for k, task in enumerate(tasks):
        score = scores[task].astype(np.float64)
        assert ((score > 0) & (score < 1)).all()
        exact = source.expected["scores_f64"][rows, k]
        differences = {
            "f32": np.abs(score - source.expected["scores_f32"][rows, k]),
            "f64": np.abs(score - exact),
            "logit": np.abs(np.log(score / (1 - score)) - np.log(exact / (1 - exact))),
        }
        for name, difference in differences.items():
            worst[name] = max(worst[name], float(difference.max()))


def check(name: str, how: str, worst: dict[str, float]) -> None:
    print(f"{name} {how}: " + ", ".join(f"{value:.2e} {key}" for key, value in worst.items()))
    assert worst["f32"] <= 1e-5
    assert worst["f64"] <= 1e-5
    assert worst["logit"] <= 1e-5


@pytest.mark.parametrize("name", [name for name in SETS if "DIN" not in name])
@pytest.mark.parametrize("batch", BATCHES)
def test_rows_as_candidates_score_as_in_their_package(tmp_path, name, batch):
    source = Source(name)
    tasks = convert(source, tmp_path / "model.safetensors", has_sides=False)
    rows, worst = columns(source), dict.fromkeys(("f32", "f64", "logit"), 0.0)
    scorer = polyscore.Model(tmp_path / "model.safetensors").scorer()
    scorer.prepare(None, {})
    for start in range(0, ROWS, batch):
        some = np.arange(start, min(start + batch, ROWS))
        scores = scorer.score({feature: column[some] for feature, column in rows.items()})
        compare(source, tasks, scores, some, worst)
    check(name, f"in batches of {batch}", worst)


@pytest.mark.parametrize("name", [name for name in SETS if name not in WITHOUT_ITEM_FEATURES])
@pytest.mark.parametrize("batch", BATCHES)
def test_requests_with_candidates_score_as_in_their_package(tmp_path, name, batch):
    """Each row is a request; its candidate stands first among those of the rows that follow it."""
    source = Source(name)
    tasks = convert(source, tmp_path / "model.safetensors", has_sides=True)
    rows, worst = columns(source), dict.fromkeys(("f32", "f64", "logit"), 0.0)
    lengths = source.inputs["x"][:, -1].astype(int) if name == "deepctr_mls_DIN" else np.full(ROWS, 20)
    is_item = {feature: source.features[feature]["side"] == "item" for feature in rows}
    scorer = polyscore.Model(tmp_path / "model.safetensors").scorer()
    for row in range(ROWS):
        request = {feature: column[row] for feature, column in rows.items() if not is_item[feature]}
        for feature in request:
            if source.features[feature]["kind"] == "sequence":
                request[feature] = request[feature][:lengths[row]]
        some = (row + np.arange(batch)) % ROWS
        scorer.prepare(None, request)
        scores = scorer.score({feature: column[some] for feature, column in rows.items() if is_item[feature]})
        compare(source, tasks, {task: scores[task][:1] for task in tasks}, np.array([row]), worst)
    check(name, f"with {batch} candidates", worst)


def test_every_golden_set_is_here():
    assert sorted(path.parent.name for path in GOLDEN.glob("*/meta.json")) == sorted(SETS)
