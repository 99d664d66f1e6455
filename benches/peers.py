"""polyscore beside ONNX Runtime, OpenVINO and PyTorch on the workloads: one process, one core, every engine in turn.

Engines take turns request by request, in a new random order each round, so that no engine finds its weights in the caches
because it ran just before: as in an ad server. With `--warm` each engine runs its rounds alone. All get ids and give
probabilities. The error of an engine is its largest difference in probability from the PyTorch twin in float64. The goal
table compares the fastest peer that keeps a bound with our fastest precision that keeps it, whatever their types; an engine
keeps a bound that it keeps at every number of candidates.

usage: python benches/peers.py [--workload mmoe]... [--rounds 100] [--core 1] [--warm] [--note SENTENCE] [--record FOLDER]
       python benches/peers.py --quick --only polyscore --only 'ONNX Runtime'      a check of the code, in seconds
"""

from __future__ import annotations

import argparse
import gc
import os
import pathlib
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import engines
import record
import tables
from engines import Engine
from workload import FOLDER, Model, Request, Workload

WORKLOADS = ("mmoe", "taml", "causalint", "dffm", "wide")
# Errors are taken over at least this many candidates.
CHECKED = 4096
CALIBRATION = 64
Maker = tuple[str, Callable[[], Engine]]


def makers(model: Model, requests: list[Request], is_quick: bool) -> Iterator[Maker]:
    """Every engine of a workload: a label and what makes it."""
    import graphs

    workload = model.workload
    inputs = [request.inputs for request in requests]
    positional = [[request.inputs[name] for name in workload.inputs] for request in requests]
    yield from engines.polyscores(model.path, [workload.values(request) for request in requests])
    for form in workload.data["forms"]:
        yield from onnx_makers(model, form, inputs)
        module = graphs.module(model, form)
        label = "" if form == "plain" else f", {form}"
        yield f"PyTorch f32{label}", lambda m=module, f=form: engines.PyTorch(m, positional, form=f)
        if not is_quick:
            yield f"PyTorch compiled f32{label}", lambda m=module, f=form: engines.PyTorch(m, positional, True, f)


def onnx_makers(model: Model, form: str, inputs: list[dict[str, np.ndarray]]) -> Iterator[Maker]:
    """The engines that read ONNX, on one form of the graph."""
    import graphs

    label = "" if form == "plain" else f", {form}"
    graph = graphs.export_onnx(model, form)
    yield f"ONNX Runtime f32{label}", lambda: engines.OnnxRuntime(graph, inputs, form=form)
    yield (f"ONNX Runtime int8{label}",
           lambda: engines.OnnxRuntime(graphs.export_onnx(model, form, is_int8=True), inputs, "int8", form))
    precisions = model.workload.data.get("openvino", engines.OpenVino.PRECISIONS) if engines.has_openvino() else []
    calibration = [request.inputs for request in model.workload.requests(16, seed=7, limit=CALIBRATION)]
    for precision in precisions:
        yield (f"OpenVINO {precision}{label}",
               lambda p=precision: engines.OpenVino(graph, inputs, p, form, calibration))


def measure(model: Model, count: int, rounds: int, arguments: argparse.Namespace, versions: dict[str, str]) -> tuple[list, dict]:
    """The rows of one number of candidates, and the engines left out with the reason."""
    requests = model.workload.requests(count)
    checked = requests[: -(-CHECKED // count)]
    expected = model.reference(checked)
    made: list[Engine] = []
    rows, left_out = [], {}
    for label, make in makers(model, requests, arguments.quick):
        if arguments.only and not any(label.startswith(name) for name in arguments.only):
            continue
        try:
            engine = make()
            given = np.concatenate([engine.run(i).copy() for i in range(len(checked))], axis=1)
        except Exception as error:  # noqa: BLE001 - a peer may raise anything; the record says what
            left_out[label] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:300]}"
            print(f"N={count:<4} {label:28} left out: {left_out[label]}", flush=True)
            continue
        versions[engine.name.removesuffix(" compiled")] = engine.version()
        made.append(engine)
        rows.append({"candidates": count, "engine": engine.name, "precision": engine.precision, "form": engine.form,
                     "label": label, "error": float(np.abs(given - expected).max())})
    times = timed(made, len(requests), rounds, arguments.warm)
    for row, taken in zip(rows, times):
        low, median, high, last = np.percentile(taken, [10, 50, 90, 99])
        row |= {"rounds": len(taken), "median_us": round(median, 1), "p10_us": round(low, 1), "p90_us": round(high, 1),
                "p99_us": round(last, 1)}
        print(f"N={count:<4} {row['label']:28} {median:10.1f} us   p99 {last:10.1f}   error {row['error']:.1e}", flush=True)
    return rows, left_out


def rounds_at(count: int, rounds: int) -> int:
    """The rounds for `count` candidates, where 500 get `rounds`: a short request is cheap to repeat and noisier."""
    return rounds * (8 if count == 1 else 2 if count < 100 else 1)


def timed(made: list[Engine], requests: int, rounds: int, is_warm: bool) -> list[list[float]]:
    """Microseconds of each round of each engine.

    At one moment the engines are at requests far apart, so that none finds table rows in the caches that another one read.
    """
    times: list[list[float]] = [[] for _ in made]
    stride = max(requests // max(len(made), 1), 1)
    generator = random.Random(1)

    def once(k: int, turn: int) -> None:
        engine, i = made[k], (turn + k * stride) % requests
        start = time.perf_counter_ns()
        engine.call(i)
        times[k].append((time.perf_counter_ns() - start) / 1e3)

    for k in range(len(made)):
        for i in range(requests if rounds > 2 else 1):
            made[k].call(i)
    gc.collect()
    gc.disable()
    order = list(range(len(made)))
    if is_warm:
        for k in order:
            for turn in range(rounds):
                once(k, turn)
    else:
        for turn in range(rounds):
            generator.shuffle(order)
            for k in order:
                once(k, turn)
    gc.enable()
    return times


def run(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """The record of one workload."""
    workload = Workload(name, quick=arguments.quick, small=arguments.small)
    about = workload.name + ("-warm" if arguments.warm else "") + ("-small" if arguments.small else "")
    made = record.begin(about, arguments.note, arguments.core)
    model = workload.model(arguments.folder)
    made |= {"workload": workload.data, "order": "each engine alone" if arguments.warm else "interleaved", "measured": [],
             "left_out": {}}
    print(f"== {about}: {workload.data['about']}", flush=True)
    for count in workload.data["candidates"]:
        rows, left_out = measure(model, count, rounds_at(count, arguments.rounds), arguments, made["versions"])
        made["measured"] += rows
        made["left_out"] |= {f"{label}, N={count}": why for label, why in left_out.items()}
    ours = next((row for row in made["measured"] if row["engine"] == "polyscore"), None)
    if ours is not None:
        import polyscore

        made["isa"] = polyscore.Model(model.path).info()["isa"]
    return made


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", action="append", choices=WORKLOADS, help="[default: all]")
    parser.add_argument("--rounds", type=int, default=100, help="rounds at N=500; twice as many at 64, 8 times at 1")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--warm", action="store_true", help="each engine alone for its rounds")
    parser.add_argument("--quick", action="store_true", help="small tables, few candidates, 2 rounds: a check of the code")
    parser.add_argument("--small", action="store_true", help="the small table of `wide`")
    parser.add_argument("--only", action="append", metavar="LABEL", help="engines whose label begins so")
    record.options(parser)
    parser.add_argument("--folder", type=pathlib.Path, default=FOLDER, help="where model files are made and kept")
    arguments = parser.parse_args(given)
    if arguments.quick:
        arguments.rounds = 2
    os.sched_setaffinity(0, {arguments.core})

    import torch

    torch.set_num_threads(1)
    records = []
    for name in arguments.workload or WORKLOADS:
        made = run(name, arguments)
        print(f"wrote {record.save(made, arguments.record)}", flush=True)
        records.append(made)
    print(tables.goals(records))


if __name__ == "__main__":
    main()
