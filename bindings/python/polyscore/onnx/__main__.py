"""`python -m polyscore.onnx`: converts a network, updates one, says what became of its nodes, lists what is covered."""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from . import OnnxError, convert, explain, update
from .coverage import coverage


def main(arguments: Sequence[str] | None = None) -> int:
    parsed = parser().parse_args(arguments)
    try:
        parsed.run(parsed)
    except (OnnxError, OSError) as error:
        print(f"polyscore.onnx: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m polyscore.onnx", description=__doc__.split(": ", 1)[1])
    verbs = top.add_subparsers(required=True, metavar="VERB")

    verb = verbs.add_parser("convert", help="write the model file of an ONNX network")
    verb.add_argument("network", help="the .onnx file")
    verb.add_argument("out", help="the .safetensors file to write")
    add_options(verb)
    verb.add_argument("--dtype", choices=["f32", "f16", "bf16"], help="type of tables and weights of linear layers")
    verb.add_argument("--tolerance", type=float, default=1e-5, help="how far a score may be from the golden one")
    add_golden(verb, "8")
    verb.set_defaults(run=run_convert)

    verb = verbs.add_parser("update", help="write the next version of a network that was converted")
    verb.add_argument("model", help="the model file it was converted to")
    verb.add_argument("network", help="the new .onnx file")
    verb.add_argument("out", help="the .safetensors file to write; may be the first")
    add_golden(verb, None)
    verb.set_defaults(run=run_update)

    verb = verbs.add_parser("explain", help="say what became of every node")
    verb.add_argument("network", help="the .onnx file")
    add_options(verb)
    verb.set_defaults(run=run_explain)

    verb = verbs.add_parser("ops", help="list the operators that are covered")
    verb.set_defaults(run=lambda _: print(coverage()))
    return top


def add_options(verb: argparse.ArgumentParser) -> None:
    names = {"type": lambda text: text.split(","), "action": "extend", "default": [], "metavar": "NAME,NAME"}
    verb.add_argument("--request", help="inputs that are given once per request", **names)
    verb.add_argument("--candidate", help="inputs that belong to the pair of request and ad", **names)
    verb.add_argument("--item", help="inputs that are facts of the ad alone", **names)
    verb.add_argument(
        "--task",
        action="append",
        default=[],
        metavar="OUTPUT=TASK,TASK",
        help="the tasks that the columns of an output are; `-` for one that is not wanted",
    )
    verb.add_argument("--scenario", metavar="NAME", help="the input that is the number of the scenario")
    verb.add_argument(
        "--scenarios", type=scenarios, metavar="NAME=ID,NAME=ID", help="the scenarios, or their numbers alone"
    )
    verb.add_argument(
        "--columns",
        action="append",
        default=[],
        metavar="INPUT=NAME,NAME:WIDTH",
        help="the features that the columns of an input are",
    )
    verb.add_argument(
        "--length",
        action="append",
        default=[],
        metavar="NAME=LENGTH",
        help="the length of a dynamic dimension, by its name or its input",
    )
    verb.add_argument(
        "--features", type=json.loads, default={}, metavar="JSON", help="keys to set in entries of features, by feature"
    )


def add_golden(verb: argparse.ArgumentParser, default: str | None) -> None:
    verb.add_argument(
        "--golden",
        default=default,
        metavar="N|FILE",
        help="candidates of the made-up golden requests, or a file of requests as JSON lines",
    )


def scenarios(text: str) -> list[Any]:
    entries = []
    for entry in text.split(","):
        name, _, number = entry.rpartition("=")
        entries.append({"name": name, "id": int(number)} if name else int(number))
    return entries


def pairs(option: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    split = [tuple(text.rsplit("=", 1)) for text in texts]
    for text, pair in zip(texts, split):
        if len(pair) != 2:
            raise OnnxError(f"--{option}: `{text}` has no `=`")
    return split


def options_of(parsed: argparse.Namespace) -> dict[str, Any]:
    tasks = {}
    for output, text in pairs("task", parsed.task):
        names = [None if name == "-" else name for name in text.split(",")]
        tasks[output] = names[0] if len(names) == 1 else names
    columns = {}
    for name, text in pairs("columns", parsed.columns):
        parts = [part.split(":") for part in text.split(",")]
        columns[name] = [part[0] if len(part) == 1 else (part[0], whole("columns", part[1])) for part in parts]
    lengths = {name: whole("length", text) for name, text in pairs("length", parsed.length)}
    return {
        "request": parsed.request,
        "candidate": parsed.candidate,
        "item": parsed.item,
        "tasks": tasks,
        "scenario": parsed.scenario,
        "scenarios": parsed.scenarios,
        "columns": columns,
        "lengths": lengths,
        "features": parsed.features,
    }


def whole(option: str, text: str) -> int:
    if not text.isdigit():
        raise OnnxError(f"--{option}: `{text}` is not a number")
    return int(text)


def golden_of(text: str | None) -> Any:
    if text is None or text.isdigit():
        return text if text is None else int(text)
    lines = pathlib.Path(text).read_text(encoding="utf-8").splitlines()
    try:
        return [json.loads(line) for line in lines if line.strip()]
    except ValueError as error:
        raise OnnxError(f"--golden: {text}: {error}") from error


def run_convert(parsed: argparse.Namespace) -> None:
    print(
        convert(
            parsed.network,
            parsed.out,
            golden=golden_of(parsed.golden),
            dtype=parsed.dtype,
            tolerance=parsed.tolerance,
            **options_of(parsed),
        )
    )


def run_update(parsed: argparse.Namespace) -> None:
    print(update(parsed.model, parsed.network, parsed.out, golden=golden_of(parsed.golden)))


def run_explain(parsed: argparse.Namespace) -> None:
    print(explain(parsed.network, **options_of(parsed)))


if __name__ == "__main__":
    sys.exit(main())
