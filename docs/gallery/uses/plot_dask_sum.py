"""
Sums over Dask
==============

Rows that lie in many files, or on many machines, make a `adaptopt.distributed.Sum`. In a round each
block takes steps along its own rows, and the states are averaged. How many passes does that cost,
against one run over all rows? Here are eight blocks, whose rows lie in different places. They are
streamed through this process. ``Sum(blocks, client)`` deals them to the workers of a Dask cluster,
with the same result to the last bit; there a block is a function that loads it.
"""

import matplotlib.pyplot as plt
import numpy as np

import adaptopt as ao

rng = np.random.default_rng(0)
A = rng.standard_normal((40_000, 50))
A += 0.5 * np.repeat(rng.standard_normal((8, 50)), 5_000, axis=0)  # each block lies elsewhere
truth = np.where(np.arange(50) < 8, rng.standard_normal(50), 0.0)
y = np.where(A @ truth + rng.logistic(size=A.shape[0]) > 0, 1.0, -1.0)
whole = ao.problems.Logistic(A, y)
blocks = [ao.problems.Logistic(A[k : k + 5_000], y[k : k + 5_000]) for k in range(0, 40_000, 5_000)]

x0, l1, epochs = np.zeros(50), 1e-3, 8
best = ao.minimize(whole, x0, prox=ao.L1(l1)).fun
method = ao.AdaGradDA(0.1, l1=l1)
gaps = {}


def run(name, fun):
    gaps[name] = []

    def look(*, intermediate_result):
        x = intermediate_result.x
        gaps[name].append(whole.value(x) + l1 * abs(x).sum() - best)

    return ao.minimize_finite_sum(
        fun, x0, None, method=method, epochs=epochs, rng=0, callback=look
    ).x


x = run("one run", whole)
far = run("8 blocks", ao.distributed.Sum(blocks))

ratio = gaps["8 blocks"][-1] / gaps["one run"][-1]
print(f"after {epochs} passes the blocks' gap is {ratio:.2f} times that of one run")
print(f"zeros: {(far == 0).sum()} and {(x == 0).sum()} of {(truth == 0).sum()}")

figure, ax = plt.subplots(figsize=(7, 3), layout="constrained")
for name, values in gaps.items():
    ax.semilogy(range(1, epochs + 1), values, "o-", label=name)
ax.set(xlabel="passes over all rows", ylabel="objective above its minimum")
ax.legend()
