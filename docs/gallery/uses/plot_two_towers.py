"""
Two towers of embeddings, with the table in a file
==================================================

A model of ratings has a vector for each user and one for each item, and predicts by their product.
The items are a million, and a batch sees some hundred of them. Their table is a file, and so is
AdaGrad's state of it: a step reads and writes only the rows of its batch.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import adaptopt as ao

rng = np.random.default_rng(0)
users, items, width, batch, steps = 500, 1_000_000, 8, 512, 1200
catalogue = rng.integers(items, size=3000)  # those that are ever rated, most of them seldom
share = 1 / np.arange(10, 10 + catalogue.size)
taste = rng.standard_normal((users, width)) / width**0.5
kind = rng.standard_normal((catalogue.size, width))

folder = Path(tempfile.mkdtemp())
table = np.memmap(folder / "items", np.float32, "w+", shape=(items, width))
dense = 0.1 * rng.standard_normal((users, width)).astype(np.float32)
params = {"items": table, "users": dense}
opt = ao.Optimizer(params, ao.AdaGrad(lr=0.3), state_dir=folder)
rated = rng.choice(catalogue.size, (steps, batch), p=share / share.sum())
losses = np.empty(steps)
for t in range(steps):
    u, k = rng.integers(users, size=batch), rated[t]
    rating = (taste[u] * kind[k]).sum(1) + 0.1 * rng.standard_normal(batch)
    rows = catalogue[k]
    U, V = opt.params["users"][u], opt.params["items"][rows]
    r = ((U * V).sum(1) - rating).astype(np.float32)
    losses[t] = r @ r / batch
    opt.step({"items": (rows, r[:, None] * U), "users": (u, r[:, None] * V)})
opt.save()  # what is not in the files yet: the users and the number of steps

print(
    f"mean squared error {losses[:20].mean():.2f} at first, {losses[-100:].mean():.3f} at the end"
)
print(f"variance of the noise {0.1**2:.3f}; steps {opt.t}")
for name in ("items", "items.G.npy"):
    print(f"{name}: {(folder / name).stat().st_size / 1e6:.0f} MB in a file")
print(f"in memory: {(opt.params['users'].nbytes + opt.state['users']['G'].nbytes) / 1e3:.0f} kB")
again = np.memmap(folder / "items", np.float32, "r+", shape=(items, width))
params = {"items": again, "users": np.zeros_like(dense)}
opt = ao.Optimizer(params, ao.AdaGrad(lr=0.3), state_dir=folder, resume=True)
print(f"resumed from the files at step {opt.t}")
figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
axes.semilogy(losses)
axes.set(xlabel="step", ylabel="mean squared error")

# %%
# The tables on a disk may be larger than the memory. A run goes on from its files.
