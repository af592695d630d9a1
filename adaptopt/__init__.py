"""Adaptive optimizers for scientific Python: AdaGrad, RMSProp and their family, compiled.

`minimize` is shaped like SciPy's; `Optimizer` takes one step at a time, in place.
"""

from . import interchange, problems, schedules
from .method import Method
from .methods import (
    SGD,
    AdaDelta,
    AdaGrad,
    Adam,
    Adamax,
    AdamW,
    AMSGrad,
    Momentum,
    Nadam,
    RMSProp,
)
from .minimize import minimize
from .optimizer import Optimizer
from .proximal import Box, NonNegative

__version__ = "0.1.0"

__all__ = [
    "SGD",
    "AMSGrad",
    "AdaDelta",
    "AdaGrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Box",
    "Method",
    "Momentum",
    "Nadam",
    "NonNegative",
    "Optimizer",
    "RMSProp",
    "interchange",
    "minimize",
    "problems",
    "schedules",
]
