"""
One rate cannot serve rare and frequent parameters
==================================================

A global learning rate, says the essay, cannot serve a rare embedding row and a dense layer: set
high, the dense part oscillates; set low, the rare part barely moves. Here one linear model has one
column that is nonzero in every row, and 200 that are nonzero in one row of 200 each. We try every
rate of a wide grid on both methods, with 2,000 single rows.
"""

import matplotlib.pyplot as plt
import numpy as np

import adaptopt as ao

rng = np.random.default_rng(0)
rows, rare = 2000, 200
A = np.zeros((rows, 1 + rare))
A[:, 0] = 3 * rng.standard_normal(rows)  # the dense part
A[np.arange(rows), 1 + rng.integers(rare, size=rows)] = 1.0  # a rare column in each row
truth = np.r_[1.0, rng.choice([-1.0, 1.0], rare)]
b = A @ truth + 0.5 * rng.standard_normal(rows)
problem = ao.problems.LeastSquares(A, b)

grid = np.logspace(-4, 1, 21)
errors = {(name, part): [] for name in ("SGD", "AdaGrad") for part in ("dense", "rare")}
for method in (ao.SGD, ao.AdaGrad):
    for lr in grid:
        res = ao.minimize_finite_sum(
            problem, np.zeros(1 + rare), None, method=method(lr), batch_size=1, epochs=1, rng=0
        )
        off = np.abs(res.x - truth)
        errors[method.__name__, "dense"].append(min(off[0], 9))
        errors[method.__name__, "rare"].append(min(off[1:].mean(), 9))

figure, panels = plt.subplots(1, 2, figsize=(7, 3), sharey=True, layout="constrained")
for panel, name in zip(panels, ("SGD", "AdaGrad"), strict=True):
    for part in ("dense", "rare"):
        panel.loglog(grid, errors[name, part], label=f"{part} part")
    worse = np.maximum(errors[name, "dense"], errors[name, "rare"])
    best = worse.argmin()
    panel.axvline(grid[best], color="0.7", zorder=0)
    panel.set(title=name, xlabel="learning rate")
    print(f"{name}: best rate {grid[best]:.2g}, larger of the two errors {worse[best]:.2f}")
panels[0].set_ylabel("mean error of the weights")
panels[0].legend()

# %%
# **Verdict: right.** At the rate at which SGD's dense weight is accurate, its rare weights have
# hardly moved; where the rare ones are learned, the dense one blows up. AdaGrad has one setting
# that serves both.
