"""polyscore: scores one request against many candidate ads with a multi-task multi-scenario ranking network.

`Model` and `Scorer` call the engine through its C ABI. `export` writes model files; `polyscore.networks` has the PyTorch
twins of the engine's networks (it needs torch), `polyscore.features` the transforms that training and serving share.
"""

from .export import ExportError, export
from .features import DescriptionError
from .model import Model, PolyscoreError, Scorer

__all__ = ["DescriptionError", "ExportError", "Model", "PolyscoreError", "Scorer", "export"]
