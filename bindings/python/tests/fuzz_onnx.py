"""Random ONNX networks through the importer and the engine, against ONNX Runtime.

    python fuzz_onnx.py --count 1000 --seed 1 [--keep DIR]

Most graphs are valid and have to score as in ONNX Runtime; some mix rows and have to be refused; some are damaged,
which may end in an `OnnxError` and in no other exception. A graph that fails is made smaller and printed as a test for
`test_onnx_cases.py`. `--only SEED` repeats one, `--steps` takes the NumPy steps in the engine's place.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import os
import pathlib
import pickle
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import polyscore
from onnx.reference import ReferenceEvaluator
from polyscore.onnx import OnnxError, update
from polyscore.onnx.convert import Conversion, build, write
from polyscore.onnx.node import RULES
from polyscore.onnx.options import Options

import steps as truth
from fuzz_onnx_graph import ROWS, Graph, Skip
from fuzz_onnx_minimise import minimised, text
from fuzz_onnx_network import Unsupported, network
from fuzz_onnx_refusals import damaged, mixing_network
from onnx_graphs import columns_of, session

BATCHES = (1, 5, ROWS)
TOLERANCE = 1e-5
MOST_TASKS = 60

# Of a hundred graphs, how many mix rows and how many are damaged.
MIXING, DAMAGED = 8, 12

# The shares of graphs that are written with a golden request, and that are updated to other weights.
EXTRAS = {"golden": 0.05, "update": 0.3}

# Where a small change of a weight may be a large one of the result.
STEPPED = frozenset(
    (
        "ArgMax",
        "ArgMin",
        "CastLike",
        "Ceil",
        "DynamicQuantizeLinear",
        "DynamicQuantizeMatMul",
        "Equal",
        "Floor",
        "Greater",
        "GreaterOrEqual",
        "Hardmax",
        "IsInf",
        "IsNaN",
        "Less",
        "LessOrEqual",
        "Mod",
        "OneHot",
        "QLinearMatMul",
        "QuantizeLinear",
        "Round",
        "Shrink",
        "Sign",
        "ThresholdedRelu",
        "TopK",
    )
)


@dataclasses.dataclass
class Failure(Exception):
    """`kind` is what went wrong, for a `graph` that is made smaller to go wrong the same way."""

    kind: str
    detail: str
    graph: Graph | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


class Checker:
    """Converts and compares graphs, with files in a folder of its own."""

    def __init__(self, uses_steps: bool = False):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="fuzz_onnx"))
        self.uses_steps = uses_steps
        self.graphs = 0
        self.hits: collections.Counter[str] = collections.Counter()
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.unsupported: collections.Counter[str] = collections.Counter()
        self.fused: collections.Counter[str] = collections.Counter()

    def close(self) -> None:
        shutil.rmtree(self.folder)

    def run(self, seed: int) -> None:
        """Makes the graph of a seed and checks it."""
        self.graphs += 1
        rng = random.Random(-seed - 1)
        share = rng.random() * 100
        try:
            if share < MIXING:
                graph, mixer = mixing_network(seed)
                self.check_mixing(graph, mixer)
            elif share < MIXING + DAMAGED:
                graph = network(seed)
                self.check_damaged(graph, *damaged(graph, rng))
            else:
                extras = frozenset(extra for extra, chance in EXTRAS.items() if rng.random() < chance)
                graph = dataclasses.replace(network(seed), extras=extras)
                try:
                    self.check(graph)
                except Failure as failure:
                    failure.graph = graph
                    raise
                self.hits.update(line.op for line in graph.live_lines())
        except Skip:
            self.outcomes["nothing to do"] += 1
        except Failure:
            raise
        except Unsupported as error:
            self.outcomes["not run by ONNX Runtime"] += 1
            self.unsupported[f"{seed} " + str(error)[:200]] += 1
        except Exception as error:
            raise Failure("the fuzzer failed", "".join(traceback.format_exception(error)[-4:])) from error

    def save(self, model: onnx.ModelProto) -> pathlib.Path:
        path = self.folder / "graph.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    def check(self, graph: Graph) -> Conversion:
        """Every output for all batches as ONNX Runtime has it."""
        model = graph.model()
        expected = self.expected(graph, model)
        if not all(np.isfinite(array).all() for array in expected[ROWS].values()):
            raise Skip
        conversion = self.convert(graph, self.save(model), expected[1])
        self.fused.update(conversion.fused)
        golden = [golden_request(graph, conversion)] if "golden" in graph.extras else []
        for rows, scores in self.scores(graph, conversion, golden).items():
            self.compare(graph, conversion, model, graph.feeds(rows), rows, expected[rows], scores)
        if graph.scenarios and not self.uses_steps:
            self.check_mixed_scenarios(graph, conversion, model)
        if "update" in graph.extras and not self.uses_steps and can_change(graph):
            self.check_update(graph)
        self.outcomes["agree"] += 1
        return conversion

    def check_mixed_scenarios(self, graph: Graph, conversion: Conversion, model: onnx.ModelProto) -> None:
        """All rows at once, each for a scenario of its own."""
        feeds = graph.mixed_feeds()
        expected = dict(zip(graph.outputs, session(model).run(None, feeds)))
        scenarios = [feeds[given.name].ravel().tolist() for given in graph.givens if given.rate == "scenario"]
        with polyscore.Model(self.folder / "graph.safetensors") as opened, opened.scorer() as scorer:
            request, candidates = sides(conversion, feeds, ROWS)
            scorer.prepare(None, request)
            if not candidates:
                return
            scores = scorer.score_mixed(candidates, scenarios[0])
        self.compare(graph, conversion, model, feeds, ROWS, expected, scores)
        self.outcomes["mixed scenarios agree"] += 1

    def check_update(self, graph: Graph) -> None:
        """The same network with other weights takes the place of the one that is written."""
        rng = np.random.default_rng(graph.seed)
        constants = {
            name: array + (0.01 * rng.normal(size=array.shape)).astype(np.float32)
            if array.dtype == np.float32 and array.size > 1
            else array
            for name, array in graph.constants.items()
        }
        changed = dataclasses.replace(graph, constants=constants)
        model = changed.model()
        expected = self.expected(changed, model)[ROWS]
        path = self.folder / "graph.safetensors"
        try:
            conversion = update(path, self.save(model), path, golden=0)
        except OnnxError as error:
            raise Failure("not updated", str(error)) from error
        with polyscore.Model(path) as opened, opened.scorer() as scorer:
            request, candidates = sides(conversion, graph.feeds(ROWS), ROWS)
            scorer.prepare(scenario_of(graph, ROWS), request)
            scores = scorer.score(candidates, count=ROWS)
        self.compare(changed, conversion, model, graph.feeds(ROWS), ROWS, expected, scores)
        self.outcomes["updates agree"] += 1

    def expected(self, graph: Graph, model: onnx.ModelProto) -> dict[int, dict[str, np.ndarray]]:
        """By batch the outputs in ONNX Runtime."""
        try:
            runtime = session(model)
            return {rows: dict(zip(graph.outputs, runtime.run(None, graph.feeds(rows)))) for rows in BATCHES}
        except Exception as error:
            raise Unsupported(f"{graph.seed}: {error}") from error

    def convert(self, graph: Graph, path: pathlib.Path, expected: Mapping[str, np.ndarray]) -> Conversion:
        try:
            return build(path, options_of(graph, expected))
        except OnnxError as error:
            if str(error).endswith("no output depends on an input"):
                raise Skip from error
            raise Failure("refused", str(error)) from error
        except Exception as error:
            raise Failure("crash", "".join(traceback.format_exception(error)[-4:])) from error

    def scores(self, graph: Graph, conversion: Conversion, golden: Sequence[Any]) -> dict[int, dict[str, np.ndarray]]:
        """By batch the scores of each task."""
        scenarios = {rows: scenario_of(graph, rows) for rows in BATCHES}
        if self.uses_steps:
            return {rows: evaluated(graph, conversion, graph.feeds(rows), rows, np.float64) for rows in BATCHES}
        out = self.folder / "graph.safetensors"
        try:
            write(conversion, out, golden)
            with polyscore.Model(out, **ways_to_run(graph.seed)) as model, model.scorer() as scorer:
                found = {}
                for rows in BATCHES:
                    request, candidates = sides(conversion, graph.feeds(rows), rows)
                    scorer.prepare(scenarios[rows], request)
                    found[rows] = scorer.score(candidates, count=rows)
                return found
        except Exception as error:
            raise Failure(f"{type(error).__name__}", "".join(traceback.format_exception(error)[-3:])) from error

    def compare(
        self,
        graph: Graph,
        conversion: Conversion,
        model: onnx.ModelProto,
        feeds: Mapping[str, np.ndarray],
        rows: int,
        expected: Mapping[str, np.ndarray],
        scores: Mapping[str, np.ndarray],
    ) -> None:
        """Within the tolerance, or as far off as f32 makes ONNX Runtime or the steps."""
        for output, entry in zip(graph.outputs, conversion.outputs):
            ahead = 1 if entry.row is None else int(np.prod(entry.shape[: entry.row.axis])) * entry.row.before
            known = by_row(expected[output], ahead, rows)
            found = np.stack([scores[task] if task else np.full(rows, np.nan) for task in entry.tasks], axis=1)
            wanted = [place for place, task in enumerate(entry.tasks) if task]
            known, found = known[:, wanted], found[:, wanted].astype(np.float64)
            with np.errstate(invalid="ignore"):
                is_same = (known == found) | (np.isnan(known) & np.isnan(found))
                off = np.where(is_same, 0, np.abs(known - found)) / np.maximum(1, np.abs(known))
            off = np.where(np.isnan(off), np.inf, off)
            if off.max() <= TOLERANCE:
                continue
            exact = in_double(model, feeds, output)
            if exact is not None:
                exact = by_row(exact, ahead, rows)[:, wanted]
                with np.errstate(invalid="ignore"):
                    is_as_far = np.abs(found - exact).max() <= TOLERANCE + 4 * np.abs(known - exact).max() < 1e-2
                if is_as_far:
                    self.outcomes["as far off as ONNX Runtime"] += 1
                    continue
            if off.max() <= TOLERANCE + 8 * rounding(graph, conversion, feeds, rows) < 1e-3:
                self.outcomes["as far off as f32 is"] += 1
                continue
            row, place = np.unravel_index(off.argmax(), off.shape)
            raise Failure(
                "differs",
                f"output `{output}` [{row}, {wanted[place]}] of {rows} rows is {found[row, place]:.7g}, in"
                f" ONNX Runtime {known[row, place]:.7g}",
            )

    def check_mixing(self, graph: Graph, mixer: str) -> None:
        """Has to be refused, unless the rows of a batch score as each alone."""
        model = graph.model()
        try:
            runtime = session(model)
            whole = runtime.run(None, graph.feeds(ROWS))[0]
            parts = [runtime.run(None, row_of(graph, row))[0] for row in range(ROWS)]
        except Exception as error:
            raise Unsupported(f"{mixer}: {error}") from error
        alone = np.concatenate(parts, axis=whole.shape.index(ROWS))
        try:
            build(self.save(model), options_of(graph, {graph.outputs[0]: parts[0]}))
        except OnnxError:
            self.outcomes["mixes rows, refused"] += 1
            return
        except Exception as error:
            raise Failure("crash", "".join(traceback.format_exception(error)[-4:])) from error
        if np.abs(whole - alone).max() > TOLERANCE:
            raise Failure("mixes rows", f"{mixer} was converted")
        self.check(graph)
        self.outcomes["mixes nothing"] += 1

    def check_damaged(self, graph: Graph, model: onnx.ModelProto, change: str) -> None:
        """No other exception than `OnnxError`; what both ONNX Runtime and the importer take, scores the same."""
        try:
            conversion = build(
                self.save(model), options_of(graph, {name: np.zeros(size) for name, size in graph.sizes.items()})
            )
            write(conversion, self.folder / "graph.safetensors", [])
        except OnnxError:
            self.outcomes["damaged, refused"] += 1
            return
        except Exception as error:
            raise Failure("crash", f"{change}: " + "".join(traceback.format_exception(error)[-4:])) from error
        expected = in_a_child(lambda: self.expected(graph, model))
        if expected is None:
            self.outcomes["damaged, only converted"] += 1
            return
        if not all((np.abs(array) < 10).all() for arrays in expected.values() for array in arrays.values()):
            self.outcomes["damaged, with large numbers"] += 1
            return
        try:
            for rows, scores in self.scores(graph, conversion, []).items():
                self.compare(graph, conversion, model, graph.feeds(rows), rows, expected[rows], scores)
        except Failure as failure:
            raise Failure(f"damaged, {failure.kind}", f"{change}: {failure.detail}") from failure
        self.outcomes["damaged, agree"] += 1


def in_a_child(function: Callable[[], Any]) -> Any:
    """What a function gives in a process of its own, where ONNX Runtime may crash on a model; None if it fails."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with open(writer, "wb") as stream:
                pickle.dump(function(), stream)
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as stream:
        data = stream.read()
    os.waitpid(child, 0)
    try:
        return pickle.loads(data)
    except (EOFError, pickle.UnpicklingError):
        return None


def options_of(graph: Graph, expected: Mapping[str, np.ndarray]) -> Options:
    lists: dict[str, list[str]] = {"request": [], "item": [], "pair": []}
    scenario = None
    for given in graph.givens:
        if given.rate == "scenario":
            scenario = given.name
        else:
            lists[given.rate].append(given.name)
    total = sum(np.asarray(array).size for array in expected.values())
    step = max(-(-total // MOST_TASKS), 1)
    tasks = {
        name: [f"{place}-{number}" if number % step == 0 else None for number in range(np.asarray(array).size)]
        for place, (name, array) in enumerate(expected.items())
    }
    columns = {given.name: given.columns for given in graph.givens if given.columns}
    return Options(
        request=lists["request"],
        item=lists["item"],
        candidate=lists["pair"] if lists["pair"] else [],
        tasks=tasks,
        scenario=scenario,
        scenarios=graph.scenarios if scenario else None,
        columns=columns,
        lengths={f"{given.name}.length": given.shape[-1] for given in graph.givens if given.has_dynamic_length},
    )


def can_change(graph: Graph) -> bool:
    """Whether other weights, a little off, make other results that are a little off."""
    lines = graph.live_lines()
    to_float = {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE}
    is_cast = any(line.op == "Cast" and line.attributes["to"] not in to_float for line in lines)
    return not is_cast and not any(line.op in STEPPED for line in lines)


def ways_to_run(seed: int) -> dict[str, Any]:
    """Kernels, tiles and hoisting that a graph is run with."""
    rng = random.Random(seed)
    return {
        "isa": rng.choice((None, None, "scalar", "portable")),
        "split": rng.random() < 0.8,
        "tile": rng.choice((0, 0, 1, 8)),
    }


def scenario_of(graph: Graph, rows: int) -> int | None:
    for given in graph.givens:
        if given.rate == "scenario":
            return int(given.feed(rows).ravel()[0])
    return None


def row_of(graph: Graph, row: int) -> dict[str, np.ndarray]:
    """The feeds of one row of the whole batch."""
    return {given.name: given.values if given.is_single else given.feed(ROWS)[row : row + 1] for given in graph.givens}


def by_row(array: np.ndarray, ahead: int, rows: int) -> np.ndarray:
    """`[rows, numbers per row]`, float64."""
    array = np.asarray(array, dtype=np.float64)
    if array.size % rows or ahead == 0:
        return np.broadcast_to(array.reshape(1, -1), (rows, array.size))
    return array.reshape(ahead, rows, -1).transpose(1, 0, 2).reshape(rows, -1)


def sides(conversion: Conversion, feeds: Mapping[str, np.ndarray], rows: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The request's features and the candidates'."""
    columns = columns_of(conversion, feeds, rows)
    request, candidates = {}, {}
    for feature in conversion.description["features"]:
        name = feature["name"]
        column = columns[name].astype(np.int64 if feature["kind"] == "id" else np.float32)
        if column.shape[1] == 1:
            column = column[:, 0]
        if feature["rate"] == "request":
            request[name] = column[0] if column.ndim > 1 else column[0].item()
        else:
            candidates[name] = column
    return request, candidates


def golden_request(graph: Graph, conversion: Conversion) -> dict[str, Any]:
    """A request in the form of the JSON lines."""
    rows = 3
    request, candidates = sides(conversion, graph.feeds(rows), rows)
    entry: dict[str, Any] = {
        "request": {
            name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in request.items()
        },
        "candidates": {name: column.tolist() for name, column in candidates.items()},
    }
    scenarios = conversion.description["scenarios"]
    if scenarios:
        number = scenario_of(graph, rows)
        entry["scenario"] = next(s["name"] for s in scenarios if s["id"] == number)
    return entry


def in_double(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray], output: str) -> np.ndarray | None:
    """The output in double precision, by ONNX Runtime or the reference implementation; None if neither can."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for node in wide.graph.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == onnx.TensorProto.FLOAT:
                attribute.i = onnx.TensorProto.DOUBLE
            if attribute.type == onnx.AttributeProto.TENSOR:
                widen(attribute.t)
            if node.op_type == "Constant" and attribute.name.startswith("value_float"):
                numbers = np.array(onnx.helper.get_attribute_value(attribute), dtype=np.float64)
                attribute.CopyFrom(onnx.helper.make_attribute("value", onnx.numpy_helper.from_array(numbers, "value")))
    for tensor in wide.graph.initializer:
        widen(tensor)
    for value in (*wide.graph.input, *wide.graph.output):
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    doubles = {name: array.astype(np.float64) if array.dtype == np.float32 else array for name, array in feeds.items()}
    place = [value.name for value in wide.graph.output].index(output)
    for run in (lambda: session(wide).run(None, doubles), lambda: ReferenceEvaluator(wide).run(None, doubles)):
        try:
            with np.errstate(all="ignore"):
                return run()[place]
        except Exception:
            continue
    return None


def rounding(graph: Graph, conversion: Conversion, feeds: Mapping[str, np.ndarray], rows: int) -> float:
    """How far the steps are off in f32 from themselves in double precision, for the task where that is most."""
    singles, doubles = (evaluated(graph, conversion, feeds, rows, dtype) for dtype in (np.float32, np.float64))
    return max(float(np.abs(singles[task] - doubles[task]).max()) for task in doubles)


def evaluated(
    graph: Graph, conversion: Conversion, feeds: Mapping[str, np.ndarray], rows: int, dtype: Any
) -> dict[str, np.ndarray]:
    """The tasks by the steps in NumPy."""
    scenario: Any = 0
    for given in graph.givens:
        if given.rate == "scenario":
            scenario = [(graph.scenarios or [0]).index(number) for number in feeds[given.name].ravel().tolist()]
    columns = columns_of(conversion, feeds, rows)
    return truth.evaluate(conversion.description, conversion.steps.tensors, columns, rows, scenario, dtype)


def widen(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == onnx.TensorProto.FLOAT:
        array = onnx.numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))


def summary(checker: Checker, seconds: float, finds: int) -> str:
    rate = checker.graphs / seconds
    lines = [f"{checker.graphs} graphs in {seconds:.0f} s ({rate:.1f} a second), {finds} failures"]
    lines += [f"  {name}: {number}" for name, number in sorted(checker.outcomes.items())]
    operators = sorted(RULES, key=lambda name: (-checker.hits[name], name))
    lines.append("operators: " + ", ".join(f"{name} {checker.hits[name]}" for name in operators))
    lines.append("fused: " + ", ".join(f"{name} {number}" for name, number in checker.fused.most_common()))
    lines += [f"not run by ONNX Runtime: {number} {why}" for why, number in checker.unsupported.most_common(10)]
    missing = [name for name in operators if not checker.hits[name]]
    if missing:
        lines.append(f"never hit: {', '.join(missing)}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=1000, help="how many graphs")
    parser.add_argument("--seed", type=int, default=0, help="which graphs: those of the seed times 10^8 and on")
    parser.add_argument("--only", type=int, help="the one graph of this number")
    parser.add_argument("--keep", type=pathlib.Path, help="a folder for the models of failures")
    parser.add_argument("--most", type=int, default=20, help="stops after so many failures")
    parser.add_argument("--steps", action="store_true", help="compares the steps in NumPy, not the engine")
    parser.add_argument("--raw", action="store_true", help="prints failures as they are, not made smaller")
    options = parser.parse_args(arguments)
    checker, started, finds = Checker(options.steps), time.monotonic(), 0
    first = options.seed * 100_000_000 if options.only is None else options.only
    for seed in range(first, first + (options.count if options.only is None else 1)):
        try:
            checker.run(seed)
        except Failure as failure:
            finds += 1
            print(f"--- graph {seed}: {failure}", flush=True)
            if options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                shutil.copy(checker.folder / "graph.onnx", options.keep / f"{seed}.onnx")
            if failure.graph is not None and not options.raw:
                print(text(*minimised(checker.check, failure.graph, failure)), flush=True)
            if finds >= options.most:
                break
    if options.only is None:
        print(summary(checker, time.monotonic() - started, finds))
    checker.close()
    return 1 if finds else 0


if __name__ == "__main__":
    sys.exit(main())
