"""What each mechanism is worth: polyscore f32 as it opens by default, and with one thing changed at a time.

usage: python benches/ablation.py [--workload mmoe]... [--rounds 60] [--core 1] [--note SENTENCE] [--record FOLDER]

Variants take turns request by request, as the engines of `peers.py` do (cold), and then each runs alone (warm). A figure is the
median of the default over that of the variant: above 1, the change makes it faster. Folding of norms, fused epilogues and
prefetches have no switch: for those the library is compiled again without them, in target/without-*.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import pathlib
import subprocess
import sys
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np

import engines
import peers
import record
from workload import FOLDER, Workload

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORKLOADS = ("mmoe", "taml", "causalint", "dffm")
USUAL = "as it opens"
VARIANTS: dict[str, dict[str, Any]] = {
    USUAL: {},
    "without the split": {"split": False},
    "without folding": {"without": "folding"},
    "without fusion": {"without": "fusion"},
    "without prefetches": {"without": "prefetch"},
    "without product tables": {"product_bytes": 0},
    "product tables of 1 GiB": {"product_bytes": engines.PRODUCT_BYTES},
    "item cache, f32 rows": {"item_bytes": engines.ITEM_BYTES, "item_rows": "f32-always"},
    "item cache, f16 rows": {"item_bytes": engines.ITEM_BYTES, "item_rows": "f16"},
    "16 candidates a tile": {"tile": 16},
    "AVX2": {"isa": "avx2"},
    "f16": {"precision": "f16"},
    "bf16": {"precision": "bf16"},
    "int16": {"precision": "int16"},
    "int12": {"precision": "int12"},
    "int8": {"precision": "int8"},
    "int8, item cache, f16 rows": {"precision": "int8", "item_bytes": engines.ITEM_BYTES, "item_rows": "f16"},
}


# Of --quick, which removes one thing alone: compiled in a fraction of the time, and slow.
QUICK = {"CARGO_PROFILE_RELEASE_LTO": "off", "CARGO_PROFILE_RELEASE_OPT_LEVEL": "0", "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16",
         "CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS": "true"}


def compiled_without(what: str, settings: dict[str, str]) -> ModuleType:
    """The package over a library that was compiled without that, with these settings of Cargo."""
    import polyscore

    target = ROOT / "target" / f"without-{what}"
    command = ["cargo", "build", "--locked", "--release", "--lib", "--target-dir", str(target)]
    flags = {"RUSTFLAGS": f'--cfg without="{what}"'}
    subprocess.run(command, cwd=ROOT, env=os.environ | settings | flags, check=True)
    name = f"polyscore_without_{what}"
    spec = importlib.util.spec_from_file_location(name, polyscore.__file__)
    package = sys.modules[name] = importlib.util.module_from_spec(spec)
    with mock.patch.dict(os.environ, POLYSCORE_LIBRARY=str(target / "release" / "libpolyscore.so")):
        spec.loader.exec_module(package)
        package.model.library()
    return package


def engine(path: pathlib.Path, calls: list, packages: dict[str, ModuleType], without: str | None = None,
           **options: Any) -> engines.Polyscore:
    return engines.Polyscore(path, calls, package=packages.get(without), **({"precision": "f32", "max_error": 1.0} | options))


def measure(name: str, variants: dict[str, dict[str, Any]], packages: dict[str, ModuleType],
            arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each number of candidates and variant."""
    workload = Workload(name, quick=arguments.quick)
    model = workload.model(arguments.folder)
    rows = []
    for count in workload.data["candidates"]:
        requests = workload.requests(count)
        calls = [workload.values(request) for request in requests]
        made = [engine(model.path, calls, packages, **options) for options in variants.values()]
        rounds = peers.rounds_at(count, arguments.rounds)
        cold, warm = ([float(np.median(taken)) for taken in peers.timed(made, len(requests), rounds, is_warm)]
                      for is_warm in (False, True))
        for variant, one, other in zip(variants, cold, warm):
            rows.append({"workload": name, "candidates": count, "variant": variant, "cold_us": round(one, 1),
                         "warm_us": round(other, 1), "cold": round(cold[0] / one, 3), "warm": round(warm[0] / other, 3)})
            print(f"{name} N={count:<4} {variant:28} cold {one:9.1f} us ({rows[-1]['cold']:.2f})   "
                  f"warm {other:9.1f} us ({rows[-1]['warm']:.2f})", flush=True)
    return rows


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", action="append", choices=WORKLOADS, help="[default: all]")
    parser.add_argument("--rounds", type=int, default=60, help="rounds at N=500; twice as many at 64, 8 times at 1")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--quick", action="store_true", help="small tables, few candidates, 2 rounds: a check of the code")
    record.options(parser)
    parser.add_argument("--folder", type=pathlib.Path, default=FOLDER, help="where model files are made and kept")
    arguments = parser.parse_args(given)
    if arguments.quick:
        arguments.rounds = 2
    removed = [options["without"] for options in VARIANTS.values() if "without" in options]
    if arguments.quick:
        packages = {removed[0]: compiled_without(removed[0], QUICK)}
    else:
        packages = {what: compiled_without(what, {}) for what in removed}
    variants = {name: options for name, options in VARIANTS.items() if options.get("without") in (None, *packages)}
    os.sched_setaffinity(0, {arguments.core})
    made = record.begin("ablation", arguments.note, arguments.core)
    made["measured"] = [row for name in arguments.workload or WORKLOADS for row in measure(name, variants, packages, arguments)]
    print(f"wrote {record.save(made, arguments.record)}", flush=True)


if __name__ == "__main__":
    main()
