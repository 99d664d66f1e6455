"""The C ABI of include/polyscore.h, as ctypes declarations.

The library is looked for at `POLYSCORE_LIBRARY`, then beside this file. Its ABI version must be this one's.
"""

from __future__ import annotations

import ctypes
import os
import pathlib
from ctypes import POINTER, c_char, c_char_p, c_double, c_int32, c_size_t, c_uint32, c_uint64, c_void_p

ABI_VERSION = 1
SCENARIO_UNKNOWN = 0xFFFFFFFF
ITEM_KEY = 0xFFFFFFFE
BUFFER_TOO_SMALL = 105


class Error(ctypes.Structure):
    _fields_ = [("struct_size", c_uint32), ("status", c_int32), ("subject", c_char * 128), ("message", c_char * 512)]


class OpenOptions(ctypes.Structure):
    _fields_ = [("struct_size", c_uint32), ("mode", c_uint32), ("precision", c_uint32), ("no_split", c_uint32),
                ("tile", c_uint32), ("item_rows", c_uint32), ("isa", c_char_p), ("max_error", c_double),
                ("max_bytes", c_uint64), ("scenario_bytes", c_uint64), ("product_bytes", c_uint64),
                ("item_bytes", c_uint64)]


class ModelInfo(ctypes.Structure):
    _fields_ = [("struct_size", c_uint32), ("features", c_uint32), ("tasks", c_uint32), ("scenarios", c_uint32),
                ("tile", c_uint32), ("reserved", c_uint32), ("mapped_bytes", c_uint64), ("copied_bytes", c_uint64),
                ("packed_bytes", c_uint64), ("scratch_bytes", c_uint64), ("golden_requests", c_uint32),
                ("golden_scores", c_uint32), ("golden_error", c_double), ("isa", c_char * 16), ("name", c_char * 128),
                ("model_bytes", c_uint64), ("scenario_bytes", c_uint64), ("kept_scenarios", c_uint32),
                ("kept_per_scorer", c_uint32), ("product_bytes", c_uint64), ("item_bytes", c_uint64),
                ("item_room", c_uint64)]


class Column(ctypes.Structure):
    _fields_ = [("struct_size", c_uint32), ("feature", c_uint32), ("type", c_uint32), ("reserved", c_uint32),
                ("values", c_void_p), ("values_len", c_size_t), ("text_offsets", c_void_p),
                ("text_offsets_len", c_size_t), ("row_offsets", c_void_p), ("row_offsets_len", c_size_t)]


class Counters(ctypes.Structure):
    _fields_ = [("struct_size", c_uint32), ("reserved", c_uint32), ("requests", c_uint64), ("candidates", c_uint64),
                ("unknown_scenarios", c_uint64), ("non_finite", c_uint64), ("scenarios_folded", c_uint64),
                ("item_hits", c_uint64), ("item_misses", c_uint64)]


class FeatureCounters(ctypes.Structure):
    _fields_ = [("struct_size", c_uint32), ("reserved", c_uint32), ("values", c_uint64), ("oov", c_uint64),
                ("missing", c_uint64)]


TASK = ctypes.CFUNCTYPE(None, c_void_p, c_size_t)
RUN = ctypes.CFUNCTYPE(None, c_void_p, c_size_t, TASK, c_void_p)


class PoolOptions(ctypes.Structure):
    _fields_ = [("struct_size", c_uint32), ("threads", c_uint32), ("name", c_char_p), ("run", RUN),
                ("executor", c_void_p)]


FUNCTIONS = {
    "polyscore_model_open": [c_char_p, POINTER(OpenOptions), POINTER(c_void_p), POINTER(Error)],
    "polyscore_model_close": [c_void_p],
    "polyscore_model_info_get": [c_void_p, POINTER(ModelInfo), POINTER(Error)],
    "polyscore_model_plan": [c_void_p, c_void_p, c_size_t, POINTER(c_size_t), POINTER(Error)],
    "polyscore_model_write_packed": [c_void_p, c_char_p, POINTER(Error)],
    "polyscore_model_description": [c_void_p, c_void_p, c_size_t, POINTER(c_size_t), POINTER(Error)],
    "polyscore_scorer_new": [c_void_p, POINTER(c_void_p), POINTER(Error)],
    "polyscore_pool_new": [POINTER(PoolOptions), POINTER(c_void_p), POINTER(Error)],
    "polyscore_pool_close": [c_void_p],
    "polyscore_pool_threads": [c_void_p, POINTER(c_uint32), POINTER(Error)],
    "polyscore_scorer_new_parallel": [c_void_p, c_void_p, POINTER(c_void_p), POINTER(Error)],
    "polyscore_scorer_close": [c_void_p],
    "polyscore_scorer_prepare": [c_void_p, c_uint32, c_void_p, c_size_t, POINTER(Error)],
    "polyscore_scorer_score": [c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, c_size_t,
                               POINTER(Error)],
    "polyscore_scorer_score_mixed": [c_void_p, c_size_t, c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p,
                                     c_size_t, POINTER(Error)],
    "polyscore_scorer_score_each": [c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, c_size_t,
                                    c_void_p, c_size_t, POINTER(Error)],
    "polyscore_scorer_counters": [c_void_p, POINTER(Counters), POINTER(Error)],
    "polyscore_scorer_feature_counters": [c_void_p, c_uint32, POINTER(FeatureCounters), POINTER(Error)],
}


def load() -> ctypes.CDLL:
    """The library, with every function declared."""
    chosen = os.environ.get("POLYSCORE_LIBRARY")
    path = pathlib.Path(chosen) if chosen else pathlib.Path(__file__).with_name("libpolyscore.so")
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise ImportError(f"polyscore: {error} (POLYSCORE_LIBRARY names another file)") from None
    library.polyscore_abi_version.restype = c_uint32
    found = library.polyscore_abi_version()
    if found != ABI_VERSION:
        raise ImportError(f"polyscore: {path} has ABI version {found}, this package needs {ABI_VERSION}")
    library.polyscore_version.restype = c_char_p
    library.polyscore_status_name.argtypes, library.polyscore_status_name.restype = [c_int32], c_char_p
    for name, arguments in FUNCTIONS.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, c_int32
    return library


def sized(kind: type, **fields):
    """A struct with its size filled in."""
    return kind(struct_size=ctypes.sizeof(kind), **fields)
