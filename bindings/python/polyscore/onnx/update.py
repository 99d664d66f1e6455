"""The next version of a converted network: the same steps with new numbers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..export import ExportError, read
from .convert import Conversion, build, write
from .finish import tensors_of
from .golden import made_up
from .options import Options
from .tensor import OnnxError

# What of a step training may change, as it may change tensors: parameters that are numbers of the network.
LEARNED_KEYS = ("scale", "shift", "slope", "alpha", "gamma", "low", "high", "exponent", "epsilon")


def update(
    model: str | os.PathLike,
    onnx: str | os.PathLike,
    out: str | os.PathLike,
    golden: int | Sequence[Mapping[str, Any]] | None = None,
) -> Conversion:
    """Converts `onnx` with the options of the model file `model`, and writes it to `out`, which may be the same file.

    It has to be the same network: what differs otherwise than in tensor values and other numbers is refused. `golden`
    is as in `convert`; None takes the requests of `model`, and ONNX Runtime scores them anew.
    """
    try:
        description, tensors = read(model)
    except ExportError as error:
        raise OnnxError(str(error)) from error
    options = description.get("provenance", {}).get("options")
    if description.get("provenance", {}).get("format") != "onnx" or options is None:
        raise OnnxError(f"{model}: was not converted from ONNX")
    conversion = build(onnx, Options.of_text(options))
    for key in ("features", "scenarios", "tasks", "network"):
        compare(key, description[key], conversion.description[key])
    compare_shapes(tensors, conversion)
    if golden is None:
        golden = stored_requests(description, tensors)
    elif isinstance(golden, int):
        golden = made_up(conversion, golden)
    write(conversion, out, golden)
    return conversion


def compare(path: str, old: Any, new: Any) -> None:
    """Refuses the first difference between parts of descriptions that is not of numbers that training may change."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            if key not in old or key not in new:
                raise OnnxError(
                    f"{path}.{key}: is only in the {'new' if key in new else 'old'} network; convert it anew"
                )
            is_number = isinstance(old[key], (int, float)) and isinstance(new[key], (int, float))
            if not (key in LEARNED_KEYS and is_number):
                compare(f"{path}.{key}", old[key], new[key])
    elif isinstance(old, list) and isinstance(new, list):
        for place, (one, other) in enumerate(zip(old, new)):
            name = one.get("name", place) if isinstance(one, Mapping) else place
            compare(f"{path}[{name}]", one, other)
        if len(old) != len(new):
            raise OnnxError(f"{path}: has {len(new)} entries, {len(old)} before; convert it anew")
    elif old != new:
        raise OnnxError(f"{path}: is {new!r}, {old!r} before; the network is another one: convert it anew")


def compare_shapes(tensors: Mapping[str, np.ndarray], conversion: Conversion) -> None:
    for name in tensors_of(conversion.live):
        shape = conversion.steps.tensors[name].shape
        if name not in tensors:
            raise OnnxError(f"tensor `{name}`: is not in the old file; convert it anew")
        if tensors[name].shape != shape:
            detail = f"has shape {list(shape)}, {list(tensors[name].shape)} before"
            raise OnnxError(f"tensor `{name}`: {detail}; convert it anew")


def stored_requests(description: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """The golden requests of a file, as they were given."""
    requests = []
    for number, head in enumerate(description.get("golden", {}).get("requests", [])):
        request: dict[str, Any] = {"request": {}, "candidates": {}}
        if "scenario" in head:
            request["scenario"] = head["scenario"]
        for feature in description["features"]:
            is_request = feature["rate"] == "request"
            side = "request" if is_request else "candidates"
            prefix = f"golden.{number}.{side}.{feature['name']}"
            if prefix in tensors:
                rows = raw_rows(tensors, prefix, feature)
                request[side][feature["name"]] = rows[0] if is_request else rows
        requests.append(request)
    return requests


def raw_rows(tensors: Mapping[str, np.ndarray], prefix: str, feature: Mapping[str, Any]) -> Any:
    """The raw values of a golden column, one entry per row."""
    values = tensors[prefix]
    if f"{prefix}.text_offsets" in tensors:
        offsets, data = tensors[f"{prefix}.text_offsets"], values.tobytes()
        texts = [data[start:end].decode() for start, end in zip(offsets[:-1], offsets[1:])]
        length = feature.get("length", 1)
        return texts if length == 1 else [texts[i : i + length] for i in range(0, len(texts), length)]
    return values.tolist()
