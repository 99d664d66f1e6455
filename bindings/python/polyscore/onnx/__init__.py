"""Networks of PyTorch, TensorFlow, Paddle and others, by way of ONNX: any whose rows do not depend on one another.

`convert` writes the model file, `update` the next one of the same network, `explain` says what became of every node;
the same from a shell by `python -m polyscore.onnx`. It needs the packages onnx and (for golden requests) onnxruntime.
"""

try:
    import onnx as _
except ImportError as error:
    raise ImportError("polyscore.onnx needs the package onnx: pip install 'polyscore[onnx]'") from error

from . import (  # noqa: F401
    arithmetic,
    convolutions,
    lookups,
    movement,
    norms,
    products,
    quantization,
    recurrent,
    reductions,
)
from .convert import Conversion, convert
from .explain import explain
from .tensor import OnnxError
from .update import update

__all__ = ["Conversion", "OnnxError", "convert", "explain", "update"]
