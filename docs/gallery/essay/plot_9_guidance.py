"""
The rates that the essay advises against measured optima
========================================================

Start AdaGrad at 0.01 and RMSProp at 1e-3, says the essay, with rho 0.9 or 0.99. Five data sets with
two losses each, columns of unit variance, batches of 32 rows, 10 epochs: which rate ends lowest,
and how much of its descent does the advised one make?
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import expit
from sklearn import datasets

import adaptopt as ao

grid = np.logspace(-4, 1, 16)
methods = {"AdaGrad": ([ao.AdaGrad(lr) for lr in grid], 0.01)}
for rho in (0.9, 0.99):
    methods[f"RMSProp, rho {rho}"] = [ao.RMSProp(lr, rho=rho) for lr in grid], 1e-3
squared = (lambda z, y: (z - y) ** 2 / 2), (lambda z, y: z - y)
absolute = (lambda z, y: np.abs(z - y)), (lambda z, y: np.sign(z - y))
logistic = (lambda z, y: np.logaddexp(0, -y * z)), (lambda z, y: -y * expit(-y * z))
hinge = (lambda z, y: np.maximum(1 - y * z, 0)), (lambda z, y: -y * (y * z < 1))
problems = []
for name in ("diabetes", "breast_cancer", "wine", "digits", "iris"):
    A, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    A = np.c_[(A - A.mean(0)) / np.maximum(A.std(0), 1e-9), np.ones(len(A))]
    fits = name == "diabetes"
    y = (y - y.mean()) / y.std() if fits else np.where(y % 2, 1.0, -1.0)
    problems += [(A, y, loss) for loss in ((squared, absolute) if fits else (logistic, hinge))]


def descents(rules, A, y, loss, slope):
    X, rng = np.zeros((grid.size, A.shape[1])), np.random.default_rng(0)
    opts = [ao.Optimizer(x, rule) for x, rule in zip(X, rules, strict=True)]
    for _ in range(10):
        for rows in np.array_split(rng.permutation(len(A)), len(A) // 32):
            grads = slope(X @ A[rows].T, y[rows]) @ A[rows] / rows.size
            for opt, g in zip(opts, grads, strict=True):
                opt.step(g)
    ends, start = loss(X @ A.T, y).mean(1), loss(0, y).mean()
    return (start - ends) / (start - ends.min())


_, panels = plt.subplots(1, 3, figsize=(7, 3), sharey=True, layout="constrained")
for panel, (name, (rules, advised)) in zip(panels, methods.items(), strict=True):
    curves = np.array([descents(rules, A, y, *loss) for A, y, loss in problems])
    best, there = grid[curves.argmax(1)], curves[:, np.searchsorted(grid, 0.999 * advised)]
    print(f"{name}: median of the best rates {np.median(best):.2g}; {advised} makes", end=" ")
    print(f"{there.min():.0%} to {there.max():.0%} of the descent,", end=" ")
    print(f"{grid[curves.min(0).argmax()]:.2g} at least {curves.min(0).max():.0%}")
    panel.semilogx(grid, curves.T, linewidth=1)
    panel.axvline(advised, color="0.5", linestyle=":")
    panel.set(title=name, xlabel="rate", ylim=(-0.1, 1.05))
panels[0].set_ylabel("fraction of the best descent")

# %%
# **Verdict: wrong for these problems.** The median of the best rates is 30 to 50 times the advised
# one, which makes as little as 11 % of the descent. AdaGrad(1) and RMSProp(0.05) serve all.
