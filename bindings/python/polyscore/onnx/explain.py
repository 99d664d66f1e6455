"""Says what became of every node of an ONNX graph."""

from __future__ import annotations

import collections
import os
from typing import Any

from .convert import Conversion, build
from .options import Options


def explain(path: str | os.PathLike, **options: Any) -> str:
    """A table with a line for every node: its operator, and the steps that it became with their rates; then totals.

    `options` are those of `convert` that say what the network is. Steps are those of the walk; fusing rewrites some.
    """
    return table(build(path, Options(**options)))


def table(conversion: Conversion) -> str:
    lines = [("node", "operator", "became", "rate", "width")]
    for entry in conversion.passed:
        if entry.became != "computed":
            lines.append((entry.name, entry.op_type, words(entry.became), "", ""))
            continue
        for number, value in enumerate(range(entry.first, entry.last)):
            step = conversion.steps.steps[value]
            what = step.get("function", "")
            lines.append(
                (
                    "" if number else entry.name,
                    "" if number else entry.op_type,
                    f"{step['op']} {what}".strip(),
                    conversion.steps.rates[value],
                    str(conversion.steps.widths[value]),
                )
            )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
    return "\n".join([*text, "", *totals(conversion)])


def words(became: str) -> str:
    return {"moved": "moved, nothing to compute", "folded": "folded"}[became]


def totals(conversion: Conversion) -> list[str]:
    became = collections.Counter(entry.became for entry in conversion.passed)
    operations = collections.Counter(
        f"{step['op']} {step['function']}" if "function" in step else step["op"] for step in conversion.live
    )
    words_of = ", ".join(f"{became[how]} {how}" for how in ("computed", "moved", "folded"))
    lines = [
        f"{len(conversion.passed)} nodes: {words_of}",
        f"{len(conversion.live)} steps: " + ", ".join(f"{count} {name}" for name, count in operations.most_common()),
    ]
    if conversion.fused:
        lines.append("fused: " + ", ".join(f"{count} {name}" for name, count in sorted(conversion.fused.items())))
    rates = collections.Counter(rate_of(conversion).values())
    return [*lines, "by rate: " + ", ".join(f"{count} {rate}" for rate, count in rates.most_common())]


def rate_of(conversion: Conversion) -> dict[str, str]:
    """The rates of the steps that are written."""
    by_name = {step["name"]: rate for step, rate in zip(conversion.steps.steps, conversion.steps.rates)}
    return {step["name"]: by_name[step["name"]] for step in conversion.live}
