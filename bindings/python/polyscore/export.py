"""Writes model files: a description, the tensors of a state dict, and golden requests with the scores of training.

A file is written under a temporary name in the same folder, synced and renamed, so that no reader ever sees half of it.
Every tensor begins at a multiple of 64 bytes; the format allows no holes, so tensors named `padding.{n}` lie between.
"""

from __future__ import annotations

import copy
import json
import os
import pathlib
import struct
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

ALIGNMENT = 64
# Large tensors are checked this many numbers at a time.
CHUNK = 1 << 24
NAMES = {np.dtype(np.float32): "F32", np.dtype(np.float16): "F16", np.dtype(np.int64): "I64", np.dtype(np.uint8): "U8"}
STATISTICS = (".running_mean", ".running_var", ".norm.weight", ".norm.bias")


class ExportError(ValueError):
    """The model cannot be exported; the message names the guilty tensor, feature or request."""


def export(
    description: Mapping[str, Any],
    state_dict: Mapping[str, Any],
    path: str | os.PathLike,
    golden: Sequence[Mapping[str, Any]] | None = None,
    dtype: str | None = None,
    tolerance: float = 1e-5,
) -> None:
    """Writes `state_dict` (torch tensors or numpy arrays, by tensor name) as the model `description` to `path`.

    `dtype` "f16" or "bf16" rounds weights and tables; the statistics of norms stay f32. `golden` is a list of requests in
    the form of the command line's JSON lines; they are scored by the PyTorch twin in float64, with the weights as written,
    and must be reproduced within `tolerance` when the model is opened.
    """
    if dtype not in (None, "f32", "f16", "bf16"):
        raise ExportError(f"dtype: `{dtype}` is not f32, f16 or bf16")
    tensors = {name: encode(name, value, dtype) for name, value in state_dict.items() if is_kept(name)}
    description = copy.deepcopy(dict(description))
    description.setdefault("format_version", 1)
    if golden:
        description["golden"] = {"tolerance": tolerance, "requests": []}
        rounded = {name: decode(kind, data).reshape(shape) for name, (kind, shape, data) in tensors.items()}
        for number, request in enumerate(golden):
            head, columns = score_golden(description, rounded, number, request)
            description["golden"]["requests"].append(head)
            tensors.update(columns)
    write(path, json.dumps(description, ensure_ascii=False, separators=(",", ":")), tensors)


def is_kept(name: str) -> bool:
    return not name.endswith(".num_batches_tracked")


def encode(name: str, value: Any, dtype: str | None, may_be_infinite: bool = False) -> tuple[str, tuple[int, ...], Any]:
    """Type name, shape and bytes of a weight. A contiguous f32 array, such as one mapped from a file, is not copied."""
    array = value.detach().cpu().float().numpy() if hasattr(value, "detach") else np.asarray(value, dtype=np.float32)
    array = np.asarray(array, dtype=np.float32, order="C")
    is_bad = np.isnan if may_be_infinite else is_not_finite
    flat = array.reshape(-1)
    if any(is_bad(flat[start : start + CHUNK]).any() for start in range(0, flat.size, CHUNK)):
        raise ExportError(f"{name}: has values that are not {'numbers' if may_be_infinite else 'finite'}")
    if dtype == "f16" and not name.endswith(STATISTICS):
        with np.errstate(over="ignore"):
            array = array.astype(np.float16)
        if not np.isfinite(array).all():
            raise ExportError(f"{name}: has values beyond f16")
    if dtype == "bf16" and not name.endswith(STATISTICS):
        bits = array.view(np.uint32).astype(np.uint64)
        rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
        return "BF16", array.shape, rounded.tobytes()
    return NAMES[array.dtype], array.shape, array.reshape(-1).view(np.uint8).data


def is_not_finite(array: np.ndarray) -> np.ndarray:
    return ~np.isfinite(array)


def decode(kind: str, data: bytes) -> np.ndarray:
    """The values of a weight as float64."""
    if kind == "BF16":
        return (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return np.frombuffer(data, np.float16 if kind == "F16" else np.float32).astype(np.float64)


def score_golden(
    description: Mapping[str, Any], weights: Mapping[str, np.ndarray], number: int, request: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, tuple[str, tuple[int, ...], bytes]]]:
    """The golden entry of a request, and its tensors."""
    import torch

    from . import features, networks

    values, candidates, count = check_golden(description, number, request)
    tables = {name: value.shape for name, value in weights.items()}
    twin = networks.build(description, tables)
    twin.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in weights.items()}, strict=False)
    twin.double().eval()
    batch = networks.inputs(twin, values, candidates, count)
    row = features.scenario_row(description, request.get("scenario"))
    with torch.no_grad():
        scores = twin(batch, torch.full((count,), row, dtype=torch.int64))
    arrays = {name: value.float().numpy() for name, value in scores.items()}
    return golden_entry(description, number, request, count, arrays)


def check_golden(
    description: Mapping[str, Any], number: int, request: Mapping[str, Any]
) -> tuple[Mapping[str, Any], Mapping[str, Any], int]:
    """The values of the request and of its candidates by feature, and the number of these."""
    values, candidates = request.get("request", {}), request.get("candidates", {})
    known_features = {feature["name"] for feature in description["features"]}
    for name in [*values, *candidates]:
        if name not in known_features:
            raise ExportError(f"golden[{number}]: `{name}` is not a feature")
    counts = {len(column) for column in candidates.values()}
    if len(counts) != 1:
        raise ExportError(f"golden[{number}].candidates: columns have {sorted(counts)} rows, one number is needed")
    return values, candidates, counts.pop()


def golden_entry(
    description: Mapping[str, Any],
    number: int,
    request: Mapping[str, Any],
    count: int,
    scores: Mapping[str, np.ndarray],
) -> tuple[dict[str, Any], dict[str, tuple[str, tuple[int, ...], bytes]]]:
    """The golden entry of a request of `count` candidates with the scores of each task, and its tensors."""
    values, candidates = request.get("request", {}), request.get("candidates", {})
    tensors = {}
    for feature in description["features"]:
        name, is_request = feature["name"], feature["rate"] == "request"
        side = values if is_request else candidates
        if name in side:
            prefix = f"golden.{number}.{'request' if is_request else 'candidates'}.{name}"
            tensors.update(golden_column(prefix, feature, [side[name]] if is_request else side[name]))
    for task in description["tasks"]:
        task_scores = np.asarray(scores[task["name"]], dtype=np.float32)
        tensors[f"golden.{number}.scores.{task['name']}"] = ("F32", task_scores.shape, task_scores.tobytes())
    head: dict[str, Any] = {"candidates": count}
    known_scenario = scenario_name(description, request.get("scenario"))
    if known_scenario is not None:
        head["scenario"] = known_scenario
    return head, tensors


def scenario_name(description: Mapping[str, Any], scenario: str | int | None) -> str | None:
    for known in description.get("scenarios", []):
        if scenario in (known["name"], known["id"]):
            return known["name"]
    return None


def golden_column(
    prefix: str, feature: Mapping[str, Any], rows: Sequence[Any]
) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """The tensors of a raw column: `golden.{i}.request.{feature}` and its offsets."""
    from . import columns

    column = columns.build(feature, rows)
    tensors = {}
    if column.text_offsets is None:
        values = column.values
        width = columns.width(feature)
        shape = (len(rows), width) if width > 1 else values.shape
        tensors[prefix] = (NAMES[values.dtype], shape, values.tobytes())
    else:
        tensors[prefix] = ("U8", column.values.shape, column.values.tobytes())
        tensors[f"{prefix}.text_offsets"] = ("I64", column.text_offsets.shape, column.text_offsets.tobytes())
    if column.row_offsets is not None:
        tensors[f"{prefix}.row_offsets"] = ("I64", column.row_offsets.shape, column.row_offsets.tobytes())
    return tensors


def read(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The description of a model file and its tensors, mapped; bf16 ones as their bits, uint16."""
    types = {name: dtype for dtype, name in NAMES.items()} | {"BF16": np.dtype(np.uint16)}
    try:
        data = np.memmap(path, dtype=np.uint8, mode="r")
        (size,) = struct.unpack("<Q", data[:8].tobytes())
        header = json.loads(data[8 : 8 + size].tobytes())
        description = json.loads(header.pop("__metadata__")["polyscore"])
        tensors = {}
        for name, entry in header.items():
            start, end = entry["data_offsets"]
            part = data[8 + size + start : 8 + size + end]
            tensors[name] = part.view(types[entry["dtype"]]).reshape(entry["shape"])
    except (KeyError, TypeError, ValueError, struct.error) as error:
        raise ExportError(f"{path}: is not a model file: {error}") from error
    return description, tensors


def write(path: str | os.PathLike, description: str, tensors: Mapping[str, tuple[str, tuple[int, ...], bytes]]) -> None:
    """Writes the container."""
    header: dict[str, Any] = {"__metadata__": {"polyscore": description}}
    chunks: list[bytes] = []
    end = 0
    for number, (name, (kind, shape, data)) in enumerate(tensors.items()):
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [end, end + len(data)]}
        chunks.append(data)
        end += len(data)
        padding = -end % ALIGNMENT
        if padding and number + 1 < len(tensors):
            offsets = [end, end + padding]
            header[f"padding.{number}"] = {"dtype": "U8", "shape": [padding], "data_offsets": offsets}
            chunks.append(bytes(padding))
            end += padding
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)

    path = pathlib.Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            file.writelines(chunks)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        pathlib.Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
