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

from . import integers

ALIGNMENT = 64
# Large tensors are checked this many numbers at a time.
CHUNK = 1 << 24
NAMES = {
    np.dtype(np.float32): "F32",
    np.dtype(np.float16): "F16",
    np.dtype(np.int64): "I64",
    np.dtype(np.int16): "I16",
    np.dtype(np.int8): "I8",
    np.dtype(np.uint8): "U8",
}
TABLES, DENSE = ("f16", "int8", "int4"), ("f16", "int16", "int12", "int8")
# What the golden scores may be off by, where the caller does not say: dense layers of integers round their inputs too.
TOLERANCES = {"int16": 5e-3, "int12": 5e-3, "int8": 5e-2}
STATISTICS = (".running_mean", ".running_var", ".norm.weight", ".norm.bias")


class ExportError(ValueError):
    """The model cannot be exported; the message names the guilty tensor, feature or request."""


def export(
    description: Mapping[str, Any],
    state_dict: Mapping[str, Any],
    path: str | os.PathLike,
    golden: Sequence[Mapping[str, Any]] | None = None,
    dtype: str | None = None,
    tolerance: float | None = None,
    tables: str | None = None,
    dense: str | None = None,
    packed: Mapping[str, Any] | None = None,
) -> None:
    """Writes `state_dict` (torch tensors or numpy arrays, by tensor name) as the model `description` to `path`.

    `dtype` "f16" or "bf16" rounds weights and tables; the statistics of norms stay f32. `tables` "f16", "int8" or "int4", and
    `dense` "f16", "int16", "int12" or "int8", go before it for embedding tables and for the weights of linear layers of more
    than one output, but for weights that others are computed of: integers with a scale per row, or per output. A table of an
    odd width is int8 where int4 is asked for. `polyscore quantize` chooses such types by their measured error.

    `golden` is a list of requests in the form of the command line's JSON lines; they are scored by the PyTorch twin in
    float64, with the weights as written, and must be reproduced within `tolerance` when the model is opened: 1e-5 if it is
    not given, 5e-3 with dense int16 and int12, and 5e-2 with int8, whose layers round their inputs too.

    `packed` adds the dense layers as kernels read them, for hosts that open the file with these options of `Model`; {} are the
    usual ones. See `Model.write_packed`.
    """
    for option, value, known in [("dtype", dtype, ("f32", "f16", "bf16")), ("tables", tables, TABLES), ("dense", dense, DENSE)]:
        if value is not None and value not in known:
            raise ExportError(f"{option}: `{value}` is not {', '.join(known[:-1])} or {known[-1]}")
    tolerance = TOLERANCES.get(dense or "", 1e-5) if tolerance is None else tolerance
    kept = {name: value for name, value in state_dict.items() if is_kept(name)}
    axes = matrices(description, {name: tuple(value.shape) for name, value in kept.items()}) if tables or dense else {}
    tensors: dict[str, tuple[str, tuple[int, ...], Any]] = {}
    for name, value in kept.items():
        is_table, axis = axes.get(name, (None, 0))
        kind = dtype if is_table is None else (tables if is_table else dense) or dtype
        if kind in integers.LARGEST:
            tensors.update(encode_integers(name, value, kind, axis))
        else:
            tensors[name] = encode(name, value, kind)
    description = copy.deepcopy(dict(description))
    description.setdefault("format_version", 1)
    if golden:
        description["golden"] = {"tolerance": tolerance, "requests": []}
        rounded = {name: decode(name, tensors, axes) for name in kept}
        for number, request in enumerate(golden):
            head, columns = score_golden(description, rounded, number, request)
            description["golden"]["requests"].append(head)
            tensors.update(columns)
    text = json.dumps(description, ensure_ascii=False, separators=(",", ":"))
    if packed is None:
        write(path, text, tensors)
        return
    from .model import Model

    path = pathlib.Path(path)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        plain = pathlib.Path(folder, path.name)
        write(plain, text, tensors)
        with Model(plain, **packed) as model:
            model.write_packed(path)


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


def encode_integers(name: str, value: Any, kind: str, axis: int) -> dict[str, tuple[str, tuple[int, ...], Any]]:
    """A matrix as integers, and its scales along `axis`."""
    _, (rows, columns), data = encode(name, value, None)
    kind = "int8" if kind == "int4" and columns % 2 else kind
    values = np.frombuffer(data, np.float32).reshape(rows, columns)
    whole, scales = integers.quantize(values if axis == 0 else values.T, kind)
    stored = np.ascontiguousarray(integers.pack(whole if axis == 0 else whole.T, kind))
    return {
        name: (integers.TYPES[kind], stored.shape, stored.reshape(-1).view(np.uint8).data),
        f"{name}.scale": ("F32", scales.shape, scales.tobytes()),
    }


def decode(name: str, tensors: Mapping[str, tuple[str, tuple[int, ...], Any]], axes: Mapping[str, tuple[bool, int]]) -> np.ndarray:
    """The values of a weight as float64."""
    kind, shape, data = tensors[name]
    if kind == "BF16":
        bits = np.frombuffer(data, np.uint16).astype(np.uint32) << 16
        return bits.view(np.float32).astype(np.float64).reshape(shape)
    types = {known: dtype for dtype, known in NAMES.items()}
    stored = np.frombuffer(data, types[kind]).reshape(shape)
    if kind not in integers.TYPES.values():
        return stored.astype(np.float64)
    scales = np.frombuffer(tensors[f"{name}.scale"][2], np.float32)
    # The engine multiplies in f32.
    whole = integers.unpack(stored).astype(np.float32)
    return (whole * (scales[:, None] if axes[name][1] == 0 else scales)).astype(np.float64)


def matrices(description: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[bool, int]]:
    """The tensors that may hold integers: whether they are tables, and the axis of their scales."""
    found = {feature["table"]: (True, 0) for feature in description["features"] if "table" in feature}
    network = description["network"]
    if network.get("type") == "graph":
        for step in network["steps"]:
            if "table" in step:
                found[step["table"]] = (True, 0)
            if step["op"] == "linear":
                found.setdefault(step["weight"], (False, int(step.get("transposed", False))))
    else:
        import torch

        from . import networks

        twin = networks.build(description, {name: shapes[name] for name in found if name in shapes})
        for prefix, module in twin.named_modules():
            for name, layer in module.named_children():
                if isinstance(layer, torch.nn.Linear) and name not in getattr(module, "computed", ()):
                    found[f"{prefix}.{name}.weight".removeprefix(".")] = (False, 0)
    # The last layers give logits, which are not quantised.
    is_wide = lambda name, axis: len(shapes[name]) == 2 and shapes[name][axis] > 1  # noqa: E731
    return {name: (is_table, axis) for name, (is_table, axis) in found.items()
            if name in shapes and (is_table or is_wide(name, axis))}


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
