"""
RMSProp follows a target if its speed is below the rate
=======================================================

A target moves by v in each step, and the loss is half the squared distance from it. RMSProp divides
the gradient by its size, so that a step is about lr long. It should follow if and only if v < lr,
and AdaGrad, whose steps only shrink, never for long. Each coordinate has a target of its own speed.
"""

import matplotlib.pyplot as plt
import numpy as np

import adaptopt as ao

lr, steps = 0.01, 20_000
v = lr * np.array([0.1, 0.3, 0.45, 0.55, 0.7, 0.9, 0.99, 1.01, 1.1, 1.5])
rng = np.random.default_rng(0)


def errors(method, noise=0.0, seen=1.0):
    """Return the mean distance from the target, over the third and the last quarter."""
    x, lags = np.zeros(v.size), np.zeros((4, v.size))
    opt = ao.Optimizer(x, method)
    for t in range(steps):
        g = x - v * t
        lags[4 * t // steps] += np.abs(g) * 4 / steps
        opt.step((g + noise * rng.standard_normal(v.size)) * (rng.random(v.size) < seen))
    return lags[2:]


cases = {
    "RMSProp, rho 0.9": errors(ao.RMSProp(lr, rho=0.9)),
    "RMSProp, rho 0.99": errors(ao.RMSProp(lr, rho=0.99)),
    "RMSProp, noise of 1": errors(ao.RMSProp(lr, rho=0.99), noise=1.0),
    "RMSProp, 1 gradient in 4": errors(ao.RMSProp(lr, rho=0.99), seen=0.25),
    "AdaGrad": errors(ao.AdaGrad(lr)),
}
figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
for name, (before, after) in cases.items():
    axes.semilogy(v / lr, after, ".-", label=name)
    follows = after < 1.1 * before  # the distance does not grow
    fastest = f"v = {v[follows].max() / lr:.2f} lr" if follows.any() else "none"
    print(f"{name}: follows up to {fastest}; distance at 0.9 lr: {after[5]:.3f}")
axes.axvline(1.0, color="0.7", zorder=0)
axes.set(xlabel="speed of the target, in units of lr", ylabel="distance at the end")
figure.legend(loc="outside right")

# %%
# **Verdict: right, for gradients in every step.** RMSProp follows at 0.99 lr and loses the target
# at 1.01 lr, with either rho. Under noise of size s the limit is the same, but the distance is
# about s v / sqrt(lr^2 - v^2): 2.04 at v = 0.9 lr. With one gradient in k steps the limit is lr /
# sqrt(k): at k = 4 it follows at 0.45 lr and no faster. AdaGrad follows none of these targets.
