"""After the walk: which features are ids and which are numbers, and the steps that the outputs need, in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .inputs import Input, Part
from .tensor import OnnxError, Source, Steps

MAX_LOOKUP_ROWS = 1 << 24

# The keys of steps that name tensors.
TENSOR_KEYS = ("table", "tensor", "weight", "bias", "mean", "variance")


def ordered(steps: Steps, outputs: Sequence[int]) -> list[dict[str, Any]]:
    """The steps that outputs need, each after those it reads."""
    by_name = {step["name"]: step for step in steps.steps}
    placed: dict[str, dict[str, Any]] = {}
    stack = [steps.steps[value]["name"] for value in reversed(outputs)]
    while stack:
        step = by_name[stack[-1]]
        waiting = [name for name in step.get("inputs", []) if name not in placed]
        if waiting:
            stack.extend(reversed(waiting))
            continue
        placed.setdefault(stack.pop(), step)
    return list(placed.values())


def numeric(steps: Steps, outputs: Sequence[int]) -> set[str]:
    """The features that lookups clamp and that are numbers, too, or have several tables: their negative numbers are no
    unknown ids.
    """
    live = ordered(steps, outputs)
    found = set()
    for value, source in steps.sources.items():
        tables = {step["table"] for step in live if step["op"] == "embedding" and step["feature"] == source.feature}
        if source.is_clamped and tables:
            is_number = reads(live, steps.steps[value])
            if is_number or not fits(source, sorted(tables), is_number):
                found.add(source.feature)
    return found


def reads(live: Sequence[dict[str, Any]], step: dict[str, Any]) -> bool:
    """Whether a step is one of those that outputs need."""
    return step in live or any(step["name"] in other.get("inputs", []) for other in live)


def settle(steps: Steps, inputs: Sequence[Input], outputs: Sequence[int]) -> tuple[list[dict[str, Any]], list[str]]:
    """The entries of the features that outputs need, and the names of the others; makes steps that read them fit."""
    live = ordered(steps, outputs)
    values = {source.feature: value for value, source in steps.sources.items()}
    entries, unused = [], []
    for entry in inputs:
        for part in entry.parts:
            if part.rate == "scenario":
                continue
            described = describe(steps, live, values[part.feature], part)
            if described is None:
                unused.append(part.feature)
            else:
                entries.append(described)
    return entries, unused


def describe(steps: Steps, live: Sequence[dict[str, Any]], value: int, part: Part) -> dict[str, Any] | None:
    source, step = steps.sources[value], steps.steps[value]
    lookups = [s for s in live if s["op"] == "embedding" and s["feature"] == part.feature]
    is_number = reads(live, step)
    if not lookups and not is_number:
        return None
    entry: dict[str, Any] = {"name": part.feature, "rate": part.rate}
    tables = list(dict.fromkeys(s["table"] for s in lookups))
    is_whole = source.is_integer or not is_number or is_only_truncated(live, step["name"])
    if lookups and is_whole and fits(source, tables, is_number):
        table = min(tables, key=lambda name: source.tables[name][0])
        if is_number:
            step["op"] = "rows"
        length = {} if source.width == 1 else {"length": source.width}
        return entry | {"kind": "id", **length, "table": table, "transform": {"type": "identity"}, "oov": 0}
    for lookup in lookups:
        rows = source.tables[lookup["table"]][0]
        if rows > MAX_LOOKUP_ROWS:
            raise OnnxError(
                f"feature `{part.feature}`: is a row of `{lookup['table']}`, which has {rows} rows, and a number, too:"
                f" that is exact below {MAX_LOOKUP_ROWS} only; give it as two inputs"
            )
        computed = value if source.is_integer else whole(steps, value)
        del lookup["feature"]
        lookup.update(op="lookup", inputs=[steps.steps[computed]["name"]])
    return entry | {"kind": "dense", "width": source.width}


def whole(steps: Steps, value: int) -> int:
    name = f"{steps.steps[value]['name']}.whole"
    return steps.add("function", [value], steps.widths[value], name, function="truncate")


def is_only_truncated(live: Sequence[dict[str, Any]], name: str) -> bool:
    """Whether a value is read as whole numbers only."""
    for step in live:
        if name not in step.get("inputs", []):
            continue
        if step["op"] in ("view", "concat", "interleave"):
            if not is_only_truncated(live, step["name"]):
                return False
        elif step.get("function") != "truncate":
            return False
    return True


def fits(source: Source, tables: Sequence[str], is_number: bool) -> bool:
    """Whether the smallest table bounds every column that is read, so that no number is taken for an unknown id."""
    least = min(source.tables[table][0] for table in tables)
    bounded = set().union(*(source.tables[table][1] for table in tables if source.tables[table][0] == least))
    read = set().union(*(source.tables[table][1] for table in tables))
    return (set(range(source.width)) if is_number else read) <= bounded


def tensors_of(live: Sequence[dict[str, Any]]) -> dict[str, list[tuple[str, str]]]:
    """The tensors that steps name, with the operations and keys that do."""
    uses: dict[str, list[tuple[str, str]]] = {}
    for step in live:
        for key in TENSOR_KEYS:
            if key in step:
                uses.setdefault(step[key], []).append((step["op"], key))
    return uses
