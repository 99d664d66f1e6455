"""The error of every precision on every network: largest difference in probability, change of AUC and of calibration.

usage: python benches/errors.py [MODEL...] [--note SENTENCE] [--record FOLDER]      default: the zoo, and the trained model

Each precision is compared with the scores of the file as it is stored, by `polyscore diff` on the same random requests; of the
tasks, the worst. The AUC is taken against the stored scores themselves, each candidate counting as positive by its score;
calibration is the mean score over the stored one, less 1. The zoo's weights are away from their initialisation, not trained;
`hillstrom` is trained. A precision that a file's golden requests refuse is
named as refused.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
from typing import Any

import record

HERE = pathlib.Path(__file__).parent
ENGINE = HERE.parent / "target/release/polyscore"
MODELS = HERE.parent / "tests/models"
PRECISIONS = ("f16", "bf16", "int16", "int12", "int8")
REQUESTS = 64


def compare(model: pathlib.Path, precision: str, requests: int) -> dict[str, Any]:
    """The worst of the tasks, by each measure."""
    command = [str(ENGINE), "diff", str(model), "--precision-b", precision, "--random", str(requests), "--steps", "0", "--trace", "1",
               "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return {"refused": done.stderr.strip().splitlines()[0].removeprefix("error: ")}
    tasks = json.loads(done.stdout)["tasks"].values()
    changes = [abs(task["against_a"]["auc_change"]) for task in tasks if task["against_a"]]
    return {"max": max(task["error"]["max"] for task in tasks), "p99": max(task["error"]["p99"] for task in tasks),
            "auc": max(changes, default=None), "calibration": max(abs(task["calibration"]["shift"]) for task in tasks)}


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=pathlib.Path)
    parser.add_argument("--requests", type=int, default=REQUESTS, help="random requests of 64 candidates")
    record.options(parser)
    arguments = parser.parse_args(given)
    models = arguments.models or [MODELS / "hillstrom.safetensors", *sorted((MODELS / "zoo").glob("*.safetensors"))]
    made = record.begin("errors", arguments.note)
    made["measured"] = []
    for model in models:
        for precision in PRECISIONS:
            found = compare(model, precision, arguments.requests)
            made["measured"].append({"model": model.stem, "precision": precision} | found)
            print(f"{model.stem:28} {precision:6} {found}", flush=True)
    print(f"wrote {record.save(made, arguments.record)}", flush=True)


if __name__ == "__main__":
    main()
