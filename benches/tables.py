"""Tables of Markdown made from records: of the workloads, of the goals, of the serving measurements.

usage: python benches/tables.py          writes the tables of README.md anew, from the newest records of `record/`,
                                        those of workloads from the newest of each machine
"""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Iterable
from typing import Any

import record

HERE = pathlib.Path(__file__).parent
README = HERE / "README.md"


def kept(rows: list[dict[str, Any]], label: str) -> float:
    """The largest error of an engine at any number of candidates."""
    return max(row["error"] for row in rows if row["label"] == label)


def fastest(rows: list[dict[str, Any]], count: int, goal: dict[str, Any], is_ours: bool) -> dict[str, Any] | None:
    """The fastest engine that a row of the goal table may take, ours or a peer's."""
    forms = {goal.get("ours", "own")} if is_ours else {goal["form"]}
    allowed = []
    for row in rows:
        if row["candidates"] != count or (row["engine"] == "polyscore") != is_ours or row["form"] not in forms:
            continue
        if "precision" in goal and row["precision"] != goal["precision"]:
            continue
        if "bound" in goal and kept(rows, row["label"]) > goal["bound"]:
            continue
        allowed.append(row)
    return min(allowed, key=lambda row: row["median_us"], default=None)


def ratios(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """A cell for each goal, workload and number of candidates: ratio, goal, and who was compared."""
    by_name = {made["workload"]["name"]: made for made in records}
    cells = []
    for goal in json.loads((HERE / "goals.json").read_text(encoding="utf-8")):
        for name in goal["workloads"]:
            rows = by_name[name]["measured"] if name in by_name else []
            for count, wanted in goal["goals"].items():
                ours, peer = (fastest(rows, int(count), goal, is_ours) for is_ours in (True, False))
                cell = {"row": goal["row"], "workload": name, "candidates": int(count), "goal": wanted}
                if ours and peer:
                    cell |= {"ratio": peer["median_us"] / ours["median_us"], "ours": ours["label"], "peer": peer["label"]}
                cells.append(cell)
    return cells


def goals(records: Iterable[dict[str, Any]]) -> str:
    """The goal table; a cell that misses its goal is bold, one without its two engines is empty."""
    lines = ["| bound, against | workload | N | goal | ratio | ours | fastest peer that keeps it |", "|---|---|---|---|---|---|---|"]
    for cell in ratios(records):
        head = f"| {cell['row']} | {cell['workload']} | {cell['candidates']} | {cell['goal']} |"
        if "ratio" not in cell:
            lines.append(f"{head} | | |")
            continue
        ratio = f"{cell['ratio']:.2f}" if cell["ratio"] >= cell["goal"] else f"**{cell['ratio']:.2f}**"
        lines.append(f"{head} {ratio} | {cell['ours'].removeprefix('polyscore ')} | {cell['peer']} |")
    return "\n".join(lines)


def engines(made: dict[str, Any]) -> str:
    """A workload's engines: medians, p99 and the largest error."""
    counts = made["workload"]["candidates"]
    heads = " | ".join(f"N={count}, median (p99)" for count in counts)
    lines = [f"| engine | {heads} | largest error |", "|---|" + "---|" * (len(counts) + 1)]
    by_place = {(row["label"], row["candidates"]): row for row in made["measured"]}
    for label in dict.fromkeys(row["label"] for row in made["measured"]):
        cells = []
        for count in counts:
            row = by_place.get((label, count))
            cells.append(f"{row['median_us']:,.0f} ({row['p99_us']:,.0f})" if row else "")
        lines.append(f"| {label} | {' | '.join(cells)} | {kept(made['measured'], label):.1e} |")
    return "\n".join(lines)


def provenance(made: dict[str, Any]) -> str:
    """Where and how a record was made, as a sentence."""
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    machine = made["machine"]
    note = f" {made['note']}" if made["note"] else ""
    return (f"{made['date'][:10]}, {machine['cpu']}, core {machine['pinned_to']} of {machine['cores']}, commit {made['commit']}, "
            f"load {machine['load_average'][0]} at the start; {versions}.{note}")


def grid(rows: list[dict[str, Any]]) -> str:
    """Rows of equal keys as a table."""
    heads = list(rows[0])

    def cell(value: Any) -> str:
        if not isinstance(value, float):
            return str(value)
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"

    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    return "\n".join(lines + [f"| {' | '.join(cell(row[head]) for head in heads)} |" for row in rows])


def ablation(rows: list[dict[str, Any]]) -> str:
    """A line for each variant: its ratios cold and warm, for each workload and number of candidates."""
    places = list(dict.fromkeys((row["workload"], row["candidates"]) for row in rows))
    lines = [f"| cold / warm | {' | '.join(f'{name}, N={count}' for name, count in places)} |", "|---|" + "---|" * len(places)]
    by_place = {(row["workload"], row["candidates"], row["variant"]): row for row in rows}
    for variant in list(dict.fromkeys(row["variant"] for row in rows))[1:]:
        cells = [by_place[(*place, variant)] for place in places]
        ratios = (f"{cell['cold']:.2f} / {cell['warm']:.2f}" for cell in cells)
        lines.append(f"| {variant} | {' | '.join(ratios)} |")
    return "\n".join(lines)


def errors(rows: list[dict[str, Any]]) -> str:
    """A line for each model: error, change of AUC and of calibration in each precision."""
    precisions = list(dict.fromkeys(row["precision"] for row in rows))
    lines = [f"| max, AUC, calibration | {' | '.join(precisions)} |", "|---|" + "---|" * len(precisions)]
    by_place = {(row["model"], row["precision"]): row for row in rows}

    def cell(row: dict[str, Any]) -> str:
        figures = [row.get(key) for key in ("max", "auc", "calibration")]
        return "refused" if "refused" in row else ", ".join("-" if figure is None else f"{figure:.0e}" for figure in figures)

    for model in dict.fromkeys(row["model"] for row in rows):
        lines.append(f"| {model} | {' | '.join(cell(by_place[model, precision]) for precision in precisions)} |")
    return "\n".join(lines)


def between(text: str, name: str, table: str) -> str:
    """`text` with `table` between its marks of `name`."""
    begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
    if begin not in text or end not in text:
        raise SystemExit(f"{README}: has no marks for `{name}`")
    return text[: text.index(begin) + len(begin)] + table + text[text.index(end) :]


def main() -> None:
    names = ("mmoe", "taml", "causalint", "dffm", "wide")
    text = README.read_text(encoding="utf-8")
    records = {name: made for name in names if (made := record.of_machines(name))}
    by_machine: dict[str, list[dict[str, Any]]] = {}
    for made in (made for of_name in records.values() for made in of_name):
        by_machine.setdefault(made["machine"]["cpu"], []).append(made)
    parts = [f"### {cpu}\n\n{goals(of_machine)}" for cpu, of_machine in sorted(by_machine.items())]
    text = between(text, "goals", "\n\n".join(parts) or "No record yet.")
    parts = ["\n\n".join([f"### `{name}`\n\n{of_name[-1]['workload']['about']}",
                          *(f"{engines(made)}\n\n{provenance(made)}" for made in of_name)])
             for name, of_name in records.items()]
    text = between(text, "workloads", "\n\n".join(parts) or "No record yet.")
    parts = {"ablation": ablation, "errors": errors} | dict.fromkeys(("languages", "latency", "memory", "opening", "threads"), grid)
    for name, table in parts.items():
        made = record.latest(name)
        text = between(text, name, f"{table(made['measured'])}\n\n{provenance(made)}" if made else "No record yet.")
    README.write_text(text, encoding="utf-8")
    print(f"wrote {README}", file=sys.stderr)


if __name__ == "__main__":
    main()
