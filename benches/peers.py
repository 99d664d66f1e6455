"""polyscore beside ONNX Runtime on one workload, interleaved in one process, pinned to one core.

The network is the PyTorch twin of the workload, He-scaled, with its last layers scaled so that the logits of random requests
have the stated deviation. Both engines get ids and give probabilities. The ONNX graph looks the user's rows up once and
expands them to the candidates inside the graph: its best plain form. Prints medians in microseconds and their ratio, and
writes a record.

usage: python benches/peers.py [--workload mmoe] [--rounds 40] [--core 1] [--record FILE]
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import json
import os
import pathlib
import statistics
import tempfile
import time

HERE = pathlib.Path(__file__).parent
PRECISIONS = (None, "f16")
REQUESTS = 8


def describe(workload: dict) -> dict:
    features = [
        {"name": f"f{i}", "rate": "request" if i < workload["request_fields"] else "item", "kind": "id",
         "table": f"embeddings.f{i}.weight", "transform": {"type": "identity"}, "oov": 0}
        for i in range(workload["fields"])
    ]
    return {"format_version": 1, "name": workload["name"], "features": features, "scenarios": [],
            "tasks": [{"name": task} for task in workload["tasks"]], "network": workload["network"]}


def make_twin(workload: dict, description: dict):
    """The twin with weights of the spread of trained ones."""
    import torch

    from polyscore import networks

    torch.manual_seed(1)
    tables = {feature["table"]: (workload["rows"], workload["width"]) for feature in description["features"]}
    twin = networks.build(description, tables).eval()
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            if name.startswith("embeddings."):
                parameter.normal_(0.0, workload["table_std"])
            elif parameter.dim() == 2:
                parameter.normal_(0.0, (2.0 / parameter.shape[1]) ** 0.5)
            else:
                parameter.zero_()
        ids = torch.randint(workload["rows"], (2000, workload["fields"]))
        parts = [twin.get_parameter(f["table"])[ids[:, i]] for i, f in enumerate(description["features"])]
        logits = twin.logits(batch(parts))
        for task, values in logits.items():
            scale = workload["logit_std"] / float(values.std())
            twin.heads[task].weight.mul_(scale)
    return twin


def batch(parts: list):
    """The inputs of a twin that reads plain features alone."""
    import torch

    from polyscore.networks.base import Batch

    scenario = torch.zeros_like(parts[-1][:, 0], dtype=torch.int64)
    return Batch(torch.cat(parts, dim=1), {f"f{i}": part for i, part in enumerate(parts)}, {}, scenario)


def export_onnx(twin, workload: dict, path: str) -> None:
    import torch

    split = workload["request_fields"]

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.twin = twin

        def forward(self, request, candidates):
            tables = [self.twin.get_parameter(f["table"]) for f in self.twin.features]
            user = torch.cat([tables[i][request[:, i]] for i in range(split)], dim=1)
            user = user.expand(candidates.shape[0], -1)
            parts = [user] + [tables[split + i][candidates[:, i]] for i in range(candidates.shape[1])]
            logits = self.twin.logits(batch(parts))
            return tuple(torch.sigmoid(logits[task].squeeze(-1)) for task in self.twin.tasks)

    example = (torch.zeros(1, split, dtype=torch.int64), torch.zeros(3, workload["fields"] - split, dtype=torch.int64))
    torch.onnx.export(Plain(), example, path, dynamo=False, input_names=["request", "candidates"],
                      output_names=workload["tasks"], dynamic_axes={"candidates": {0: "n"}}, opset_version=17)


class Ours:
    """prepare + score through the C ABI with columns that were built before."""

    def __init__(self, path: str, precision: str | None, workload: dict, data: list):
        import numpy as np

        import polyscore
        from polyscore.model import library

        self.name = f"polyscore {precision or 'f32'}"
        self.model = polyscore.Model(path, precision=precision)
        self.scorer = self.model.scorer()
        self.library = library()
        split = workload["request_fields"]
        self.calls = []
        for request, candidates in data:
            user = self.model.columns({f"f{i}": int(request[0, i]) for i in range(split)}, is_request=True)
            ads = {f"f{split + i}": np.ascontiguousarray(candidates[:, i]) for i in range(candidates.shape[1])}
            out = np.empty((len(workload["tasks"]), len(candidates)), dtype=np.float32)
            self.calls.append((user, self.model.columns(ads, is_request=False), out))

    def run(self, i: int):
        user, ads, out = self.calls[i]
        handle = self.scorer.handle
        status = self.library.polyscore_scorer_prepare(handle, 0xFFFFFFFF, user.array, len(user.array), None)
        status |= self.library.polyscore_scorer_score(handle, ads.rows, ads.array, len(ads.array), None, 0, out.ctypes.data,
                                                      out.size, None)
        assert status == 0
        return out


class OnnxRuntime:
    """ONNX Runtime f32, one thread, all graph optimisations."""

    def __init__(self, path: str, workload: dict, data: list):
        import onnxruntime

        self.name = "ONNX Runtime f32"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.data = data

    def run(self, i: int):
        request, candidates = self.data[i]
        return self.session.run(None, {"request": request, "candidates": candidates})


def cpu() -> str:
    lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", default="mmoe")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--record", help="where the record goes [default: benches/record/<date>-<workload>.json]")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {arguments.core})

    import numpy as np
    import onnxruntime
    import torch

    import polyscore
    from polyscore.model import library

    torch.set_num_threads(1)
    workload = json.loads((HERE / "workloads" / f"{arguments.workload}.json").read_text(encoding="utf-8"))
    description = describe(workload)
    twin = make_twin(workload, description)
    generator = np.random.default_rng(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        file, graph = os.path.join(folder, "model.safetensors"), os.path.join(folder, "model.onnx")
        polyscore.export(description, twin.state_dict(), file)
        export_onnx(twin, workload, graph)
        split = workload["request_fields"]
        for count in workload["candidates"]:
            data = [(generator.integers(workload["rows"], size=(1, split)),
                     generator.integers(workload["rows"], size=(count, workload["fields"] - split)))
                    for _ in range(REQUESTS)]
            peer = OnnxRuntime(graph, workload, data)
            engines = [Ours(file, precision, workload, data) for precision in PRECISIONS] + [peer]
            expected = np.stack([np.stack(peer.run(i)) for i in range(REQUESTS)])
            errors = [float(np.abs(np.stack([np.stack(e.run(i)) for i in range(REQUESTS)]) - expected).max()) for e in engines]
            times: list[list[float]] = [[] for _ in engines]
            for turn in range(arguments.rounds * (8 if count == 1 else 1)):
                for engine, taken in zip(engines, times):
                    start = time.perf_counter_ns()
                    engine.run(turn % REQUESTS)
                    taken.append((time.perf_counter_ns() - start) / 1e3)
            medians = [statistics.median(taken) for taken in times]
            for engine, median, error in zip(engines, medians, errors):
                ratio = medians[-1] / median
                rows.append({"candidates": count, "engine": engine.name, "median_us": round(median, 1),
                             "peer_over_it": round(ratio, 2), "max_difference_from_peer": error})
                print(f"N={count:<4} {engine.name:18} {median:10.1f} us   ONNX Runtime / it = {ratio:5.2f}   "
                      f"max |difference| {error:.1e}", flush=True)

    library().polyscore_version.restype = ctypes.c_char_p
    record = {"workload": workload, "date": datetime.date.today().isoformat(), "cpu": cpu(), "cores": 1,
              "rounds": arguments.rounds, "isa": engines[0].model.info()["isa"],
              "versions": {"polyscore": library().polyscore_version().decode(), "onnxruntime": onnxruntime.__version__,
                           "torch": torch.__version__, "numpy": np.__version__}, "measured": rows}
    path = pathlib.Path(arguments.record or HERE / "record" / f"{record['date']}-{workload['name']}.json")
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
