"""
Online forecasts, and what hindsight would have saved
=====================================================

A grid operator forecasts the load of the next hour from the last day, and learns from each hour as
it passes. The regret is what the best fixed weights, known at the end, would have saved.
"""

import matplotlib.pyplot as plt
import numpy as np

import adaptopt as ao

rng = np.random.default_rng(0)
hours = np.arange(24 * 7 * 20)
load = 1 + 0.3 * np.sin(2 * np.pi * hours / 24) + 0.1 * (hours // 24 % 7 < 5)
noise = rng.standard_normal(hours.size)
for h in hours[1:]:
    noise[h] = 0.8 * noise[h - 1] + 0.1 * noise[h]
load += noise
lags = np.lib.stride_tricks.sliding_window_view(load, 24)[:-1]
A, b = np.column_stack([np.ones(len(lags)), lags]), load[24:]

box = ao.Box(-1, 1)
best, *_ = np.linalg.lstsq(A, b)
least = ((A @ best - b) ** 2).mean() / 2
figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
for method in (ao.AdaGrad(0.05), ao.SGD(0.01)):
    x = np.zeros(A.shape[1])
    opt, tracker = ao.Optimizer(x, method, prox=box), ao.regret.Tracker(box)
    for row, then in zip(A, b, strict=True):
        error = row @ x - then
        tracker.play(x, error**2 / 2, error * row, comparator=(row @ best - then) ** 2 / 2)
        opt.step(error * row)
    course, name = tracker.course(), type(method).__name__
    print(f"{name}: regret {tracker.regret():.1f} after {tracker.rounds} hours, mean loss", end=" ")
    print(f"{tracker.cumulative_loss / tracker.rounds:.5f}; in hindsight {least:.5f}")
    axes.plot(course["t"], course["regret"] / course["t"], label=name)
axes.set(xscale="log", yscale="log", xlabel="hours", ylabel="mean regret")
axes.legend()

# %%
# AdaGrad is ahead for some weeks; at the end SGD has caught up at its rate. The mean regret of both
# falls with time: in the long run little is lost against hindsight.
