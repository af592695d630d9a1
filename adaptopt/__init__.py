"""Adaptive optimizers for scientific Python: AdaGrad, RMSProp and their family, compiled.

`minimize` is shaped like SciPy's; `minimize_finite_sum` goes through data in batches; `Optimizer`
takes one step at a time, in place.
"""

from . import interchange, problems, regret, schedules
from .dual_averaging import FTRL, AdaGradDA, AdaGradNorm
from .finite_sum import minimize_finite_sum
from .many import minimize_many
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
    RowWiseAdaGrad,
)
from .minimize import minimize
from .nonseparable import GroupL2, L2Ball, Simplex
from .optimizer import Optimizer
from .proximal import L1, L2, Box, ElasticNet, NonNegative

__version__ = "0.1.0"

__all__ = [
    "FTRL",
    "L1",
    "L2",
    "SGD",
    "AMSGrad",
    "AdaDelta",
    "AdaGrad",
    "AdaGradDA",
    "AdaGradNorm",
    "Adam",
    "AdamW",
    "Adamax",
    "Box",
    "ElasticNet",
    "GroupL2",
    "L2Ball",
    "Method",
    "Momentum",
    "Nadam",
    "NonNegative",
    "Optimizer",
    "RMSProp",
    "RowWiseAdaGrad",
    "Simplex",
    "interchange",
    "minimize",
    "minimize_finite_sum",
    "minimize_many",
    "problems",
    "regret",
    "schedules",
]
