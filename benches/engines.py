"""The engines that are measured: each a name, a precision, a form of the graph, and `run(i) -> float32 [tasks, candidates]`.

All run on the caller's thread alone. What an engine needs per request (columns, named arrays) is made before, so that a run is
one call with ids and one answer of probabilities.
"""

from __future__ import annotations

import importlib.util
import logging
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

STRICT, LOOSE = 1e-3, 2e-2
# The item cache has room for every ad of the requests, which differ: it is warm when it is measured. Types of its rows, by that
# of the layers.
ITEM_BYTES = 1 << 30
ITEM_ROWS = {"f32": "f32", "int12": "f16", "int8": "f16"}
# Product tables with much more than the default of 16 MiB.
PRODUCT_BYTES = 1 << 30


class Engine:
    """`name` is the product's, `precision` the type of its layers, `form` that of the graph ("own": polyscore's file)."""

    name: str
    precision: str
    form: str = "plain"

    def call(self, i: int) -> Any:
        """Scores request `i`; what is timed."""
        raise NotImplementedError

    def run(self, i: int) -> np.ndarray:
        """Probabilities `[tasks, candidates]` of request `i`."""
        return np.stack(self.call(i))

    def version(self) -> str:
        raise NotImplementedError

    @property
    def label(self) -> str:
        return f"{self.name} {self.precision}" + (f", {self.form}" if self.form not in ("own", "plain") else "")


class Polyscore(Engine):
    """prepare + score through the C ABI with columns that were built before.

    `calls` are scenario (name, id, None), request and candidates by feature name, of each request. The threads of a `pool` share
    its calls. `candidates` is how many there are where no column says so. `options` go to the model. With `item_bytes` the ads of
    all requests have different keys. `package` is the package over another library.
    """

    name = "polyscore"

    def __init__(self, path: pathlib.Path, calls: Sequence[tuple[Any, Mapping[str, Any], Mapping[str, Any]]],
                 precision: str | None = None, pool: Any = None, form: str = "own", package: Any = None,
                 candidates: int | None = None, **options: Any):
        import polyscore

        package = package or polyscore
        self.precision, self.form = precision or "as stored", form
        self.library, self.model = package.model.library(), package.Model(path, precision=precision, **options)
        self.scorer = self.model.scorer() if pool is None else self.model.scorer(pool)
        self.prepare, self.score = self.library.polyscore_scorer_prepare, self.library.polyscore_scorer_score
        known = set(self.model.features)
        self.calls = []
        for scenario, request, shown in calls:
            user = self.model.columns({k: v for k, v in request.items() if k in known}, is_request=True)
            count = candidates or len(next(iter(shown.values())))
            shown = {k: v for k, v in shown.items() if k in known}
            if "item_bytes" in options:
                shown[polyscore.ITEM_KEY] = np.arange(count) + len(self.calls) * count
            ads = self.model.columns(shown, is_request=False)
            out = np.empty((len(self.model.tasks), count), dtype=np.float32)
            prepared = (self.scorer.handle, self.model.scenario(scenario), user.array, len(user.array), None)
            scored = (self.scorer.handle, count, ads.array, len(ads.array), None, 0, out.ctypes.data, out.size, None)
            self.calls.append((prepared, scored, out, (user, ads)))

    def call(self, i: int) -> np.ndarray:
        prepared, scored, out, _ = self.calls[i]
        status = self.prepare(*prepared) | self.score(*scored)
        if status != 0:
            raise RuntimeError(f"{self.label}: request {i}: status {status}")
        return out

    def version(self) -> str:
        return self.library.polyscore_version().decode()


class OnnxRuntime(Engine):
    """ONNX Runtime, one thread, all graph optimisations. `inputs` by name, of each request; what the graph lacks is left."""

    name = "ONNX Runtime"

    def __init__(self, path: pathlib.Path, inputs: Sequence[Mapping[str, np.ndarray]], precision: str = "f32",
                 form: str = "plain"):
        import onnxruntime

        self.precision, self.form = precision, form
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [wanted.name for wanted in self.session.get_inputs()]
        self.inputs = [{name: given[name] for name in names} for given in inputs]

    def call(self, i: int) -> list[np.ndarray]:
        return self.session.run(None, self.inputs[i])

    def version(self) -> str:
        import onnxruntime

        return onnxruntime.__version__


class OpenVino(Engine):
    """OpenVINO on the CPU: latency hint, one stream, one thread, compiled for the number of candidates that it gets.

    Precisions "f32", "f16" and "bf16" are those of its hint. "int8" is `nncf.quantize` of the layers alone, on the requests
    of `calibration`: of five settings the one with the least error. "int8 weights" compresses weights per output channel and
    computes in bf16.
    """

    name = "OpenVINO"
    PRECISIONS = ("f32", "f16", "bf16", "int8", "int8 weights")

    def __init__(self, path: pathlib.Path, inputs: Sequence[Mapping[str, np.ndarray]], precision: str, form: str = "plain",
                 calibration: Sequence[Mapping[str, np.ndarray]] = ()):
        import openvino

        self.precision, self.form = precision, form
        core = openvino.Core()
        graph = core.read_model(str(path))
        names = [port.any_name for port in graph.inputs]
        if precision == "int8":
            import nncf

            nncf.set_log_level(logging.ERROR)
            floats = ["Gather", "Multiply", "Add", "ReduceSum", "Softmax", "Concat"]
            data = nncf.Dataset(calibration, lambda given: {name: given[name] for name in names})
            graph = nncf.quantize(graph, data, subset_size=len(calibration),
                                  ignored_scope=nncf.IgnoredScope(types=floats, validate=False))
        elif precision == "int8 weights":
            import nncf

            nncf.set_log_level(logging.ERROR)
            tables = nncf.IgnoredScope(types=["Gather"], validate=False)
            graph = nncf.compress_weights(graph, mode=nncf.CompressWeightsMode.INT8_SYM, ignored_scope=tables)
        graph.reshape({name: inputs[0][name].shape for name in names})
        hint = {"int8": "f32", "int8 weights": "bf16"}.get(precision, precision)
        hints = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False,
                 "INFERENCE_PRECISION_HINT": hint, "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
        compiled = core.compile_model(graph, "CPU", hints)
        self.infer = compiled.create_infer_request()
        self.inputs = [{name: given[name] for name in names} for given in inputs]
        self.ports = list(compiled.outputs)

    def call(self, i: int) -> list[np.ndarray]:
        given = self.infer.infer(self.inputs[i], share_inputs=True, share_outputs=True)
        return [given[port] for port in self.ports]

    def version(self) -> str:
        import openvino

        return openvino.__version__.split("-")[0]


class PyTorch(Engine):
    """PyTorch, one thread: eager, or compiled by inductor for the shapes that it gets, with its weights frozen."""

    name = "PyTorch"

    def __init__(self, module, inputs: Sequence[Sequence[np.ndarray]], compiled: bool = False, form: str = "plain"):
        import torch

        self.precision, self.form = "f32", form
        if compiled:
            import torch._inductor.config as inductor

            self.name = "PyTorch compiled"
            inductor.freezing, inductor.compile_threads = True, 1
            torch._dynamo.reset()
            module = torch.compile(module, dynamic=False)
        self.module = module
        self.inputs = [[torch.from_numpy(value) for value in given] for given in inputs]
        self.inference = torch.inference_mode

    def call(self, i: int) -> list[np.ndarray]:
        with self.inference():
            return [out.numpy() for out in self.module(*self.inputs[i])]

    def version(self) -> str:
        import torch

        return torch.__version__


def polyscores(path: pathlib.Path, calls: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """A label and a maker of polyscore in every precision that the package takes; "auto" once for each bound; with a warm item cache
    and with larger product tables in some."""
    from polyscore.model import PRECISIONS

    for precision in PRECISIONS:
        if precision == "auto":
            for bound in (STRICT, LOOSE):
                yield f"polyscore auto {bound:g}", lambda b=bound: Polyscore(path, calls, "auto", max_error=b)
        elif precision is not None:
            yield f"polyscore {precision}", lambda p=precision: Polyscore(path, calls, p, max_error=1.0)
    caches = [(p, {"form": "item cache", "item_bytes": ITEM_BYTES, "item_rows": rows}) for p, rows in ITEM_ROWS.items()]
    tables = [(p, {"form": "product tables", "product_bytes": PRODUCT_BYTES}) for p in ITEM_ROWS]
    for precision, given in caches + tables:
        yield (f"polyscore {precision}, {given['form']}",
               lambda p=precision, g=given: Polyscore(path, calls, p, max_error=1.0, **g))


def has_openvino() -> bool:
    """Whether the environment has OpenVINO: `make bench` brings it, the tests do without."""
    return importlib.util.find_spec("openvino") is not None
