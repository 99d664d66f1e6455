"""polyscore: scores one request against many candidate ads with a multi-task multi-scenario ranking network.

`Model`, `Scorer` and `Pool` call the engine through its C ABI. `export` writes model files; `polyscore.networks` has the PyTorch
twins of the engine's networks (it needs torch), `polyscore.features` the transforms that training and serving share.
"""

from .export import ExportError, export
from .features import DescriptionError
from .model import ITEM_KEY, Model, Pool, PolyscoreError, Scorer

__all__ = ["ITEM_KEY", "DescriptionError", "ExportError", "Model", "PolyscoreError", "Pool", "Scorer", "export"]
