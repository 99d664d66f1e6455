"""What of ONNX is covered."""

from __future__ import annotations

from .movement import MOVES
from .node import RULES
from .read import COMPOSED
from .walk import CONTRIBUTED, REWRITES

REMARKS = {
    "ArgMax": "not over the rows",
    "ArgMin": "not over the rows",
    "BatchNormalization": "with the statistics of training; not in training mode",
    "Compress": "with a constant condition",
    "Concat": "not along the rows",
    "Constant": "numbers",
    "ConstantOfShape": "of a shape that may have the rows once",
    "CumSum": "not over the rows",
    "Dropout": "nothing in evaluation mode; training mode is refused",
    "DynamicQuantizeLinear": "the range is that of a row, as for a batch of one",
    "Einsum": "one or two operands",
    "Expand": "to the rows, too",
    "GRU": "of a fixed length, one step after the other; rows may have lengths of their own",
    "LSTM": "as GRU",
    "RNN": "as GRU",
    "Gather": "ids: embedding; constant places; computed places in constant and in computed data; not of other rows",
    "GatherND": "constant or computed places; the row's own number as the first",
    "If": "with a constant condition",
    "MatMul": "weights, or computed on both sides, a product per row",
    "Pad": "not the rows",
    "QLinearMatMul": "as the product of the numbers that are meant",
    "Range": "constant, or 0, 1, ... for the rows",
    "ReduceMean": "not over the rows",
    "Reshape": "the rows may be merged with other axes, not with one another",
    "ScatterElements": "constant or computed places, not over the rows",
    "ScatterND": "constant or computed places, not over the rows",
    "Slice": "not the rows; one row of what the request gives",
    "Softmax": "not over the rows",
    "Split": "not the rows",
    "Squeeze": "without axes: those of size 1 but the rows",
    "TopK": "not over the rows",
}


def coverage() -> str:
    """A line for every operator."""
    names = sorted({*RULES, *COMPOSED, "Constant", "If"})
    lines = []
    for name in names:
        shown = f"com.microsoft::{name}" if name in CONTRIBUTED and name != "Gelu" else name
        remark = REMARKS.get(name) or ("moves elements" if name in MOVES else "")
        if name in COMPOSED:
            remark = "by the operators that ONNX defines it with"
        lines.append(f"{shown:32}{remark}".rstrip())
    lines += [
        "",
        f"{len(names)} operators. Any other is folded where its inputs are constant. Not covered, and what to do:",
        "",
    ]
    lines += [f"{name:32}{rewrite}" for name, rewrite in sorted(REWRITES.items()) if name not in RULES]
    return "\n".join(lines)
