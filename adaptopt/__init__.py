"""Adaptive optimizers for scientific Python: AdaGrad, RMSProp and their family, compiled.

`minimize` has the interface of SciPy's. `minimize_finite_sum` goes through data in batches.
`Optimizer` takes one step at a time and updates your arrays in place.
"""

from importlib import import_module as _import_module
from types import ModuleType as _ModuleType

from . import interchange, plot, problems, regret, schedules
from .methods.adagrad import AdaGrad, AdaGradNorm, RowWiseAdaGrad
from .methods.adam import Adam, Adamax, AdamW, AMSGrad
from .methods.base import Method
from .methods.dual_averaging import FTRL, AdaGradDA
from .methods.momentum import SGD, Momentum
from .methods.nadam import Nadam
from .methods.rmsprop import AdaDelta, RMSProp
from .objectives.gradient_check import check_gradient
from .optimizer.optimizer import Optimizer
from .prox.base import Box, NonNegative
from .prox.groups import GroupL2
from .prox.separable import L1, L2, ElasticNet
from .prox.tying import L2Ball, Simplex
from .solvers.finite_sum import minimize_finite_sum
from .solvers.many import minimize_many
from .solvers.minimize import minimize

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
    "check_gradient",
    "interchange",
    "minimize",
    "minimize_finite_sum",
    "minimize_many",
    "plot",
    "problems",
    "regret",
    "schedules",
]

# Rooms that need an extra are imported when they are first used.
_EXTRA_ROOMS = ("distributed", "estimators")


def __getattr__(name: str) -> _ModuleType:
    if name in _EXTRA_ROOMS:
        return _import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXTRA_ROOMS})
