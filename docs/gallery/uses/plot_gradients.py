"""
Where gradients come from: by hand, differences, JAX, torch
===========================================================

Any function that returns a value and a gradient will do: by formula, differences, JAX or torch.
"""

import time
from importlib.util import find_spec

import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import approx_fprime

import adaptopt as ao

rng = np.random.default_rng(0)
A = rng.standard_normal((500, 20))
y = np.where(A @ np.ones(20) + 3 * rng.logistic(size=500) > 0, 1.0, -1.0)


def by_hand(x):
    z = y * (A @ x)
    return np.logaddexp(0, -z).mean(), A.T @ (-y / (1 + np.exp(z))) / len(y)


ways = {"by hand": by_hand}
ways["differences"] = lambda x: (by_hand(x)[0], approx_fprime(x, lambda x: by_hand(x)[0]))
if find_spec("torch"):
    import torch

    def in_torch(x, A=torch.tensor(A), y=torch.tensor(y)):  # noqa: B008
        w = torch.tensor(x, requires_grad=True)
        loss = torch.nn.functional.softplus(-y * (A @ w)).mean()
        return loss.item(), *(g.numpy() for g in torch.autograd.grad(loss, w))

    ways["torch"] = in_torch
if find_spec("jax"):
    import jax

    compiled = jax.jit(jax.value_and_grad(lambda x, A, y: jax.nn.softplus(-y * (A @ x)).mean()))
    ways["JAX, float32"] = lambda x: compiled(x, A, y)
    ways["JAX, float64"] = jax.enable_x64(True)(lambda x: compiled(x, A, y))
    for drop in (True, False):
        ao.minimize_finite_sum(compiled, np.zeros(20), (A, y), batch_size=64, drop_last=drop, rng=0)
        print(f"drop_last={drop}: JAX has compiled for {compiled._cache_size()} shapes")

_, axes = plt.subplots(figsize=(7, 3), layout="constrained")
for name, fun in ways.items():
    for steps in (1, 200):  # the first call compiles
        start, options = time.perf_counter(), {"maxiter": steps, "gtol": 0}
        res = ao.minimize(fun, np.zeros(20), jac=True, method=ao.AdaGrad(0.5), options=options)
    each = 1e6 * (time.perf_counter() - start) / res.nit
    print(f"{name}: {each:.0f} microseconds a step; largest gradient", abs(by_hand(res.x)[1]).max())
    axes.bar_label(axes.barh(name, each, color="C0"), fmt="%.0f", padding=3)
axes.set(xlabel="time of a step of minimize (microseconds)", xmargin=0.15)

# %%
# The bars are of what was installed here. JAX computes in float32 unless told otherwise. Each new
# shape compiles: with ``drop_last=True`` that of the last, short batch does not occur.
