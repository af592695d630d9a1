"""
Which words matter: L1 logistic regression on sparse text
=========================================================

A text has 20 of 5,000 words, and 50 words decide its label. Dual averaging with an L1 penalty finds
weights most of which are exactly zero, in three passes over the rows at the cost of their entries.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy import sparse

import adaptopt as ao

rng = np.random.default_rng(0)
texts, words, length, relevant = 10_000, 5000, 20, 50
share = 1 / np.arange(10, words + 10)
columns = rng.choice(words, size=(texts, length), p=share / share.sum())
rows = np.repeat(np.arange(texts), length)
A = sparse.csr_array((np.ones(columns.size), (rows, columns.ravel())), shape=(texts, words))
truth = np.zeros(words)
chosen = rng.choice(500, relevant, replace=False)
truth[chosen] = rng.choice([-3.0, 3.0], relevant)
y = np.where(A @ truth + rng.logistic(size=texts) > 0, 1.0, -1.0)
train, held_out = ao.problems.Logistic(A[:8000], y[:8000]), ao.problems.Logistic(A[8000:], y[8000:])

penalties = np.logspace(-4, -1.5, 11)
found = []
for l1 in penalties:
    res = ao.minimize_finite_sum(
        train,
        np.zeros(words),
        None,
        method=ao.AdaGradDA(lr=0.3, l1=l1),
        batch_size=1,
        epochs=3,
        rng=0,
    )
    found.append((held_out.value(res.x), (res.x != 0).sum(), (res.x[chosen] != 0).sum()))
loss, kept, right = np.transpose(found)
best = loss.argmin()
print(res.path)
print(
    f"l1 {penalties[best]:.1g}: held-out loss {loss[best]:.3f}, {kept[best]:.0f} words kept,",
    end=" ",
)
print(f"{right[best]:.0f} of the {relevant} that matter")
print(f"l1 {penalties[0]:.1g}: held-out loss {loss[0]:.3f}, {kept[0]:.0f} words kept")

figure, panels = plt.subplots(1, 2, figsize=(7, 3), layout="constrained")
panels[0].semilogx(penalties, loss, ".-")
panels[0].set(xlabel="penalty l1", ylabel="held-out loss")
panels[1].loglog(penalties, kept, ".-", label="all words")
panels[1].loglog(penalties, right, ".-", label="of those that matter")
panels[1].set(xlabel="penalty l1", ylabel="words with a weight")
panels[1].legend()

# %%
# All words that matter are found. At three times that penalty few others are left, and the loss is
# a little larger.
