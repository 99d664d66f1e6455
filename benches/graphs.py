"""The graphs that peers run: ids in, probabilities out, each as good as its form allows.

`Plain` looks the user's rows up once and expands them to the candidates. Where a twin is written for training, the same sums
are written for serving: products of all pairs as one matrix product, no expert held fixed, norms folded. `Split` is what an
engineer does by hand: the user's share of every first layer once per request, one lookup per side.
"""

from __future__ import annotations

import copy
import pathlib
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from polyscore.networks.base import Batch, Network
from workload import Model, Request, Workload



# Rows of the tables in a graph that is written before it names the real ones.
SAMPLE_ROWS = 1000


class Plain(nn.Module):
    """The network of a workload over its tables; computes in the type of the twin's weights."""

    def __init__(self, workload: Workload, twin: Network, tables: dict[str, Tensor]):
        super().__init__()
        self.workload, self.twin = workload, twin
        self.names = list(tables)
        for number, name in enumerate(self.names):
            self.register_buffer(f"table{number}", tables[name])
        self.dtype = next(iter(twin.parameters())).dtype
        row, column = np.triu_indices(len(workload.fields), 1)
        self.above = torch.from_numpy(row * len(workload.fields) + column)

    def table(self, field: str) -> Tensor:
        return getattr(self, f"table{self.names.index(self.workload.table_of(field))}")

    def lookup(self, fields: list[str], ids: Tensor) -> Tensor:
        """Rows `[n, fields, width]`."""
        if self.workload.table["is_shared"]:
            return self.table(fields[0])[ids].to(self.dtype)
        return torch.stack([self.table(field)[ids[:, n]].to(self.dtype) for n, field in enumerate(fields)], dim=1)

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        inputs = dict(zip(self.workload.inputs, given, strict=True))
        split = self.workload.request_fields
        user = self.lookup(self.workload.fields[:split], inputs["request"])
        item = self.lookup(self.workload.fields[split:], inputs["candidates"])
        return self.score(user, item, inputs)

    def score(self, user: Tensor, item: Tensor, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Probabilities `[n]` of the tasks from the rows of a user `[1, ..]` (or one per candidate) and of the candidates."""
        n = item.shape[0]
        kind = self.workload.data["network"]["type"]
        if kind == "dffm":
            return (torch.sigmoid(self.dffm(user, item, inputs).squeeze(-1)),)
        x = torch.cat([user.expand(n, -1, -1), item], dim=1).reshape(n, -1)
        scenario = inputs["scenario"].expand(n) if "scenario" in inputs else torch.zeros(1, dtype=torch.int64).expand(n)
        if kind == "causalint":
            return self.causalint(x, scenario)
        scores = self.twin.probabilities(Batch(x, {}, {}, scenario))
        return tuple(scores[task] for task in self.workload.tasks)

    def causalint(self, x: Tensor, scenario: Tensor) -> tuple[Tensor, ...]:
        """As the twin, without the experts that its training holds fixed."""
        twin = self.twin
        invariant, representation = twin.invariant(x), twin.scenario(x)
        posterior = torch.softmax(twin.classifier(representation), dim=-1)
        experts = torch.stack([expert(representation) for expert in twin.experts], dim=1)
        experts = functional.leaky_relu(experts, twin.slope)
        matrix = torch.bmm(posterior[:, None, :], experts).reshape(-1, twin.side, twin.side)
        z = torch.bmm(twin.value(invariant)[:, None, :], matrix)[:, 0]
        scores = []
        for task in self.workload.tasks:
            h = z
            for block in [*twin.towers[task], twin.heads[task]]:
                h = block(h, scenario)
            scores.append(torch.sigmoid(h.squeeze(-1)))
        return tuple(scores)

    def dffm(self, user: Tensor, item: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """As the twin: the domain and the history stay a row each where a product broadcasts them."""
        twin, n, width = self.twin, item.shape[0], item.shape[2]
        domain = twin.scenario_embedding(inputs["scenario"])
        layer = domain[:, : width * (width + 1)]
        matrix, bias = layer[:, : width * width].reshape(-1, width, width), layer[:, width * width :]
        agnostic = [torch.relu(side @ matrix + bias[:, None, :]) for side in (user, item[:, :-1])]
        target = item[:, -1]
        fields = torch.cat([agnostic[0].expand(n, -1, -1), agnostic[1], item[:, -1:]], dim=1)
        pairs = (fields @ fields.transpose(1, 2)).reshape(n, -1)[:, self.above]
        raw = [user.expand(n, -1, -1).reshape(n, -1), item.reshape(n, -1), domain.expand(n, -1)]
        interaction = twin.interaction(torch.cat([pairs, *raw], dim=1))

        rows = self.table(self.workload.history["of"])[inputs["history"]].to(self.dtype)
        behaviour = twin.behaviour
        generator = torch.cat([target, domain.expand(n, -1)], dim=1)
        project = lambda layer: behaviour.project(rows, layer, generator)  # noqa: E731
        logits = project(behaviour.query) @ project(behaviour.key).transpose(2, 3) / behaviour.head**0.5
        pooled = (torch.softmax(logits, dim=3) @ project(behaviour.value)).mean(dim=2)
        joined = torch.cat([interaction, behaviour.out(pooled.reshape(n, -1))], dim=1)
        (task,) = self.workload.tasks
        return twin.heads[task](twin.towers[task](joined))


class Split(Plain):
    """MMoE with the user's share of the experts' and gates' first layers once per request, one lookup per side."""

    def __init__(self, workload: Workload, twin: Network, tables: dict[str, Tensor]):
        if workload.data["network"]["type"] != "mmoe" or workload.data["network"].get("gate"):
            raise ValueError(f"{workload.name}: only MMoE with linear gates is split by hand")
        names = [workload.table_of(field) for field in workload.fields]
        super().__init__(workload, twin, {"all": torch.cat([tables[name] for name in names])})
        offsets = np.arange(len(names)) * workload.data["rows"]
        self.register_buffer("offsets", torch.from_numpy(offsets)[None])

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        request, candidates = given
        split, width = self.workload.request_fields, self.workload.data["width"]
        user = self.table0[request + self.offsets[:, :split]].reshape(1, -1)
        item = self.table0[candidates + self.offsets[:, split:]].reshape(candidates.shape[0], -1)

        def layer(linear: nn.Linear) -> Tensor:
            of_user, of_item = linear.weight[:, : split * width].t(), linear.weight[:, split * width :].t()
            return torch.addmm(torch.addmm(linear.bias, user, of_user), item, of_item)

        experts = []
        for expert in self.twin.experts:
            first, *others = expert
            h = first.activation(layer(first.linear))
            for block in others:
                h = block(h)
            experts.append(h)
        stacked = torch.stack(experts, dim=1)
        scores = []
        for task in self.workload.tasks:
            gate = torch.softmax(layer(self.twin.gates[task].out), dim=-1)
            mixed = (gate[:, :, None] * stacked).sum(dim=1)
            scores.append(torch.sigmoid(self.twin.heads[task](self.twin.towers[task](mixed)).squeeze(-1)))
        return tuple(scores)


FORMS = {"plain": Plain, "split": Split}


def folded(twin: Network) -> Network:
    """A copy of a twin whose batch norms are part of the layers before them."""
    twin = copy.deepcopy(twin)
    with torch.no_grad():
        for module in twin.modules():
            norm, linear = getattr(module, "norm", None), getattr(module, "linear", None)
            if isinstance(norm, nn.BatchNorm1d) and isinstance(linear, nn.Linear):
                scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
                linear.weight.mul_(scale[:, None])
                linear.bias.sub_(norm.running_mean).mul_(scale).add_(norm.bias)
                module.norm = nn.Identity()
    return twin


def module(model: Model, form: str) -> Plain:
    """The graph of a model in a form, as a PyTorch module."""
    return FORMS[form](model.workload, folded(model.twin), model.tables).eval()


def export_onnx(model: Model, form: str, is_int8: bool = False) -> pathlib.Path:
    """Writes the ONNX graph beside the model file; a table of f16 stays in the model file, which the graph names."""
    import onnx

    path = model.path.with_suffix(f".{form}{'.int8' if is_int8 else ''}.onnx")
    workload, tables = model.workload, model.tables
    is_external = workload.table["type"] == "f16"
    if is_external:
        tables = {name: table[:SAMPLE_ROWS].clone() for name, table in tables.items()}
    graph = FORMS[form](workload, folded(model.twin), tables).eval()
    example = workload.request(np.random.default_rng(1), 3)
    given = tuple(torch.from_numpy(example.inputs[name] % SAMPLE_ROWS if is_external else example.inputs[name])
                  for name in workload.inputs)
    torch.onnx.export(graph, given, str(path), dynamo=False, input_names=workload.inputs, output_names=workload.tasks,
                      dynamic_axes={"candidates": {0: "n"}} | {task: {0: "n"} for task in workload.tasks}, opset_version=17)
    if is_int8:
        quantize(path)
    if is_external:
        proto = onnx.load(str(path))
        for tensor in proto.graph.initializer:
            if tensor.name.startswith("table"):
                refer(tensor, model.path, graph.names[int(tensor.name.removeprefix("table"))])
        onnx.save(proto, str(path))
    return path


def refer(tensor: Any, file: pathlib.Path, name: str) -> None:
    """Makes an initializer name the bytes of a tensor of a model file."""
    import json

    import onnx

    with file.open("rb") as opened:
        size = int.from_bytes(opened.read(8), "little")
        entry = json.loads(opened.read(size))[name]
    start, end = entry["data_offsets"]
    tensor.ClearField("raw_data")
    tensor.dims[:] = entry["shape"]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", file.name), ("offset", 8 + size + start), ("length", end - start)):
        tensor.external_data.add(key=key, value=str(value))


def quantize(path: pathlib.Path) -> None:
    """Puts the layers of a graph into int8 as ONNX Runtime does: weights per output channel, activations per call.

    Signed weights run twice as fast as unsigned ones. What is multiplied by no matrix of weights stays float.
    """
    import onnx
    import onnxruntime.quantization as quantization

    graph = onnx.load(str(path)).graph
    matrices = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 2}
    floats = [node.name for node in graph.node if node.op_type == "MatMul" and node.input[1] not in matrices]
    quantization.quantize_dynamic(str(path), str(path), op_types_to_quantize=["MatMul", "Gemm"], per_channel=True,
                                  weight_type=quantization.QuantType.QInt8, nodes_to_exclude=floats)
