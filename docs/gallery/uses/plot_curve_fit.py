"""
Fitting a curve in awkward units
================================

A decaying oscillation is measured in volts over microseconds. Its four parameters differ by twelve
orders of magnitude. No scaling and no learning rate is given: the rates are found.
"""

import matplotlib.pyplot as plt
import numpy as np

import adaptopt as ao

rng = np.random.default_rng(1)
t = np.linspace(0, 20e-6, 200)  # seconds
truth = np.array([2.0, 6e-6, 2.0e6, 0.3])  # amplitude (V), time constant (s), rate (rad/s), phase


def model(p):
    return p[0] * np.exp(-t / p[1]) * np.cos(p[2] * t + p[3])


volts = model(truth) + 0.05 * rng.standard_normal(t.size)


def loss(p):
    decay, phase = np.exp(-t / p[1]), p[2] * t + p[3]
    r = p[0] * decay * np.cos(phase) - volts
    slopes = [
        decay * np.cos(phase),
        p[0] * decay * t / p[1] ** 2 * np.cos(phase),
        -p[0] * decay * t * np.sin(phase),
        -p[0] * decay * np.sin(phase),
    ]
    return r @ r / t.size, 2 * np.array([r @ s for s in slopes]) / t.size


start = np.array([1.0, 4e-6, 1.9e6, 0.0])
res = ao.minimize(loss, start, jac=True)
print(res.message)
print("found", res.x, "after", res.nfev, "evaluations")
print("relative error", np.abs(res.x / truth - 1).round(3))

figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
axes.plot(1e6 * t, volts, ".", color="0.6", label="measured")
axes.plot(1e6 * t, model(start), ":", label="start")
axes.plot(1e6 * t, model(res.x), label="fitted")
axes.set(xlabel="time (microseconds)", ylabel="volts")
axes.legend()
