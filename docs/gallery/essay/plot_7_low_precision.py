"""
eps in low precision: a larger one cures the NaN, not the number
================================================================

In float16 and bfloat16, says the essay, an eps of 1e-8 can cause NaN, and 1e-6 or 1e-5 helps. Here
is AdaGrad in 16 bits, in NumPy and, if installed, in torch. Three coordinates have gradients of 0,
1e-4 and 1 in each of 1,000 steps: the last two should go equally far.
"""

from importlib import import_module, util

import matplotlib.pyplot as plt
import ml_dtypes
import numpy as np

import adaptopt as ao

torch = import_module("torch") if util.find_spec("torch") else None  # then it is left out
gradients, rate, steps = np.array([0.0, 1e-4, 1.0]), 0.01, 1000
choices, whole_way = (1e-8, 1e-6, 1e-5), rate * (np.arange(1, steps + 1) ** -0.5).sum()


def naive(g, eps, number=None, sqrt=np.sqrt):
    x, G, number = 0 * g, 0 * g, number or g.dtype.type
    for _ in range(steps):
        G = G + g * g
        x = x - number(rate) * g / (sqrt(G) + number(eps))
    return x


def in_torch(g, eps):
    g = torch.tensor(g.astype(float)).to(getattr(torch, g.dtype.name))
    return naive(g, eps, float, torch.sqrt).double().numpy()


def ours(g, eps):
    opt = ao.Optimizer(0 * g, ao.AdaGrad(rate, eps=eps), rounding="stochastic")
    for _ in range(steps):
        opt.step(g)
    return opt.params


ways = [("adaptopt", ours, "s-"), ("NumPy", naive, "o-"), ("torch", in_torch, "x:")]
_, panels = plt.subplots(1, 2, figsize=(7, 3), sharey=True, layout="constrained")
for panel, dtype in zip(panels, (np.float16, ml_dtypes.bfloat16), strict=True):
    for name, run, line in ways if torch else ways[:2]:
        with np.errstate(all="ignore"):
            ends = [np.array(run(gradients.astype(dtype), eps), float) for eps in choices]
        zero, small, one = np.abs(ends / whole_way).round(2).T
        print(f"{dtype.__name__} in {name}: gradient 0 {zero}, 1e-4 {small}, 1 {one}")
        panel.loglog(choices, np.minimum(small, 1e5), line, label=name)
    panel.set(title=dtype.__name__, xlabel="eps", ylabel="way, 1 is exact (top: infinite)")
    panel.legend()

# %%
# **Verdict: half right.** In float16, 1e-8 is 0, and 0 / 0 is NaN; 1e-6 or 1e-5 cures that. But the
# square of 1e-4 is 0 too, and its way 1618 or 170 times too long. bfloat16 has no NaN, but a sum
# that stops growing, and goes 0.4 of the way. Float32 state is the cure: ours is within 3 %.
