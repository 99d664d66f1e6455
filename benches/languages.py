"""What a call costs from C, C++, Java and Python beside Rust: the same model, the same requests of 64 candidates.

Each program of `languages/` maps its columns over ids that it read, prepares, scores, and times every such call; Java does so
by JMH. They run in turn on one core, several times. Needs what `make build java` makes.

usage: python benches/languages.py [--workload mmoe] [--seconds 2] [--repeats 5] [--core 1] [--target target] [--only c]...
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
from typing import Any

import numpy as np

import record
from workload import FOLDER, Workload

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = ROOT / "benches/languages"
CANDIDATES = 64
LANGUAGES = ("rust", "c", "cpp", "java", "python")


def build(language: str, target: pathlib.Path, out: pathlib.Path) -> list[str]:
    """Builds the program of a language; the command that runs it, without its arguments."""
    out.mkdir(parents=True, exist_ok=True)
    release = target / "release"
    links = ["-O2", "-I", str(ROOT / "include"), "-L", str(release), f"-Wl,-rpath,{release}", "-lpolyscore"]
    name = release / "libpolyscore.so.0"
    if not name.exists():
        name.symlink_to("libpolyscore.so")
    if language == "rust":
        # The features of `make build`: with others, Cargo compiles the library again.
        command = ["cargo", "build", "-q", "--release", "--locked", "--features", "cli", "--example", "calls"]
        subprocess.run([*command, "--target-dir", str(target)], check=True, cwd=ROOT)
        return [str(release / "examples/calls")]
    if language in ("c", "cpp"):
        compiler = ["gcc", "-std=c11"] if language == "c" else ["g++", "-std=c++17"]
        program = out / f"calls-{language}"
        subprocess.run([*compiler, str(SOURCES / f"calls.{language}"), "-o", str(program), *links], check=True)
        return [str(program)]
    if language == "python":
        return [sys.executable, str(SOURCES / "calls.py")]
    paths = out / "jars.txt"
    subprocess.run(["mvn", "-q", "-B", "-ntp", "-f", str(SOURCES / "pom.xml"), "dependency:build-classpath",
                    f"-Dmdep.outputFile={paths}"], check=True)
    classes = f"{ROOT / 'bindings/java/target/classes'}:{paths.read_text(encoding='utf-8').strip()}"
    subprocess.run(["javac", "-d", str(out / "java"), "-cp", classes, str(SOURCES / "Calls.java")], check=True)
    return ["java", "-cp", f"{out / 'java'}:{classes}"]


def run(language: str, command: list[str], model: pathlib.Path, ids: pathlib.Path, workload: Workload, seconds: float) -> float:
    """Runs a program; the median of its calls in nanoseconds."""
    fields = (workload.request_fields, workload.item_fields)
    if language == "java":
        result = ids.with_suffix(".json")
        names = ("calls.model", "calls.ids", "calls.user", "calls.items", "calls.candidates")
        properties = [f"-D{name}={value}" for name, value in zip(names, (model, ids, *fields, CANDIDATES))]
        span = f"{1000 * seconds:.0f}ms"
        options = ["-f", "1", "-wi", "2", "-w", span, "-i", "1", "-r", span, "-rf", "json", "-rff", str(result)]
        jvm = " ".join(properties)
        subprocess.run([*command, "org.openjdk.jmh.Main", *options, "-jvmArgs", jvm], check=True, stdout=subprocess.DEVNULL)
        (measured,) = json.loads(result.read_text(encoding="utf-8"))
        return measured["primaryMetric"]["scorePercentiles"]["50.0"]
    arguments = [str(model), str(ids), *map(str, (*fields, CANDIDATES)), str(seconds)]
    printed = subprocess.run([*command, *arguments], check=True, capture_output=True, text=True).stdout.split()
    # The first number is a score; the first calls find cold caches.
    return statistics.median(map(int, printed[1 + len(printed) // 10 :]))


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", default="mmoe")
    parser.add_argument("--quick", action="store_true", help="small tables")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--target", type=pathlib.Path, default=ROOT / "target")
    parser.add_argument("--only", action="append", choices=LANGUAGES, help="[default: all]")
    record.options(parser)
    parser.add_argument("--folder", type=pathlib.Path, default=FOLDER)
    arguments = parser.parse_args(given)
    languages = [name for name in LANGUAGES if name in (arguments.only or LANGUAGES)]
    out = arguments.folder.resolve() / "languages"
    commands = {name: build(name, arguments.target.resolve(), out) for name in languages}
    os.sched_setaffinity(0, {arguments.core})

    workload = Workload(arguments.workload, quick=arguments.quick)
    if "history" in workload.inputs or "scenario" in workload.inputs:
        raise SystemExit(f"--workload: {workload.name} has more than one id per field, which the programs do not read")
    model = workload.model(arguments.folder.resolve())
    requests = workload.requests(CANDIDATES)
    ids = out / "requests.i64"
    np.concatenate([np.concatenate([request.inputs["request"].reshape(-1), request.inputs["candidates"].T.reshape(-1)])
                    for request in requests]).tofile(ids)
    made = record.begin("languages", arguments.note, arguments.core)
    medians: dict[str, list[float]] = {name: [] for name in languages}
    for _ in range(arguments.repeats):
        for name in languages:
            medians[name].append(run(name, commands[name], model.path, ids, workload, arguments.seconds))
    rust = statistics.median(medians["rust"]) if "rust" in medians else None
    rows: list[dict[str, Any]] = []
    for name, taken in medians.items():
        median = statistics.median(taken)
        over = None if rust is None else round(100 * (median / rust - 1.0), 2)
        rows.append({"language": name, "median_us": round(median / 1e3, 2), "least_us": round(min(taken) / 1e3, 2),
                     "over_rust_percent": over})
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    made |= {"workload": workload.data, "candidates": CANDIDATES, "repeats": arguments.repeats, "measured": rows}
    print(f"wrote {record.save(made, arguments.record)}")


if __name__ == "__main__":
    main()
