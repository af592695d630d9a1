"""
RMSProp forgets within some windows, not within one
===================================================

The essay says that RMSProp remembers about 1 / (1 - rho) steps, so that old gradients fade out when
the loss changes. The gradients here have size 1, then 100, then 1 again. How soon is the effective
rate within a factor of 2 of the right one?
"""

import matplotlib.pyplot as plt
import numpy as np

import adaptopt as ao

sizes = np.repeat([1.0, 100.0, 1.0], [2000, 2000, 12_000])
signs = np.random.default_rng(0).choice([-1.0, 1.0], size=sizes.size)
methods = {
    "rho 0.9": ao.RMSProp(lr=1.0, rho=0.9),
    "rho 0.99": ao.RMSProp(lr=1.0, rho=0.99),
    "rho 0.999": ao.RMSProp(lr=1.0, rho=0.999),
    "AdaGrad": ao.AdaGrad(lr=1.0),
}
figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
axes.plot(1 / sizes, color="0.8", linewidth=5, label="1 / gradient")
for name, method in methods.items():
    x = np.zeros(1)
    opt = ao.Optimizer(x, method)
    rates, steps = np.empty(sizes.size), np.empty(sizes.size)
    for t, g in enumerate(signs * sizes):
        before = x[0]
        opt.step(np.array([g]))
        rates[t], steps[t] = opt.learning_rates()[0], abs(x[0] - before)
    axes.semilogy(rates, label=name)
    off = np.abs(np.log2(rates * sizes)) > 1  # by more than a factor of 2
    up, down = off[2000:4000].sum(), off[4000:].sum()
    if name == "AdaGrad":
        print(f"{name}: never again; at the end its rate is {rates[-1]:.2g} of the right one")
        continue
    window = 1 / (1 - method.rho)
    print(
        f"{name}: a window of {window:.0f} steps; the newest {window:.0f} have the weight", end=" "
    )
    print(f"{1 - method.rho**window:.2f}; after a rise {up} steps, of which the first is", end=" ")
    print(f"{steps[2000]:.1f} lr long; after a fall {down} steps: {down / window:.1f} windows")
axes.set(xlabel="step", ylabel="effective rate")
figure.legend(loc="outside right")

# %%
# **Verdict: half right.** RMSProp recovers and AdaGrad does not. But the newest 1 / (1 - rho) steps
# have 63 % of the weight, not all, and after gradients that were 100 times larger the rate comes
# back after 8 windows. After a rise it falls within a third of a window, and yet too late for the
# first step, which is 3, 10 or 30 times lr long.
