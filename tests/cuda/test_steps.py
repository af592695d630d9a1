"""Every kernel with an option in turn, two with more of them: the device's steps are the CPU's."""

import ml_dtypes
import numpy as np
import pytest
from methods_table import KERNELS, METHODS, in_turn, takes
from on_device import assert_same, there

import adaptopt as ao

N, STEPS = 37, 3
BFLOAT16, FLOAT16, FLOAT32, FLOAT64 = (
    np.dtype(t) for t in (ml_dtypes.bfloat16, np.float16, np.float32, np.float64)
)
WALLS = np.linspace(-0.5, 0.0, N), np.linspace(0.0, 0.5, N)

# Name: the dtype of parameters, that of gradients, and what else `Optimizer` is given.
OPTIONS = {
    "float32": (FLOAT32, FLOAT32, {}),
    "float64-clip_norm": (FLOAT64, FLOAT64, {"clip_norm": 1.0}),
    "float16": (FLOAT16, FLOAT16, {}),
    "bfloat16-stochastic": (BFLOAT16, BFLOAT16, {"rounding": "stochastic", "seed": 3}),
    "float16-master-loss_scale": (FLOAT16, FLOAT32, {"master": True, "loss_scale": 8.0}),
    "box": (FLOAT32, FLOAT32, {"prox": ao.Box(*WALLS)}),
    "l1-clip_value": (FLOAT64, FLOAT64, {"prox": ao.L1(0.1), "clip_value": 0.5}),
    "narrow-state": (FLOAT32, FLOAT32, {"state_dtype": "bfloat16"}),
}
CASES = [
    pytest.param(METHODS[name], *OPTIONS[what], id=f"{name}-{what}")
    for name, what in in_turn(KERNELS, OPTIONS)
    if what != "narrow-state" or METHODS[name].second_moments
    if takes(name, OPTIONS[what][2].get("prox"))
]
MORE = {
    "bfloat16": (BFLOAT16, BFLOAT16, {}),
    "bfloat16-float32-gradients": (BFLOAT16, FLOAT32, {"loss_scale": 2.0}),
    "bfloat16-master": (BFLOAT16, BFLOAT16, {"master": True}),
    "bfloat16-master-stochastic": (
        *(BFLOAT16, BFLOAT16),
        {"master": True, "rounding": "stochastic", "state_dtype": "bfloat16"},
    ),
    "float16-stochastic": (FLOAT16, FLOAT16, {"rounding": "stochastic"}),
    "float64": (FLOAT64, FLOAT64, {}),
    "clip_norm-clip_value-loss_scale": (
        *(FLOAT32, FLOAT32),
        {"clip_norm": 2.0, "clip_value": 0.3, "loss_scale": 4.0},
    ),
    "l2": (FLOAT32, FLOAT32, {"prox": ao.L2(0.3)}),
    "elastic-net-arrays": (FLOAT64, FLOAT64, {"prox": ao.ElasticNet(WALLS[1], 0.2)}),
}
CASES += [
    pytest.param(METHODS[name], *option, id=f"{name}-{what}")
    for name in ("adagrad", "rmsprop-centered-momentum")
    for what, option in MORE.items()
]
CASES.append(pytest.param(ao.AdaGradNorm(), FLOAT32, FLOAT32, {}, id="adagrad-norm"))


@pytest.mark.parametrize(("method", "dtype", "gradient", "options"), CASES)
def test_steps_are_those_of_the_cpu(method, dtype, gradient, options):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(N).astype(dtype)
    gs = [rng.standard_normal(N).astype(gradient) for _ in range(STEPS)]
    y = there(x)
    host = ao.Optimizer(x, method, **options)
    for g in gs:
        host.step(g)
    device = ao.Optimizer(y, method, **options)
    assert np.isnan(device.learning_rates().copy_to_host()).all()
    rates = host.learning_rates()
    for g in gs:
        device.step(there(g))
    assert_same(device.learning_rates(), rates)
    assert_same(y, x)
    assert_same(device.state, host.state)
    assert device.scalars == pytest.approx(host.scalars)
