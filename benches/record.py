"""Records: what was measured, where, with what, and how it went. Each is a JSON file of `record/`, never changed later."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
from typing import Any

HERE = pathlib.Path(__file__).parent
FOLDER = HERE / "record"
# The flags that decide which kernels an engine has.
FLAGS = re.compile(r"^(avx2|fma|f16c|avx512\w*|avx_\w+|amx_\w+|asimd\w*|bf16|i8mm|sve\w*)$")


def cpu(key: str = "model name") -> str:
    lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), "unknown")


def commit() -> str:
    """The commit of the tree, and whether files differ from it."""
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine(core: int | None = None) -> dict[str, Any]:
    """The machine; `core` is the one that the measurement is pinned to."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cpu": cpu(), "flags": [flag for flag in cpu("flags").split() if FLAGS.match(flag)],
            "cores": os.cpu_count(), "pinned_to": core, "memory_gib": round(memory / 2**30, 1),
            "kernel": platform.release(), "load_average": [round(load, 2) for load in os.getloadavg()]}


def begin(about: str, note: str, core: int | None = None) -> dict[str, Any]:
    """The head of a record: `about` names what is measured, `note` is a sentence on how this run was made."""
    return {"about": about, "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "note": note,
            "command": [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]], "commit": commit(), "machine": machine(core),
            "versions": {"python": platform.python_version()}}


def options(parser: argparse.ArgumentParser) -> None:
    """The arguments of everything that writes a record."""
    parser.add_argument("--note", default="", help="a sentence on the run, for the record")
    parser.add_argument("--record", type=pathlib.Path, default=FOLDER, help="the folder of the records")


def save(record: dict[str, Any], folder: pathlib.Path = FOLDER) -> pathlib.Path:
    """Writes a record as `<date>-<about>-<machine>.json`, with the load at its end."""
    record["machine"]["load_average_at_end"] = [round(load, 2) for load in os.getloadavg()]
    where = re.sub(r"\W+", "-", record["machine"]["cpu"].replace("(R)", "").lower()).strip("-")
    path = folder / f"{record['date'][:10]}-{record['about']}-{where}.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path


def of_machines(about: str, folder: pathlib.Path = FOLDER) -> list[dict[str, Any]]:
    """The newest record of `about` of each machine, by the names of these."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    found = sorted((record for record in found if record.get("about") == about), key=lambda record: record["date"])
    newest = {record["machine"]["cpu"]: record for record in found}
    return [newest[cpu] for cpu in sorted(newest)]


def latest(about: str, folder: pathlib.Path = FOLDER) -> dict[str, Any] | None:
    """The newest record of `about`, of whatever machine."""
    return max(of_machines(about, folder), key=lambda record: record["date"], default=None)
