"""Networks that came by ONNX beside ONNX Runtime f32 on the graph that they came from: interleaved in one process, pinned to
one core.

The networks are those of the tests: models of torch-rechub and deepctr-torch, the golden sets where they lie, and the twins
of the zoo. ONNX Runtime gets what its graph takes, the inputs of the request repeated for every candidate; polyscore gets a
request and its candidates. Prints medians in microseconds, their ratio, and the step that takes most of our time where we
are behind; writes a record.

usage: python benches/imports.py [--exporter dynamo] [--rounds 40] [--core 1] [--record FILE] [NAME...]
       python benches/imports.py --table RECORD        the table of bindings/python/polyscore/onnx/README.md
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import engines
from record import cpu

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "bindings/python/tests"))
CANDIDATES = (64, 500)


def measure(name: str, exporter: str, rounds: int, folder: pathlib.Path) -> list[dict[str, Any]]:
    """The rows of one network."""
    import numpy as np
    import torch

    import test_onnx_thirdparty as suite
    import thirdparty_models

    model = suite.build(name)
    graph, file = folder / "model.onnx", folder / "model.safetensors"
    thirdparty_models.export(model, graph, thirdparty_models.EXPORTERS[exporter])
    conversion = suite.convert(model, graph, file)
    rows = []
    for count in CANDIDATES:
        values = {key: value[:count] for key, value in model.values(512).items()}
        for column in model.columns:
            if column.rate in ("request", "scenario"):
                values[column.name] = values[column.name][:1].expand(count, *values[column.name].shape[1:]).contiguous()
        request = {key: value[0].tolist() for key, value in suite.of_rate(model, values, "request").items()}
        scenario = next((int(value[0]) for value in suite.of_rate(model, values, "scenario").values()), None)
        columns = {key: value.numpy() for key, value in suite.of_rate(model, values, "item", "pair").items()}
        ours = engines.Polyscore(file, [(scenario, request, columns)], candidates=count)
        peer = engines.OnnxRuntime(graph, [{key: value.numpy() for key, value in model.packed(values).items()}])
        given = dict(zip(model.outputs, peer.call(0)))
        expected = [given[output].reshape(count, -1)[:, k] for output, tasks in model.outputs.items()
                    for k in range(len(tasks))]
        error = float(np.nanmax(np.abs(ours.run(0) - np.stack(expected))))
        times: list[list[float]] = [[], []]
        for _ in range(rounds):
            for call, taken in zip((ours.call, peer.call), times):
                start = time.perf_counter_ns()
                call(0)
                taken.append((time.perf_counter_ns() - start) / 1e3)
        mine, theirs = map(statistics.median, times)
        row = {"network": name, "exporter": exporter, "candidates": count, "polyscore_us": round(mine, 1),
               "onnxruntime_us": round(theirs, 1), "ratio": round(theirs / mine, 2), "max_difference": error,
               "operators": len(conversion.passed), "steps": len(conversion.live), "fused": conversion.fused}
        if mine > theirs:
            row["behind"] = slowest(file, count)
        rows.append(row)
        torch.set_num_threads(1)
    return rows


def slowest(file: pathlib.Path, count: int) -> str:
    """The steps that take most of the time, by the engine's own profile of random requests."""
    command = ["target/release/polyscore", "bench", str(file), "--json", "--seconds", "0.3", "--steps", "3"]
    command += ["--candidates", str(count)]
    text = subprocess.run(command, cwd=HERE.parent, check=True, capture_output=True, text=True).stdout
    steps = json.loads(text)["steps"]
    return "; ".join(f"{step['share']:.0%} {' '.join(step['step'].split())}" for step in steps)


def table(record: dict[str, Any]) -> str:
    """A record as a table: a line for each network."""
    lines = ["| network | operators | steps | fused | difference | N=64 | N=500 |", "|---|---|---|---|---|---|---|"]
    by_name: dict[str, list[dict[str, Any]]] = {}
    for row in record["measured"]:
        by_name.setdefault(row["network"], []).append(row)
    for name, rows in by_name.items():
        fused = ", ".join(f"{count} {what}" for what, count in sorted(rows[0]["fused"].items()))
        difference = max(row["max_difference"] for row in rows)
        ratios = " | ".join(f"{row['ratio']:.2f}" for row in rows)
        lines.append(f"| `{name}` | {rows[0]['operators']} | {rows[0]['steps']} | {fused} | {difference:.1e} | {ratios} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exporter", default="dynamo", choices=("dynamo", "torchscript"))
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--record", help="where the record goes [default: benches/record/<date>-imports.json]")
    parser.add_argument("--table", metavar="RECORD", help="print a record as a table")
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(json.loads(pathlib.Path(arguments.table).read_text(encoding="utf-8"))))
        return
    os.sched_setaffinity(0, {arguments.core})

    import numpy as np
    import onnxruntime
    import torch

    import test_onnx_thirdparty as suite
    from polyscore import onnx

    torch.set_num_threads(1)
    rows, left_out = [], {}
    for name in arguments.names or suite.THIRDPARTY + suite.ZOO:
        with tempfile.TemporaryDirectory() as folder:
            try:
                measured = measure(name, arguments.exporter, arguments.rounds, pathlib.Path(folder))
            except (onnx.OnnxError, suite.ExportError) as error:
                left_out[name] = str(error).replace(f"{folder}/", "")
                print(f"{name:36} left out: {error}", flush=True)
                continue
        rows += measured
        for row in measured:
            print(f"{name:36} N={row['candidates']:<4} {row['polyscore_us']:9.1f} us  {row['onnxruntime_us']:9.1f} us  "
                  f"{row['ratio']:6.2f}  {row['max_difference']:.1e}  {row.get('behind', '')}", flush=True)
    for count in CANDIDATES:
        ratios = [row["ratio"] for row in rows if row["candidates"] == count]
        mean = math.exp(statistics.fmean(map(math.log, ratios)))
        print(f"N={count}: {len(ratios)} networks, geometric mean {mean:.2f}, least {min(ratios):.2f}")
    record = {"workload": "imports", "date": datetime.date.today().isoformat(), "cpu": cpu(), "cores": 1,
              "rounds": arguments.rounds, "measured": rows, "left_out": left_out,
              "versions": {"onnxruntime": onnxruntime.__version__, "torch": torch.__version__, "numpy": np.__version__}}
    path = pathlib.Path(arguments.record or HERE / "record" / f"{record['date']}-imports.json")
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
