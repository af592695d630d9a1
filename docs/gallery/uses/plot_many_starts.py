"""
Many starts of a function with many minima
==========================================

Which two frequencies are in a noisy signal? The sum of squares has a local minimum for nearly every
pair of frequencies. A compiled objective is minimised from 400 random starts in one call, in
threads. Each result has the bits of a run of its own.
"""

import matplotlib.pyplot as plt
import numpy as np
from numba import njit

import adaptopt as ao

rng = np.random.default_rng(0)
t = np.linspace(0, 1, 100)
truth = np.array([7.3, 11.9])  # hertz
signal = np.sin(2 * np.pi * truth[:, None] * t).sum(0) + 0.5 * rng.standard_normal(t.size)


@njit
def misfit(f, g_out, t, signal):
    g_out[:] = 0.0
    total = 0.0
    for i in range(t.size):
        r = -signal[i]
        for k in range(f.size):
            r += np.sin(2 * np.pi * f[k] * t[i])
        total += r * r / t.size
        for k in range(f.size):
            g_out[k] += 4 * np.pi * t[i] * r * np.cos(2 * np.pi * f[k] * t[i]) / t.size
    return total


starts = rng.uniform(1, 20, (400, 2))
bounds = [(1, 20), (1, 20)]
res = ao.minimize_many(misfit, starts, args=(t, signal), method=ao.Adam(lr=0.1), bounds=bounds)
best = res.fun.argmin()
close = res.fun < res.fun[best] + 1e-6
print(f"best {np.sort(res.x[best]).round(3)}, found from {close.sum()} of {len(starts)} starts")
print(f"{res.success.sum()} converged, to {len(np.unique(res.fun.round(5)))} different values")

figure, panels = plt.subplots(1, 2, figsize=(7, 3), layout="constrained")
dots = panels[0].scatter(*starts.T, c=res.fun, s=12)
figure.colorbar(dots)
panels[0].plot(*np.transpose([truth, truth[::-1]]), "r*", markersize=9)
panels[0].set(xlabel="first frequency at the start (Hz)", ylabel="second (Hz)")
panels[1].plot(np.sort(res.fun), ".")
panels[1].set(xlabel="starts, sorted", ylabel="value that it reached")

# %%
# Few starts lead to the deepest minimum (red stars: the true frequencies, in both orders), so one
# start would have missed it. The noise moves the minimum by 0.03 Hz.
