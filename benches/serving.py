"""How polyscore serves: latency under an open load, memory of processes that share a model, opening, threads.

usage: python benches/serving.py latency|memory|opening|threads [--workload NAME] [--core 1] [--note SENTENCE]

latency   Requests arrive by a Poisson process at half of what the engine can take, whether or not the ones before are done:
          latency counts from the intended arrival, so a request that waited is not left out. `service` is the call alone.
memory    Processes that map one model and score: resident bytes (Rss) count a shared page in each process, Pss in parts.
opening   From a new process: opening a model, its first and second request, with its file in the page cache and not.
threads   Requests per second of threads with a scorer each, and of one scorer over a pool, over one thread's.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import mmap
import os
import pathlib
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import engines
import record
from workload import FOLDER, Model, Workload

DEFAULTS = {"latency": "mmoe", "memory": "wide", "opening": "wide", "threads": "mmoe"}
UTILISATION = 0.5
# Of polyscore's: exact, strict, and strict with a warm item cache.
SERVED = ("polyscore f32", "polyscore int12", "polyscore int12, item cache")
PROCESSES = (1, 8)
SCORED = 64


def latency(model: Model, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each engine: percentiles of latency and of service time in microseconds."""
    import graphs

    workload, rows = model.workload, []
    requests = workload.requests(arguments.candidates)
    ours = engines.polyscores(model.path, [workload.values(request) for request in requests])
    makers = [(label, make) for label, make in ours if label in SERVED]
    graph, inputs = graphs.export_onnx(model, "plain"), [request.inputs for request in requests]
    makers.append(("ONNX Runtime f32", lambda: engines.OnnxRuntime(graph, inputs)))
    if engines.has_openvino():
        makers.append(("OpenVINO f32", lambda: engines.OpenVino(graph, inputs, "f32")))
    for label, make in makers:
        engine = make()
        warm = [served(engine, i % len(requests)) for i in range(2 * len(requests))]
        service_ns = statistics.median(warm[len(requests) :])
        gaps = random.Random(1)
        waited, taken = [], []
        gc.collect()
        gc.disable()
        due = time.perf_counter_ns() + 1_000_000
        for i in range(arguments.requests):
            while time.perf_counter_ns() < due:
                pass
            start = time.perf_counter_ns()
            engine.call(i % len(requests))
            end = time.perf_counter_ns()
            waited.append((end - due) / 1e3)
            taken.append((end - start) / 1e3)
            due += int(gaps.expovariate(UTILISATION / service_ns))
        gc.enable()
        row = {"engine": label, "candidates": arguments.candidates, "requests": arguments.requests}
        for name, times in (("", waited), ("service ", taken)):
            found = np.percentile(times, [50, 99, 99.9])
            row |= {f"{name}{mark}_us": round(value, 1) for mark, value in zip(("p50", "p99", "p99.9"), found)}
        rows.append(row)
    return rows


def served(engine: engines.Engine, i: int) -> int:
    start = time.perf_counter_ns()
    engine.call(i)
    return time.perf_counter_ns() - start


def rollup() -> dict[str, int]:
    """Resident and proportional bytes of this process, and those that it alone has."""
    lines = pathlib.Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()[1:]
    sizes = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines}
    return {"rss": sizes["Rss"], "pss": sizes["Pss"], "private": sizes["Private_Clean"] + sizes["Private_Dirty"]}


def opened(workload: Workload, path: pathlib.Path, mode: str) -> dict[str, Any]:
    """Opens a model and scores two requests, timed from a process that has loaded the library; what the model says of itself."""
    import polyscore
    from polyscore.model import library

    library()
    requests = [workload.values(request) for request in workload.requests(SCORED, limit=2)]
    marks = [time.perf_counter_ns()]
    model = polyscore.Model(path, mode=mode)
    scorer = model.scorer()
    marks.append(time.perf_counter_ns())
    for scenario, user, ads in requests:
        scorer.prepare(scenario, user)
        scorer.score(ads)
        marks.append(time.perf_counter_ns())
    times = [(after - before) / 1e6 for before, after in zip(marks, marks[1:])]
    return {"times": times, "info": model.info(), "kept": (model, scorer)}


def child(arguments: argparse.Namespace) -> None:
    """A process of `memory` or `opening`: says what it measured; in `memory` all of them are open when each counts."""
    workload = Workload(arguments.workload, arguments.quick, arguments.small)
    before = rollup()
    found = opened(workload, arguments.child, arguments.mode)
    _, scorer = found.pop("kept")
    if arguments.what == "memory":
        for request in workload.requests(SCORED, limit=SCORED):
            scenario, user, ads = workload.values(request)
            scorer.prepare(scenario, user)
            scorer.score(ads)
        print(flush=True)
        sys.stdin.readline()
        found |= {"before": before, "after": rollup()}
    print(json.dumps(found), flush=True)
    sys.stdin.readline()


def start(arguments: argparse.Namespace, path: pathlib.Path) -> subprocess.Popen:
    command = [sys.executable, __file__, arguments.what, "--workload", arguments.workload, "--mode", arguments.mode]
    command += ["--child", str(path)] + ["--small"] * arguments.small + ["--quick"] * arguments.quick
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def answer(process: subprocess.Popen) -> str:
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"a process ended with {process.wait()}")
    return line


def go(process: subprocess.Popen) -> None:
    process.stdin.write("\n")
    process.stdin.flush()


def memory(model: Model, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each number of processes: MiB that a process, and all of them, have because of the model."""
    rows = []
    for count in PROCESSES:
        processes = [start(arguments, model.path) for _ in range(count)]
        for process in processes:
            answer(process)
        found = []
        for process in processes:
            go(process)
            found.append(json.loads(answer(process)))
        for process in processes:
            go(process)
            process.wait()
        grown = {key: [each["after"][key] - each["before"][key] for each in found] for key in ("rss", "pss", "private")}
        info = found[0]["info"]
        mib = lambda value: round(value / 2**20, 1)  # noqa: E731
        rows.append({"processes": count, "mapped_mib": mib(info["mapped_bytes"]), "copied_mib": mib(info["copied_bytes"]),
                     "packed_mib": mib(info["packed_bytes"]), "rss_each_mib": mib(statistics.fmean(grown["rss"])),
                     "private_each_mib": mib(statistics.fmean(grown["private"])), "pss_all_mib": mib(sum(grown["pss"]))})
    return rows


def cached_share(path: pathlib.Path) -> float:
    """The share of a file that is in the page cache, by mincore."""
    library = ctypes.CDLL(None, use_errno=True)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ | mmap.PROT_WRITE, flags=mmap.MAP_PRIVATE) as view:
        pages = -(-len(view) // mmap.PAGESIZE)
        present = (ctypes.c_ubyte * pages)()
        begin = (ctypes.c_char * len(view)).from_buffer(view)
        if library.mincore(ctypes.c_void_p(ctypes.addressof(begin)), ctypes.c_size_t(len(view)), present) != 0:
            raise OSError(ctypes.get_errno(), f"mincore: {path}")
        del begin
        return float(np.count_nonzero(np.frombuffer(present, dtype=np.uint8) & 1)) / pages


def drop(path: pathlib.Path) -> None:
    """Asks the kernel to forget the pages of a file; those that a process maps stay."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def fill(path: pathlib.Path) -> None:
    """Reads a file once, so that it is in the page cache."""
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass


def opening(model: Model, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each state of the page cache: medians in milliseconds over new processes."""
    # What this process maps of the file would stay in the page cache.
    path, workload = model.path, model.workload
    del model
    gc.collect()
    rows = []
    for state, before in (("warm", fill), ("dropped", drop)):
        found, shares = [], []
        for _ in range(arguments.repeats):
            before(path)
            shares.append(cached_share(path))
            process = start(arguments, path)
            found.append(json.loads(answer(process)))
            go(process)
            process.wait()
        times = [statistics.median(each["times"][k] for each in found) for k in range(3)]
        rows.append({"page_cache": state, "cached_before": round(statistics.fmean(shares), 3),
                     "file_gib": round(path.stat().st_size / 2**30, 2), "open_ms": round(times[0], 2),
                     "first_request_ms": round(times[1], 2), "second_request_ms": round(times[2], 2),
                     "candidates": SCORED, "copied_bytes": found[0]["info"]["copied_bytes"], "rows": workload.data["rows"]})
    return rows


def rate(calls: list[Callable[[int], Any]], requests: int, seconds: float) -> float:
    """Requests per second of threads that each repeat a call."""
    counts = [0] * len(calls)
    gate = threading.Barrier(len(calls) + 1)
    until = 0.0

    def repeat(k: int) -> None:
        gate.wait()
        while time.perf_counter() < until:
            calls[k](counts[k] % requests)
            counts[k] += 1

    threads = [threading.Thread(target=repeat, args=(k,)) for k in range(len(calls))]
    for thread in threads:
        thread.start()
    begin = time.perf_counter()
    until = begin + seconds
    gate.wait()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - begin)


def threads(model: Model, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each way to use threads: requests per second, and over one thread's.

    The ways take turns, so that a slow moment of the machine meets all of them; the median of their rates counts.
    """
    import polyscore

    requests = model.workload.requests(arguments.candidates)
    calls = [model.workload.values(request) for request in requests]
    most = len(os.sched_getaffinity(0))
    ways: dict[tuple[str, int], list[Callable[[int], Any]]] = {("a scorer each", 1): [engines.Polyscore(model.path, calls).call]}
    for count in range(2, most + 1):
        ways["a scorer each", count] = [engines.Polyscore(model.path, calls).call for _ in range(count)]
        pool = polyscore.Pool(threads=count)
        ways["one scorer over a pool", count] = [engines.Polyscore(model.path, calls, pool=pool).call]
    rates: dict[tuple[str, int], list[float]] = {way: [] for way in ways}
    for _ in range(arguments.repeats):
        for way, runs in ways.items():
            rates[way].append(rate(runs, len(requests), arguments.seconds))
    one = statistics.median(rates["a scorer each", 1])
    return [{"way": way, "threads": count, "candidates": arguments.candidates,
             "requests_per_second": round(statistics.median(found), 1), "over_one_thread": round(statistics.median(found) / one, 3)}
            for (way, count), found in rates.items()]


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=DEFAULTS)
    parser.add_argument("--workload", help=f"[default: {', '.join(f'{name} for {what}' for what, name in DEFAULTS.items())}]")
    parser.add_argument("--quick", action="store_true", help="small tables: a check of the code")
    parser.add_argument("--small", action="store_true", help="the small table of `wide`")
    parser.add_argument("--candidates", type=int, help="[default: 64; 500 for threads]")
    parser.add_argument("--requests", type=int, default=10000, help="requests of an engine in latency")
    parser.add_argument("--repeats", type=int, default=5, help="processes or turns of opening and threads")
    parser.add_argument("--seconds", type=float, default=2.0, help="a turn of threads")
    parser.add_argument("--mode", default="map", help="how memory and opening hold the file")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="threads has all cores")
    record.options(parser)
    parser.add_argument("--folder", type=pathlib.Path, default=FOLDER)
    parser.add_argument("--child", type=pathlib.Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(given)
    arguments.workload = arguments.workload or DEFAULTS[arguments.what]
    arguments.candidates = arguments.candidates or (500 if arguments.what == "threads" else 64)
    if arguments.child:
        child(arguments)
        return
    if arguments.what != "threads":
        os.sched_setaffinity(0, {arguments.core})

    import torch

    torch.set_num_threads(1)
    made = record.begin(arguments.what, arguments.note, None if arguments.what == "threads" else arguments.core)
    workload = Workload(arguments.workload, arguments.quick, arguments.small)
    what = {"latency": latency, "memory": memory, "opening": opening, "threads": threads}[arguments.what]
    made |= {"workload": workload.data, "measured": what(workload.model(arguments.folder.resolve()), arguments)}
    for row in made["measured"]:
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    print(f"wrote {record.save(made, arguments.record)}")


if __name__ == "__main__":
    main()
